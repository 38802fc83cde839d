"""The webhook receiver under load, and the CPU time of a webhook with a full inbox.

    python -m benchmarks.receiver
    python -m benchmarks.receiver --burst

Both start `sora-dagster webhook` on a local folder. Without `--burst`, signed webhooks are sent one
after another on one connection, and the CPU time of the receiver's process is read from /proc, with
10,000 waiting markers and with none. With `--burst`, 50 connections send 4,000 webhooks, and among
them forged and repeated ones, as fast as they can, to the receiver and to a bare Starlette endpoint
that writes each body to a file. Each webhook is for another task that was sent and has no outcome.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import random
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit
from uuid import UUID

import httpx

from sora_dagster.generation.protocol.ledger import Ledger
from sora_dagster.generation.protocol.markers import WebhookUrl, tasks_with_markers, write_marker
from sora_dagster.local.processes import ManagedProcess, running
from sora_dagster.storage import StorageRoot

_SECRET = "a secret for the benchmark, of 32 characters or more"
_DATASET = "default"
# The first calls load code that later ones find loaded.
_WARM_UP_CALLS = 50
_CONNECTIONS = 50
# For each 10 webhooks there is one with a wrong signature, and one that is sent again.
_ONE_FORGED_IN = 10
_ONE_REPEATED_IN = 10


class _Call(NamedTuple):
    """One webhook of the burst: its address below the server, its body, the expected status."""

    target: str
    body: bytes
    status: int


def measure(waiting: int, calls: int, folder: Path) -> None:
    """Measure with some markers waiting, and print a row of the table."""
    root = StorageRoot(tempfile.mkdtemp(dir=folder))
    tasks = _sent_tasks(root, _WARM_UP_CALLS + calls)
    for number in range(waiting):
        write_marker(root, _DATASET, str(UUID(int=number, version=4)), b"{}")
    with _receiver(root, folder) as receiver:
        address = WebhookUrl(receiver.wait_for_line("listening on "), _SECRET)
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


def _post(client: httpx.Client, address: WebhookUrl, tasks: list[str]) -> None:
    for task_uuid in tasks:
        body = {"taskType": "videoInference", "taskUUID": task_uuid, "videoURL": "https://x/v.mp4"}
        answer = client.post(address.for_task(_DATASET, task_uuid), json={"data": [body]})
        if answer.status_code != 204:
            raise SystemExit(f"a webhook was answered {answer.status_code}: {answer.text}")


def burst(calls: int, rounds: int, folder: Path) -> None:
    """Send the same burst to the receiver and to the bare endpoint in turns, and print a table."""
    seconds: dict[str, list[float]] = {"receiver": [], "bare endpoint": []}
    for _ in range(rounds):
        root = StorageRoot(tempfile.mkdtemp(dir=folder))
        tasks = _sent_tasks(root, calls)
        with _receiver(root, folder) as receiver:
            url = receiver.wait_for_line("listening on ")
            sent = _burst_calls(WebhookUrl(url, _SECRET), tasks)
            # The first calls load code that later ones find loaded.
            asyncio.run(_send_all(url, [call for call in sent if call.status == 403][:20]))
            duration, answers = asyncio.run(_send_all(url, sent))
        expected = Counter(call.status for call in sent)
        if answers != expected:
            raise SystemExit(f"the receiver answered {answers}, expected was {expected}")
        found = {marker.task_uuid for marker in tasks_with_markers(root, _DATASET)}
        if found != set(tasks):
            raise SystemExit(f"{len(set(tasks) - found)} webhooks were lost")
        seconds["receiver"].append(duration)
        with _bare_endpoint(folder) as bare:
            url = bare.wait_for_line("listening on ")
            asyncio.run(_send_all(url, sent[:20]))
            duration, answers = asyncio.run(_send_all(url, sent))
        seconds["bare endpoint"].append(duration)
    print("| server | calls | of them forged | repeated | calls/s: median | minimum | maximum |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for name, durations in seconds.items():
        rates = sorted(len(sent) / duration for duration in durations)
        print(
            f"| {name} | {len(sent):,} | {expected[403]:,} | {len(sent) - expected[403] - calls:,} "
            f"| {statistics.median(rates):,.0f} | {rates[0]:,.0f} | {rates[-1]:,.0f} |"
        )
    ratio = statistics.median(bare / ours for ours, bare in zip(*seconds.values(), strict=True))
    print(f"receiver / bare endpoint, median of {rounds} rounds: {ratio:.2f}")


def _burst_calls(address: WebhookUrl, tasks: Sequence[str]) -> list[_Call]:
    forger = WebhookUrl(address.url, "a secret that the receiver does not have")
    calls = []
    for number, task_uuid in enumerate(tasks):
        body = json.dumps({"data": [{"taskUUID": task_uuid, "videoURL": "https://x/v.mp4"}]})
        call = _Call(_target(address.for_task(_DATASET, task_uuid)), body.encode(), 204)
        calls.append(call)
        if number % _ONE_REPEATED_IN == 0:
            calls.append(call)
        if number % _ONE_FORGED_IN == 0:
            target = _target(forger.for_task(_DATASET, task_uuid))
            calls.append(_Call(target, body.encode(), 403))
    random.Random(0).shuffle(calls)
    return calls


def _target(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.path}?{parts.query}"


async def _send_all(url: str, calls: Sequence[_Call]) -> tuple[float, Counter[int]]:
    """Send calls over 50 connections; gives the seconds and the number of answers by status."""
    waiting = iter(calls)
    answers: Counter[int] = Counter()
    parts = urlsplit(url)

    async def send() -> None:
        # A client library would need more CPU than the servers that are compared.
        reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
        for call in waiting:
            head = (
                f"POST {call.target} HTTP/1.1\r\nHost: {parts.netloc}\r\n"
                f"Content-Type: application/json\r\nContent-Length: {len(call.body)}\r\n\r\n"
            )
            writer.write(head.encode() + call.body)
            answer = (await reader.readuntil(b"\r\n\r\n")).decode().lower()
            length = answer.partition("content-length: ")[2].partition("\r\n")[0]
            await reader.readexactly(int(length or 0))
            answers[int(answer.split()[1])] += 1
        writer.close()
        await writer.wait_closed()

    started = time.monotonic()
    await asyncio.gather(*(send() for _ in range(_CONNECTIONS)))
    return time.monotonic() - started, answers


@contextmanager
def _receiver(root: StorageRoot, folder: Path) -> Iterator[ManagedProcess]:
    with running(
        "the receiver",
        [sys.executable, "-m", "sora_dagster", "webhook", "--port=0", f"--storage={root.url}"],
        environment={"SORA_WEBHOOK_SECRET": _SECRET},
        log_path=folder / "receiver.log",
    ) as process:
        yield process


@contextmanager
def _bare_endpoint(folder: Path) -> Iterator[ManagedProcess]:
    with running(
        "the bare endpoint",
        [sys.executable, "-m", "benchmarks.receiver", f"--bare={tempfile.mkdtemp(dir=folder)}"],
        environment={},
        log_path=folder / "bare.log",
    ) as process:
        yield process


def serve_bare(folder: Path) -> None:
    """Serve an endpoint that writes each body to a file of its own, until it is ended."""
    from starlette.applications import Starlette
    from starlette.concurrency import run_in_threadpool
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route

    from sora_dagster.serving import serve

    async def receive(request: Request) -> Response:
        path = folder / os.urandom(16).hex()
        await run_in_threadpool(path.write_bytes, await request.body())
        return Response(status_code=204)

    app = Starlette(routes=[Route("/runware", receive, methods=["POST"])])
    serve(
        app,
        host="127.0.0.1",
        port=0,
        on_ready=lambda url: print(f"listening on {url}/runware", flush=True),
    )


def _sent_tasks(root: StorageRoot, number: int) -> list[str]:
    ledger = Ledger(root)
    ledger.bind(api_base_url="https://api.example.com/v1", account=None)
    tasks = [ledger.task_uuid("clips", f"clip {n}", 1, 1) for n in range(number)]
    for task_uuid in tasks:
        ledger.take_right_to_send(task_uuid)
    return tasks


def _cpu_seconds(pid: int) -> float:
    """User and system time of a process and all its threads."""
    # The name in the second field may hold spaces; the fields after it are counted from its end.
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def main() -> None:
    """Measure with an empty inbox and with a full one, or under a burst."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--waiting", type=int, nargs="*", default=[0, 10_000])
    parser.add_argument("--calls", type=int, help="default: 2,000; with --burst 4,000")
    parser.add_argument("--burst", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--bare", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.bare:
        return serve_bare(arguments.bare)
    with tempfile.TemporaryDirectory() as name:
        if arguments.burst:
            return burst(arguments.calls or 4000, arguments.rounds, Path(name))
        print("| markers waiting | webhooks | CPU ms per webhook | ms per webhook |")
        print("| ---: | ---: | ---: | ---: |")
        for waiting in arguments.waiting:
            measure(waiting, arguments.calls or 2000, Path(name))


if __name__ == "__main__":
    main()
