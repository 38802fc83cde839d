"""Which remixes of a stored video were requested, and which are still due."""

from __future__ import annotations

from collections.abc import Sequence

from sora_dagster.generation.protocol import layout
from sora_dagster.generation.protocol.pending_index import attempt_of, pending_record
from sora_dagster.generation.protocol.record_store import RecordStore
from sora_dagster.generation.protocol.records import AttemptRecord, PendingRecord, RemixRecord
from sora_dagster.prompts.clips import ClipRequest


class RemixRecords:
    """Records the remixes of stored videos, so that each is requested automatically only once.

    Arguments:
        records: the records of the storage root.
    """

    def __init__(self, records: RecordStore) -> None:
        self._records = records

    def mark_due(self, attempt: AttemptRecord) -> None:
        """Leave it to the next collecting run to request the remixes of a stored clip."""
        self._records.root.create(
            layout.remixes_due_key(attempt.dataset, attempt.task_uuid),
            pending_record(attempt).to_json(),
        )

    def due_attempt(self, dataset: str, task_uuid: str) -> AttemptRecord | None:
        """The attempt of a task whose clip's remixes are due; None if they no longer are."""
        key = layout.remixes_due_key(dataset, task_uuid)
        return attempt_of(self._records, self._records.read(key, PendingRecord), task_uuid)

    def clear_due(self, dataset: str, task_uuid: str) -> None:
        """Record that the remixes of a stored clip were requested."""
        self._records.root.delete(layout.remixes_due_key(dataset, task_uuid))

    def never_requested(self, task_uuid: str, remixes: Sequence[ClipRequest]) -> list[ClipRequest]:
        """The remixes of a task's video that no run has requested. Costs one listing."""
        known = {info.key for info in self._records.root.list(layout.task_folder(task_uuid))}
        return [remix for remix in remixes if _remix_key(task_uuid, remix) not in known]

    def add(self, task_uuid: str, remix: ClipRequest, *, answer: str) -> None:
        """Record that a remix of a task's video was requested, so that no run requests it again.

        Arguments:
            task_uuid: the task that the parent video came from.
            remix: the remix.
            answer: the state of the request's result.
        """
        record = RemixRecord(
            asset=remix.asset,
            clip=remix.clip,
            fingerprint=remix.spec.fingerprint,
            answer=answer,
            at=self._records.clock(),
        )
        self._records.root.create(_remix_key(task_uuid, remix), record.to_json())


def _remix_key(task_uuid: str, remix: ClipRequest) -> str:
    return layout.remix_key(task_uuid, remix.recipe or "", remix.spec.fingerprint)
