"""What became of the last collection of each dataset, for `sora-dagster status` and alerts."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime

from sora_dagster.generation.protocol import layout
from sora_dagster.generation.protocol.record_store import RecordStore, UnreadableRecordError
from sora_dagster.generation.protocol.records import Record


class CollectionRecord(Record):
    """`status/<dataset>.json`: the last process that collected a dataset, and totals of all.

    It is overwritten, and nothing is decided by it. Times are the store's.

    Arguments:
        holder: human-readable name of the process, such as a run id.
        started_at: when it began.
        updated_at: when this was written.
        is_running: whether it was still collecting then.
        error: why it ended early, or why its last poll failed.
        error_kind: kind of that error, such as ``authentication``; `storage` for the storage root.
        failures_in_a_row: number of collections in a row that ended with an error.
        unreachable_since: since when every poll of Runware failed; None: the last one succeeded.
        failed_polls: number of those polls.
        outstanding: number of tasks that it left, or had at that time.
        clips_stored: number of clips that all collections of the dataset have stored.
        clips_failed: number of clips that ended without a video, by kind of error.
    """

    holder: str
    started_at: datetime
    updated_at: datetime
    is_running: bool
    error: str | None = None
    error_kind: str | None = None
    failures_in_a_row: int = 0
    unreachable_since: datetime | None = None
    failed_polls: int = 0
    outstanding: int = 0
    clips_stored: int = 0
    clips_failed: Mapping[str, int] = {}


def read_collection(records: RecordStore, dataset: str) -> CollectionRecord | None:
    """The record of the last collection of a dataset; None if there is none, or it is damaged."""
    try:
        return records.read(layout.collection_key(dataset), CollectionRecord)
    except UnreadableRecordError:
        # The next collection writes it again.
        return None


def write_collection(records: RecordStore, dataset: str, record: CollectionRecord) -> None:
    """Write the record of the last collection of a dataset."""
    records.root.write(layout.collection_key(dataset), record.to_json())
