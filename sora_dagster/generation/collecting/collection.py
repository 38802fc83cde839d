"""The collection: the one loop that polls, fetches, stores and hands over outstanding tasks.

The job `collect_clips` uses it for whole datasets; runs of assets and storyboards use it for their
own clips.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from types import TracebackType
from typing import Self

from sora_dagster.generation.collecting.collection_log import CollectionLog
from sora_dagster.generation.collecting.context import CollectionContext, CollectionReport
from sora_dagster.generation.collecting.inbox import Inbox
from sora_dagster.generation.collecting.outage import OutageWatch
from sora_dagster.generation.collecting.outstanding import OutstandingReader
from sora_dagster.generation.collecting.problem_reporter import ProblemReporter
from sora_dagster.generation.collecting.retry_queue import RetryQueue
from sora_dagster.generation.collecting.scope import CollectionScope
from sora_dagster.generation.collecting.settings import CollectionLimits
from sora_dagster.generation.collecting.task_poller import TaskPoller
from sora_dagster.generation.collecting.task_storer import TaskStorer
from sora_dagster.generation.collecting.task_tracker import TaskTracker
from sora_dagster.generation.collecting.tracked import FinishedTask
from sora_dagster.generation.collecting.workers import CollectionWorkers, StoreResult
from sora_dagster.generation.protocol import layout
from sora_dagster.generation.protocol.markers import markers_of
from sora_dagster.generation.protocol.pending_index import PendingEntry
from sora_dagster.generation.protocol.record_store import UnreadableRecordError
from sora_dagster.generation.protocol.records import UNDECIDED_STATES, AttemptRecord
from sora_dagster.generation.protocol.spending_log import BudgetLogError
from sora_dagster.generation.requesting.results import RequestResult
from sora_dagster.storage import AccessDeniedError

_log = logging.getLogger(__name__)

# Maximum number of new tasks that one refresh reads, so that stored clips do not wait for them.
_MAX_NEW_TASKS = 200


class Collection:
    """Collects outstanding tasks; each ended task is handed over as soon as it is stored.

    Use it as a context manager, and :meth:`close` each task that was handed over once it is
    reported. A task that is not closed stays outstanding, so that a process that is killed leaves
    it to the next.

    Arguments:
        context: what it works with.
        limits: how long it waits, and how much it does in parallel.
        datasets: names of the datasets that are collected completely, except for tasks that other
            processes have claimed; default: none, only the tasks given to :meth:`add`.
        on_warning: called with a sentence about each task that is slow or failing, and about what
            is tried again.
        on_retry: called with the result of requesting a failed clip again.

    Example:
        The loop of every user::

            with generator.collection(holder=run_id, datasets=["default"], limits=limits) as found:
                while not found.is_done:
                    for finished in found.wait():
                        report(finished)
                        found.close(finished)
    """

    def __init__(
        self,
        context: CollectionContext,
        limits: CollectionLimits,
        *,
        datasets: Sequence[str] = (),
        on_warning: Callable[[str], None] = _log.warning,
        on_retry: Callable[[RequestResult], None] = lambda _: None,
    ) -> None:
        self.report = CollectionReport()
        self._context = context
        self._ledger = ledger = context.ledger
        self._elapsed = context.elapsed
        self._deadline = self._elapsed() + limits.max_wait_seconds
        self._datasets = tuple(datasets)
        self._on_warning = on_warning
        self._on_retry = on_retry
        self._problems = ProblemReporter(ledger, self.report, on_warning)
        self._scope = CollectionScope(context, self._problems)
        self._inbox = Inbox(context, self._problems)
        self._reader = OutstandingReader(context)
        self._workers = CollectionWorkers(context.client, context.archive, limits.parallel_clips)
        self._tracker = TaskTracker(ledger, self._scope, self._problems)
        self._storer = TaskStorer(context, self._tracker, self._workers)
        self._watch = OutageWatch(context.elapsed)
        self._poller = TaskPoller(
            context, self._tracker, self._storer, self._inbox, self._workers, self._watch
        )
        self._log = CollectionLog(context, self._watch, on_warning)
        self._retries = RetryQueue(context, on_warning)
        self._handed_over: dict[str, FinishedTask] = {}
        self._has_unsent = False
        self._has_unread = True
        self._refresh_at = 0.0

    def __enter__(self) -> Self:
        if self._ledger.is_empty:
            # Nothing was ever requested, and a claim would make the root look like another's.
            return self
        try:
            self._scope.claim_datasets(self._datasets)
        except BaseException:
            self._scope.release()
            raise
        if self._datasets and not self._scope.datasets:
            self.report.is_elsewhere = True
        return self

    def __exit__(
        self,
        error_type: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        is_interrupted = error is not None and not isinstance(error, Exception)
        try:
            self._workers.stop(is_interrupted=is_interrupted or self.report.is_taken_over)
            if error is None:
                self._tracker.leave_all()
                for uuid in self.outstanding:
                    self.report.left.setdefault(uuid, "")
                self._report_outage()
        finally:
            self._scope.release()
            if not self.report.is_taken_over:
                self._log.record_end(self._scope.datasets, self._outstanding_datasets(), error)

    def _report_outage(self) -> None:
        now, outage = self._elapsed(), self._watch.outage
        if outage is not None and outage.is_reported(now):
            self.report.outage, self.report.outage_seconds = outage, now - outage.since

    def _outstanding_datasets(self) -> list[str]:
        return [attempt.dataset for attempt in self.outstanding.values()]

    def add(self, *attempts: AttemptRecord) -> None:
        """Also wait for these tasks, whichever process collects them."""
        for attempt in attempts:
            self._scope.add_awaited(attempt)
        self._refresh_at = 0.0

    @property
    def is_done(self) -> bool:
        """Whether there is nothing left to wait for, or the time is over."""
        if self.report.is_taken_over:
            return True
        if self._tracker.ended or self._workers.is_storing:
            return False
        if self._elapsed() >= self._deadline:
            return True
        datasets, awaited = self._scope.datasets, self._scope.awaited
        if not datasets and not awaited:
            return not self._retries
        if self._has_unread or self._retries or any(map(self._tracker.is_waiting, awaited)):
            return False
        return not datasets or not (
            self._has_unsent or any(map(self._tracker.is_waiting, self._tracker.tasks))
        )

    @property
    def outstanding(self) -> Mapping[str, AttemptRecord]:
        """Tasks that are still generated, fetched or retried, by UUID."""
        found = {uuid: task.attempt for uuid, task in self._tracker.tasks.items()}
        found |= {attempt.task_uuid: attempt for attempt in self._retries.attempts}
        return found | dict(self._scope.awaited)

    def wait(self) -> list[FinishedTask]:
        """Tasks that ended, as soon as there are any; an empty list after about a second.

        Raises:
            RunwareError: if the API refuses to be polled.
            StorageError: if the storage root fails.
        """
        if self._elapsed() >= self._refresh_at:
            self._refresh()
            self._refresh_at = self._elapsed() + self._poller.seconds_left()
        self._take_results()
        self._log.record_outage(self._scope.datasets, self._outstanding_datasets())
        ended, self._tracker.ended = self._tracker.ended, []
        self._settle(ended)
        self._log.count(ended)
        reported = []
        for finished in ended:
            self._handed_over[finished.attempt.task_uuid] = finished
            if not self._retries.add(finished):
                self._scope.drop_awaited(finished.attempt.task_uuid)
                reported.append(finished)
        return reported

    def close(self, finished: FinishedTask) -> None:
        """Remove a task from the index: it is reported, and nothing is left to do."""
        attempt = finished.attempt
        self._handed_over.pop(attempt.task_uuid, None)
        if finished.ended_before:
            return
        root = self._ledger.root
        if attempt.delivery == "direct" and finished.outcome.state not in UNDECIDED_STATES:
            root.delete(layout.incoming_key(attempt.task_uuid))
        if self._context.expects_markers:
            markers = markers_of(root, attempt.dataset, attempt.task_uuid)
        else:
            markers = self._inbox.markers_of(attempt.task_uuid)
        for marker in markers:
            root.delete(marker.key)
        self._problems.remove_note(attempt)
        self._ledger.pending.remove(attempt.dataset, attempt.task_uuid, finished.reopening)

    def _refresh(self) -> None:
        """List the index and the inbox, and start whatever is due."""
        if not self._tracker.owns_claims():
            return
        entries, ended = self._scope.entries(self._tracker.tasks, self._handed_over)
        self._tracker.ended.extend(ended)
        self._inbox.read(entries, self._scope.datasets, self._handed_over)
        self._tracker.drop_missing(entries)
        for uuid, task in self._tracker.tasks.items():
            task.markers = self._inbox.markers_of(uuid)
        self._read_new(entries)
        self._storer.store_uploads()
        self._poller.poll_due()
        self._request_retries()

    def _read_new(self, entries: Mapping[str, PendingEntry]) -> None:
        """Read the tasks that this process does not know yet."""
        new = [
            entry
            for uuid, entry in entries.items()
            if uuid not in self._handed_over and self._tracker.is_new(entry)
        ]
        self._has_unread = len(new) > _MAX_NEW_TASKS
        self._has_unsent = False
        new = new[:_MAX_NEW_TASKS]
        for entry, task in zip(new, self._reader.read(new), strict=True):
            if isinstance(task, (UnreadableRecordError, AccessDeniedError)):
                self._tracker.mark_stuck(entry, task)
            elif task == "unsent":
                self._has_unsent = True
            elif isinstance(task, FinishedTask):
                self._tracker.ended.append(task)
            elif task is not None:
                task.markers = self._inbox.markers_of(entry.task_uuid)
                self._tracker.tasks[entry.task_uuid] = task

    def _take_results(self) -> None:
        """Take the threads' results; wait for them only while there is nothing to report."""
        while True:
            timeout = None
            if not self._tracker.ended and not self.report.is_taken_over:
                timeout = max(0.0, self._refresh_at - self._elapsed())
            result = self._workers.next_result(timeout)
            if result is None:
                return
            if isinstance(result, StoreResult):
                self._storer.handle_result(result)
            else:
                self._poller.handle_result(result)

    def _request_retries(self) -> None:
        """Make the next attempt of the tasks whose wait is over."""
        for failed, requested in self._retries.request_due():
            was_awaited = self._scope.drop_awaited(failed.attempt.task_uuid)
            if requested is None:
                self._tracker.ended.append(failed)
                continue
            self._on_retry(requested)
            self.close(failed)
            # The new attempt is outstanding, and this process has not read it yet.
            self._has_unread = True
            if was_awaited:
                takes = self._ledger.takes(failed.attempt.asset, failed.attempt.clip)
                self.add(takes[-1].latest)

    def _settle(self, ended: Sequence[FinishedTask]) -> None:
        """Write the costs of tasks into the spending logs: one entry per run."""
        costs: dict[str, dict[str, float]] = {}
        for finished in ended:
            cost_usd = finished.outcome.cost_usd
            # A task of unknown cost stays in the logs as one of unknown price.
            if cost_usd is None:
                continue
            if not finished.ended_before and finished.not_retried is None:
                run = costs.setdefault(finished.root_run or finished.attempt.root_run, {})
                run[finished.attempt.task_uuid] = cost_usd
        try:
            self._context.budget.settle_many(costs.items())
        except BudgetLogError as error:
            # A damaged log stops buying, but never collecting.
            self._on_warning(str(error))
