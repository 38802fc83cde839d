"""Folders of small records that are read repeatedly: unchanged records are cached."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Generic, TypeVar

from sora_dagster.generation.protocol import layout
from sora_dagster.generation.protocol.record_store import RecordStore, UnreadableRecordError
from sora_dagster.generation.protocol.records import NoteRecord, Record, StuckRecord
from sora_dagster.generation.protocol.scan import in_parallel
from sora_dagster.storage import AccessDeniedError, ObjectInfo

_log = logging.getLogger(__name__)

AnyRecord = TypeVar("AnyRecord", bound=Record)


class RecordFolder(Generic[AnyRecord]):
    """The records of one folder by their names; each is read again only if it changed.

    Arguments:
        records: the records of the storage root.
        folder: the folder.
        model: the model of its records.
    """

    def __init__(self, records: RecordStore, folder: str, model: type[AnyRecord]) -> None:
        self._records = records
        self._folder = folder
        self._model = model
        self._known: dict[str, tuple[ObjectInfo, AnyRecord | None]] = {}

    def read(self) -> Mapping[str, AnyRecord | None]:
        """All records by name, without extension. Costs one listing, and a read of each change.

        A record that cannot be read is None.

        Raises:
            StorageError: if the storage root fails.
        """
        listed = list(self._records.root.list(self._folder))
        new = [
            info
            for info in listed
            if info.key not in self._known or self._known[info.key][0] != info
        ]
        read = dict(zip((info.key for info in new), in_parallel(new, self._read), strict=True))
        self._known = {
            info.key: (info, read[info.key] if info.key in read else self._known[info.key][1])
            for info in listed
        }
        return {
            key.rpartition("/")[2].removesuffix(".json"): record
            for key, (_, record) in self._known.items()
        }

    def _read(self, info: ObjectInfo) -> AnyRecord | None:
        try:
            return self._records.read(info.key, self._model)
        except (UnreadableRecordError, AccessDeniedError) as error:
            # These records are informational only; decisions are based on other records.
            _log.warning("%s cannot be read and is skipped: %s", info.key, error)
            return None


def note_folder(records: RecordStore, dataset: str) -> RecordFolder[NoteRecord]:
    """Notes on outstanding tasks of a dataset that are slow or cannot be stored yet, by UUID."""
    return RecordFolder(records, layout.dataset_folder(layout.NOTES_FOLDER, dataset), NoteRecord)


def stuck_folder(records: RecordStore, dataset: str) -> RecordFolder[StuckRecord]:
    """Tasks of a dataset that cannot be collected, by UUID."""
    return RecordFolder(records, layout.dataset_folder(layout.STUCK_FOLDER, dataset), StuckRecord)
