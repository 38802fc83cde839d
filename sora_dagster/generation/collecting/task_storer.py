"""Storing the tasks that are over at Runware: uploads, downloads, and what to do if they fail."""

from __future__ import annotations

from sora_dagster.generation.collecting.context import CollectionContext
from sora_dagster.generation.collecting.missing_tasks import GiveUp
from sora_dagster.generation.collecting.task_tracker import TaskTracker
from sora_dagster.generation.collecting.tracked import FinishedTask, ReadyTask, TrackedTask
from sora_dagster.generation.collecting.workers import CollectionWorkers, StoreResult
from sora_dagster.generation.fetching.download import DownloadError
from sora_dagster.generation.fetching.video_store import DamagedVideoError
from sora_dagster.generation.protocol import layout
from sora_dagster.generation.protocol.record_store import UnreadableRecordError
from sora_dagster.runware.errors import ErrorRecord
from sora_dagster.storage import AccessDeniedError

_FIRST_FETCH_WAIT_SECONDS = 2.0
_LONGEST_FETCH_WAIT_SECONDS = 60.0


class TaskStorer:
    """Stores tasks that are over at Runware, as soon as their uploads are complete or late.

    Arguments:
        context: what the collection works with.
        tracker: the tracked tasks.
        workers: the storing threads.
    """

    def __init__(
        self,
        context: CollectionContext,
        tracker: TaskTracker,
        workers: CollectionWorkers,
    ) -> None:
        self._context = context
        self._tracker = tracker
        self._scope = tracker.scope
        self._problems = tracker.problems
        self._workers = workers

    def add(self, task: TrackedTask, ready: ReadyTask) -> None:
        """Store a task, or wait for its upload first."""
        task.ready = ready
        is_uploaded = task.attempt.delivery == "direct" and len(ready.status.results) == 1
        if is_uploaded and ready.facts_from != "upload":
            task.phase = "uploading"
            task.upload_since = task.upload_since or self._context.store_time()
        else:
            self._store(task)

    def store_uploads(self) -> None:
        """Store the tasks whose upload is complete or late. Costs one listing if any waits."""
        waiting = [task for task in self._tracker.tasks.values() if task.phase == "uploading"]
        if not waiting:
            return
        keys = {info.key for info in self._context.ledger.root.list(layout.INCOMING_FOLDER)}
        now = self._context.store_time()
        for task in waiting:
            waited = (now - (task.upload_since or now)).total_seconds()
            is_late = waited >= self._context.deadlines.upload_seconds
            if is_late or layout.incoming_key(task.task_uuid) in keys:
                self._store(task)

    def _store(self, task: TrackedTask) -> None:
        task.phase = "storing"
        self._workers.store(task)

    def handle_result(self, stored: StoreResult) -> None:
        """Handle the result of a storing thread.

        Raises:
            StorageError: if the storage root fails.
        """
        task, result = stored.task, stored.result
        self._scope.step()
        if isinstance(result, FinishedTask):
            self._tracker.end(task, result)
            return
        task.phase, task.ready = "generating", None
        if isinstance(result, DownloadError):
            self._handle_download_error(task, result)
        elif isinstance(
            result, (UnreadableRecordError, AccessDeniedError)
        ) and self._problems.concerns_one_record(result):
            self._tracker.mark_stuck(task.entry, result, task.attempt)
        elif isinstance(result, AccessDeniedError) and self._problems.root_works():
            self._tracker.leave_unwritable(task, result)
        else:
            raise result

    def give_up(self, task: TrackedTask, end: GiveUp) -> None:
        """Record that a task's video cannot be obtained."""
        finished = self._context.archive.give_up(
            task.attempt, end.state, end.error, reopening=task.reopening
        )
        self._tracker.end(task, finished)

    def _handle_download_error(self, task: TrackedTask, error: DownloadError) -> None:
        """Fetch a video again later, or conclude that it cannot be obtained.

        An error that may pass, and a refusal by our own address guard, never end a paid task.
        """
        now, deadline = self._context.elapsed(), self._context.deadlines.fetch_seconds
        task.failing_since = now if task.failing_since is None else task.failing_since
        task.fetch_failures += 1
        wait = _FIRST_FETCH_WAIT_SECONDS * 2.0 ** (task.fetch_failures - 1)
        wait = min(wait, _LONGEST_FETCH_WAIT_SECONDS, deadline / 10)
        if isinstance(error, DamagedVideoError):
            wait = min(wait, error.retry_seconds)
        task.not_before = now + wait
        self._problems.note(task, f"it was generated and cannot be stored yet: {error}")
        if now - task.failing_since < deadline:
            return
        if error.retryable:
            # Left to a later run, or to another process.
            task.is_slow = True
            self._scope.leave(task)
            return
        message = f"the video was generated and paid for, and cannot be fetched: {error}"
        self.give_up(task, GiveUp("lost", ErrorRecord(kind="gone", message=message)))
