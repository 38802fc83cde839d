"""Removing uploads in `incoming/` that no process waits for."""

from __future__ import annotations

from collections.abc import Callable, Container
from dataclasses import dataclass
from datetime import datetime, timedelta

from sora_dagster.generation.protocol import layout
from sora_dagster.generation.protocol.ledger import Ledger
from sora_dagster.generation.protocol.record_store import UnreadableRecordError
from sora_dagster.generation.requesting.direct_delivery import (
    DOUBTFUL_STATES,
    LONGEST_URL_SECONDS,
)

_UUID_LENGTH = 36


@dataclass(frozen=True)
class StrayUpload:
    """An object in `incoming/` that no process waits for.

    Arguments:
        key: the object's key.
        task_uuid: its task; None for a file of an interrupted restore.
        size_bytes: its size.
        last_modified: when it was written, by the store's clock.
    """

    key: str
    task_uuid: str | None
    size_bytes: int
    last_modified: datetime


def sweep_incoming(
    ledger: Ledger,
    *,
    now: datetime,
    older_than_seconds: float = LONGEST_URL_SECONDS,
    restores_older_than_seconds: float = 86_400.0,
    is_dry_run: bool = False,
    on_kept: Callable[[StrayUpload, str], None] = lambda _upload, _reason: None,
) -> tuple[StrayUpload, ...]:
    """Remove late and repeated uploads of tasks that have ended, and files of old restores.

    Uploads of outstanding tasks are kept, however old they are. So are uploads of tasks that ended
    without a video, since they may be the only copy of a paid video.

    Arguments:
        ledger: the ledger of the root.
        now: the time by the store's clock.
        older_than_seconds: age from which an upload is removed; default: the longest validity of
            its address, so that it is not uploaded again.
        restores_older_than_seconds: age from which a file of an interrupted restore is removed.
        is_dry_run: whether they are only reported.
        on_kept: called with each old upload that is kept, and why.

    Returns:
        What was removed, or would be.
    """
    swept: list[StrayUpload] = []
    pending = ledger.pending.task_uuids()
    for info in ledger.root.list(layout.INCOMING_FOLDER):
        is_restore = info.key.startswith(layout.RESTORE_PREFIX)
        task_uuid = None if is_restore else _task_of_upload(info.key)
        upload = StrayUpload(info.key, task_uuid, info.size_bytes, info.last_modified)
        longest = restores_older_than_seconds if is_restore else older_than_seconds
        if now - info.last_modified < timedelta(seconds=longest):
            continue
        reason = None if task_uuid is None else _why_upload_stays(ledger, task_uuid, pending)
        if reason is not None:
            on_kept(upload, reason)
            continue
        swept.append(upload)
        if not is_dry_run:
            ledger.root.delete(info.key)
    return tuple(swept)


def _task_of_upload(key: str) -> str:
    return key.removeprefix(f"{layout.INCOMING_FOLDER}/")[:_UUID_LENGTH]


def _why_upload_stays(ledger: Ledger, task_uuid: str, pending: Container[str]) -> str | None:
    try:
        outcome = None if task_uuid in pending else ledger.outcome(task_uuid)
    except UnreadableRecordError:
        return "its task's outcome cannot be read; verify the storage root"
    if outcome is None:
        return "its task is outstanding, or does not belong to this storage root"
    if outcome.state in DOUBTFUL_STATES:
        return f"its task ended as {outcome.state}: it may be the only copy"
    return None
