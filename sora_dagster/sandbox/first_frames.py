"""First-frame images: fetched, decoded and measured."""

from __future__ import annotations

import asyncio
import base64
import binascii
import io
import re
from dataclasses import dataclass

import httpx
from PIL import Image, UnidentifiedImageError

from sora_dagster.runware.catalogue import FrameSize, VideoModel
from sora_dagster.runware.catalogue.parts import InputLimits
from sora_dagster.runware.transport import is_local_api
from sora_dagster.sandbox.refusals import RefusedTaskError, parameter_page

_UUID = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_FETCH_TIMEOUT_SECONDS = 10.0


@dataclass(frozen=True)
class FirstFrame:
    """An image that a video starts from.

    Arguments:
        encoded: the image file.
        size: the size of the video: that of the image, rounded down to even numbers.
    """

    encoded: bytes
    size: FrameSize


async def load_first_frame(image: str, entry: VideoModel, client: httpx.AsyncClient) -> FirstFrame:
    """Load the image of a request.

    Arguments:
        image: UUID, URL, data URI or base64. The sandbox has no image uploads, so every UUID is
            unknown; a URL is fetched only from this machine.
        entry: the model, with the limits of the image.
        client: fetches URLs.

    Raises:
        RefusedTaskError: the image does not exist, or the model does not accept it.
    """
    encoded = await _bytes_of(image, entry, client)
    if len(encoded) > _limits(entry).max_bytes:
        raise _refused(
            entry,
            f"has {len(encoded)} bytes; at most {_limits(entry).max_bytes} are allowed",
        )
    return await asyncio.to_thread(_measured, encoded, entry)


async def _bytes_of(image: str, entry: VideoModel, client: httpx.AsyncClient) -> bytes:
    if _UUID.fullmatch(image):
        raise _refused(entry, f"is {image}, which is not the UUID of a known image")
    if image.startswith(("http://", "https://")):
        return await _fetched(image, entry, client)
    encoded = image
    if image.startswith("data:"):
        header, _, encoded = image.partition(",")
        if not header.endswith(";base64"):
            raise _refused(entry, "is a data URI without base64")
    try:
        return base64.b64decode(encoded, validate=True)
    except binascii.Error:
        raise _refused(
            entry, "is neither a UUID nor a URL nor a data URI nor valid base64"
        ) from None


async def _fetched(url: str, entry: VideoModel, client: httpx.AsyncClient) -> bytes:
    if not is_local_api(url):
        raise _refused(
            entry, "is a URL of another machine; the sandbox fetches from this machine only"
        )
    chunks = bytearray()
    try:
        async with client.stream("GET", url, timeout=_FETCH_TIMEOUT_SECONDS) as response:
            if response.status_code != 200:
                raise _refused(entry, f"could not be fetched: HTTP {response.status_code}")
            async for chunk in response.aiter_bytes():
                chunks += chunk
                if len(chunks) > _limits(entry).max_bytes:
                    break
    except httpx.HTTPError as error:
        raise _refused(entry, f"could not be fetched: {type(error).__name__}") from error
    return bytes(chunks)


def _measured(encoded: bytes, entry: VideoModel) -> FirstFrame:
    try:
        with Image.open(io.BytesIO(encoded), formats=("PNG", "JPEG", "WEBP")) as image:
            width, height = image.size
            limits = _limits(entry)
            low, high = limits.min_pixels, limits.max_pixels or 1_000_000
            # Before decoding: a small file can claim to be a huge picture.
            if not (low <= width <= high and low <= height <= high):
                raise _refused(
                    entry, f"is {width}x{height} pixels; each side must be {low} to {high}"
                )
            image.load()
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise _refused(entry, "cannot be decoded; PNG, JPEG and WEBP are supported") from error
    return FirstFrame(encoded, FrameSize(width - width % 2, height - height % 2))


def _limits(entry: VideoModel) -> InputLimits:
    return entry.inputs["frameImages"]


def _refused(entry: VideoModel, what: str) -> RefusedTaskError:
    parameter = "inputs.frameImages"
    return RefusedTaskError(
        "invalidFrameImage",
        f"{parameter} {what}.",
        parameter=parameter,
        documentation=parameter_page(entry, parameter),
    )
