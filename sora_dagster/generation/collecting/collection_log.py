"""Recording what became of a collection, for `sora-dagster status` and alerts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from datetime import timedelta

from sora_dagster.generation.collecting.context import CollectionContext
from sora_dagster.generation.collecting.outage import OutageWatch
from sora_dagster.generation.collecting.tracked import FinishedTask
from sora_dagster.generation.protocol.collection_record import (
    CollectionRecord,
    read_collection,
    write_collection,
)
from sora_dagster.runware.errors import RunwareError
from sora_dagster.storage import StorageError

# How often the record is written while Runware cannot be polled.
_RECORD_SECONDS = 60.0


class CollectionLog:
    """Writes what became of this collection into the storage root.

    Nothing is decided by what it writes, so an error is only a warning.

    Arguments:
        context: what the collection works with.
        watch: counts the polls that fail.
        on_warning: called with a sentence if it cannot be written.
    """

    def __init__(
        self, context: CollectionContext, watch: OutageWatch, on_warning: Callable[[str], None]
    ) -> None:
        self._context = context
        self._watch = watch
        self._on_warning = on_warning
        self._started_at = context.elapsed()
        self._written_at: float | None = None
        self._before: dict[str, CollectionRecord | None] = {}
        self._stored: Counter[str] = Counter()
        self._failed: dict[str, Counter[str]] = {}

    def count(self, ended: Sequence[FinishedTask]) -> None:
        """Count tasks that this process ended."""
        for finished in ended:
            if finished.ended_before:
                continue
            dataset = finished.attempt.dataset
            if finished.outcome.has_videos:
                self._stored[dataset] += 1
            else:
                errors = finished.outcome.errors
                kind = errors[0].kind if errors else finished.outcome.state
                self._failed.setdefault(dataset, Counter())[kind] += 1

    def record_outage(self, datasets: Sequence[str], outstanding: Sequence[str]) -> None:
        """Record that Runware cannot be polled, at most once a minute.

        Arguments:
            datasets: names of the datasets that it collects completely.
            outstanding: the dataset of each outstanding task.
        """
        now = self._context.elapsed()
        outage = self._watch.outage
        if outage is None or now - outage.since < _RECORD_SECONDS:
            return
        if self._written_at is None or now - self._written_at >= _RECORD_SECONDS:
            self._written_at = now
            self._write(set(datasets), Counter(outstanding), outage.error, is_running=True)

    def record_end(
        self, datasets: Sequence[str], outstanding: Sequence[str], error: BaseException | None
    ) -> None:
        """Record how this collection ended.

        Arguments:
            datasets: names of the datasets that it collected completely.
            outstanding: the dataset of each outstanding task.
            error: the error that ended it; None if it ended by itself.
        """
        outage = self._watch.outage
        if error is None and outage is not None and outage.is_reported(self._context.elapsed()):
            error = outage.error
        self._write(set(datasets), Counter(outstanding), error, is_running=False)

    def _write(
        self,
        datasets: set[str],
        outstanding: Counter[str],
        error: BaseException | None,
        *,
        is_running: bool,
    ) -> None:
        try:
            for dataset in sorted(datasets):
                record = self._record(dataset, outstanding[dataset], error, is_running=is_running)
                write_collection(self._context.ledger, dataset, record)
        except StorageError as problem:
            self._on_warning(f"what `sora-dagster status` shows could not be written: {problem}")

    def _record(
        self, dataset: str, outstanding: int, error: BaseException | None, *, is_running: bool
    ) -> CollectionRecord:
        if dataset not in self._before:
            self._before[dataset] = read_collection(self._context.ledger, dataset)
        before = self._before[dataset]
        now, elapsed = self._context.store_time(), self._context.elapsed()
        started_at = now - timedelta(seconds=elapsed - self._started_at)
        outage = self._watch.outage
        unreachable_since, failed_polls = None, 0
        if outage is not None:
            unreachable_since = now - timedelta(seconds=elapsed - outage.since)
            failed_polls = outage.failures
            if before is not None and before.unreachable_since and not outage.was_polled_before:
                # It began in an earlier collection, and no poll has succeeded since.
                unreachable_since = before.unreachable_since
                failed_polls += before.failed_polls
        failures = 0 if before is None else before.failures_in_a_row
        failed = Counter(before.clips_failed if before is not None else {})
        failed.update(self._failed.get(dataset, {}))
        return CollectionRecord(
            holder=self._context.holder,
            started_at=started_at,
            updated_at=now,
            is_running=is_running,
            error=None if error is None else str(error) or type(error).__name__,
            error_kind=None if error is None else _kind_of(error),
            failures_in_a_row=failures if is_running else failures + 1 if error else 0,
            unreachable_since=unreachable_since,
            failed_polls=failed_polls,
            outstanding=outstanding,
            clips_stored=self._stored[dataset] + (before.clips_stored if before else 0),
            clips_failed=dict(failed),
        )


def _kind_of(error: BaseException) -> str:
    if isinstance(error, RunwareError):
        return error.kind
    return "storage" if isinstance(error, StorageError) else "other"
