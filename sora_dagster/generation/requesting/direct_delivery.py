"""Direct delivery: Runware uploads a video into the bucket, to an address for that object alone.

The address is a presigned URL. Anyone who has it may write that object until it expires, so it is
not recorded. Uploads go to `incoming/`, never to a key that a manifest names.
"""

from __future__ import annotations

import logging

from sora_dagster.generation.protocol import layout
from sora_dagster.generation.protocol.records import AttemptRecord
from sora_dagster.prompts.clips import ClipRequest
from sora_dagster.runware.delivery import DeliverySetting
from sora_dagster.runware.transport import is_local_api
from sora_dagster.storage import StorageError, StorageRoot

_log = logging.getLogger(__name__)

# Shortest validity of an upload URL: a slow generation is waited for beyond its deadline.
URL_SECONDS = 7200.0
# Time beyond the generation deadline in which an upload may still begin or end.
URL_MARGIN_SECONDS = 900.0
# Longest validity of a presigned URL that S3, GCS and Azure grant.
LONGEST_URL_SECONDS = 7 * 86_400.0


class DirectDeliveryError(ValueError):
    """A clip cannot be delivered directly, and the setting requires it; nothing was sent."""


class DirectDelivery:
    """Decides whether a clip is delivered directly, and makes its upload URLs.

    Arguments:
        root: the storage root.
        setting: `direct`, `download`, or `auto` for direct delivery if possible.
        api_base_url: the API; one on this machine reaches stores on this machine, too.
        generation_seconds: deadline of a generation after it was sent.
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
        """The upload URL of a new task's video; None if it is downloaded.

        Arguments:
            request: the requested clip.
            task_uuid: the task's UUID.
            attempt: number of the try of its take.

        Raises:
            DirectDeliveryError: if the setting is `direct`, and it is not possible.
        """
        if self._setting == "download":
            return None
        # The earlier attempt may have failed because of the upload, and each attempt costs.
        if self._setting == "auto" and attempt > 1:
            return None
        obstacle = self._obstacle(request)
        if obstacle is None:
            try:
                return self._presigned(task_uuid)
            except StorageError as error:
                obstacle = f"no upload URL can be made: {error}"
        if self._setting == "direct":
            raise DirectDeliveryError(
                f"{request.clip} cannot be delivered directly: {obstacle}. Fix that, or set the "
                f"delivery (SORA_DELIVERY) to 'auto' or 'download'"
            )
        _log.debug("%s is downloaded: %s", request.clip, obstacle)
        return None

    def renew(self, attempt: AttemptRecord) -> str | None:
        """A new upload URL for a task that is sent again; None if it is downloaded.

        A task that can no longer be delivered directly is sent without an address: Runware hosts
        its video, and the collecting run downloads it.
        """
        if attempt.delivery != "direct" or self._setting == "download":
            return None
        obstacle = self._obstacle(attempt.request)
        if obstacle is None:
            try:
                return self._presigned(attempt.task_uuid)
            except StorageError as error:
                obstacle = str(error)
        _log.warning(
            "task %s is sent without an upload URL, so its video will be downloaded: %s",
            attempt.task_uuid,
            obstacle,
        )
        return None

    def _presigned(self, task_uuid: str) -> str:
        return self._root.presign("PUT", layout.incoming_key(task_uuid), self.url_seconds)

    def _obstacle(self, request: ClipRequest) -> str | None:
        """Why Runware cannot put the video of a clip into the store; None if it can."""
        results = request.spec.number_results
        if results != 1:
            return f"an upload URL takes one video, and {results} are requested"
        if not self._root.can_presign:
            return (
                f"the storage root {self._root.url} cannot make upload URLs; a bucket can, "
                f"with credentials that can sign"
            )
        if not self._root.accepts_plain_put:
            return (
                "Azure requires the header x-ms-blob-type for an upload, and Runware is not known "
                "to send it"
            )
        if not (self._api_is_here or self._root.is_reachable_from_outside):
            return (
                f"Runware cannot reach the store of {self._root.url}, whose endpoint is on this "
                f"machine or in a private network"
            )
        if self.url_seconds > LONGEST_URL_SECONDS:
            return (
                f"the upload URL would have to be valid for {self.url_seconds / 86_400:.1f} "
                f"days, longer than the generation deadline, and a store grants at most 7"
            )
        return self._credentials_end()

    def _credentials_end(self) -> str | None:
        try:
            left = self._root.signing_seconds_left()
        except StorageError as error:
            return f"no upload URL can be signed: {error}"
        if left is None or left >= self.url_seconds:
            return None
        return (
            f"the credentials that sign the upload URL expire in {left / 60:.0f} minutes, and "
            f"it must be valid for {self.url_seconds / 60:.0f}"
        )
