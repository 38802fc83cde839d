"""Loads the images, videos and sounds that a request names."""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import io
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TypeVar
from urllib.parse import urlsplit
from uuid import uuid4

import av
import httpx
from av.container import InputContainer
from PIL import Image, UnidentifiedImageError

from sora_dagster.runware.catalogue import FrameSize, VideoModel
from sora_dagster.runware.catalogue.parts import InputLimits
from sora_dagster.runware.transport import is_local_api
from sora_dagster.sandbox.calls import Caller
from sora_dagster.sandbox.drawing.picture import PictureSpec
from sora_dagster.sandbox.drawing.subjects import Subject
from sora_dagster.sandbox.hosting import VIDEO_FOLDER, HostedVideos
from sora_dagster.sandbox.refusals import RefusedTaskError, refusal
from sora_dagster.sandbox.rendering import CONTAINERS
from sora_dagster.sandbox.request_form import VideoRequest
from sora_dagster.sandbox.task_registry import TaskRegistry
from sora_dagster.sandbox.tasks import Generation
from sora_dagster.sandbox.video_sizes import even_size

_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_FETCH_TIMEOUT_SECONDS = 30.0
_MAX_MEDIA_BYTES = 500_000_000
_MAX_MEDIA_SECONDS = 600.0
_MAX_VIDEO_SIDE = 4096
_MAX_IMAGE_SIDE = 16_384
_LENGTH_TOLERANCE = 0.1

_Measured = TypeVar("_Measured")

_CODES = {
    "frameImages": "invalidFrameImage",
    "referenceImages": "invalidReferenceImage",
    "referenceVideos": "invalidReferenceVideo",
    "referenceAudios": "invalidReferenceAudio",
    "video": "invalidVideo",
    "videoId": "invalidVideoId",
}


@dataclass(frozen=True)
class InputImage:
    """An image that a video shows.

    Arguments:
        encoded: the image file.
        size: its size, rounded down to even numbers.
    """

    encoded: bytes
    size: FrameSize


@dataclass(frozen=True)
class InputVideo:
    """A video that another one is made from.

    Arguments:
        picture: what it shows.
        size: its size in pixels.
        duration_seconds: its length.
    """

    picture: PictureSpec
    size: FrameSize
    duration_seconds: float


@dataclass(frozen=True)
class InputSlot:
    """Where a request names a file.

    Arguments:
        name: the input, such as ``referenceImages``.
        entry: the model, with the limits of the input.
        is_restored: whether the request was accepted before a restart. Then a video was finished,
            even if it has to be rendered again now, and a file that was fetched is not fetched
            again.
    """

    name: str
    entry: VideoModel
    is_restored: bool = False

    @property
    def limits(self) -> InputLimits:
        """What the model accepts there."""
        return self.entry.inputs[self.name]  # type: ignore[index]

    def refused(self, what: str) -> RefusedTaskError:
        """The refusal of a file, with the rest of a sentence that says why."""
        return refusal(self.entry, _CODES[self.name], f"inputs.{self.name}", what)

    def unknown_video(self, address: str) -> RefusedTaskError:
        """The refusal of a UUID, or of an id, that no finished video has."""
        return self.refused(f"is {address[:80]!r}, which is not a finished video")


def input_videos(
    request: VideoRequest, *, is_restored: bool = False
) -> Iterator[tuple[InputSlot, str]]:
    """The ids, UUIDs and URLs of the videos that a request names; the first is the main one."""
    given = request.inputs
    for name, addresses in (
        ("videoId", [given.video_id]),
        ("video", [given.video]),
        ("referenceVideos", given.reference_videos),
    ):
        for address in addresses:
            if address is not None:
                yield InputSlot(name, request.entry, is_restored), address


def is_uuid(address: str) -> bool:
    """Whether an input is the UUID of a file."""
    return _UUID.fullmatch(address) is not None


@dataclass
class InputFiles:
    """Loads the files that requests name.

    Videos that the sandbox made are found by their UUID, or by their URL while that is valid. Other
    URLs are fetched from this machine only. There are no uploads, so other UUIDs are unknown.

    Arguments:
        registry: the accepted tasks, with their videos.
        hosting: the videos that can be downloaded.
        client: fetches URLs.
        folder: where fetched files are kept for a restart.
    """

    registry: TaskRegistry
    hosting: HostedVideos
    client: httpx.AsyncClient
    folder: Path

    async def image(self, image: str, slot: InputSlot) -> InputImage:
        """Load an image: a UUID, a URL, a data URI or base64.

        Raises:
            RefusedTaskError: it does not exist, or the model does not accept it.
        """
        most = slot.limits.max_bytes
        encoded = await self._image_bytes(image, slot)
        if len(encoded) > most:
            raise slot.refused(f"has {len(encoded)} bytes; at most {most} are allowed")
        return await asyncio.to_thread(_measured_image, encoded, slot)

    async def video(self, address: str, slot: InputSlot, caller: Caller) -> InputVideo:
        """Load a video.

        Arguments:
            address: its UUID, a URL, or for `inputs.videoId` its id.
            slot: where the request names it.
            caller: who sent the request.

        Raises:
            RefusedTaskError: it does not exist, or the model does not accept it.
        """
        known = self._known_video(address, slot, caller)
        if known is not None:
            spec = known.video
            video = InputVideo(spec.picture, spec.size, spec.duration_seconds)
        elif slot.name == "videoId" or is_uuid(address):
            raise slot.unknown_video(address)
        else:
            video = await self._fetched_media(address, slot, _measured_video)
        _check_seconds(video.duration_seconds, slot)
        return video

    async def check_audio(self, address: str, slot: InputSlot) -> None:
        """Load a sound, and check it.

        Raises:
            RefusedTaskError: it does not exist, or the model does not accept it.
        """
        if is_uuid(address):
            raise slot.refused(f"is {address}, which is not the UUID of a known sound")
        _check_seconds(await self._fetched_media(address, slot, _measured_audio), slot)

    def _known_video(self, address: str, slot: InputSlot, caller: Caller) -> Generation | None:
        """The video of this sandbox with an id or address; None if there is none."""
        only_finished = not slot.is_restored
        if slot.name == "videoId":
            return self.registry.find_video(
                address, account=caller.account, only_finished=only_finished
            )
        uuid = _video_uuid(address)
        if uuid is None:
            return None
        video = self.registry.find_video_by_uuid(
            uuid, account=caller.account, only_finished=only_finished
        )
        if video is not None and not slot.is_restored:
            name = f"{video.video_uuid}.{CONTAINERS[video.video.output_format].name}"
            if self.hosting.is_expired(name):
                raise slot.refused("is a video that has expired")
        return video

    async def _image_bytes(self, image: str, slot: InputSlot) -> bytes:
        if is_uuid(image):
            raise slot.refused(f"is {image}, which is not the UUID of a known image")
        if image.startswith(("http://", "https://")):
            return await self._fetched_bytes(image, slot)
        encoded = image
        if image.startswith("data:"):
            header, _, encoded = image.partition(",")
            if not header.endswith(";base64"):
                raise slot.refused("is a data URI without base64")
        try:
            return base64.b64decode(encoded, validate=True)
        except binascii.Error:
            what = "is neither a UUID nor a URL nor a data URI nor valid base64"
            raise slot.refused(what) from None

    async def _fetched_bytes(self, url: str, slot: InputSlot) -> bytes:
        # One more byte than allowed shows that there are more.
        path = await self._fetched(url, slot, max_bytes=slot.limits.max_bytes + 1)
        return path.read_bytes()

    async def _fetched_media(
        self, url: str, slot: InputSlot, measure: Callable[[Path, InputSlot], _Measured]
    ) -> _Measured:
        if not url.startswith(("http://", "https://")):
            raise slot.refused("is neither a UUID nor a URL")
        path = await self._fetched(url, slot, max_bytes=_MAX_MEDIA_BYTES + 1)
        if path.stat().st_size > _MAX_MEDIA_BYTES:
            raise slot.refused(f"has more than {_MAX_MEDIA_BYTES} bytes")
        return await asyncio.to_thread(measure, path, slot)

    async def _fetched(self, url: str, slot: InputSlot, *, max_bytes: int) -> Path:
        """A file with what a URL of this machine serves, no more than `max_bytes`."""
        if not is_local_api(url):
            what = "is a URL of another machine; the sandbox fetches from this machine only"
            raise slot.refused(what)
        path = self.folder / hashlib.sha256(url.encode()).hexdigest()
        if slot.is_restored and path.exists():
            return path
        self.folder.mkdir(parents=True, exist_ok=True)
        # A unique name: another task may be fetching the same URL.
        unfinished = self.folder / f"unfinished-{uuid4()}"
        try:
            with unfinished.open("wb") as file:
                await self._fetch(url, slot, file, max_bytes=max_bytes)
            unfinished.replace(path)
        finally:
            unfinished.unlink(missing_ok=True)
        return path

    async def _fetch(self, url: str, slot: InputSlot, file: IO[bytes], *, max_bytes: int) -> None:
        size = 0
        try:
            async with (
                asyncio.timeout(_FETCH_TIMEOUT_SECONDS),
                self.client.stream("GET", url, timeout=_FETCH_TIMEOUT_SECONDS) as response,
            ):
                if response.status_code != 200:
                    raise slot.refused(f"could not be fetched: HTTP {response.status_code}")
                async for chunk in response.aiter_bytes():
                    size += file.write(chunk[: max_bytes - size])
                    if size >= max_bytes:
                        break
        except (httpx.HTTPError, httpx.InvalidURL, TimeoutError) as error:
            raise slot.refused(f"could not be fetched: {type(error).__name__}") from error


def _video_uuid(address: str) -> str | None:
    """The UUID of a video by itself or by its URL at a sandbox; None for other addresses."""
    if is_uuid(address):
        return address
    if not address.startswith(("http://", "https://")) or not is_local_api(address):
        return None
    folder, _, name = urlsplit(address).path.rpartition("/")
    stem = name.partition(".")[0]
    # The sandbox may have had another port before a restart.
    return stem if folder == f"/{VIDEO_FOLDER}" and is_uuid(stem) else None


def _measured_image(encoded: bytes, slot: InputSlot) -> InputImage:
    limits = slot.limits
    try:
        with Image.open(io.BytesIO(encoded), formats=("PNG", "JPEG", "WEBP")) as image:
            width, height = image.size
            low, high = limits.min_pixels, limits.max_pixels or _MAX_IMAGE_SIDE
            # Before decoding: a small file can claim to be a huge picture.
            if not (low <= width <= high and low <= height <= high):
                raise slot.refused(f"is {width}x{height} pixels; each side must be {low} to {high}")
            image.load()
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise slot.refused("cannot be decoded; PNG, JPEG and WEBP are supported") from error
    return InputImage(encoded, even_size(FrameSize(width, height)))


def _measured_video(path: Path, slot: InputSlot) -> InputVideo:
    try:
        with av.open(str(path)) as container:
            stream = container.streams.video[0]
            width, height = stream.codec_context.width, stream.codec_context.height
            if not (2 <= width <= _MAX_VIDEO_SIDE and 2 <= height <= _MAX_VIDEO_SIDE):
                what = f"is {width}x{height} pixels; each side must be 2 to {_MAX_VIDEO_SIDE}"
                raise slot.refused(what)
            seconds = _seconds_of(container)
            first = Image.fromarray(next(container.decode(stream)).to_ndarray(format="rgb24"))
    except (av.FFmpegError, IndexError, StopIteration) as error:
        raise slot.refused("cannot be decoded as a video") from error
    picture = io.BytesIO()
    first.save(picture, "PNG")
    return InputVideo(
        PictureSpec(Subject("", seed=0), first_frame=picture.getvalue()),
        even_size(FrameSize(width, height)),
        seconds,
    )


def _measured_audio(path: Path, slot: InputSlot) -> float:
    """The length of a sound in seconds."""
    try:
        with av.open(str(path)) as container:
            next(container.decode(container.streams.audio[0]))
            return _seconds_of(container)
    except (av.FFmpegError, IndexError, StopIteration) as error:
        raise slot.refused("cannot be decoded as a sound") from error


def _seconds_of(container: InputContainer) -> float:
    return 0.0 if container.duration is None else container.duration / av.time_base


def _check_seconds(seconds: float, slot: InputSlot) -> None:
    low = slot.limits.min_seconds or 0.0
    high = slot.limits.max_seconds or _MAX_MEDIA_SECONDS
    # Containers round lengths to whole frames.
    if not low - _LENGTH_TOLERANCE <= seconds <= high + _LENGTH_TOLERANCE:
        raise slot.refused(f"is {seconds:g} seconds long; it must be {low:g} to {high:g}")
