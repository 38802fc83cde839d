"""Manual decisions about clips that the protocol cannot decide about automatically."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from sora_dagster.generation.generator import Generator
from sora_dagster.generation.protocol import layout
from sora_dagster.generation.protocol.ledger import Ledger
from sora_dagster.generation.protocol.pending_index import pending_record
from sora_dagster.generation.protocol.records import (
    AttemptRecord,
    OutcomeRecord,
    Record,
    StuckRecord,
)
from sora_dagster.generation.requesting.options import RequestOptions
from sora_dagster.generation.requesting.results import RequestResult
from sora_dagster.storage import StorageError


class ResolutionError(Exception):
    """There is nothing to resolve; the message gives the state of the clip."""


class ManualDecision(Record):
    """`tasks/<uuid>/resolved.json`: a manual decision about a task.

    Arguments:
        decision: to request another attempt, or to leave it.
    """

    decision: Literal["resend", "give-up"]
    at: datetime


def resend(
    generator: Generator, asset: str, clip: str, *, run_limit_usd: float | None
) -> RequestResult:
    """Request another attempt of a clip, however the last one ended; it may be paid for again.

    The last attempt is polled again first: if Runware has its video after all, or is still
    generating it, it is collected, and nothing is sent.

    Raises:
        ResolutionError: if the clip is stored or outstanding, or was never requested.
        RunwareError: if the API refuses the key or cannot be reached.
        StorageError: if an image or the full URL of an input is missing; nothing was recorded.
    """
    ledger = generator.ledger
    attempt, outcome = _last_attempt(ledger, asset, clip)
    if outcome is None:
        progress = _progress(generator, attempt.task_uuid)
        raise ResolutionError(f"{asset}/{clip} is outstanding: {progress}. Nothing was sent")
    request = generator.recorded_request(attempt)
    _record(ledger, attempt, "resend")
    options = RequestOptions(
        root_run=f"resolve-{attempt.task_uuid}", run_limit_usd=run_limit_usd, retry_failed=True
    )
    return generator.request([request], options)[0]


def give_up(ledger: Ledger, asset: str, clip: str) -> OutcomeRecord:
    """Leave a clip without a video; its possible cost stays counted.

    Raises:
        ResolutionError: if the clip is stored or outstanding, or was never requested.
    """
    attempt, outcome = _last_attempt(ledger, asset, clip)
    if outcome is None:
        raise ResolutionError(f"{asset}/{clip} is outstanding; wait for it")
    _record(ledger, attempt, "give-up")
    return outcome


def retry_stuck(ledger: Ledger, asset: str, clip: str) -> tuple[str, ...]:
    """Have stuck tasks of a clip collected again, once their unreadable record is restored.

    Returns:
        UUIDs of the tasks that are outstanding again.

    Raises:
        ResolutionError: if no task of the clip is stuck, or neither the index entry of a task nor
            its attempt can be read.
    """
    stuck = {
        info.key.rpartition("/")[2].removesuffix(".json"): info.key
        for info in ledger.root.list(layout.STUCK_FOLDER)
    }
    put_back = []
    for slot_key, task_uuid in _tasks_of(ledger, asset, clip):
        if task_uuid in stuck:
            _put_back(ledger, stuck[task_uuid], slot_key)
            put_back.append(task_uuid)
    if not put_back:
        raise ResolutionError(f"{asset}/{clip} was not set aside; there is nothing to retry")
    return tuple(put_back)


def _tasks_of(ledger: Ledger, asset: str, clip: str) -> list[tuple[str, str]]:
    """Keys of the attempts of a clip, and their tasks, without reading any record."""
    return [
        (info.key, ledger.task_uuid(asset, clip, int(match["take"]), int(match["attempt"])))
        for info in ledger.root.list(layout.slot_folder(asset, clip))
        if (match := layout.ATTEMPT_KEY.fullmatch(info.key))
    ]


def _put_back(ledger: Ledger, stuck_key: str, slot_key: str) -> None:
    stuck = ledger.require(stuck_key, StuckRecord)
    pending = stuck.pending
    if pending is None:
        try:
            attempt = ledger.require(slot_key, AttemptRecord)
        except StorageError as error:
            raise ResolutionError(
                f"task {stuck.task_uuid} cannot be collected yet, since its attempt cannot be "
                f"read: {str(error).rstrip('.')}. Restore it, then run this command again"
            ) from error
        pending = pending_record(attempt, stuck.reopening)
    ledger.pending.put_back(pending.dataset, stuck.model_copy(update={"pending": pending}))


def _last_attempt(
    ledger: Ledger, asset: str, clip: str
) -> tuple[AttemptRecord, OutcomeRecord | None]:
    """The last attempt of a clip that is not stored, and its outcome; None if it has not ended."""
    takes = ledger.takes(asset, clip)
    if not takes:
        raise ResolutionError(f"{asset}/{clip} was never requested in {ledger.root.url}")
    place = (asset, clip, takes[-1].number)
    if ledger.manifest(*place) is not None or ledger.pruned(*place) is not None:
        raise ResolutionError(f"{asset}/{clip} is stored; there is nothing to resolve")
    attempt = takes[-1].latest
    return attempt, ledger.outcome(attempt.task_uuid)


def _progress(generator: Generator, task_uuid: str) -> str:
    """The progress of an outstanding task, by a poll."""
    status = generator.client.poll([task_uuid])[task_uuid]
    if status.results:
        return "Runware has its video, and the next collecting run stores it"
    if status.processing:
        return "Runware is still generating it, and it is collected when it is finished"
    return "Runware does not show it now, and the collecting run finds out what became of it"


def _record(ledger: Ledger, attempt: AttemptRecord, decision: Literal["resend", "give-up"]) -> None:
    ledger.root.write(
        layout.task_key(attempt.task_uuid, "resolved"),
        ManualDecision(decision=decision, at=ledger.clock()).to_json(),
    )
    ledger.pending.remove_undecided(attempt.dataset, attempt.task_uuid)
