"""Requests of a poll with 100,000 stored clips and with 100.

    python -m benchmarks.listing

Counts, at an S3 server, the requests and listed objects of a tick of the completion sensor, of a
poll of the collecting run, and of a request of a stored clip and of a new one, with 5 outstanding
clips; then of a check and a dry run of pruning of the whole root.
"""

from __future__ import annotations

import argparse
import os
import resource
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import dagster as dg

from benchmarks.counting_s3 import CountingBucket, serving
from sora_dagster.dataset import VideoDataset
from sora_dagster.generation.collecting.settings import CollectionLimits, Deadlines
from sora_dagster.generation.generator import Generator
from sora_dagster.generation.housekeeping.prune import prune
from sora_dagster.generation.housekeeping.verify import verify
from sora_dagster.generation.protocol.claims import ClaimSettings
from sora_dagster.generation.protocol.ledger import Ledger
from sora_dagster.jobs.collect import build_collect_job
from sora_dagster.prompts.clips import DEFAULT_DATASET, ClipRequest
from sora_dagster.resources import ClipStorageResource
from sora_dagster.sensors import build_completion_sensor
from sora_dagster.storage import StorageRoot
from tests.generation.large_roots import add_those_that_matter, stored_clips
from tests.generation.requesting import clip, quick_generator, request_clips
from tests.sandbox_server import sandbox_process

OUTSTANDING = 5
_URL = "s3://bucket/clips"
_PREFIX = "clips/"


class Measuring:
    """Prints a row of the table for each thing that is done.

    Arguments:
        bucket: counts what is asked of it.
        stored: how many clips are in it.
    """

    def __init__(self, bucket: CountingBucket, stored: int) -> None:
        self._bucket = bucket
        self._stored = stored

    def row(self, name: str, act: Callable[[], object]) -> None:
        """Do something, and print what it took."""
        self._bucket.counts.clear()
        memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        started = time.monotonic()
        act()
        seconds = time.monotonic() - started
        grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory
        counts = self._bucket.counts
        listed = counts.pop("listed", 0)
        print(
            f"| {name} | {self._stored:,} | {sum(counts.values()):,} | {counts['LIST']:,} | "
            f"{listed:,} | {seconds:.2f} | {grown / 1024:.0f} |",
            flush=True,
        )


def measure(stored: int, base_url: str, folder: Path) -> None:
    """Fill a bucket, and measure each operation on it."""
    bucket = CountingBucket((f"{_PREFIX}{key}", body) for key, body in stored_clips(stored))
    with serving(bucket) as endpoint:
        os.environ |= {
            "AWS_ENDPOINT_URL": endpoint,
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_REGION": "us-east-1",
            "RUNWARE_API_KEY": "sandbox-key",
        }
        root = StorageRoot(_URL)
        with quick_generator(base_url, StorageRoot("memory://")) as other:
            # A root can be bound only while it is empty; this one was filled directly.
            other.bind()
            root.write("root.json", other.ledger.root.read("root.json"))
        request = add_those_that_matter(Ledger(root), OUTSTANDING)
        measuring = Measuring(bucket, stored)
        _measure_ticks(measuring, folder)
        _measure_generator(measuring, base_url, request)
        measuring.row("check of the whole root", lambda: _check(root))
        measuring.row("dry run of pruning, 1 take kept", lambda: prune(Ledger(root), keep_takes=1))


def _measure_ticks(measuring: Measuring, folder: Path) -> None:
    dataset = VideoDataset(folder / "prompts.yaml")
    sensor = build_completion_sensor(dataset, build_collect_job(dataset), poll_after_seconds=0)
    storage = ClipStorageResource(url=_URL)
    with (
        dg.instance_for_test() as instance,
        dg.build_sensor_context(instance=instance, resources={"clip_storage": storage}) as context,
    ):
        sensor.evaluate_tick(context)
        measuring.row("tick of the completion sensor", lambda: sensor.evaluate_tick(context))


def _measure_generator(measuring: Measuring, base_url: str, stored: ClipRequest) -> None:
    def with_generator(act: Callable[[Generator], object]) -> Callable[[], None]:
        def call() -> None:
            # Claims with their real timers, so that none adds to the counts.
            with quick_generator(
                base_url, StorageRoot(_URL), deadlines=Deadlines(), claims=ClaimSettings()
            ) as generator:
                act(generator)

        return call

    measuring.row("poll of the collecting run", with_generator(_poll))
    measuring.row(
        "request of a stored clip", with_generator(lambda made: request_clips(made, stored))
    )
    measuring.row(
        "request of a new clip", with_generator(lambda made: request_clips(made, clip("new")))
    )


def _poll(generator: Generator) -> None:
    """Claim the dataset, look once, and give the claim up, as a collecting run does."""
    limits = CollectionLimits(max_wait_seconds=60)
    with generator.collection(
        limits, holder="the benchmark", datasets=[DEFAULT_DATASET]
    ) as collection:
        collection.wait()


def _check(root: StorageRoot) -> None:
    report = verify(Ledger(root))
    if not report.is_complete:
        raise SystemExit(f"the filled root is not whole: {report.findings[:3]}")


def main() -> None:
    """Measure on a small root and on a large one."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--clips", type=int, nargs="*", default=[100, 100_000])
    arguments = parser.parse_args()
    print("| what | clips stored | requests | listings | objects listed | s | MB more |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with sandbox_process(folder, ["--latency=5", "--reuse-rendered"]) as sandbox:
            for stored in arguments.clips:
                measure(stored, sandbox.base_url, folder)


if __name__ == "__main__":
    main()
