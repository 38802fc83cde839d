"""Cost of requesting 10,000 clips that are stored, on a store that responds in 30 ms.

    python -m benchmarks.repeated_requests       # --clips, --few, --milliseconds

Fills an S3 server in memory (in a separate process) with stored clips, and requests all of them, as
generating a dataset does before anything is sent: with the index of stored clips; without it, so
that each manifest is read and the index is written; with it again; then a few of them. Only the
requesting process is measured.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import resource
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing.connection import Connection

from benchmarks.counting_s3 import CountingBucket, serving
from sora_dagster.generation.protocol import layout
from sora_dagster.generation.protocol.ledger import Ledger
from sora_dagster.generation.requesting.stored_index import stored_results
from sora_dagster.prompts.clips import ClipRequest
from sora_dagster.storage import StorageRoot
from tests.generation.large_roots import clip_name, stored_clips
from tests.generation.stored_takes import stored_take

_URL = "s3://bucket/clips"
_PREFIX = "clips/"


def serve(stored: int, delay_seconds: float, parent: Connection) -> None:
    """Serve a filled bucket: send its address, then, for each message, the counts since the last.

    The message `"forget the index"` also empties the index of what is stored.
    """
    bucket = CountingBucket(
        ((f"{_PREFIX}{key}", body) for key, body in stored_clips(stored)),
        delay_seconds=delay_seconds,
    )
    with serving(bucket) as endpoint:
        parent.send(endpoint)
        while (message := parent.recv()) != "end":
            if message == "forget the index":
                index = [
                    key
                    for key in bucket.keys
                    if key.startswith(f"{_PREFIX}{layout.STORED_FOLDER}/")
                ]
                for key in index:
                    bucket.delete(key)
            parent.send(dict(bucket.counts))
            bucket.counts.clear()


@contextmanager
def bucket_process(stored: int, delay_seconds: float) -> Iterator[Connection]:
    """A filled bucket in a separate process; yields the connection to :func:`serve`."""
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=serve, args=(stored, delay_seconds, theirs), daemon=True)
    process.start()
    try:
        yield ours
        ours.send("end")
        process.join(timeout=10)
    finally:
        process.terminate()


def request_and_root_record() -> tuple[ClipRequest, bytes]:
    """The request of the stored clips, except for the clip's name; and a root's record."""
    ledger = Ledger(StorageRoot("memory://"))
    ledger.bind(api_base_url="https://api.example.com/v1", account=None)
    return stored_take(ledger).request, ledger.root.read(layout.ROOT_KEY)


def measure(name: str, bucket: Connection, act: Callable[[], int], wanted: int) -> None:
    """Request clips, and print a row of the table."""
    bucket.send("count")
    bucket.recv()
    cpu, started = time.process_time(), time.monotonic()
    answered = act()
    seconds, cpu = time.monotonic() - started, time.process_time() - cpu
    bucket.send("count")
    counts: dict[str, int] = bucket.recv()
    counts.pop("listed", 0)
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(
        f"| {name} | {wanted:,} | {counts.get('LIST', 0):,} | {counts.get('GET', 0):,} | "
        f"{counts.get('HEAD', 0):,} | {counts.get('PUT', 0):,} | {seconds:.1f} | {cpu:.1f} | "
        f"{memory:.0f} |",
        flush=True,
    )
    if answered != wanted:
        raise SystemExit(f"{answered} of {wanted} clips were found as stored")


def main() -> None:
    """Measure all cases."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--clips", type=int, default=10_000)
    parser.add_argument("--few", type=int, default=20)
    parser.add_argument("--milliseconds", type=float, default=30.0)
    arguments = parser.parse_args()
    template, root_record = request_and_root_record()
    requests = [
        template.model_copy(update={"clip": clip_name(number)}) for number in range(arguments.clips)
    ]
    with bucket_process(arguments.clips, arguments.milliseconds / 1000) as bucket:
        os.environ |= {
            "AWS_ENDPOINT_URL": bucket.recv(),
            "AWS_ACCESS_KEY_ID": "key",
            "AWS_SECRET_ACCESS_KEY": "secret",
            "AWS_REGION": "us-east-1",
        }
        ledger = Ledger(StorageRoot(_URL))
        # A root can be bound only while it is empty; this one was filled directly.
        ledger.root.write(layout.ROOT_KEY, root_record)

        def ask(requests: Sequence[ClipRequest]) -> int:
            return len(stored_results(ledger, requests))

        print("| requested | clips | LIST | GET | HEAD | PUT | s | CPU s | peak MB |")
        print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |")
        measure("all", bucket, lambda: ask(requests), len(requests))
        bucket.send("forget the index")
        bucket.recv()
        measure("all, index missing", bucket, lambda: ask(requests), len(requests))
        measure("all, index written again", bucket, lambda: ask(requests), len(requests))
        few = requests[: arguments.few]
        measure("a few", bucket, lambda: ask(few), len(few))


if __name__ == "__main__":
    main()
