"""The tasks that a collection tracks, and those that ended and are not reported yet."""

from __future__ import annotations

import logging
from collections.abc import Container
from dataclasses import replace

from sora_dagster.generation.collecting.problem_reporter import ProblemReporter
from sora_dagster.generation.collecting.scope import CollectionScope
from sora_dagster.generation.collecting.tracked import FinishedTask, TrackedTask
from sora_dagster.generation.protocol.ledger import Ledger
from sora_dagster.generation.protocol.pending_index import PendingEntry
from sora_dagster.generation.protocol.record_store import UnreadableRecordError
from sora_dagster.generation.protocol.records import AttemptRecord
from sora_dagster.storage import AccessDeniedError

_log = logging.getLogger(__name__)


class TaskTracker:
    """Tracks tasks until they end, are stuck, or are left to a later run.

    Arguments:
        ledger: the ledger of the storage root.
        scope: the claims of this process.
        problems: reports stuck and slow tasks.
    """

    def __init__(self, ledger: Ledger, scope: CollectionScope, problems: ProblemReporter) -> None:
        self.scope = scope
        self.problems = problems
        self._ledger = ledger
        self._unwritable: set[str] = set()
        #: Tracked tasks by UUID.
        self.tasks: dict[str, TrackedTask] = {}
        #: Tasks that ended and are not reported yet.
        self.ended: list[FinishedTask] = []

    def owns_claims(self) -> bool:
        """Whether no other process took over while this one was paused."""
        if self.scope.owns_claims():
            return True
        if not self.problems.report.is_taken_over:
            self.problems.report.is_taken_over = True
            self.problems.warn(
                "this process was paused for so long that another one took over, so it stops here"
            )
        return False

    def is_new(self, entry: PendingEntry) -> bool:
        """Whether an entry of the index is not tracked yet."""
        task = self.tasks.get(entry.task_uuid)
        return entry.task_uuid not in self._unwritable and (
            task is None or task.reopening < entry.reopening
        )

    def drop_missing(self, entries: Container[str]) -> None:
        """Stop tracking tasks that another process has closed or claimed."""
        for uuid, task in list(self.tasks.items()):
            if uuid not in entries and task.phase != "storing":
                del self.tasks[uuid]

    def is_waiting(self, task_uuid: str) -> bool:
        """Whether a task is awaited: not read yet, or tracked and not left to a later run."""
        task = self.tasks.get(task_uuid)
        return task is None or not task.is_left

    def end(self, task: TrackedTask, finished: FinishedTask) -> None:
        """Stop tracking a task that ended."""
        task.phase = "ended"
        self.tasks.pop(task.task_uuid, None)
        if self.owns_claims():
            self.ended.append(replace(finished, root_run=task.root_run))

    def mark_stuck(
        self,
        entry: PendingEntry,
        error: UnreadableRecordError | AccessDeniedError,
        attempt: AttemptRecord | None = None,
    ) -> None:
        """Remove a task with an unreadable record from the index; the other tasks go on."""
        attempt = attempt or self.scope.awaited.get(entry.task_uuid)
        self.problems.mark_stuck(entry, error, attempt)
        self._drop(entry.task_uuid)

    def leave_unwritable(self, task: TrackedTask, error: AccessDeniedError) -> None:
        """Leave a task to a later run, since one of its objects may not be written."""
        self.problems.report_unwritable(task, error)
        self._unwritable.add(task.task_uuid)
        self._drop(task.task_uuid)
        self.scope.leave(task)
        self._ledger.pending.leave(task.entry)

    def _drop(self, task_uuid: str) -> None:
        self.tasks.pop(task_uuid, None)
        self.scope.drop_awaited(task_uuid)

    def leave_all(self) -> None:
        """Record what stays outstanding, so that a later run collects slow tasks after a while."""
        for uuid, task in self.tasks.items():
            self.problems.report.left[uuid] = task.note
            if task.is_slow and not self.problems.report.is_taken_over:
                try:
                    self._ledger.pending.leave(task.entry)
                except (UnreadableRecordError, AccessDeniedError) as error:
                    # The next run that reads it marks it as stuck.
                    _log.warning("%s", error)
