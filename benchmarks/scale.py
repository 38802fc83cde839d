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
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

import dagster as dg

from benchmarks.deployment import Cpu, Deployment, running_deployment
from benchmarks.tiny_clips import clip_id, tiny_sandbox, write_dataset
from tests.sandbox_server import KEY, Sandbox

_FOLDER = Path(__file__).parent
_LATENCY_SECONDS = 10.0
_IDLE_SECONDS = 60.0
# The dataset sensor logs 500 rows every 30 s.
_SECONDS_PER_CLIP = 2.0
_MIN_WAIT_SECONDS = 300.0
_PLAIN = {
    "plain asset": {},
    "plain asset, in-process executor": {"PLAIN_IN_PROCESS": "1"},
}
# Dagster refuses more than 10,000.
_EVENTS_AT_ONCE = 1000
_PROCESSES = [field.name for field in fields(Cpu)]
_POSTS = ["submissions", "polls", "other"]


@dataclass(frozen=True)
class Usage:
    """What some work took.

    Arguments:
        cpu: CPU by process.
        wall_seconds: time.
        posts: API requests by kind.
    """

    cpu: Cpu
    wall_seconds: float
    posts: Counter[str]


class Bench:
    """A deployment with a local Runware.

    Arguments:
        folder: its folder.
        deployment: its processes.
        sandbox: the local Runware.
    """

    def __init__(self, folder: Path, deployment: Deployment, sandbox: Sandbox) -> None:
        self.folder = folder
        self.deployment = deployment
        self.sandbox = sandbox
        self.storage = folder / "storage"

    def measure(self, act: Callable[[], None]) -> Usage:
        """What an action takes."""
        began, posts, cpu = time.monotonic(), self._posts(), self.deployment.cpu()
        act()
        wall = time.monotonic() - began
        return Usage(self.deployment.cpu() - cpu, wall, self._posts() - posts)

    def wait_for(self, condition: Callable[[], bool], what: str, *, clips: int = 1) -> None:
        """Wait until something holds and no run is in progress.

        Arguments:
            condition: what must hold.
            what: the same in words.
            clips: number of clips that it takes.
        """
        seconds = _MIN_WAIT_SECONDS + _SECONDS_PER_CLIP * clips
        self.deployment.wait(condition, what, timeout_seconds=seconds)

    def run_counts(self) -> Counter[str]:
        """How many runs there were, by job.

        Raises:
            RuntimeError: if one failed.
        """
        with self.deployment.instance() as instance:
            runs = instance.get_runs()
        if bad := [run for run in runs if run.status is not dg.DagsterRunStatus.SUCCESS]:
            raise RuntimeError(f"{bad[0].job_name}, run {bad[0].run_id}: {bad[0].status.value}")
        return Counter(run.job_name for run in runs)

    def check_logged(self, asset: str, clips: int) -> None:
        """Check that each clip was charged and logged exactly once.

        Raises:
            RuntimeError: if not.
        """
        with self.deployment.instance() as instance:
            partitions: list[str | None] = []
            cursor, has_more = None, True
            while has_more:
                page = instance.fetch_materializations(
                    dg.AssetKey(asset), limit=_EVENTS_AT_ONCE, cursor=cursor
                )
                partitions += [record.partition_key for record in page.records]
                cursor, has_more = page.cursor, page.has_more
        charges = len(self.sandbox.ledger()["charges"])
        if not clips == charges == len(partitions) == len(set(partitions)):
            raise RuntimeError(
                f"{clips} clips: {charges} charges, and {len(partitions)} events for "
                f"{len(set(partitions))} partitions"
            )

    def _posts(self) -> Counter[str]:
        return Counter(self.sandbox.ledger()["posts"])


class SoraDagster(Bench):
    """The code location of this package."""

    def write_rows(self, clips: int, *, new: int) -> None:
        """Give the dataset so many rows, and wait until Dagster's log has the new ones."""
        write_dataset(self.folder, clips)
        with self.deployment.instance() as instance:

            def are_logged() -> bool:
                return len(instance.get_materialized_partitions(dg.AssetKey("prompts"))) >= clips

            self.wait_for(_at_most_every(5.0, are_logged), f"{clips} rows logged", clips=new)

    def make_clips(self, clips: int, config: dict[str, Any]) -> None:
        """Launch `request_clips`, and wait until so many clips are stored in all."""
        self.deployment.launch("request_clips", {"ops": {"request": {"config": config}}})
        self.wait_for(
            _at_most_every(
                2.0, lambda: self._count("stored") >= clips and self._count("pending") == 0
            ),
            f"{clips} clips stored",
            clips=clips,
        )

    def launch_and_wait(self, job: str, config: dict[str, Any] | None = None) -> None:
        """Launch a run, and wait until it has ended."""
        ended = dg.RunsFilter(job_name=job, statuses=[dg.DagsterRunStatus.SUCCESS])
        with self.deployment.instance() as instance:
            before = instance.get_runs_count(ended)
            self.deployment.launch(job, config)
            self.wait_for(
                _at_most_every(3.0, lambda: instance.get_runs_count(ended) > before),
                f"{job} ended",
            )

    def _count(self, folder: str) -> int:
        return sum(path.is_file() for path in (self.storage / folder).rglob("*"))


class Plain(Bench):
    """The code location of plain_asset.py."""

    def make_clips(self, first: int, clips: int) -> None:
        """Backfill so many partitions, and wait for their videos."""
        names = [clip_id(number) for number in range(first, first + clips)]
        self.deployment.backfill("plain_clips", names)
        self.wait_for(
            lambda: all((self.storage / f"{name}.mp4").exists() for name in names),
            f"{clips} videos downloaded",
            clips=clips,
        )


_Kind = TypeVar("_Kind", bound=Bench)


def _at_most_every(seconds: float, condition: Callable[[], bool]) -> Callable[[], bool]:
    """A condition that is evaluated only that often, since it takes time itself."""
    evaluated_at = -seconds

    def is_met() -> bool:
        nonlocal evaluated_at
        if time.monotonic() - evaluated_at < seconds:
            return False
        evaluated_at = time.monotonic()
        return condition()

    return is_met


@contextmanager
def _running(
    kind: type[_Kind],
    code: Path,
    *,
    rows: int,
    is_pooled: bool,
    variables: Mapping[str, str] | None = None,
) -> Iterator[_Kind]:
    """A deployment with its sandbox, with so many rows in its dataset."""
    with tempfile.TemporaryDirectory(prefix="scale-") as name:
        folder = Path(name)
        environment = {
            **write_dataset(folder, rows),
            "RUNWARE_API_KEY": KEY,
            "SORA_STORAGE": str(folder / "storage"),
            "SORA_MAX_USD": "unlimited",
            **(variables or {}),
        }
        (folder / "storage").mkdir()
        with tiny_sandbox(folder, latency_seconds=_LATENCY_SECONDS) as sandbox:
            environment["RUNWARE_BASE_URL"] = sandbox.base_url
            with running_deployment(
                folder, code=code, environment=environment, is_pooled=is_pooled
            ) as deployment:
                yield kind(folder, deployment, sandbox)


@contextmanager
def _running_sora_dagster(*, is_pooled: bool) -> Iterator[SoraDagster]:
    """The package, which has made one clip, so that all processes are ready."""
    code = _FOLDER.parent / "definitions.py"
    with _running(SoraDagster, code, rows=1, is_pooled=is_pooled) as bench:
        bench.write_rows(1, new=1)
        bench.make_clips(1, {"everything": True})
        yield bench


@contextmanager
def _running_plain(rows: int, variables: Mapping[str, str], *, is_pooled: bool) -> Iterator[Plain]:
    """The plain asset, which has made one clip."""
    code = _FOLDER / "plain_asset.py"
    with _running(Plain, code, rows=rows, is_pooled=is_pooled, variables=variables) as bench:
        bench.make_clips(0, 1)
        yield bench


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
    with _running_sora_dagster(is_pooled=is_pooled) as bench:

        def make() -> None:
            bench.write_rows(clips + 1, new=clips)
            bench.make_clips(clips + 1, {"everything": True})

        ours = _measured("sora-dagster", bench, clips, make)
        bench.check_logged("clips", clips + 1)
    others = []
    for name, variables in _PLAIN.items():
        with _running_plain(clips, variables, is_pooled=is_pooled) as plain:
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
    with _running_sora_dagster(is_pooled=is_pooled) as bench:
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
