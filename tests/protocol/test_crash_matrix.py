"""Processes killed with SIGKILL at every step: nothing is paid twice, nothing paid for is lost.

Each row kills a real process at one step, or at two in a row, has a fresh process collect, and then
another one request again and collect. What happened is checked against the sandbox's own books.
"""

from __future__ import annotations

import functools
import hashlib
import io
import itertools
import os
import signal
import sys
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from sora_dagster.generation.protocol.ledger import Ledger
from sora_dagster.generation.protocol.records import AttemptRecord, ClipManifest
from sora_dagster.local.processes import ManagedProcess, running, wait_until
from sora_dagster.sandbox.server import running_sandbox
from sora_dagster.sandbox.settings import SandboxSettings
from sora_dagster.storage import StorageRoot
from tests.media.probing import probe
from tests.protocol.budget_logs import read_logs
from tests.protocol.child_processes import REPOSITORY, Ended, Processes
from tests.protocol.crash_child import (
    CLIPS,
    RUN_LIMIT_USD,
    STEPS,
    TINY_RUN_LIMIT_USD,
    WEBHOOK_SECRET,
)
from tests.protocol.families import CATALOGUE, RUNS_ALL_WITH_BOTH
from tests.protocol.faulty_sandbox import FaultySandbox
from tests.protocol.invariants import secrets_in
from tests.protocol.matrix import INVARIANTS, NO_VIOLATIONS, Matrix
from tests.sandbox_server import Sandbox, free_port, sandbox_process

UNFINISHED = {number: ["the story did not come to its end"] for number in INVARIANTS}


def in_every_moment(name: str) -> list[str]:
    moments = ("before", "middle", "after") if STEPS[name].operation == "stream" else None
    return [f"{name}, {moment}" for moment in moments or ("before", "after")]


DIRECT_ONLY = ("video copied", "upload removed")
AFTER_AN_EARLIER_CRASH = (
    "sent-2 taken",
    "second POST",
    "sent-1 voided",
    "void outcome written",
    "dead process noted",
)
AFTER_A_FAILED_FETCH = ("note written", "note removed")
# See test_killed_remixes.py.
REMIXES_ONLY = (
    "last frame kept",
    "refusal recorded",
    "attempt by address claimed",
    "run budget reserved again",
    "day budget reserved again",
    "POST of the address",
)
SINGLE = [
    (point,)
    for name in STEPS
    if name not in (*AFTER_AN_EARLIER_CRASH, *AFTER_A_FAILED_FETCH, *DIRECT_ONLY, *REMIXES_ONLY)
    for point in in_every_moment(name)
]
# A collecting process that makes good an earlier crash is killed too.
DOUBLE = [
    *[("POST, before", point) for point in in_every_moment("sent-2 taken")],
    ("POST, before", "second POST, after"),
    *[("run budget reserved, after", point) for point in in_every_moment("sent-1 voided")],
    *[("day budget reserved, after", point) for point in in_every_moment("sent-1 voided")],
    *[("day budget reserved, after", point) for point in in_every_moment("void outcome written")],
    *[("pending written, after", point) for point in in_every_moment("sent-1 voided")],
    *[("poll, after", point) for point in in_every_moment("dead process noted")],
    ("poll, after", "rest claimed, before"),
    ("outcome written, after", "index of stored clips written, before"),
    ("run budget reserved, after", "run budget settled, before"),
    ("day budget reserved, after", "day budget settled, after"),
    ("outcome written, after", "pending removed, before"),
]
# Of the two clips one is a live model's and one Sora's. Most points strike the first one.
FAMILIES = ("live,sora", "sora,live") if RUNS_ALL_WITH_BOTH else ("live,sora",)
# On a bucket that Runware puts the videos into.
DIRECT = [
    ("POST, before",),
    *[(point,) for point in in_every_moment("video copied")],
    *[(point,) for point in in_every_moment("manifest written")],
    ("outcome written, after",),
    *[(point,) for point in in_every_moment("upload removed")],
    ("video copied, after", "manifest written, after"),
]


def command(sandbox: Sandbox, storage: Path | str, *options: str) -> list[str]:
    return [
        sys.executable,
        *("-m", "tests.protocol.crash_child"),
        *("--base-url", sandbox.base_url),
        *("--storage", str(storage)),
        *options,
    ]


@dataclass
class Books:
    """What stands in a storage root, next to what the sandbox charged for it."""

    sandbox: Sandbox
    storage: Path | str
    limit_usd: float = TINY_RUN_LIMIT_USD
    charged_before: Counter[str] = field(default_factory=Counter)
    ledger: Ledger = field(init=False)

    def __post_init__(self) -> None:
        self.ledger = Ledger(StorageRoot(self.storage))
        self.charged_before = self._charges()

    def _charges(self) -> Counter[str]:
        return Counter(charge["taskUUID"] for charge in self.sandbox.ledger()["charges"])

    def _costs(self) -> dict[str, float]:
        return {charge["taskUUID"]: charge["cost"] for charge in self.sandbox.ledger()["charges"]}

    @property
    def charges(self) -> Counter[str]:
        """How often each task of this root was charged."""
        return self._charges() - self.charged_before

    @property
    def charged_usd(self) -> float:
        costs = self._costs()
        return round(sum(costs[task] * times for task, times in self.charges.items()), 6)

    @property
    def attempts(self) -> list[AttemptRecord]:
        return [
            attempt
            for clip in CLIPS
            for take in self.ledger.takes("clips", clip)
            for attempt in take.attempts
        ]

    def manifest(self, clip: str) -> ClipManifest | None:
        return self.ledger.manifest("clips", clip, 1)

    def is_whole(self, manifest: ClipManifest | None) -> bool:
        """Whether a clip's objects are there, as the manifest describes them."""
        if manifest is None or not self.ledger.root.exists(manifest.poster_key):
            return False
        bodies = [self.ledger.root.read_if_present(video.key) for video in manifest.videos]
        return bool(bodies) and all(
            body is not None
            and hashlib.sha256(body).hexdigest() == video.sha256
            and frame_count(body) == video.frame_count
            for body, video in zip(bodies, manifest.videos, strict=True)
        )

    def violations(self) -> dict[int, list[str]]:
        """What is wrong at the end, by the number of the invariant."""
        charged = [f"{self.charged_usd} USD were charged"]
        return {
            1: self._charged_otherwise_than_once(),
            2: [f"{clip} is not whole" for clip in CLIPS if not self.is_whole(self.manifest(clip))],
            3: [*self._left(), *self._differences()],
            4: charged if self.charged_usd > self.limit_usd else [],
            5: secrets_in(self.ledger.root),
        }

    def _charged_otherwise_than_once(self) -> list[str]:
        charges = self.charges
        by_clip: Counter[str] = Counter()
        for attempt in self.attempts:
            by_clip[attempt.clip] += charges.pop(attempt.task_uuid, 0)
        return [
            *(f"task {task} is no attempt" for task in charges),
            *(f"{clip} was charged {by_clip[clip]} times" for clip in CLIPS if by_clip[clip] != 1),
        ]

    def _left(self) -> list[str]:
        folders = ("pending", "inbox", "incoming", "stuck", "notes")
        return [info.key for folder in folders for info in self.ledger.root.list(folder)]

    def _differences(self) -> list[str]:
        """Where outcomes, the spending log and the sandbox do not say the same."""
        outcomes = {
            attempt.task_uuid: outcome.cost_usd if outcome is not None else None
            for attempt in self.attempts
            for outcome in [self.ledger.outcome(attempt.task_uuid)]
        }
        total = round(sum(cost or 0.0 for cost in outcomes.values()), 6)
        logs = read_logs(self.ledger.root)
        return [
            *(f"task {task} has no outcome" for task, cost in outcomes.items() if cost is None),
            *(
                f"{task} is settled at {log.costs_usd.get(task)} USD in {log.folder}, its outcome "
                f"says {outcomes[task]}"
                for log in logs
                for task in log.reserved_usd
                if log.costs_usd.get(task) != outcomes[task]
            ),
            *(
                f"{log.folder} comes to {log.total_usd} USD"
                for log in logs
                if round(log.total_usd, 6) != self.charged_usd
            ),
            *([f"the outcomes come to {total} USD"] if total != self.charged_usd else []),
        ]

    def check_what_was_paid_is_stored(self) -> None:
        """Everything that is charged has a whole clip, although it was not requested again."""
        stored = {
            manifest.task_uuid
            for clip in CLIPS
            if (manifest := self.manifest(clip)) and self.is_whole(manifest)
        }
        assert set(self.charges) == stored
        assert self.ledger.pending.task_uuids() == frozenset()


@functools.cache
def frame_count(body: bytes) -> int:
    """How many frames can be decoded; the sandbox gives all clips the same bytes."""
    return probe(io.BytesIO(body)).frame_count


def row_of(matrix: Matrix, what_is_killed: str) -> Callable[[Books], None]:
    """Begin a row of the table of faults; gives what checks the invariants and ends it."""
    name = f"killed: {what_is_killed}"
    matrix.record(name, UNFINISHED)

    def check(books: Books) -> None:
        violations = books.violations()
        matrix.record(name, violations)
        assert violations == NO_VIOLATIONS

    return check


@pytest.mark.parametrize("families", FAMILIES)
@pytest.mark.parametrize("points", [*SINGLE, *DOUBLE], ids=" then ".join)
def test_a_killed_process_never_pays_twice_and_loses_nothing(
    processes: Processes,
    crash_sandbox: Sandbox,
    matrix: Matrix,
    tmp_path: Path,
    points: Sequence[str],
    families: str,
) -> None:
    check = row_of(matrix, f"{' then '.join(points)} ({families})")
    books = Books(crash_sandbox, tmp_path / "storage")
    kill_and_go_on(processes, books, points, "--families", families)
    check(books)


@pytest.mark.parametrize("families", FAMILIES)
@pytest.mark.parametrize("points", DIRECT, ids=" then ".join)
def test_a_process_that_is_killed_while_runware_puts_videos_into_the_bucket_loses_nothing(
    processes: Processes,
    crash_sandbox: Sandbox,
    matrix: Matrix,
    s3_endpoint: str,
    s3_url: str,
    points: Sequence[str],
    families: str,
) -> None:
    check = row_of(matrix, f"direct: {' then '.join(points)} ({families})")
    books = Books(crash_sandbox, s3_url)
    kill_and_go_on(processes, books, points, "--s3-endpoint", s3_endpoint, "--families", families)
    manifests = [books.manifest(clip) for clip in CLIPS]
    assert [manifest and manifest.delivery for manifest in manifests] == ["direct", "direct"]
    check(books)


@pytest.mark.parametrize(
    "point", [point for name in AFTER_A_FAILED_FETCH for point in in_every_moment(name)]
)
def test_a_process_that_is_killed_while_a_video_cannot_be_fetched_leaves_no_note(
    processes: Processes, crash_sandbox: Sandbox, matrix: Matrix, tmp_path: Path, point: str
) -> None:
    check = row_of(matrix, f"a video cannot be fetched at first: {point}")
    books = Books(crash_sandbox, tmp_path / "storage")
    faults = FaultySandbox(crash_sandbox.base_url)
    faults.set_faults(rules=[{"fault": "download_gone", "times": 2}])
    try:
        kill_and_go_on(processes, books, [point])
    finally:
        faults.clear_faults()
    check(books)


def kill_and_go_on(
    processes: Processes, books: Books, points: Sequence[str], *options: str
) -> None:
    """Kill processes at some points; have a fresh one collect, and another request again."""
    sandbox, storage = books.sandbox, books.storage
    steps: tuple[str, ...] = ("--request", "--drop-markers")
    for point in points:
        killed = processes.run(sandbox, storage, *options, *steps, "--crash-at", point)
        assert (killed.status, killed.said[-1:]) == (-signal.SIGKILL, [f"killed at {point}"])
        steps = ()
    assert processes.run(sandbox, storage, *options) == Ended(0, [])
    books.check_what_was_paid_is_stored()
    again = processes.run(sandbox, storage, *options, "--request")
    assert again.status == 0, "\n".join(again.said)


def test_a_runware_that_is_killed_and_comes_back_costs_no_clip(
    matrix: Matrix, tmp_path: Path
) -> None:
    check = row_of(matrix, "the sandbox, while clips are outstanding")
    port, data = free_port(), tmp_path / "data"
    arguments = [f"--port={port}", f"--data-dir={data}", "--latency=3", "--reuse-rendered"]
    sandboxes = itertools.count(1)

    def start() -> ManagedProcess:
        return ManagedProcess(
            "the sandbox",
            [sys.executable, "-m", "sora_dagster", "sandbox", *arguments],
            environment={},
            log_path=tmp_path / f"sandbox-{next(sandboxes)}.log",
        )

    first = start()
    try:
        sandbox = Sandbox(first.wait_for_line("listening on "))
        books = Books(sandbox, tmp_path / "storage", limit_usd=RUN_LIMIT_USD)
        with running(
            "the collecting process",
            command(sandbox, books.storage, "--request"),
            environment={"PYTHONPATH": str(REPOSITORY)},
            log_path=tmp_path / "child.log",
        ) as child:
            wait_for(lambda: len(list(books.ledger.root.list("tasks"))) >= 4, child)
            os.kill(first.pid, signal.SIGKILL)
            first.wait()
            assert len(books.ledger.pending.task_uuids()) == 2
            second = start()
            try:
                second.wait_for_line("listening on ")
                wait_for(lambda: child.has_ended)
                assert child.wait() == 0, child.last_output()
                check(books)
            finally:
                second.end()
    finally:
        first.end()


def test_webhooks_that_a_killed_receiver_does_not_get_are_made_good_by_polls(
    matrix: Matrix, tmp_path: Path
) -> None:
    check = row_of(matrix, "the webhook receiver, before the webhooks")
    with sandbox_process(tmp_path, ["--latency=3", "--reuse-rendered"]) as sandbox:
        books = Books(sandbox, tmp_path / "storage", limit_usd=RUN_LIMIT_USD)
        with running(
            "the webhook receiver",
            [
                *(sys.executable, "-m", "sora_dagster", "webhook", "--port=0"),
                *("--storage", str(books.storage)),
            ],
            environment={"SORA_WEBHOOK_SECRET": WEBHOOK_SECRET},
            log_path=tmp_path / "receiver.log",
        ) as receiver:
            url = receiver.wait_for_line("listening on ")
            with running(
                "the collecting process",
                command(sandbox, books.storage, "--request", "--webhook-url", url),
                environment={"PYTHONPATH": str(REPOSITORY)},
                log_path=tmp_path / "child.log",
            ) as child:
                wait_for(lambda: len(list(books.ledger.root.list("tasks"))) >= 4, child)
                os.kill(receiver.pid, signal.SIGKILL)
                receiver.wait()
                assert list(books.ledger.root.list("inbox")) == []
                wait_for(lambda: child.has_ended)
                assert child.wait() == 0, child.last_output()
        check(books)


def test_a_process_that_was_stopped_reports_nothing_of_what_another_took_over(
    processes: Processes, matrix: Matrix, tmp_path: Path
) -> None:
    check = row_of(matrix, "(stopped) the collecting process, for longer than its claim lives")
    settings = SandboxSettings(latency_seconds=2, latency_step_seconds=0, reuse_rendered=True)
    with running_sandbox(settings, catalogue=CATALOGUE) as base_url:
        books = Books(Sandbox(base_url), tmp_path / "storage")
        with running(
            "the collecting process",
            command(books.sandbox, books.storage, "--tiny", "--request", "--tell"),
            environment={"PYTHONPATH": str(REPOSITORY)},
            log_path=tmp_path / "child.log",
        ) as stopped:
            wait_for(lambda: books.ledger.root.exists("claims/default/rest-1.json"), stopped)
            os.kill(stopped.pid, signal.SIGSTOP)
            other = processes.run(books.sandbox, books.storage, "--tell")
            assert sorted(other.said) == ["reported fox", "reported owl"]
            os.kill(stopped.pid, signal.SIGCONT)
            wait_for(lambda: stopped.has_ended)
            assert stopped.wait() == 0, stopped.last_output()
            assert "reported" not in (tmp_path / "child.log").read_text()
        check(books)


def wait_for(condition: Callable[[], bool], process: ManagedProcess | None = None) -> None:
    """Wait until a condition holds, while a process must go on."""

    def holds() -> bool:
        if condition():
            return True
        if process is not None:
            process.check()
        return False

    assert wait_until(holds, timeout_seconds=60)
