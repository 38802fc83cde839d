"""How many requests 100 clips cost at the API without webhooks: submissions, polls and the rest.

    python -m benchmarks.api_requests

Requests the clips, then collects them with another client, as a request run and a collecting run
do, with the settings of a deployment. The sandbox counts the HTTP requests that it receives.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

from sora_dagster.generation.collecting.settings import CollectionLimits
from sora_dagster.generation.generator import Generator
from sora_dagster.prompts.clips import DEFAULT_DATASET
from sora_dagster.runware.client import RunwareClient
from sora_dagster.storage import StorageRoot
from tests.generation.requesting import clip, request_clips
from tests.sandbox_server import KEY, Sandbox, sandbox_process

_LONGEST_SECONDS = 900.0
_KINDS = ("submissions", "polls", "other")


class Measuring:
    """Prints a row of the table for each part of the work.

    Arguments:
        sandbox: counts the requests.
        clips: number of clips.
    """

    def __init__(self, sandbox: Sandbox, clips: int) -> None:
        self._sandbox = sandbox
        self._clips = clips
        self._before = self._counts()
        self._started = self._since = time.monotonic()
        self._first = self._before

    def row(self, name: str) -> None:
        """Print what was received since the last row."""
        now = self._counts()
        self._print(name, self._before, now, time.monotonic() - self._since)
        self._before, self._since = now, time.monotonic()

    def total(self) -> None:
        """Print what was received since the start."""
        self._print("total", self._first, self._before, time.monotonic() - self._started)

    def _counts(self) -> dict[str, int]:
        posts: dict[str, int] = self._sandbox.ledger()["posts"]
        return posts

    def _print(
        self, name: str, before: Mapping[str, int], now: Mapping[str, int], seconds: float
    ) -> None:
        counts = [now[kind] - before[kind] for kind in _KINDS]
        cells = " | ".join(str(count) for count in (*counts, sum(counts)))
        print(f"| {name} | {cells} | {sum(counts) / self._clips:.2f} | {seconds:.1f} |", flush=True)


def collect(generator: Generator) -> int:
    """Store all that is outstanding; gives the number of stored clips."""
    stored = 0
    limits = CollectionLimits(max_wait_seconds=_LONGEST_SECONDS)
    with generator.collection(
        limits, holder="the benchmark", datasets=[DEFAULT_DATASET]
    ) as collection:
        while not collection.is_done:
            for finished in collection.wait():
                stored += finished.manifest is not None
                collection.close(finished)
    return stored


def main() -> None:
    """Measure, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--clips", type=int, default=100)
    parser.add_argument("--latency", type=float, default=20.0, help="seconds a clip takes")
    arguments = parser.parse_args()
    clips = [clip(f"clip {number}") for number in range(arguments.clips)]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        options = [f"--latency={arguments.latency:g}", "--reuse-rendered"]
        with sandbox_process(folder, options) as sandbox:
            print("| step | submissions | polls | other requests | total | per clip | s |")
            print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
            measuring = Measuring(sandbox, len(clips))
            root = StorageRoot(folder / "storage")
            with Generator(RunwareClient(KEY, base_url=sandbox.base_url), root) as generator:
                request_clips(generator, *clips)
            measuring.row(f"requesting {len(clips)} clips of {arguments.latency:g} s")
            with Generator(RunwareClient(KEY, base_url=sandbox.base_url), root) as generator:
                stored = collect(generator)
            measuring.row("collecting them")
            measuring.total()
    if stored != len(clips):
        raise SystemExit(f"{stored} of {len(clips)} clips were stored")


if __name__ == "__main__":
    main()
