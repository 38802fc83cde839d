"""Reading what the entries of the index stand for: tasks to track, and tasks that ended."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import Literal

from sora_dagster.generation.collecting.context import CollectionContext
from sora_dagster.generation.collecting.tracked import FinishedTask, TrackedTask
from sora_dagster.generation.protocol import layout
from sora_dagster.generation.protocol.pending_index import PendingEntry
from sora_dagster.generation.protocol.record_store import UnreadableRecordError
from sora_dagster.generation.protocol.records import AttemptRecord
from sora_dagster.generation.protocol.scan import in_parallel
from sora_dagster.storage import AccessDeniedError

# "unsent": a claimed task that was not sent, or not yet; it is given up when it is old.
# An error: one of its records cannot be read. None: the entry is gone, or was obsolete.
ReadTask = (
    TrackedTask
    | FinishedTask
    | UnreadableRecordError
    | AccessDeniedError
    | Literal["unsent"]
    | None
)


class OutstandingReader:
    """Reads the tasks that entries of the index stand for.

    Arguments:
        context: what the collection works with.
    """

    def __init__(self, context: CollectionContext) -> None:
        self._ledger = context.ledger
        self._unsent = timedelta(seconds=context.deadlines.unsent_seconds)
        self._store_time = context.store_time

    def read(self, entries: Iterable[PendingEntry]) -> Iterator[ReadTask]:
        """The tasks of entries, in their order; several are read in parallel."""
        return in_parallel(entries, self._read_or_report)

    def _read_or_report(self, entry: PendingEntry) -> ReadTask:
        try:
            return self._read(entry)
        except (UnreadableRecordError, AccessDeniedError) as error:
            return error

    def _read(self, entry: PendingEntry) -> ReadTask:
        task_uuid = entry.task_uuid
        attempt = self._ledger.pending.attempt(entry)
        if attempt is None:
            return self._read_unclaimed(entry)
        files = self._ledger.task_files(task_uuid)
        if entry.reopening in files.outcomes:
            return self._read_ended(entry, attempt)
        sent = self._ledger.sent(task_uuid) if 1 in files.sent else None
        is_void = sent is not None and sent.purpose == "void"
        if is_void or (sent is None and not files.was_sent):
            return self._read_unsent(entry, attempt, is_void=is_void)
        return TrackedTask(
            entry,
            attempt,
            files,
            root_run=(sent and sent.root_run) or attempt.root_run,
            is_seen=files.is_seen,
        )

    def _read_ended(self, entry: PendingEntry, attempt: AttemptRecord) -> FinishedTask | None:
        outcome = self._ledger.outcome_of(entry.task_uuid, entry.reopening)
        if outcome is None:
            return None
        manifest = None
        if outcome.has_videos:
            manifest = self._ledger.manifest(attempt.asset, attempt.clip, attempt.take)
        if manifest is not None:
            # Its process may have been killed before it wrote the entry.
            self._ledger.mark_stored(manifest)
        sent = self._ledger.sent(entry.task_uuid)
        return FinishedTask(
            attempt,
            outcome,
            manifest,
            entry.reopening,
            "interrupted",
            root_run=None if sent is None else sent.root_run,
        )

    def _read_unclaimed(self, entry: PendingEntry) -> Literal["unsent"] | None:
        """An entry without a slot: its process was killed before it claimed the attempt."""
        if not self._is_old(entry):
            return "unsent"
        was_sent = self._ledger.task_files(entry.task_uuid).was_sent
        # Its process may only be paused: it must not send a task that no entry points to.
        if not was_sent and (
            self._ledger.take_right_to_void(entry.task_uuid) or self._is_void(entry)
        ):
            self._ledger.pending.remove(entry.dataset, entry.task_uuid, entry.reopening)
            return None
        if self._ledger.pending.record(entry) is not None:
            raise UnreadableRecordError(
                f"task {entry.task_uuid} was sent, and the record of its attempt is missing. "
                f"Restore the object below {self._ledger.root.uri(layout.SLOTS_FOLDER)} from a "
                f"backup."
            )
        return None

    def _is_void(self, entry: PendingEntry) -> bool:
        """Whether an earlier process took the token, and was killed before it removed the entry."""
        sent = self._ledger.sent(entry.task_uuid)
        return sent is not None and sent.purpose == "void"

    def _read_unsent(
        self, entry: PendingEntry, attempt: AttemptRecord, *, is_void: bool
    ) -> Literal["unsent"] | FinishedTask:
        if not is_void and not (
            self._is_old(entry) and self._ledger.take_right_to_void(entry.task_uuid)
        ):
            return "unsent"
        outcome = self._ledger.settle_unaccepted(attempt.task_uuid)
        return FinishedTask(attempt, outcome, None, entry.reopening)

    def _is_old(self, entry: PendingEntry) -> bool:
        return self._store_time() - entry.since > self._unsent
