"""Manual decisions about a clip that the protocol cannot decide about by itself."""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import datetime
from typing import Literal, Protocol

from sora_dagster.generation.protocol import layout
from sora_dagster.generation.protocol.ledger import Ledger, Take
from sora_dagster.generation.protocol.record_format import UnreadableRecordError, parse_record
from sora_dagster.generation.protocol.records import (
    AttemptRecord,
    OutcomeRecord,
    PendingRecord,
    Record,
    StuckRecord,
)
from sora_dagster.generation.requesting.options import RequestOptions
from sora_dagster.generation.requesting.payloads import with_first_frame
from sora_dagster.generation.requesting.results import RequestResult
from sora_dagster.prompts.clips import ClipRequest
from sora_dagster.runware.client import RunwareClient
from sora_dagster.storage import StorageError

_ATTEMPT_KEY = re.compile(r".*/take-(\d+)/attempt-(\d+)\.json")


class ResolutionError(Exception):
    """There is nothing to resolve; the message says how the clip stands."""


class Resolution(Record):
    """`tasks/<uuid>/resolved.json`: what was decided by hand.

    Arguments:
        decision: to ask for another attempt, or to leave it.
    """

    decision: Literal["resend", "give-up"]
    at: datetime


class ClipGenerator(Protocol):
    """What asks for clips: an API client, a ledger bound to its account, and a requester."""

    client: RunwareClient
    ledger: Ledger

    def request(self, asked: Sequence[ClipRequest], asking: RequestOptions) -> list[RequestResult]:
        """Ask for clips."""


def resend(
    generator: ClipGenerator, asset: str, clip: str, *, run_limit_usd: float | None
) -> RequestResult:
    """Ask for another attempt of a clip, whatever became of the last; it may be paid for again.

    The last attempt is polled once more first: if Runware has its video after all, or is still
    generating it, that is collected, and nothing is sent.

    Raises:
        ResolutionError: if the clip is stored, outstanding, or was never asked for.
        RunwareError: if the API refuses the key or cannot be reached.
    """
    ledger = generator.ledger
    take = _latest_take(ledger, asset, clip)
    if not _is_stored(ledger, take) and ledger.outcome(take.latest.task_uuid) is None:
        raise ResolutionError(
            f"{asset}/{clip} is outstanding: {_progress(generator, take)}. Nothing was sent"
        )
    take, _ = undecided(ledger, asset, clip)
    _record(ledger, take, "resend")
    request = with_first_frame(ledger.root, take.latest.request)
    asking = RequestOptions(
        root_run=f"resolve-{take.latest.task_uuid}",
        run_limit_usd=run_limit_usd,
        retry_failed=True,
    )
    [requested] = generator.request([request], asking)
    return requested


def give_up(ledger: Ledger, asset: str, clip: str) -> OutcomeRecord:
    """Leave a clip as it is, on record; what it may have cost stays counted.

    Raises:
        ResolutionError: if the clip is stored, outstanding, or was never asked for.
    """
    take, outcome = undecided(ledger, asset, clip)
    _record(ledger, take, "give-up")
    return outcome


def undecided(ledger: Ledger, asset: str, clip: str) -> tuple[Take, OutcomeRecord]:
    """The latest take of a clip that has no video, and how its last attempt ended.

    Raises:
        ResolutionError: if there is none.
    """
    take = _latest_take(ledger, asset, clip)
    if _is_stored(ledger, take):
        raise ResolutionError(f"{asset}/{clip} is stored; there is nothing to resolve")
    outcome = ledger.outcome(take.latest.task_uuid)
    if outcome is None:
        raise ResolutionError(f"{asset}/{clip} is outstanding; wait for it")
    return take, outcome


def retry_stuck(ledger: Ledger, asset: str, clip: str) -> tuple[str, ...]:
    """Have tasks of a clip collected again that were set aside with an unreadable record.

    Returns:
        UUIDs of the tasks that are in the index again.

    Raises:
        ResolutionError: if none of the clip was set aside, or if neither the index entry of a
            task nor its attempt's record can be read.
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
        (info.key, ledger.task_uuid(asset, clip, int(match[1]), int(match[2])))
        for info in ledger.root.list(layout.slot_folder(asset, clip))
        if (match := _ATTEMPT_KEY.fullmatch(info.key))
    ]


def _put_back(ledger: Ledger, stuck_key: str, slot_key: str) -> None:
    root = ledger.root
    stuck = parse_record(root.read(stuck_key), StuckRecord, uri=root.uri(stuck_key))
    pending = stuck.pending
    if pending is None:
        try:
            attempt = parse_record(root.read(slot_key), AttemptRecord, uri=root.uri(slot_key))
        except (UnreadableRecordError, StorageError) as error:
            raise ResolutionError(
                f"task {stuck.task_uuid} cannot be collected yet, since what was asked cannot be "
                f"read. Restore it first, then run this again: {error}"
            ) from error
        pending = PendingRecord(
            dataset=attempt.dataset,
            asset=attempt.asset,
            clip=attempt.clip,
            take=attempt.take,
            attempt=attempt.attempt,
            task_uuid=attempt.task_uuid,
            reopening=stuck.reopening,
        )
    ledger.pending.put_back(pending.dataset, stuck.model_copy(update={"pending": pending}))


def _latest_take(ledger: Ledger, asset: str, clip: str) -> Take:
    takes = ledger.takes(asset, clip)
    if not takes:
        raise ResolutionError(f"{asset}/{clip} was never asked for in {ledger.root.url}")
    return takes[-1]


def _is_stored(ledger: Ledger, take: Take) -> bool:
    place = (take.latest.asset, take.latest.clip, take.number)
    return ledger.manifest(*place) is not None or ledger.pruned(*place) is not None


def _progress(generator: ClipGenerator, take: Take) -> str:
    """How an outstanding take is going, by what Runware says now."""
    task_uuid = take.latest.task_uuid
    status = generator.client.poll([task_uuid])[task_uuid]
    if status.results:
        return "Runware has its video, and the next collecting run stores it"
    if status.processing:
        return "Runware is still generating it, and it is collected when it is finished"
    return "Runware shows nothing of it now, and the collecting run finds out what became of it"


def _record(ledger: Ledger, take: Take, decision: Literal["resend", "give-up"]) -> None:
    ledger.root.write(
        layout.task_key(take.latest.task_uuid, "resolved"),
        Resolution(decision=decision, at=ledger.clock()).to_json(),
    )
