"""The collection: the one loop that polls, fetches, stores and hands over what is outstanding.

It is used by the job `collect_clips` for all of a dataset, and by runs of the assets and of
storyboards for clips of their own.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from types import TracebackType
from typing import Self

from sora_dagster.generation.collecting.archive import is_upload_failure
from sora_dagster.generation.collecting.inbox import Inbox
from sora_dagster.generation.collecting.missing_tasks import Conclusion, MissingTasks
from sora_dagster.generation.collecting.outstanding import (
    OutstandingReader,
    UnreadableTask,
    UnsentTask,
)
from sora_dagster.generation.collecting.parts import (
    CollectionLimits,
    CollectionReport,
    CollectionTools,
)
from sora_dagster.generation.collecting.poll_schedule import PollSchedule
from sora_dagster.generation.collecting.retry_queue import RetryQueue
from sora_dagster.generation.collecting.scope import CollectionScope
from sora_dagster.generation.collecting.setbacks import Setbacks
from sora_dagster.generation.collecting.tracked import FinishedTask, ReadyTask, TrackedTask
from sora_dagster.generation.collecting.workers import CollectionWork, Polled, Stored
from sora_dagster.generation.fetching.download import DownloadError
from sora_dagster.generation.fetching.video_store import DamagedVideoError
from sora_dagster.generation.protocol import layout
from sora_dagster.generation.protocol.markers import markers_of
from sora_dagster.generation.protocol.pending_index import PendingEntry
from sora_dagster.generation.protocol.record_format import UnreadableRecordError
from sora_dagster.generation.protocol.records import AttemptRecord, SeenRecord
from sora_dagster.generation.protocol.spending_log import BudgetLogError
from sora_dagster.generation.requesting.direct_delivery import STATES_OF_DOUBT
from sora_dagster.generation.requesting.results import RequestResult
from sora_dagster.runware.errors import (
    ErrorRecord,
    InvalidRequestError,
    RunwareError,
    UnknownModelError,
)
from sora_dagster.runware.results import TaskStatus
from sora_dagster.storage import AccessDeniedError, ObjectMissingError

_log = logging.getLogger(__name__)

# How many tasks are read for the first time in one look: what was stored meanwhile is not kept
# waiting for them.
_READ_AT_ONCE = 200
_FIRST_FETCH_WAIT_SECONDS = 2.0
_LONGEST_FETCH_WAIT_SECONDS = 60.0


class Collection:
    """Collects what is outstanding; each ended task is handed over as soon as it is stored.

    Use it as a context manager, and :meth:`close` each task that was handed over once it is
    reported: a task that is not closed stays outstanding, so that a process that is killed leaves
    it to the next.

    Arguments:
        tools: the parts that it works with.
        limits: how long it lasts.
        datasets: names of the datasets of which all is collected that no other process has
            claimed; none where only chosen tasks are waited for, see :meth:`add`.
        on_warning: called with a sentence about each task that is slow or failing, and about what
            is tried again.
        on_retry: called with what became of asking for a failed clip again.

    Example:
        The loop of everyone who uses it::

            with generator.collection(holder=run_id, datasets=["default"], limits=limits) as found:
                while not found.is_done:
                    for finished in found.wait():
                        report(finished)
                        found.close(finished)
    """

    def __init__(
        self,
        tools: CollectionTools,
        limits: CollectionLimits,
        *,
        datasets: Sequence[str] = (),
        on_warning: Callable[[str], None] = _log.warning,
        on_retry: Callable[[RequestResult], None] = lambda _: None,
    ) -> None:
        self._tools = tools
        self._ledger = tools.ledger
        self._chosen_datasets = tuple(datasets)
        self._on_warning = on_warning
        self._on_retry = on_retry
        self._elapsed = tools.elapsed
        self._deadline = self._elapsed() + limits.max_wait_seconds
        self.report = CollectionReport()
        self._setbacks = Setbacks(tools.ledger, self.report.stuck, on_warning)
        self._scope = CollectionScope(
            tools.ledger, self._setbacks, new_claims=tools.new_claims, elapsed=tools.elapsed
        )
        self._inbox = Inbox(tools.client, tools.ledger, on_warning, self.report.unpolled)
        self._work = CollectionWork(tools.client, tools.archive, limits.parallel_clips)
        self._retries = RetryQueue(
            tools.ledger,
            max_attempts=tools.max_attempts,
            first_wait_seconds=tools.retry_wait_seconds,
            elapsed=tools.elapsed,
            on_warning=on_warning,
        )
        self._missing = MissingTasks(
            tools.client,
            tools.ledger,
            deadlines=tools.deadlines,
            poll_seconds=tools.polls.longest_seconds,
            replays=tools.sender.replays,
            store_time=tools.store_time,
            elapsed=tools.elapsed,
        )
        self._reader = OutstandingReader(
            tools.ledger,
            tools.archive,
            unsent_seconds=tools.deadlines.unsent_seconds,
            store_time=tools.store_time,
        )
        self._schedule = PollSchedule(tools.polls)
        self._tracked: dict[str, TrackedTask] = {}
        self._ended: list[FinishedTask] = []
        self._handed_over: dict[str, FinishedTask] = {}
        self._left_out: set[str] = set()
        self._unsent: set[str] = set()
        self._unread = 0
        self._has_looked = False
        self._has_polled = False
        self._look_at = 0.0

    def __enter__(self) -> Self:
        if self._ledger.is_empty:
            # Nothing was ever asked for, and a claim would make the root look like another's.
            return self
        try:
            self._scope.take_rest(self._chosen_datasets)
        except BaseException:
            self._scope.release()
            raise
        if self._chosen_datasets and not self._scope.datasets:
            self.report.is_elsewhere = True
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._work.stop()
        try:
            if error is None:
                self._leave()
        finally:
            self._scope.release()

    # What callers use

    def add(self, *attempts: AttemptRecord) -> None:
        """Wait for these tasks, too, wherever they are collected."""
        for attempt in attempts:
            self._scope.want(attempt)
        self._look_at = 0.0

    @property
    def is_done(self) -> bool:
        """Whether there is nothing left to wait for, or the time is over."""
        if self.report.is_taken_over:
            return True
        if self._ended or self._work.is_storing:
            return False
        if self._elapsed() >= self._deadline:
            return True
        datasets, wanted = self._scope.datasets, self._scope.wanted
        if not datasets and not wanted:
            return not self._retries
        if not self._has_looked or self._retries or self._unread:
            return False
        if any(uuid not in self._tracked or not self._is_left(uuid) for uuid in wanted):
            return False
        if not datasets:
            return True
        waiting = [uuid for uuid in self._tracked if not self._is_left(uuid)]
        return not (waiting or self._unsent)

    @property
    def outstanding(self) -> Mapping[str, AttemptRecord]:
        """Tasks that are still generated, fetched or retried, by UUID."""
        found = {uuid: task.attempt for uuid, task in self._tracked.items()}
        found |= {attempt.task_uuid: attempt for attempt in self._retries.attempts}
        return found | dict(self._scope.wanted)

    def wait(self) -> list[FinishedTask]:
        """Tasks that ended, as soon as there are any; an empty list after about a second.

        Raises:
            RunwareError: if the API refuses to be polled.
            StorageError: if the storage root fails.
        """
        if self._elapsed() >= self._look_at:
            self._look()
            self._look_at = self._elapsed() + self._schedule.seconds_left(self._elapsed())
        self._take_results()
        ended, self._ended = self._ended, []
        self._settle(ended)
        reported = []
        for finished in ended:
            self._handed_over[finished.attempt.task_uuid] = finished
            if not self._retries.add(finished):
                self._scope.drop_wanted(finished.attempt.task_uuid)
                reported.append(finished)
        return reported

    def close(self, finished: FinishedTask) -> None:
        """Take a task out of the index: it is reported, and everything about it is done."""
        attempt = finished.attempt
        self._handed_over.pop(attempt.task_uuid, None)
        if finished.how in ("elsewhere", "earlier"):
            return
        root = self._ledger.root
        if attempt.delivery == "direct" and finished.outcome.state not in STATES_OF_DOUBT:
            root.delete(layout.incoming_key(attempt.task_uuid))
        if self._tools.expects_markers:
            markers = markers_of(root, attempt.dataset, attempt.task_uuid)
        else:
            markers = self._inbox.of(attempt.task_uuid)
        for marker in markers:
            root.delete(marker.key)
        self._setbacks.forget(attempt)
        self._ledger.pending.remove(attempt.dataset, attempt.task_uuid, finished.reopening)

    # A look at the index, the inbox and Runware

    def _look(self) -> None:
        if not self._claims_stand():
            return
        entries, ended = self._scope.entries(self._tracked, self._handed_over)
        self._ended.extend(ended)
        self._inbox.read(entries, self._scope.datasets, self._handed_over)
        self._drop_closed(entries)
        for uuid, task in self._tracked.items():
            task.markers = self._inbox.of(uuid)
        self._read_new(entries)
        self._has_looked = True
        self._take_uploads()
        self._poll()
        self._request_again()

    def _drop_closed(self, entries: Mapping[str, PendingEntry]) -> None:
        """Forget tasks that another process has closed, or claimed."""
        for uuid, task in list(self._tracked.items()):
            if uuid not in entries and task.phase != "storing":
                del self._tracked[uuid]

    def _read_new(self, entries: Mapping[str, PendingEntry]) -> None:
        """Read the tasks that this process does not know yet."""
        new = [
            entry
            for uuid, entry in entries.items()
            if uuid not in self._handed_over.keys() | self._left_out and self._is_new(entry)
        ]
        self._unread = max(0, len(new) - _READ_AT_ONCE)
        self._unsent.clear()
        at_once = new[:_READ_AT_ONCE]
        for entry, found in zip(at_once, self._reader.read(at_once), strict=True):
            if isinstance(found, UnreadableTask):
                self._set_aside(entry, found.error)
            elif isinstance(found, UnsentTask):
                self._unsent.add(entry.task_uuid)
            elif isinstance(found, FinishedTask):
                self._ended.append(found)
            elif found is not None:
                found.markers = self._inbox.of(entry.task_uuid)
                self._tracked[entry.task_uuid] = found

    def _is_new(self, entry: PendingEntry) -> bool:
        tracked = self._tracked.get(entry.task_uuid)
        return tracked is None or tracked.reopening < entry.reopening

    def _take_results(self) -> None:
        """Take what the threads brought; waits for it only while there is nothing to report."""
        while True:
            timeout = None
            if not self._ended and not self.report.is_taken_over:
                timeout = max(0.0, self._look_at - self._elapsed())
            result = self._work.take(timeout)
            if result is None:
                return
            if isinstance(result, Stored):
                self._take_stored(result)
            else:
                self._take_polled(result)

    # Polling

    def _poll(self) -> None:
        if self._work.is_polling:
            return
        generating = [
            uuid
            for uuid, task in self._tracked.items()
            if task.phase == "generating" and task.not_before <= self._elapsed()
        ]
        markers = {uuid: [marker.key for marker in self._inbox.of(uuid)] for uuid in generating}
        if due := self._schedule.due(generating, markers, self._elapsed()):
            self._work.poll(due)

    def _take_polled(self, polled: Polled) -> None:
        if isinstance(polled.result, BaseException):
            self._poll_failed(polled.task_uuids, polled.result)
            return
        self._has_polled = True
        self.report.polling_failure = None
        if not self._claims_stand():
            return
        replays: list[TrackedTask] = []
        for uuid, status in polled.result.items():
            task = self._tracked.get(uuid)
            if task is None or task.phase != "generating":
                continue
            if status.is_known and not task.is_seen:
                seen = SeenRecord(how="polled", at=self._ledger.clock())
                self._ledger.mark_seen(uuid, seen)
                task.is_seen = True
            try:
                self._judge(task, status, replays)
            except (UnreadableRecordError, AccessDeniedError) as error:
                self._set_aside(task.entry, error, task.attempt)
        self._take_uploads()
        if replays:
            self._replay(replays)

    def _poll_failed(self, task_uuids: Sequence[str], error: BaseException) -> None:
        if not isinstance(error, RunwareError) or not error.retryable:
            raise error
        for uuid in task_uuids:
            if uuid in self._tracked:
                self._tracked[uuid].absence = None
        self._on_warning(f"a poll failed and will be tried again: {error}")
        if not self._has_polled:
            self.report.polling_failure = str(error)

    def _judge(self, task: TrackedTask, status: TaskStatus, replays: list[TrackedTask]) -> None:
        attempt = task.attempt
        if status.is_over(attempt.request.spec.number_results):
            if self._awaits_url(task, status):
                return
            at = max(
                (marker.received_at for marker in task.markers), default=self._tools.store_time()
            )
            self._take_ready(task, ReadyTask(attempt, status, at, reopening=task.reopening))
            return
        judgement = self._missing.resolve(task, status)
        if isinstance(judgement, ReadyTask):
            self._take_ready(task, judgement)
        elif isinstance(judgement, Conclusion):
            self._conclude(task, judgement)
        elif judgement == "replay":
            replays.append(task)
        elif judgement == "slow":
            minutes = self._tools.deadlines.generation_seconds / 60
            task.is_slow = True
            self._setbacks.note(
                task,
                f"Runware is still generating it after more than {minutes:g} minutes. It is "
                f"collected when it is finished; nothing is sent again",
            )

    def _awaits_url(self, task: TrackedTask, status: TaskStatus) -> bool:
        """Whether an upload failed after the video was made: then its URL may still come."""
        failures = [error for error in status.errors if is_upload_failure(task.attempt, error)]
        if status.results or not failures or len(failures) < len(status.errors):
            return False
        now = self._elapsed()
        if task.failing_since is None:
            task.failing_since = now
            self._setbacks.note(
                task, f"{failures[0]} It is polled for an address to download the video from"
            )
        return now - task.failing_since < self._tools.deadlines.fetch_seconds

    def _conclude(self, task: TrackedTask, conclusion: Conclusion) -> None:
        finished = self._tools.archive.conclude(
            task.attempt, conclusion.state, conclusion.error, reopening=task.reopening
        )
        self._end(task, finished)

    def _replay(self, tasks: Sequence[TrackedTask]) -> None:
        """Send tasks again that were never seen and that Runware has not known for long."""
        inferences, tokens = [], {}
        for task in tasks:
            try:
                inferences.append(self._tools.requester.rebuild(task.attempt))
            except (
                InvalidRequestError,
                UnknownModelError,
                ObjectMissingError,
                AccessDeniedError,
            ) as error:
                reason = f"Runware does not know it, and it cannot be sent again: {error}"
                self._setbacks.note(task, reason)
                continue
            tokens[task.task_uuid] = max(task.files.sent, default=0) + 1
        if inferences:
            self._tools.sender.replay(inferences, tokens)
        for task in tasks:
            task.files = self._ledger.task_files(task.task_uuid)
            task.is_seen = task.files.is_seen

    # Storing

    def _take_ready(self, task: TrackedTask, ready: ReadyTask) -> None:
        """Store a task, once its upload is there or late."""
        task.ready = ready
        is_put = task.attempt.delivery == "direct" and len(ready.status.results) == 1
        if is_put and ready.facts_from != "upload":
            task.phase = "uploading"
            task.upload_since = task.upload_since or self._tools.store_time()
        else:
            self._store(task)

    def _take_uploads(self) -> None:
        """Store the tasks whose upload has come, or is late. Costs one listing if any waits."""
        waiting = [task for task in self._tracked.values() if task.phase == "uploading"]
        if not waiting:
            return
        keys = {info.key for info in self._ledger.root.list(layout.INCOMING_FOLDER)}
        now, grace = self._tools.store_time(), self._tools.deadlines.upload_seconds
        for task in waiting:
            since = task.upload_since or now
            is_late = (now - since).total_seconds() >= grace
            if is_late or layout.incoming_key(task.task_uuid) in keys:
                self._store(task)

    def _store(self, task: TrackedTask) -> None:
        task.phase = "storing"
        self._work.store(task)

    def _take_stored(self, stored: Stored) -> None:
        task, result = stored.task, stored.result
        self._scope.step()
        if isinstance(result, FinishedTask):
            self._end(task, result)
            return
        task.phase, task.ready = "generating", None
        if isinstance(result, DownloadError):
            self._fetch_failed(task, result)
        elif isinstance(
            result, (UnreadableRecordError, AccessDeniedError)
        ) and self._setbacks.is_of_one_record(result):
            self._set_aside(task.entry, result, task.attempt)
        elif isinstance(result, AccessDeniedError) and self._setbacks.root_works():
            self._leave_out(task, result)
        else:
            raise result

    def _leave_out(self, task: TrackedTask, error: AccessDeniedError) -> None:
        """Leave a task to a later run, since an object of it may not be written; others go on."""
        self._setbacks.report_unwritable(task, error)
        self._left_out.add(task.task_uuid)
        self._tracked.pop(task.task_uuid, None)
        self._scope.drop_wanted(task.task_uuid)
        self._scope.leave(task)
        self._ledger.pending.leave(task.entry)

    def _fetch_failed(self, task: TrackedTask, error: DownloadError) -> None:
        """Fetch a video again later, or conclude that it cannot be had.

        What may pass, and what only our own address guard refuses, never ends a paid task.
        """
        now = self._elapsed()
        task.failing_since = now if task.failing_since is None else task.failing_since
        task.fetch_failures += 1
        wait = _FIRST_FETCH_WAIT_SECONDS * 2.0 ** (task.fetch_failures - 1)
        wait = min(wait, _LONGEST_FETCH_WAIT_SECONDS, self._tools.deadlines.fetch_seconds / 10)
        if isinstance(error, DamagedVideoError):
            wait = min(wait, error.retry_seconds)
        task.not_before = now + wait
        self._setbacks.note(task, f"it was generated and cannot be stored yet: {error}")
        if now - task.failing_since < self._tools.deadlines.fetch_seconds:
            return
        if error.retryable:
            # Left to a later run, or to another process.
            task.is_slow = True
            self._scope.leave(task)
            return
        record = ErrorRecord(
            kind="gone",
            message=f"the video was generated and paid for, and cannot be fetched: {error}",
        )
        self._conclude(task, Conclusion("lost", record))

    # Ends

    def _end(self, task: TrackedTask, finished: FinishedTask) -> None:
        task.phase = "ended"
        self._tracked.pop(task.task_uuid, None)
        if self._claims_stand():
            self._ended.append(replace(finished, root_run=task.root_run))

    def _settle(self, ended: Sequence[FinishedTask]) -> None:
        """Put into the spending logs what tasks cost: one entry for all of a run."""
        costs: dict[str, dict[str, float]] = {}
        for finished in ended:
            if finished.how in ("now", "interrupted") and finished.not_retried is None:
                run = costs.setdefault(finished.root_run or finished.attempt.root_run, {})
                run[finished.attempt.task_uuid] = finished.outcome.cost_usd
        try:
            self._tools.budget.settle_many(costs.items())
        except BudgetLogError as error:
            # It stops buying, and never collecting.
            self._on_warning(str(error))

    def _request_again(self) -> None:
        """Make the next attempt of tasks whose wait is over."""
        for failed in self._retries.due():
            name = failed.attempt.request.name
            try:
                requested = self._tools.request_again(failed)
            except RunwareError as error:
                if not error.retryable:
                    raise
                # What is outstanding is collected meanwhile.
                self._on_warning(f"{name} could not be requested again yet: {error}")
                self._retries.postpone(failed)
                continue
            except (UnreadableRecordError, AccessDeniedError, ObjectMissingError) as error:
                self._ended.append(replace(failed, not_retried=str(error)))
                continue
            was_wanted = self._scope.drop_wanted(failed.attempt.task_uuid) is not None
            if not requested.ok:
                self._ended.append(replace(failed, not_retried=requested.detail))
                continue
            self._on_retry(requested)
            self.close(failed)
            # The new attempt is outstanding, and this process has not seen it yet.
            self._has_looked = False
            if was_wanted:
                takes = self._ledger.takes(failed.attempt.asset, failed.attempt.clip)
                self.add(takes[-1].latest)

    def _set_aside(
        self,
        entry: PendingEntry,
        error: UnreadableRecordError | AccessDeniedError,
        attempt: AttemptRecord | None = None,
    ) -> None:
        """Take a task out of the index whose record cannot be read; the others go on."""
        wanted = self._scope.wanted.get(entry.task_uuid)
        self._setbacks.set_aside(entry, error, attempt or wanted)
        self._tracked.pop(entry.task_uuid, None)
        self._scope.drop_wanted(entry.task_uuid)

    def _claims_stand(self) -> bool:
        """Whether no other process took over, while this one was stopped."""
        if self._scope.stands():
            return True
        if not self.report.is_taken_over:
            self.report.is_taken_over = True
            self._on_warning(
                "this process was paused for so long that another one took over, so it stops here"
            )
        return False

    def _is_left(self, task_uuid: str) -> bool:
        """Whether no run waits for a task any more, since it is slow."""
        task = self._tracked[task_uuid]
        return task.is_slow and task.phase == "generating"

    def _leave(self) -> None:
        """Record what stays outstanding, so that a later run takes slow tasks after a while."""
        for uuid, task in self._tracked.items():
            self.report.left[uuid] = task.note
            if task.is_slow and not self.report.is_taken_over:
                try:
                    self._ledger.pending.leave(task.entry)
                except (UnreadableRecordError, AccessDeniedError) as error:
                    # The next run that reads it sets it aside.
                    _log.warning("%s", error)
        for uuid in self.outstanding:
            self.report.left.setdefault(uuid, "")
