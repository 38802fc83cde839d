"""The index of outstanding tasks, with records of those that are slow or stuck."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sora_dagster.generation.protocol import layout
from sora_dagster.generation.protocol.record_store import RecordStore
from sora_dagster.generation.protocol.records import (
    AttemptRecord,
    NoteRecord,
    PendingRecord,
    StuckRecord,
)
from sora_dagster.storage import StorageError

_PENDING_NAME = re.compile(r"([^/.]+)\.(\d+)")
_REMIXES_DUE_NAME = re.compile(r"([^/.]+)\.remixes")


@dataclass(frozen=True)
class PendingEntry:
    """An entry of the index, as its listing shows it.

    Arguments:
        dataset: name of the dataset.
        task_uuid: the task.
        reopening: 0, or the number of the reopening that is outstanding.
        since: when the entry was last written, by the store's clock.
    """

    dataset: str
    task_uuid: str
    reopening: int
    since: datetime

    @property
    def key(self) -> str:
        """Key of the entry."""
        return layout.pending_key(self.dataset, self.task_uuid, self.reopening)


@dataclass(frozen=True)
class Outstanding:
    """What is outstanding of one dataset, from one listing.

    Arguments:
        tasks: tasks that are generated or not stored yet, by UUID, oldest first. If a task has
            several entries, the newest reopening.
        remixes_due: UUIDs of tasks whose clips are stored and whose remixes are not requested yet.
    """

    tasks: Mapping[str, PendingEntry]
    remixes_due: tuple[str, ...]


class PendingIndex:
    """The index of outstanding tasks, with the tasks that are stuck and notes on slow ones.

    Arguments:
        records: the records of the storage root.
    """

    def __init__(self, records: RecordStore) -> None:
        self._records = records
        self._root = records.root

    def outstanding(self, dataset: str) -> Outstanding:
        """What is outstanding of a dataset, remixes to be requested included. Costs one listing."""
        found: dict[str, PendingEntry] = {}
        remixes_due = []
        folder = layout.dataset_folder(layout.PENDING_FOLDER, dataset)
        for info in self._root.list(folder):
            name = info.key.removeprefix(f"{folder}/")
            if match := _REMIXES_DUE_NAME.fullmatch(name):
                remixes_due.append(match[1])
            elif match := _PENDING_NAME.fullmatch(name):
                entry = PendingEntry(dataset, match[1], int(match[2]), info.last_modified)
                if match[1] not in found or found[match[1]].reopening < entry.reopening:
                    found[match[1]] = entry
        ordered = sorted(found.items(), key=lambda item: (item[1].since, item[0]))
        return Outstanding(dict(ordered), tuple(sorted(remixes_due)))

    def tasks(self, dataset: str) -> Mapping[str, PendingEntry]:
        """The outstanding tasks of a dataset by UUID, oldest first. Costs one listing."""
        return self.outstanding(dataset).tasks

    def task_uuids(self) -> frozenset[str]:
        """UUIDs of the outstanding tasks of all datasets. Costs one listing."""
        return frozenset(
            match[1]
            for info in self._root.list(layout.PENDING_FOLDER)
            if (match := _PENDING_NAME.fullmatch(info.key.rpartition("/")[2]))
        )

    def record(self, entry: PendingEntry) -> PendingRecord | None:
        """The record of an entry; None if it was removed."""
        return self._records.read(entry.key, PendingRecord)

    def attempt(self, entry: PendingEntry) -> AttemptRecord | None:
        """The attempt that an entry names; None if it was never claimed."""
        return attempt_of(self._records, self.record(entry), entry.task_uuid)

    def write(self, attempt: AttemptRecord) -> None:
        """Write the entry of an attempt that is about to be claimed, whether there is one or not.

        Its age counts from now.
        """
        self._root.write(
            layout.pending_key(attempt.dataset, attempt.task_uuid),
            pending_record(attempt).to_json(),
        )

    def add(self, attempt: AttemptRecord, reopening: int = 0) -> None:
        """Add a task, unless it is in the index."""
        self._root.create(
            layout.pending_key(attempt.dataset, attempt.task_uuid, reopening),
            pending_record(attempt, reopening).to_json(),
        )

    def contains(self, entry: PendingEntry) -> bool:
        """Whether an entry is still in the index."""
        return self._root.exists(entry.key)

    def leave(self, entry: PendingEntry) -> None:
        """Rewrite the entry of a task that a run leaves: its age counts from now."""
        record = self.record(entry)
        if record is not None:
            left = record.model_copy(update={"times_left": record.times_left + 1})
            self._root.write(entry.key, left.to_json())

    def remove(self, dataset: str, task_uuid: str, reopening: int = 0) -> None:
        """Remove a task, with the entries of its earlier reopenings: it is done."""
        for number in range(reopening + 1):
            self._root.delete(layout.pending_key(dataset, task_uuid, number))

    def mark_stuck(self, entry: PendingEntry, reason: str) -> StuckRecord:
        """Remove a task that cannot be collected since one of its records cannot be read.

        It is kept as stuck, with the reason.
        """
        try:
            record = self.record(entry)
        except StorageError:
            # The entry itself may be what cannot be read; the reason is recorded all the same.
            record = None
        stuck = StuckRecord(
            task_uuid=entry.task_uuid,
            reopening=entry.reopening,
            pending=record,
            reason=reason,
            at=self._records.clock(),
        )
        self._root.write(layout.stuck_key(entry.dataset, entry.task_uuid), stuck.to_json())
        self._root.delete(entry.key)
        return stuck

    def stuck(self, dataset: str, task_uuid: str) -> StuckRecord | None:
        """The record of a task that is stuck; None if it is not."""
        return self._records.read(layout.stuck_key(dataset, task_uuid), StuckRecord)

    def put_back(self, dataset: str, stuck: StuckRecord) -> None:
        """Put a stuck task back, so that it is collected again."""
        key = layout.pending_key(dataset, stuck.task_uuid, stuck.reopening)
        if stuck.pending is not None:
            self._root.create(key, stuck.pending.to_json())
        self._root.delete(layout.stuck_key(dataset, stuck.task_uuid))

    def note(self, attempt: AttemptRecord, reason: str) -> None:
        """Record why an outstanding task is slow or cannot be stored yet."""
        record = NoteRecord(
            asset=attempt.asset, clip=attempt.clip, reason=reason, at=self._records.clock()
        )
        self._root.write(layout.note_key(attempt.dataset, attempt.task_uuid), record.to_json())

    def remove_note(self, dataset: str, task_uuid: str) -> None:
        """Remove the note about a task that has ended."""
        self._root.delete(layout.note_key(dataset, task_uuid))

    def mark_undecided(self, attempt: AttemptRecord, reason: str) -> None:
        """Record that a task may have been paid for and has no video, so that a person decides."""
        record = NoteRecord(
            asset=attempt.asset, clip=attempt.clip, reason=reason, at=self._records.clock()
        )
        self._root.write(layout.undecided_key(attempt.dataset, attempt.task_uuid), record.to_json())

    def remove_undecided(self, dataset: str, task_uuid: str) -> None:
        """Remove that record: the task has a video, or a person has decided."""
        self._root.delete(layout.undecided_key(dataset, task_uuid))

    def noted_tasks(self, dataset: str) -> set[str]:
        """UUIDs of the tasks of a dataset with notes. Costs one listing."""
        folder = layout.dataset_folder(layout.NOTES_FOLDER, dataset)
        return {
            info.key.removeprefix(f"{folder}/").removesuffix(".json")
            for info in self._root.list(folder)
        }


def pending_record(attempt: AttemptRecord, reopening: int = 0) -> PendingRecord:
    """The entry of an attempt in the index."""
    return PendingRecord(
        dataset=attempt.dataset,
        asset=attempt.asset,
        clip=attempt.clip,
        take=attempt.take,
        attempt=attempt.attempt,
        task_uuid=attempt.task_uuid,
        reopening=reopening,
    )


def attempt_of(
    records: RecordStore, entry: PendingRecord | None, task_uuid: str
) -> AttemptRecord | None:
    """The attempt that an entry of the index names, if it is of that task."""
    if entry is None:
        return None
    key = layout.attempt_key(entry.asset, entry.clip, entry.take, entry.attempt)
    attempt = records.read(key, AttemptRecord)
    return attempt if attempt is not None and attempt.task_uuid == task_uuid else None
