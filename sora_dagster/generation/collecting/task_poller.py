"""Polling the outstanding tasks, and deciding what each status means."""

from __future__ import annotations

from collections.abc import Sequence

from sora_dagster.generation.collecting.archive import is_upload_failure
from sora_dagster.generation.collecting.context import CollectionContext
from sora_dagster.generation.collecting.inbox import Inbox
from sora_dagster.generation.collecting.missing_tasks import GiveUp, MissingTasks
from sora_dagster.generation.collecting.outage import OutageWatch
from sora_dagster.generation.collecting.poll_schedule import PollSchedule
from sora_dagster.generation.collecting.task_storer import TaskStorer
from sora_dagster.generation.collecting.task_tracker import TaskTracker
from sora_dagster.generation.collecting.tracked import ReadyTask, TrackedTask
from sora_dagster.generation.collecting.workers import CollectionWorkers, PollResult
from sora_dagster.generation.protocol.record_store import UnreadableRecordError
from sora_dagster.generation.requesting.carriers import CarrierError
from sora_dagster.runware.errors import InvalidRequestError, RunwareError, UnknownModelError
from sora_dagster.runware.results import TaskStatus
from sora_dagster.storage import AccessDeniedError, ObjectMissingError


class TaskPoller:
    """Polls tasks, hands those that are over to the storer, and resolves missing ones.

    Arguments:
        context: what the collection works with.
        tracker: the tracked tasks.
        storer: stores tasks.
        inbox: the markers.
        workers: the polling thread.
        watch: counts the polls that fail.
    """

    def __init__(
        self,
        context: CollectionContext,
        tracker: TaskTracker,
        storer: TaskStorer,
        inbox: Inbox,
        workers: CollectionWorkers,
        watch: OutageWatch,
    ) -> None:
        self._context = context
        self._tracker = tracker
        self._storer = storer
        self._inbox = inbox
        self._problems = tracker.problems
        self._workers = workers
        self._watch = watch
        self._schedule = PollSchedule(context.polls)
        self._missing = MissingTasks(
            context.client,
            context.ledger,
            deadlines=context.deadlines,
            poll_seconds=context.polls.longest_seconds,
            replays=context.sender.replays,
            store_time=context.store_time,
            elapsed=context.elapsed,
        )

    def seconds_left(self) -> float:
        """Time until the next refresh, in seconds."""
        return self._schedule.seconds_left(self._context.elapsed())

    def poll_due(self) -> None:
        """Start a poll of the tasks that are due, unless one is running."""
        if self._workers.is_polling:
            return
        now = self._context.elapsed()
        generating = [
            uuid
            for uuid, task in self._tracker.tasks.items()
            if task.phase == "generating" and task.not_before <= now
        ]
        markers = {
            uuid: [marker.key for marker in self._inbox.markers_of(uuid)] for uuid in generating
        }
        if due := self._schedule.due(generating, markers, self._context.elapsed()):
            self._workers.poll(due)

    def handle_result(self, polled: PollResult) -> None:
        """Handle the result of a poll.

        Raises:
            RunwareError: if the API refuses to be polled.
        """
        if isinstance(polled.result, BaseException):
            self._handle_failure(polled.task_uuids, polled.result)
            return
        if self._watch.succeed():
            self._schedule.recover(self._context.elapsed())
        if not self._tracker.owns_claims():
            return
        replays: list[TrackedTask] = []
        for uuid, status in polled.result.items():
            task = self._tracker.tasks.get(uuid)
            if task is None or task.phase != "generating":
                continue
            if status.is_known and not task.is_seen:
                ledger = self._context.ledger
                ledger.mark_seen(uuid, "polled")
                task.is_seen = True
            try:
                if self._evaluate(task, status) == "replay":
                    replays.append(task)
            except (UnreadableRecordError, AccessDeniedError) as error:
                self._tracker.mark_stuck(task.entry, error, task.attempt)
        self._storer.store_uploads()
        if replays:
            self._replay(replays)

    def _handle_failure(self, task_uuids: Sequence[str], error: BaseException) -> None:
        if not isinstance(error, RunwareError) or not error.retryable:
            raise error
        for uuid in task_uuids:
            if uuid in self._tracker.tasks:
                self._tracker.tasks[uuid].empty_polls = None
        self._problems.warn(f"a poll failed and will be tried again: {error}")
        self._schedule.back_off(self._watch.fail(error), self._context.elapsed())

    def _evaluate(self, task: TrackedTask, status: TaskStatus) -> str:
        """Act on a status; returns ``replay`` if the task must be sent again."""
        if status.is_over(task.attempt.request.spec.number_results):
            if not self._awaits_url(task, status):
                received = (marker.received_at for marker in task.markers)
                at = max(received, default=None) or self._context.store_time()
                ready = ReadyTask(task.attempt, status, at, reopening=task.reopening)
                self._storer.add(task, ready)
            return "wait"
        resolution = self._missing.resolve(task, status)
        if isinstance(resolution, ReadyTask):
            self._storer.add(task, resolution)
            return "wait"
        if isinstance(resolution, GiveUp):
            self._storer.give_up(task, resolution)
            return "wait"
        if resolution == "slow":
            minutes = self._context.deadlines.generation_seconds / 60
            task.is_slow = True
            self._problems.note(
                task,
                f"Runware is still generating it after more than {minutes:g} minutes. It is "
                f"collected when it is finished; nothing is sent again",
            )
        return resolution

    def _awaits_url(self, task: TrackedTask, status: TaskStatus) -> bool:
        """Whether an upload failed after the video was generated: its URL may still follow."""
        failures = [error for error in status.errors if is_upload_failure(task.attempt, error)]
        if status.results or not failures or len(failures) < len(status.errors):
            return False
        now = self._context.elapsed()
        if task.failing_since is None:
            task.failing_since = now
            self._problems.note(
                task, f"{failures[0]} Polling continues until Runware reports a download URL"
            )
        return now - task.failing_since < self._context.deadlines.fetch_seconds

    def _replay(self, tasks: Sequence[TrackedTask]) -> None:
        """Send tasks again that Runware never confirmed and has not known for a long time."""
        inferences, tokens = [], {}
        for task in tasks:
            try:
                inferences.append(self._context.requester.rebuild(task.attempt))
            except (
                CarrierError,
                InvalidRequestError,
                UnknownModelError,
                ObjectMissingError,
                AccessDeniedError,
                UnreadableRecordError,
            ) as error:
                reason = f"Runware does not know it, and it cannot be sent again: {error}"
                self._problems.note(task, reason)
                continue
            tokens[task.task_uuid] = max(task.files.sent, default=0) + 1
        if inferences:
            self._context.sender.replay(inferences, tokens)
        for task in tasks:
            task.files = self._context.ledger.task_files(task.task_uuid)
            task.is_seen = task.files.is_seen
