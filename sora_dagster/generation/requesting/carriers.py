"""How the video of a remix's parent is sent: as its id, its UUID, its address or its last frame."""

from __future__ import annotations

import io
import re
from collections.abc import Iterable

from sora_dagster.generation.protocol import layout
from sora_dagster.generation.protocol.ledger import Ledger
from sora_dagster.generation.protocol.records import Carrier, StoredVideo
from sora_dagster.generation.requesting.direct_delivery import URL_SECONDS
from sora_dagster.media import MediaError, last_frame
from sora_dagster.prompts.clips import ClipRequest, ParentVideo
from sora_dagster.prompts.recipes import RemixModeError, remix_way, source_problem
from sora_dagster.runware.catalogue import Catalogue
from sora_dagster.runware.catalogue.parts import InputLimits
from sora_dagster.runware.errors import ErrorRecord
from sora_dagster.runware.images import data_uri
from sora_dagster.runware.transport import is_local_api
from sora_dagster.storage import AccessDeniedError, ObjectMissingError, StorageError

_VIDEO_INPUT = re.compile(r"\binputs\.(video|referenceVideos)\b")


class CarrierError(ValueError):
    """The video of a remix's parent cannot be sent; nothing was sent."""


class ParentVideos:
    """The videos that remixes are made from, in the form in which they are sent.

    Arguments:
        ledger: the ledger.
        catalogue: the models that may be used.
        api_base_url: the API; one on this machine reaches stores on this machine, too.
    """

    def __init__(self, ledger: Ledger, catalogue: Catalogue, *, api_base_url: str) -> None:
        self._ledger = ledger
        self._root = ledger.root
        self._catalogue = catalogue
        self._api_is_here = is_local_api(api_base_url)

    def carrier_of(self, request: ClipRequest, *, by_address: bool) -> Carrier | None:
        """How the video of a request's parent is sent. None: the request has no parent.

        Arguments:
            request: the requested clip.
            by_address: whether Runware refused the UUID of the video.

        Raises:
            CarrierError: if the model cannot make the remix.
            UnknownModelError: if the model has no catalogue entry.
        """
        parent = request.parent
        if parent is None:
            return None
        entry, mode = self._catalogue.get(request.spec.model), request.spec.mode or "remix"
        try:
            way = remix_way(mode, entry)
            problem = source_problem(mode, entry, parent.duration_seconds)
        except RemixModeError as error:
            raise CarrierError(str(error)) from error
        if problem is not None:
            raise CarrierError(problem.message)
        if way is None:
            return "frame"
        if way.input == "videoId":
            return "id"
        return "address" if by_address else "uuid"

    def sent(
        self, request: ClipRequest, carrier: Carrier | None, *, is_dry_run: bool = False
    ) -> str | None:
        """The text that is sent for the video of a request's parent.

        Arguments:
            request: the requested clip.
            carrier: how it is sent. None: the request has no parent.
            is_dry_run: whether nothing may be written.

        Raises:
            CarrierError: if the video cannot be sent in this way.
            StorageError: if the storage root fails.
        """
        parent = request.parent
        if parent is None or carrier is None:
            return None
        match carrier:
            case "id":
                if parent.video_id is None:
                    raise CarrierError(
                        f"Runware gave no videoId for take {parent.take} of {parent.clip}, and "
                        f"{request.spec.model} takes nothing else; set another model or mode in "
                        f"the recipe"
                    )
                return parent.video_id
            case "uuid":
                return parent.video_uuid
            case "address":
                return self._address(parent)
            case "frame":
                limits = self._catalogue.get(request.spec.model).inputs["frameImages"]
                image = _fitted(self._last_frame(parent, is_dry_run=is_dry_run), limits)
                return data_uri(image, "jpeg")

    def _address(self, parent: ParentVideo) -> str:
        what = (
            f"Runware refused the UUID of the video of {parent.clip} (take {parent.take}), and its "
            f"URL cannot be sent instead"
        )
        if not self._root.can_presign:
            raise CarrierError(
                f"{what}: the storage root {self._root.url} cannot sign URLs. Use a bucket and "
                f"credentials that can sign URLs, or set another mode in the recipe, such as "
                f"continue"
            )
        if not (self._api_is_here or self._root.is_reachable_from_outside):
            raise CarrierError(
                f"{what}: Runware cannot reach the store of {self._root.url}, whose endpoint is on "
                f"this machine or in a private network. Use a store that Runware can reach, or set "
                f"another mode in the recipe, such as continue"
            )
        video = self._stored(parent)
        if not self._root.exists(video.key):
            raise CarrierError(
                f"{what}: the video is no longer in {self._root.url}. {_restore_advice(parent)}"
            )
        try:
            return self._root.presign("GET", video.key, URL_SECONDS)
        except StorageError as error:
            raise CarrierError(f"{what}: {error}") from error

    def _last_frame(self, parent: ParentVideo, *, is_dry_run: bool) -> bytes:
        """The last frame; cut once and kept, so that every request sends the same bytes."""
        video = self._stored(parent)
        key = layout.last_frame_key(video.sha256)
        if (kept := self._root.read_if_present(key)) is not None:
            return kept
        try:
            with self._root.open(video.key) as file:
                image = last_frame(file)
        except (MediaError, AccessDeniedError, ObjectMissingError) as error:
            raise CarrierError(
                f"the last frame of {parent.clip} (take {parent.take}) cannot be read: {error}"
            ) from error
        if is_dry_run or self._root.create(key, image):
            return image
        return self._root.read(key)

    def _stored(self, parent: ParentVideo) -> StoredVideo:
        place = (parent.asset, parent.clip, parent.take)
        manifest = self._ledger.manifest(*place)
        if manifest is None and (pruned := self._ledger.pruned(*place)) is not None:
            manifest = pruned.manifest
        for video in () if manifest is None else manifest.videos:
            if video.video_uuid == parent.video_uuid:
                return video
        raise CarrierError(
            f"take {parent.take} of {parent.clip} is no longer in {self._root.url}. "
            f"{_restore_advice(parent)}"
        )


def _restore_advice(parent: ParentVideo) -> str:
    return (
        f"Restore it from a backup, or raise the take of {parent.clip} to generate it again, which "
        f"costs again"
    )


def refused_uuid(carrier: Carrier | None, errors: Iterable[ErrorRecord]) -> bool:
    """Whether a task was refused because of its parent's UUID, so that an address may do.

    Arguments:
        carrier: how the video of its parent was sent.
        errors: why it was not accepted.
    """
    return carrier == "uuid" and any(
        error.kind != "safety" and _VIDEO_INPUT.search(error.parameter or error.message)
        for error in errors
    )


def _fitted(jpeg: bytes, limits: InputLimits) -> bytes:
    """An image, made smaller if a model takes no image of its size."""
    from PIL import Image

    with Image.open(io.BytesIO(jpeg)) as image:
        if limits.max_pixels is None or max(image.size) <= limits.max_pixels:
            return jpeg
        image.thumbnail((limits.max_pixels, limits.max_pixels))
        body = io.BytesIO()
        image.save(body, "JPEG", quality=95, subsampling=0)
        return body.getvalue()
