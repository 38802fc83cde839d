"""CPU of thousands of clips on Postgres, and how it grows with what is stored.

    .venv/bin/python -m benchmarks.scale compare [--clips 2000] [--sample 20]
    .venv/bin/python -m benchmarks.scale growth [--stored 100 500 1000 2000 5000] [--new 100]

each also with `--pooler`, which puts PgBouncer (Debian's package) before Postgres.

Both start a Postgres server (Debian's package `postgresql`), a local Runware that gives every video
the same tiny file, and a code server, daemon and webserver with deploy/dagster.yaml (at most 10
runs at once) and all sensors on. There is no webhook: results are polled. A generation takes 10 s.

`compare` writes a dataset, waits until it is in Dagster, launches `request_clips`, and waits until
all clips are stored and logged. Then it backfills a sample of the same partitions of
`benchmarks/plain_asset.py`, with Dagster's default executor and with the in-process one.

`growth` fills one deployment step by step. At each size it measures a minute without work, a
refresh of the reports, a request of everything that is stored, and new clips.

CPU is read from /proc before and after, while no run is in progress, with all that the processes
started (see `benchmarks/process_usage.py`). The sandbox, the webserver, which only launches, and
the benchmark itself are not counted. Wall time depends on what else the machine does.
"""

from __future__ import annotations

import argparse
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial

from benchmarks.deployment import Cpu
from benchmarks.measured_deployments import (
    Bench,
    Usage,
    running_plain,
    running_sora_dagster,
)
from benchmarks.tiny_clips import clip_id

_IDLE_SECONDS = 60.0
_PLAIN = {
    "plain asset": {},
    "plain asset, in-process executor": {"PLAIN_IN_PROCESS": "1"},
}
_PROCESSES = [field.name for field in fields(Cpu)]
_POSTS = ["submissions", "polls", "other"]


@dataclass(frozen=True)
class Measured:
    """What making some clips took, with one kind of deployment.

    Arguments:
        name: the kind.
        clips: number of clips.
        usage: what they took.
        runs: number of runs.
        peak_megabytes: memory by process.
    """

    name: str
    clips: int
    usage: Usage
    runs: int
    peak_megabytes: Mapping[str, float]

    def seconds_per_clip(self, process: str) -> float:
        """CPU of a process, or `total`, for each clip."""
        seconds: float = getattr(self.usage.cpu, process) / self.clips
        return seconds


def _measured(name: str, bench: Bench, clips: int, make: Callable[[], None]) -> Measured:
    runs = bench.run_counts().total()
    bench.deployment.peak_megabytes.clear()
    usage = bench.measure(make)
    peaks = dict(bench.deployment.peak_megabytes)
    return Measured(name, clips, usage, bench.run_counts().total() - runs, peaks)


def compare(clips: int, sample: int, *, is_pooled: bool) -> None:
    """Measure the package and the plain asset, and print what a clip takes and the ratios.

    Arguments:
        clips: number of clips that the package makes.
        sample: number of them that the plain asset makes.
        is_pooled: whether PgBouncer is in front of the Postgres server.
    """
    with running_sora_dagster(is_pooled=is_pooled) as bench:

        def make() -> None:
            bench.write_rows(clips + 1, new=clips)
            bench.make_clips(clips + 1, {"everything": True})

        ours = _measured("sora-dagster", bench, clips, make)
        bench.check_logged("clips", clips + 1)
    others = []
    for name, variables in _PLAIN.items():
        with running_plain(clips, variables, is_pooled=is_pooled) as plain:
            others.append(_measured(name, plain, sample, partial(plain.make_clips, 1, sample)))
            plain.check_logged("plain_clips", sample + 1)
    _print_row("CPU s per clip", "clips", *map(_words, _PROCESSES), "all", is_head=True)
    for item in (ours, *others):
        seconds = (f"{item.seconds_per_clip(process):.3f}" for process in (*_PROCESSES, "total"))
        _print_row(item.name, f"{item.clips:,}", *seconds)
    for item in others:
        ratios = (
            f"{item.seconds_per_clip(process) / ours.seconds_per_clip(process):.1f}"
            for process in (*_PROCESSES, "total")
        )
        _print_row(f"{item.name} / sora-dagster", "", *ratios)
    print()
    memory = (f"MB: {_words(process)}" for process in _PROCESSES)
    _print_row("totals", "clips", "runs", *_POSTS, "wall s", *memory, is_head=True)
    for item in (ours, *others):
        posts = (f"{item.usage.posts[kind]:,}" for kind in _POSTS)
        peaks = (f"{item.peak_megabytes.get(process, 0):.0f}" for process in _PROCESSES)
        wall = f"{item.usage.wall_seconds:.0f}"
        _print_row(item.name, f"{item.clips:,}", f"{item.runs:,}", *posts, wall, *peaks)


def growth(sizes: Sequence[int], new: int, *, is_pooled: bool) -> None:
    """Fill a deployment, and print at each size what work takes there.

    Arguments:
        sizes: numbers of stored clips.
        new: number of clips that are added at each size.
        is_pooled: whether PgBouncer is in front of the Postgres server.
    """
    processes = (*map(_words, _PROCESSES), "all")
    _print_row("CPU s of", "stored before", "clips", "runs", *processes, "wall s", is_head=True)
    with running_sora_dagster(is_pooled=is_pooled) as bench:
        stored = 1

        def report(name: str, clips: int, act: Callable[[], None]) -> None:
            found = _measured(name, bench, max(clips, 1), act)
            unit = ", per clip" if clips else ""
            seconds = (
                f"{found.seconds_per_clip(process):.3f}" for process in (*_PROCESSES, "total")
            )
            counts = (f"{stored:,}", f"{clips:,}", f"{found.runs:,}")
            _print_row(name + unit, *counts, *seconds, f"{found.usage.wall_seconds:.0f}")

        def add(name: str, clips: int) -> None:
            nonlocal stored
            total = stored + clips
            ids = [clip_id(number) for number in range(stored, total)]
            report(f"{name}: rows", clips, partial(bench.write_rows, total, new=clips))
            make = partial(bench.make_clips, total, {"clip_ids": ids})
            report(f"{name}: clips", clips, make)
            stored = total

        for size in sizes:
            add("filling", size - stored)
            report("a refresh of the reports", 0, partial(bench.launch_and_wait, "make_reports"))
            report("a minute without work", 0, partial(time.sleep, _IDLE_SECONDS))
            everything = {"ops": {"request": {"config": {"everything": True}}}}
            repeat = partial(bench.launch_and_wait, "request_clips", everything)
            report("a request of everything", 0, repeat)
            add("new", new)
        bench.check_logged("clips", stored)


def _words(name: str) -> str:
    return name.replace("_", " ")


def _print_row(first: str, *cells: str, is_head: bool = False) -> None:
    print(f"| {first} | {' | '.join(cells)} |", flush=True)
    if is_head:
        print("| --- |" + " ---: |" * len(cells))


def main() -> None:
    """Measure."""
    # So that the servers end with it.
    signal.signal(signal.SIGTERM, lambda _number, _frame: sys.exit(1))
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    comparing = commands.add_parser("compare")
    comparing.add_argument("--clips", type=int, default=2000)
    comparing.add_argument("--sample", type=int, default=20)
    growing = commands.add_parser("growth")
    growing.add_argument("--stored", type=int, nargs="+", default=[100, 500, 1000, 2000, 5000])
    growing.add_argument("--new", type=int, default=100)
    for command in (comparing, growing):
        command.add_argument("--pooler", action="store_true", help="put PgBouncer before Postgres")
    arguments = parser.parse_args()
    if arguments.command == "compare":
        compare(arguments.clips, arguments.sample, is_pooled=arguments.pooler)
    else:
        growth(sorted(arguments.stored), arguments.new, is_pooled=arguments.pooler)


if __name__ == "__main__":
    main()
