"""Reporting and recording why a task is slow, or why it cannot be collected at all."""

from __future__ import annotations

from collections.abc import Callable

from sora_dagster.generation.collecting.context import CollectionReport
from sora_dagster.generation.collecting.tracked import TrackedTask
from sora_dagster.generation.protocol import layout
from sora_dagster.generation.protocol.ledger import Ledger
from sora_dagster.generation.protocol.pending_index import PendingEntry
from sora_dagster.generation.protocol.record_store import UnreadableRecordError
from sora_dagster.generation.protocol.records import AttemptRecord
from sora_dagster.storage import AccessDeniedError, StorageError


class ProblemReporter:
    """Records notes about slow tasks, and moves tasks with unreadable records to `stuck/`.

    Arguments:
        ledger: the ledger of the storage root.
        report: the collection's report; updated here.
        warn: called with a sentence about each problem.
    """

    def __init__(
        self, ledger: Ledger, report: CollectionReport, warn: Callable[[str], None]
    ) -> None:
        self.report = report
        self.warn = warn
        self._ledger = ledger
        self._noted: set[str] = set()

    def load_notes(self, dataset: str) -> None:
        """Load the notes of earlier processes, so that they are removed with their tasks.

        A note whose task has ended is removed: its process was killed or stopped in between.
        """
        noted = self._ledger.pending.noted_tasks(dataset)
        if noted:
            outstanding = self._ledger.pending.tasks(dataset)
            for task_uuid in noted - outstanding.keys():
                self._ledger.pending.remove_note(dataset, task_uuid)
            noted &= outstanding.keys()
        self._noted |= noted

    def note(self, task: TrackedTask, reason: str) -> None:
        """Record why a task is slow or cannot be stored yet, once for each reason."""
        if task.note == reason:
            return
        task.note = reason
        self._noted.add(task.task_uuid)
        self._ledger.pending.note(task.attempt, reason)
        if not self._ledger.pending.contains(task.entry):
            # Another process ended it while this one was stopped, and did not see this note.
            self._ledger.pending.remove_note(task.attempt.dataset, task.task_uuid)
        self.warn(f"{task.attempt.request.name}: {reason}")

    def remove_note(self, attempt: AttemptRecord) -> None:
        """Remove the note about a task that has ended, if there is one."""
        if attempt.task_uuid in self._noted:
            self._ledger.pending.remove_note(attempt.dataset, attempt.task_uuid)

    def mark_stuck(
        self,
        entry: PendingEntry,
        error: UnreadableRecordError | AccessDeniedError,
        attempt: AttemptRecord | None,
    ) -> None:
        """Remove a task with an unreadable record from the index; the other tasks go on.

        Raises:
            AccessDeniedError: if the whole storage root cannot be used.
        """
        if isinstance(error, AccessDeniedError) and not self.root_works():
            raise error
        record = self._ledger.pending.mark_stuck(entry, str(error)).pending
        if attempt is not None:
            self.report_stuck(attempt, str(error))
        elif record is not None:
            self._report_stuck(record.clip, f"{record.clip!r} --asset {record.asset}", str(error))
        else:
            self._report_stuck(entry.task_uuid, "CLIP --asset ASSET", str(error))

    def report_stuck(self, attempt: AttemptRecord, reason: str) -> None:
        """Report a clip whose task is stuck."""
        self._report_stuck(
            attempt.request.name, f"{attempt.clip!r} --asset {attempt.asset}", reason
        )

    def _report_stuck(self, name: str, arguments: str, reason: str) -> None:
        self._report(
            name,
            f"one of its records cannot be read, so it is set aside and not paid for again: "
            f"{reason} Then run: sora-dagster resolve {arguments} --retry",
        )

    def report_unreadable(self, attempt: AttemptRecord, reason: str) -> None:
        """Report a clip that has ended and whose outcome or manifest cannot be read."""
        self._report(
            attempt.request.name,
            f"one of its records cannot be read, so it is not paid for again: {reason} Then "
            f"request it again",
        )

    def _report(self, name: str, sentence: str) -> None:
        self.report.stuck[name] = sentence
        self.warn(f"{name}: {sentence}")

    def report_unwritable(self, task: TrackedTask, error: AccessDeniedError) -> None:
        """Report a clip with an object that may not be written."""
        reason = f"it was generated and cannot be stored: {error} A later run tries again"
        self.report.stuck[task.attempt.request.name] = reason
        self.note(task, reason)

    def concerns_one_record(self, error: BaseException) -> bool:
        """Whether an error is about one unreadable record, so that the other tasks can go on."""
        if isinstance(error, UnreadableRecordError):
            return True
        return isinstance(error, AccessDeniedError) and error.action == "read" and self.root_works()

    def root_works(self) -> bool:
        """Whether the storage root can be used, so that a refusal concerns one object only."""
        try:
            self._ledger.root.read(layout.ROOT_KEY)
            self._ledger.root.check_writable()
        except StorageError:
            return False
        return True
