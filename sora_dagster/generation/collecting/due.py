"""What is due to be collected, from the index and the inbox; sends no request to Runware."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sora_dagster.generation.protocol import layout
from sora_dagster.generation.protocol.claims import ClaimReader, ClaimSettings
from sora_dagster.generation.protocol.ledger import Ledger
from sora_dagster.generation.protocol.markers import Marker, tasks_with_markers
from sora_dagster.generation.protocol.pending_index import PendingEntry
from sora_dagster.generation.protocol.record_store import UnreadableRecordError
from sora_dagster.storage import AccessDeniedError

_FIRST_INTERVAL = timedelta(minutes=5)
_LONGEST_INTERVAL = timedelta(minutes=30)
_MAX_RECORDS_READ = 5


@dataclass(frozen=True)
class DueWork:
    """What is outstanding in some datasets, and what is due.

    Arguments:
        outstanding: number of outstanding tasks.
        markers: number of new markers for tasks that no live run has claimed.
        due: number of tasks that are known to be due.
        remixes: number of stored clips whose remixes must be requested.
        collected: names of the datasets with tasks that a live run is collecting.
        oldest_seconds: age of the oldest outstanding task; None if there is none.
        next_read: where the next read continues with the tasks that earlier runs left.
    """

    outstanding: int = 0
    markers: int = 0
    due: int = 0
    remixes: int = 0
    collected: tuple[str, ...] = ()
    oldest_seconds: float | None = None
    next_read: int = 0

    @property
    def is_idle(self) -> bool:
        """Whether nothing is outstanding."""
        return not (self.outstanding or self.markers or self.remixes)

    @property
    def is_due(self) -> bool:
        """Whether a collecting run has something to do now."""
        return bool(self.markers or self.due or self.remixes)


@dataclass
class DueReader:
    """Reads what is due in some datasets.

    Arguments:
        ledger: the ledger of the storage root.
        datasets: names of the datasets.
        poll_after_seconds: age at which an outstanding task is due without a marker.
        store_time: the store's clock.
        claims: when a collecting process counts as dead.
    """

    ledger: Ledger
    datasets: Sequence[str]
    poll_after_seconds: float
    store_time: Callable[[], datetime]
    claims: ClaimSettings = field(default_factory=ClaimSettings)

    def read(self, next_read: int = 0) -> DueWork:
        """What is due now. Costs two listings per dataset, and more only if it has tasks.

        Arguments:
            next_read: where the previous read stopped.
        """
        found = [
            (name, self.ledger.pending.outstanding(name), self._markers(name))
            for name in self.datasets
        ]
        busy = [item for item in found if item[1].tasks or item[1].remixes_due or item[2]]
        if not busy:
            return DueWork()
        now = self.store_time()
        collected: list[str] = []
        markers = remixes = 0
        waiting: list[PendingEntry] = []
        for dataset, outstanding, received in busy:
            view = ClaimReader(
                self.ledger, dataset, store_time=lambda: now, settings=self.claims
            ).view()
            if view.rest is not None:
                collected.append(dataset)
                continue
            tasks = outstanding.tasks
            waiting += [entry for uuid, entry in tasks.items() if uuid not in view.tasks]
            markers += sum(_is_new(marker, tasks, view.tasks) for marker in received)
            remixes += len(outstanding.remixes_due)
        due, next_read = self._count_due(waiting, now, next_read)
        since = [entry.since for _, outstanding, _ in busy for entry in outstanding.tasks.values()]
        return DueWork(
            outstanding=len(since),
            markers=markers,
            due=due,
            remixes=remixes,
            collected=tuple(collected),
            oldest_seconds=(now - min(since)).total_seconds() if since else None,
            next_read=next_read,
        )

    def _markers(self, dataset: str) -> list[Marker]:
        return list(tasks_with_markers(self.ledger.root, dataset))

    def _count_due(
        self, waiting: Sequence[PendingEntry], now: datetime, next_read: int
    ) -> tuple[int, int]:
        """The number of due tasks, and where the next read continues."""
        poll_after = timedelta(seconds=self.poll_after_seconds)
        old = [entry for entry in waiting if now - entry.since >= poll_after]
        due = sum(now - entry.since >= _LONGEST_INTERVAL for entry in old)
        if due or not old:
            return due, 0
        # Only its record says whether an earlier run left a task. Each read looks at a few records,
        # and the next one continues there.
        start = next_read % len(old)
        for entry in [*old[start:], *old[:start]][:_MAX_RECORDS_READ]:
            due += self._is_due(entry, now)
        return due, (start + _MAX_RECORDS_READ) % len(old)

    def _is_due(self, entry: PendingEntry, now: datetime) -> bool:
        try:
            record = self.ledger.pending.record(entry)
        except (UnreadableRecordError, AccessDeniedError):
            # The collecting run reports it.
            return True
        if record is None:
            return False
        if record.times_left == 0:
            return True
        interval: timedelta = _FIRST_INTERVAL * 2 ** min(record.times_left - 1, 10)
        return now - entry.since >= min(interval, _LONGEST_INTERVAL)


def _is_new(marker: Marker, tasks: Mapping[str, PendingEntry], claimed: Mapping[str, str]) -> bool:
    """Whether a marker is new: no run that left or is collecting its task has seen it."""
    if marker.task_uuid in claimed:
        return False
    entry = tasks.get(marker.task_uuid)
    return entry is None or marker.received_at >= entry.since


def uncollected_folders(
    ledger: Ledger, datasets: Sequence[str], *, age: timedelta, store_time: Callable[[], datetime]
) -> tuple[str, ...]:
    """Folders of the index that belong to no known dataset and contain old tasks.

    Costs a listing of the folders' names, and one of each such folder.

    Arguments:
        ledger: the ledger of the storage root.
        datasets: names of the known datasets.
        age: minimum age of the tasks.
        store_time: the store's clock.
    """
    owned = {layout.segment(dataset) for dataset in datasets}
    others = [name for name in ledger.root.folders(layout.PENDING_FOLDER) if name not in owned]
    if not others:
        return ()
    oldest = store_time() - age
    folders = [f"{layout.PENDING_FOLDER}/{name}" for name in others]
    return tuple(
        folder
        for folder in folders
        if any(info.last_modified <= oldest for info in ledger.root.list(folder))
    )
