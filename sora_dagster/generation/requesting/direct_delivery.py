"""Direct delivery: Runware puts a video right into the bucket, by an address good for one object.

The address is a presigned URL: whoever has it may write that one object until its end, so it is
kept nowhere. What Runware puts lands in `incoming/`, never under a name that a manifest knows.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Container
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, cast, get_args

from sora_dagster.generation.protocol import layout
from sora_dagster.generation.protocol.ledger import Ledger
from sora_dagster.generation.protocol.record_format import UnreadableRecordError
from sora_dagster.generation.protocol.records import AttemptRecord
from sora_dagster.prompts.clips import ClipRequest
from sora_dagster.runware.transport import is_local_api
from sora_dagster.storage import StorageError, StorageRoot

_log = logging.getLogger(__name__)

DeliverySetting = Literal["auto", "direct", "download"]

# How long an upload address lives at least: a slow generation is waited for beyond its deadline.
URL_SECONDS = 7200.0
# Time beyond the generation deadline in which an upload may still begin or end.
URL_MARGIN_SECONDS = 900.0
# The most that S3, GCS and Azure grant a presigned URL.
LONGEST_URL_SECONDS = 7 * 86_400.0
_UUID_LENGTH = 36
# States in which a task ended without a video of ours, and Runware may have one after all.
STATES_OF_DOUBT = ("lost", "unsure")


class DirectDeliveryError(ValueError):
    """A clip cannot be delivered directly, though the setting wants it; nothing was sent."""


def parse_delivery(text: str | None) -> DeliverySetting:
    """The setting that a text means; `auto` where there is none.

    Raises:
        ValueError: where it is none of the three.
    """
    if text is None or not text.strip():
        return "auto"
    setting = text.strip().lower()
    if setting not in get_args(DeliverySetting):
        raise ValueError(
            f"delivery {text!r} is not known; allowed are 'direct' (Runware puts each video into "
            f"the bucket), 'download' (videos are fetched from Runware) and 'auto' (direct where "
            f"it is possible). Set SORA_DELIVERY, or the resource's `delivery`, to one of them."
        )
    return cast(DeliverySetting, setting)


class DirectDelivery:
    """Decides whether a clip is delivered directly, and makes the addresses for it.

    Arguments:
        root: the storage root.
        setting: what is wanted.
        api_base_url: the API; one on this machine reaches stores that are on it, too.
        generation_seconds: how long after it was sent a generation usually ends.
    """

    def __init__(
        self,
        root: StorageRoot,
        *,
        setting: DeliverySetting,
        api_base_url: str,
        generation_seconds: float,
    ) -> None:
        self._root = root
        self._setting = setting
        self._api_is_here = is_local_api(api_base_url)
        self.url_seconds = max(URL_SECONDS, generation_seconds + URL_MARGIN_SECONDS)

    def begin(self, request: ClipRequest, task_uuid: str, *, attempt: int) -> str | None:
        """The address that a new task's video is put to; None where it is downloaded.

        Arguments:
            request: the clip asked for.
            task_uuid: the task's UUID.
            attempt: number of the try of its take.

        Raises:
            DirectDeliveryError: where the setting is `direct`, and it is not possible.
        """
        if self._setting == "download":
            return None
        # What failed may have failed for the upload's sake, and every further try costs.
        if self._setting == "auto" and attempt > 1:
            return None
        obstacle = self._obstacle(request)
        if obstacle is None:
            try:
                return self._presigned(task_uuid)
            except StorageError as error:
                obstacle = f"no upload address can be made: {error}"
        if self._setting == "direct":
            raise DirectDeliveryError(
                f"{request.clip} cannot be delivered directly: {obstacle}. Mend that, or set the "
                f"delivery (SORA_DELIVERY) to 'auto' or 'download'"
            )
        _log.debug("%s is downloaded: %s", request.clip, obstacle)
        return None

    def renew(self, attempt: AttemptRecord) -> str | None:
        """A fresh address for a task that is sent once more; None where it is downloaded.

        A task that was to be delivered directly, and cannot or must not be any more, is sent
        without an address: Runware hosts its video, and whoever collects it fetches that.
        """
        if attempt.delivery != "direct" or self._setting == "download":
            return None
        obstacle = self._obstacle(attempt.request)
        if obstacle is None:
            try:
                return self._presigned(attempt.task_uuid)
            except StorageError as error:
                obstacle = str(error)
        _log.warning("task %s is sent without an address: %s", attempt.task_uuid, obstacle)
        return None

    def _presigned(self, task_uuid: str) -> str:
        return self._root.presign("PUT", layout.incoming_key(task_uuid), self.url_seconds)

    def _obstacle(self, request: ClipRequest) -> str | None:
        """Why Runware cannot put the video of a clip into the store; None where it can."""
        results = request.spec.number_results
        if results != 1:
            return f"an upload address takes one video, and {results} are asked for"
        if not self._root.can_presign:
            return (
                f"the storage root {self._root.url} makes no upload addresses; a bucket does, with "
                f"credentials that can sign"
            )
        if not self._root.accepts_plain_put:
            return (
                "Azure takes an upload only with a header of its own (x-ms-blob-type), and Runware "
                "is not known to send it"
            )
        if not (self._api_is_here or self._root.is_reachable_from_outside):
            return (
                f"Runware cannot reach the store of {self._root.url}, whose endpoint is on this "
                f"machine or in a private network"
            )
        if self.url_seconds > LONGEST_URL_SECONDS:
            return (
                f"the upload address would have to live {self.url_seconds / 86_400:.1f} days, "
                f"longer than the generation deadline, and a store grants 7 at the most"
            )
        return self._credentials_end()

    def _credentials_end(self) -> str | None:
        try:
            left = self._root.signing_seconds_left()
        except StorageError as error:
            return f"no upload address can be signed: {error}"
        if left is None or left >= self.url_seconds:
            return None
        return (
            f"the credentials that sign the upload address end in {left / 60:.0f} minutes, and it "
            f"must live {self.url_seconds / 60:.0f}"
        )


@dataclass(frozen=True)
class StrayUpload:
    """An object in `incoming/` that no process waits for any more.

    Arguments:
        key: the object's key.
        task_uuid: the task that it belongs to; None for what an interrupted restore left.
        size_bytes: its length.
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
    """Remove late and repeated uploads of tasks that have ended, and what restores left.

    What belongs to an outstanding task stays, however old it is. So does what came for a task that
    ended without a video, since it may be the only copy of what was paid for.

    Arguments:
        ledger: the ledger of the root.
        now: the time by the store's clock.
        older_than_seconds: age from which an upload is swept; the life of its address, so that
            none comes again.
        restores_older_than_seconds: age from which a file of an interrupted restore is swept.
        is_dry_run: whether they are only reported.
        on_kept: called with each old upload that stays, and why.

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
    if outcome.state in STATES_OF_DOUBT:
        return f"its task ended as {outcome.state}: it may be the only copy"
    return None
