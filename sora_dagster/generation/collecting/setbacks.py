"""What slows a task down, or stops it alone: reported, and recorded in the storage root."""

from __future__ import annotations

from collections.abc import Callable

from sora_dagster.generation.collecting.tracked import TrackedTask
from sora_dagster.generation.protocol import layout
from sora_dagster.generation.protocol.ledger import Ledger
from sora_dagster.generation.protocol.pending_index import PendingEntry
from sora_dagster.generation.protocol.record_format import UnreadableRecordError
from sora_dagster.generation.protocol.records import AttemptRecord
from sora_dagster.storage import AccessDeniedError, StorageError


class Setbacks:
    """Notes why tasks are slow, and sets aside those that a record of cannot be read.

    Arguments:
        ledger: the ledger of the storage root.
        stuck: the reasons of those set aside, by clip name; kept up to date here.
        on_warning: called with a sentence about each.
    """

    def __init__(
        self, ledger: Ledger, stuck: dict[str, str], on_warning: Callable[[str], None]
    ) -> None:
        self._ledger = ledger
        self._stuck = stuck
        self._on_warning = on_warning
        self._noted: set[str] = set()

    def know_notes(self, dataset: str) -> None:
        """Have the notes of earlier processes removed with the tasks that they are about."""
        self._noted |= self._ledger.pending.noted_tasks(dataset)

    def note(self, task: TrackedTask, reason: str) -> None:
        """Say why a task is slow or cannot be stored yet."""
        if task.note == reason:
            return
        task.note = reason
        self._noted.add(task.task_uuid)
        self._ledger.pending.note(task.attempt, reason)
        self._on_warning(f"{task.attempt.request.name}: {reason}")

    def forget(self, attempt: AttemptRecord) -> None:
        """Remove the note about a task that has ended, if there is one."""
        if attempt.task_uuid in self._noted:
            self._ledger.pending.remove_note(attempt)

    def set_aside(
        self,
        entry: PendingEntry,
        error: UnreadableRecordError | AccessDeniedError,
        attempt: AttemptRecord | None,
    ) -> None:
        """Take a task out of the index whose record cannot be read; the others go on.

        Raises:
            AccessDeniedError: if the whole storage root cannot be used.
        """
        if isinstance(error, AccessDeniedError) and not self.root_works():
            raise error
        stuck = self._ledger.pending.mark_stuck(entry, str(error))
        name, named = entry.task_uuid, "CLIP --asset ASSET"
        if attempt is not None:
            name, named = attempt.request.name, f"{attempt.clip!r} --asset {attempt.asset}"
        elif record := stuck.pending:
            name, named = record.clip, f"{record.clip!r} --asset {record.asset}"
        self._report_stuck(name, named, str(error))

    def report_stuck(self, attempt: AttemptRecord, reason: str) -> None:
        """Report a clip one of whose records cannot be read."""
        self._report_stuck(
            attempt.request.name, f"{attempt.clip!r} --asset {attempt.asset}", reason
        )

    def report_unreadable(self, attempt: AttemptRecord, reason: str) -> None:
        """Report a clip that has ended and one of whose records cannot be read."""
        name = attempt.request.name
        self._stuck[name] = (
            f"one of its records cannot be read, so it is not paid for again: {reason} Then ask "
            f"for it again"
        )
        self._on_warning(f"{name}: {self._stuck[name]}")

    def _report_stuck(self, name: str, named: str, reason: str) -> None:
        sentence = (
            f"one of its records cannot be read, so it is set aside and not paid for again: "
            f"{reason} Then run: sora-dagster resolve {named} --retry"
        )
        self._stuck[name] = sentence
        self._on_warning(f"{name}: {sentence}")

    def report_unwritable(self, task: TrackedTask, error: AccessDeniedError) -> None:
        """Report a clip that an object of may not be written."""
        reason = f"it is generated and cannot be stored: {error} A later run tries again"
        self._stuck[task.attempt.request.name] = reason
        self.note(task, reason)

    def is_of_one_record(self, error: BaseException) -> bool:
        """Whether an error is about one record that cannot be read, so that others go on."""
        if isinstance(error, UnreadableRecordError):
            return True
        return isinstance(error, AccessDeniedError) and error.action == "read" and self.root_works()

    def root_works(self) -> bool:
        """Whether the storage root can be used, so that a refusal is about one object alone."""
        try:
            self._ledger.root.read(layout.ROOT_KEY)
            self._ledger.root.check_writable()
        except StorageError:
            return False
        return True
