"""Finding uploads in `incoming/` that no process waits for."""

from __future__ import annotations

from collections.abc import Container, Iterator
from datetime import datetime, timedelta

from sora_dagster.generation.protocol import layout
from sora_dagster.generation.protocol.ledger import Ledger
from sora_dagster.generation.protocol.record_store import UnreadableRecordError
from sora_dagster.generation.protocol.records import UNDECIDED_STATES
from sora_dagster.generation.requesting.direct_delivery import LONGEST_URL_SECONDS
from sora_dagster.storage import ObjectInfo

_UUID_LENGTH = 36
# After this an upload is not uploaded again, since its address is no longer valid.
_MIN_AGE = timedelta(seconds=LONGEST_URL_SECONDS)
_MIN_RESTORE_AGE = timedelta(days=1)


def old_uploads(ledger: Ledger, *, now: datetime) -> Iterator[tuple[ObjectInfo, str | None]]:
    """Old uploads and files of old restores, each with the reason to keep it.

    Uploads of outstanding tasks are kept, however old they are. So are uploads of tasks that ended
    without a video, since they may be the only copy of a paid video.

    Arguments:
        ledger: the ledger of the storage root.
        now: the time by the store's clock.

    Yields:
        Each object, and why it must be kept; None if no process waits for it.
    """
    pending = ledger.pending.task_uuids()
    for info in ledger.root.list(layout.INCOMING_FOLDER):
        is_restore = info.key.startswith(layout.RESTORE_PREFIX)
        if now - info.last_modified >= (_MIN_RESTORE_AGE if is_restore else _MIN_AGE):
            yield info, None if is_restore else _reason_to_keep(ledger, info, pending)


def _reason_to_keep(ledger: Ledger, upload: ObjectInfo, pending: Container[str]) -> str | None:
    task_uuid = upload.key.removeprefix(f"{layout.INCOMING_FOLDER}/")[:_UUID_LENGTH]
    try:
        outcome = None if task_uuid in pending else ledger.outcome(task_uuid)
    except UnreadableRecordError:
        return "their tasks' outcomes cannot be read; verify the storage root"
    if outcome is None:
        return "their tasks are outstanding, or do not belong to this storage root"
    if outcome.state in UNDECIDED_STATES:
        return f"their tasks ended as {outcome.state}, so they may be the only copies"
    return None
