"""The status of a take by its records, and by Runware if it ended without a video."""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from sora_dagster.generation.protocol import layout
from sora_dagster.generation.protocol.ledger import Ledger, Take
from sora_dagster.generation.protocol.records import (
    AttemptRecord,
    ClipManifest,
    OutcomeRecord,
)
from sora_dagster.generation.requesting.options import retry_advice
from sora_dagster.runware.client import RunwareClient
from sora_dagster.runware.errors import ErrorRecord, RunwareError
from sora_dagster.runware.results import TaskStatus

_log = logging.getLogger(__name__)

StatusKind = Literal[
    "stored", "record_missing", "outstanding", "stuck", "unsent", "void", "failed", "undecided"
]


class UncheckedError(Exception):
    """An attempt that ended could not be polled again."""

    def __init__(self, error: RunwareError) -> None:
        super().__init__(str(error))
        self.error = error


@dataclass(frozen=True)
class TakeStatus:
    """The status of a take by its records.

    Arguments:
        kind: `stored`; `record_missing`, ended with videos but without a manifest; `outstanding`,
            sent and not ended; `stuck`, set aside because of an unreadable record; `unsent`,
            claimed and not sent yet; `void`, never accepted; `failed`, ended without a video; or
            `undecided`, ended, and it is not known whether there is a video.
        detail: human-readable summary.
        outcome: outcome of its latest attempt; None if it has not ended.
        manifest: record of the stored take; None if it is not stored, or pruned.
    """

    kind: StatusKind
    detail: str
    outcome: OutcomeRecord | None = None
    manifest: ClipManifest | None = None

    @property
    def error(self) -> ErrorRecord | None:
        """Why it failed."""
        return next(iter(self.outcome.errors), None) if self.outcome is not None else None


class TakeStatusReader:
    """Reads the status of takes, and corrects records that are wrong.

    Arguments:
        client: the API client.
        ledger: the ledger.
        store_time: the store's clock.
        unsent_seconds: age after which a claim that was never sent may be voided.
        is_dry_run: whether nothing may be written.
    """

    def __init__(
        self,
        client: RunwareClient,
        ledger: Ledger,
        *,
        store_time: Callable[[], datetime],
        unsent_seconds: float,
        is_dry_run: bool,
    ) -> None:
        self._client = client
        self._ledger = ledger
        self._store_time = store_time
        self._unsent_seconds = unsent_seconds
        self._is_dry_run = is_dry_run

    def status(self, take: Take) -> TakeStatus:
        """The status of a take by its records. A manifest outranks any outcome."""
        current = take.latest
        if stored := self.stored(take):
            return stored
        outcome = self._ledger.outcome(current.task_uuid)
        if outcome is None:
            return self._open(take)
        again = retry_advice(current.asset, current.clip)
        match outcome.state:
            case "void":
                return TakeStatus("void", f"take {take.number} was never accepted", outcome)
            case "failed":
                advice = f"Change the clip's row, or {again}."
                return _without_video("failed", take, outcome, advice)
            case "lost" | "unsure":
                advice = f"It may have been paid for. To generate it again, {again}."
                return _without_video("undecided", take, outcome, advice)
            case "done" | "partial":
                # The manifest is written before the outcome, so it may have come in between.
                if stored := self.stored(take):
                    return stored
                place = (current.asset, current.clip, take.number)
                if self._ledger.pruned(*place) is not None:
                    return TakeStatus(
                        "stored", f"take {take.number} was generated, and its videos were pruned"
                    )
                if not self._ledger.task_files(current.task_uuid).has_ended:
                    # It is being collected again already.
                    return self._open(take)
                return TakeStatus("record_missing", _missing_record(current))

    def stored(self, take: Take) -> TakeStatus | None:
        """The status of a take that is stored completely; None if it is not."""
        manifest = self._ledger.manifest(take.latest.asset, take.latest.clip, take.number)
        if manifest is None:
            return None
        detail = f"take {take.number} is already generated, 0.00 USD"
        return TakeStatus("stored", detail, manifest=manifest)

    def reopened(self, take: Take, status: TakeStatus) -> TakeStatus | None:
        """Have an ended attempt collected again if Runware shows a video of it, or makes one.

        Raises:
            UncheckedError: if it cannot be polled.
        """
        if status.outcome is not None and not status.outcome.was_accepted:
            return None
        answer = self._poll(take.latest)
        if not (answer.results or answer.processing):
            return None
        if not self._is_dry_run:
            self._ledger.reopen(take.latest)
        what = (
            "its record is missing"
            if status.kind == "record_missing"
            else f"its last attempt was recorded as {status.outcome.state}"
            if status.outcome is not None
            else "it ended"
        )
        detail = (
            f"{what}; Runware still hosts the video, and it is collected again, free of charge"
            if answer.results
            else f"{what}; Runware is still generating it, and it is collected when it is finished"
        )
        return TakeStatus("outstanding", detail)

    def voids_old_claim(self, attempt: AttemptRecord) -> bool:
        """Void a claim that is so old that no process can be about to send it."""
        claim = self._ledger.root.info(attempt.key)
        age = timedelta() if claim is None else self._store_time() - claim.last_modified
        if age <= timedelta(seconds=self._unsent_seconds):
            return False
        if self._is_dry_run:
            return True
        if not self._ledger.take_right_to_void(attempt.task_uuid):
            return False
        self._ledger.settle_unaccepted(attempt.task_uuid)
        self._ledger.pending.remove(attempt.dataset, attempt.task_uuid)
        return True

    def _open(self, take: Take) -> TakeStatus:
        current = take.latest
        sent = self._ledger.sent(current.task_uuid)
        if sent is not None and sent.purpose == "void":
            return TakeStatus("void", f"take {take.number} was never sent")
        files = self._ledger.task_files(current.task_uuid)
        if sent is None and not files.was_sent:
            return TakeStatus("unsent", f"take {take.number} is about to be sent by another run")
        if {0, files.reopening} <= files.outcomes.keys():
            # It ended since its outcome was read.
            return self.status(take)
        key = layout.pending_key(current.dataset, current.task_uuid, files.reopening)
        if not self._ledger.root.exists(key):
            stuck_key = layout.stuck_key(current.dataset, current.task_uuid)
            if self._ledger.root.exists(stuck_key):
                return TakeStatus(
                    "stuck",
                    f"take {take.number} cannot be collected: one of its records cannot be read; "
                    f"{self._ledger.root.uri(stuck_key)} says which. Restore that record, then "
                    f"run: sora-dagster resolve {current.clip!r} --asset {current.asset} --retry",
                )
            if not self._is_dry_run:
                # Its entry was lost with the process that was about to write it.
                self._ledger.pending.add(current, files.reopening)
        return TakeStatus("outstanding", f"take {take.number} is being generated already")

    def _poll(self, attempt: AttemptRecord) -> TaskStatus:
        try:
            status = self._client.poll([attempt.task_uuid])[attempt.task_uuid]
        except RunwareError as error:
            _log.warning("task %s could not be polled again: %s", attempt.task_uuid, error)
            raise UncheckedError(error) from error
        if status.poll_error is not None:
            raise UncheckedError(status.poll_error)
        return status


def _without_video(kind: StatusKind, take: Take, outcome: OutcomeRecord, advice: str) -> TakeStatus:
    reasons = " ".join(error.sentence for error in outcome.errors) or "No reason is known."
    detail = f"take {take.number} ended as {outcome.state} and is not retried. {reasons} {advice}"
    return TakeStatus(kind, detail, outcome)


def _missing_record(attempt: AttemptRecord) -> str:
    return (
        f"its task {attempt.task_uuid} ended with videos, its record is missing, and Runware does "
        f"not host them any longer. Restore the take's folder from a backup, or raise the clip's "
        f"take to generate it again, which costs again."
    )
