"""What becomes of tasks that polls do not show as over."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from sora_dagster.generation.collecting.missing_tasks import GiveUp, MissingTasks
from sora_dagster.generation.collecting.settings import Deadlines
from sora_dagster.generation.collecting.tracked import ReadyTask, TrackedTask
from sora_dagster.generation.protocol.ledger import Ledger
from sora_dagster.generation.protocol.records import AttemptRecord
from sora_dagster.runware.client import RunwareClient
from sora_dagster.runware.errors import NotFoundError
from sora_dagster.runware.pricing import Price
from sora_dagster.runware.results import TaskStatus
from tests.generation.requesting import clip

HOUR = 3600.0
DEADLINES = Deadlines()


@dataclass
class Case:
    """One outstanding task, clocks that a test moves, and Runware's archive.

    Arguments:
        ledger: the ledger of the storage root.
        archive: what `getTaskDetails` answers.
        age_seconds: how long ago the task was sent, by the store's clock.
        elapsed: seconds on this machine's clock that runs through suspend.
    """

    ledger: Ledger
    archive: dict[str, Any] = field(default_factory=dict)
    age_seconds: float = 0.0
    elapsed: float = 0.0
    replays: bool = True
    asked_archive: int = 0

    def __post_init__(self) -> None:
        request = clip()
        self.attempt = AttemptRecord(
            request=request,
            take=1,
            attempt=1,
            fingerprint=request.spec.fingerprint,
            task_uuid=self.ledger.task_uuid("clips", "fox", 1, 1),
            wire={},
            estimate=Price(usd=1.2, certainty="published"),
            root_run="run",
            run_limit_usd=None,
            created_at=datetime.now(UTC),
            nonce=self.ledger.new_nonce(),
        )
        self.archive = {"errors": [self.unknown_row()]}
        self.ledger.claim_attempt(self.attempt)
        self.ledger.take_right_to_send(self.attempt.task_uuid)
        self.task = self.read()
        client = RunwareClient(
            "key", base_url="http://127.0.0.1:1/v1", transport=httpx.MockTransport(self.answer)
        )
        self.missing = MissingTasks(
            client,
            self.ledger,
            deadlines=DEADLINES,
            poll_seconds=60.0,
            replays=self.replays,
            store_time=lambda: (
                self.task.last_sent + timedelta(seconds=self.age_seconds + self.elapsed)
            ),
            elapsed=lambda: self.elapsed,
        )

    def read(self, *, is_seen: bool = False) -> TrackedTask:
        """The task, as a process knows it that begins now."""
        uuid = self.attempt.task_uuid
        [entry] = self.ledger.pending.tasks(self.attempt.dataset).values()
        files = self.ledger.task_files(uuid)
        return TrackedTask(entry, self.attempt, files, root_run="run", is_seen=is_seen)

    def unknown_row(self) -> dict[str, str]:
        return {
            "code": "taskNotFound",
            "message": "no such task",
            "taskUUID": self.attempt.task_uuid,
        }

    def answer(self, _: httpx.Request) -> httpx.Response:
        self.asked_archive += 1
        return httpx.Response(200, json=self.archive)

    def hear(self, kind: str, *, after_seconds: float = 0.0) -> Any:
        """What is decided about the next answer to a poll."""
        self.elapsed += after_seconds
        uuid = self.attempt.task_uuid
        status = {
            "unknown": TaskStatus(uuid, not_found=NotFoundError("no such task")),
            "silent": TaskStatus(uuid),
            "running": TaskStatus(uuid, processing=1),
            "failed to answer": TaskStatus(uuid, poll_error=NotFoundError("busy")),
        }[kind]
        return self.missing.resolve(self.task, status)

    def hear_for(self, seconds: float, kind: str, *, every_seconds: float = 60.0) -> Any:
        """What is decided after the same answer through so many seconds."""
        decided = self.hear(kind)
        for _ in range(int(seconds / every_seconds)):
            decided = self.hear(kind, after_seconds=every_seconds)
        return decided


NewCase = Callable[..., Case]


@pytest.fixture
def case(ledger: Ledger) -> NewCase:
    return lambda **fields: Case(ledger, **fields)


def test_an_old_task_is_not_judged_by_its_age(case: NewCase) -> None:
    old = case(age_seconds=100 * HOUR)
    assert old.hear("unknown") == "wait"
    assert old.hear_for(540, "unknown") == "wait"
    assert old.asked_archive == 0


def test_a_task_that_was_never_seen_is_sent_again_after_ten_minutes_of_the_same_answer(
    case: NewCase,
) -> None:
    never_seen = case(age_seconds=HOUR)
    assert never_seen.hear_for(600, "unknown") == "replay"
    assert never_seen.asked_archive == 1


def test_nothing_is_concluded_before_the_deadline(case: NewCase) -> None:
    young = case()
    assert young.hear_for(1740, "unknown") == "wait"
    assert young.hear("unknown", after_seconds=60) == "replay"


@pytest.mark.parametrize("other", ["silent", "running", "failed to answer"])
def test_any_other_answer_starts_the_count_again(case: NewCase, other: str) -> None:
    task = case(age_seconds=HOUR)
    task.hear_for(540, "unknown")
    task.hear(other, after_seconds=30)
    assert task.hear_for(540, "unknown") == "wait"
    assert task.hear("unknown", after_seconds=60) == "replay"


def test_what_was_answered_before_a_weekend_in_suspend_does_not_count(case: NewCase) -> None:
    """An incident of two minutes after it must not decide about a task."""
    suspended = case(age_seconds=HOUR)
    suspended.hear("unknown")
    assert suspended.hear("unknown", after_seconds=48 * HOUR) == "wait"
    assert suspended.hear_for(120, "unknown", every_seconds=10) == "wait"
    assert suspended.asked_archive == 0


def test_at_least_three_polls_decide(case: NewCase) -> None:
    seldom = case(age_seconds=HOUR)
    seldom.hear("unknown")
    assert seldom.hear("unknown", after_seconds=300) == "wait"
    assert seldom.hear("unknown", after_seconds=300) == "replay"


def test_a_task_that_was_seen_is_lost_and_never_sent_again(case: NewCase) -> None:
    seen = case(age_seconds=HOUR)
    seen.task = seen.read(is_seen=True)
    decided = seen.hear_for(600, "unknown")
    assert isinstance(decided, GiveUp)
    assert decided.state == "lost"


def test_silence_about_a_task_that_was_never_seen_is_left_to_a_person(case: NewCase) -> None:
    silent = case(age_seconds=HOUR)
    silent.archive = {"data": []}
    decided = silent.hear_for(600, "silent")
    assert isinstance(decided, GiveUp)
    assert decided.state == "unsure"
    assert "--resend, or --give-up" in decided.error.message


def test_without_replays_an_unknown_task_is_left_to_a_person(case: NewCase) -> None:
    decided = case(age_seconds=HOUR, replays=False).hear_for(600, "unknown")
    assert isinstance(decided, GiveUp)
    assert decided.state == "unsure"


def test_an_archive_that_cannot_be_asked_decides_nothing(case: NewCase) -> None:
    task = case(age_seconds=HOUR)
    task.archive = {"errors": [{"code": "invalidApiKey", "message": "no"}]}
    assert task.hear_for(600, "unknown") == "wait"


def test_what_runware_says_is_running_is_slow_and_not_given_up_before_a_day(
    case: NewCase,
) -> None:
    running = case()
    assert running.hear("running", after_seconds=29 * 60) == "wait"
    assert running.hear("running", after_seconds=60) == "slow"
    assert running.hear("running", after_seconds=23 * HOUR) == "slow"
    decided = running.hear("running", after_seconds=HOUR)
    assert isinstance(decided, GiveUp)
    assert decided.state == "lost"
    assert "24 hours" in decided.error.message


def test_a_reopening_has_a_deadline_of_its_own(case: NewCase, ledger: Ledger) -> None:
    task = case()
    root, attempt = ledger.root, task.attempt
    root.create(f"tasks/{attempt.task_uuid}/outcome-0.json", b"{}")
    assert ledger.reopen(attempt) == 1
    reopened = task.read(is_seen=True)
    assert reopened.reopening == 1
    assert reopened.last_sent >= task.task.last_sent
    assert reopened.last_sent == reopened.files.reopened[1]


def test_a_video_that_runware_put_into_the_store_is_kept_though_runware_forgot_its_task(
    case: NewCase, ledger: Ledger
) -> None:
    task = case(age_seconds=HOUR)
    task.attempt = task.attempt.model_copy(update={"delivery": "direct"})
    task.task = task.read(is_seen=True)
    ledger.root.write(f"incoming/{task.attempt.task_uuid}", b"a video")
    decided = task.hear_for(600, "unknown")
    assert isinstance(decided, ReadyTask)
    assert decided.facts_from == "upload"
