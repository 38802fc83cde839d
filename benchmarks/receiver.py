"""CPU time of a webhook in the receiver, with 10,000 waiting markers and with none.

    python -m benchmarks.receiver

Starts `sora-dagster webhook` on a local folder, sends it signed webhooks over HTTP, one after
another on one connection, and reads the CPU time of its process from /proc. Each webhook is for
another task, which was sent and has no outcome.
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
import time
from pathlib import Path
from uuid import UUID

import httpx

from sora_dagster.generation.protocol.ledger import Ledger
from sora_dagster.generation.protocol.markers import WebhookAddress, drop_marker, tasks_with_markers
from sora_dagster.local.processes import running
from sora_dagster.storage import StorageRoot

_SECRET = "a secret for the benchmark, of 32 characters or more"
_DATASET = "default"
# The first calls load code that later ones find loaded.
_WARM_UP_CALLS = 50


def measure(waiting: int, calls: int, folder: Path) -> None:
    """Measure with some markers waiting, and print a row of the table."""
    root = StorageRoot(tempfile.mkdtemp(dir=folder))
    ledger = Ledger(root)
    ledger.bind(api_base_url="https://api.example.com/v1", account=None)
    for number in range(waiting):
        drop_marker(root, _DATASET, str(UUID(int=number, version=4)), b"{}")
    tasks = [ledger.task_uuid("clips", f"clip {n}", 1, 1) for n in range(_WARM_UP_CALLS + calls)]
    for task_uuid in tasks:
        ledger.take_right_to_send(task_uuid)
    with running(
        "the receiver",
        [sys.executable, "-m", "sora_dagster", "webhook", "--port=0", f"--storage={root.url}"],
        environment={"SORA_WEBHOOK_SECRET": _SECRET},
        log_path=folder / "receiver.log",
    ) as receiver:
        address = WebhookAddress(receiver.wait_for_line("listening on "), _SECRET)
        with httpx.Client() as client:
            _post(client, address, tasks[:_WARM_UP_CALLS])
            cpu_before, started = _cpu_seconds(receiver.pid), time.monotonic()
            _post(client, address, tasks[_WARM_UP_CALLS:])
            seconds = time.monotonic() - started
            cpu_seconds = _cpu_seconds(receiver.pid) - cpu_before
    found = sum(1 for _ in tasks_with_markers(root, _DATASET))
    if found != waiting + len(tasks):
        raise SystemExit(f"{found} markers are there, {waiting + len(tasks)} were expected")
    print(
        f"| {waiting:,} | {calls:,} | {cpu_seconds / calls * 1000:.2f} | "
        f"{seconds / calls * 1000:.2f} |",
        flush=True,
    )


def _post(client: httpx.Client, address: WebhookAddress, tasks: list[str]) -> None:
    for task_uuid in tasks:
        body = {"taskType": "videoInference", "taskUUID": task_uuid, "videoURL": "https://x/v.mp4"}
        answer = client.post(address.for_task(_DATASET, task_uuid), json={"data": [body]})
        if answer.status_code != 204:
            raise SystemExit(f"a webhook was answered {answer.status_code}: {answer.text}")


def _cpu_seconds(pid: int) -> float:
    """User and system time of a process and all its threads."""
    # The name in the second field may hold spaces; the fields after it are counted from its end.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Measure with an empty inbox and with a full one."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--waiting", type=int, nargs="*", default=[0, 10_000])
    parser.add_argument("--calls", type=int, default=2000)
    arguments = parser.parse_args()
    print("| markers waiting | webhooks | CPU ms per webhook | ms per webhook |")
    print("| ---: | ---: | ---: | ---: |")
    with tempfile.TemporaryDirectory() as name:
        for waiting in arguments.waiting:
            measure(waiting, arguments.calls, Path(name))


if __name__ == "__main__":
    main()
