"""The four ways to give an image to the API, and what can be checked of each before sending.

An image is the UUID of one at Runware, a URL, a data URI, or bare base64 (reference page). Of the
first two nothing but the form can be checked; of the others the bytes are at hand.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from urllib.parse import urlsplit

from sora_dagster.runware.errors import Problem
from sora_dagster.runware.image_size import read_image_header
from sora_dagster.runware.models import VideoModel
from sora_dagster.runware.redaction import shown

ALLOWED_IMAGES = "the UUID of an image at Runware, an http(s) URL, a data URI, or base64"

_UUID_PATTERN = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_DATA_URI_PATTERN = re.compile(r"data:(?P<media_type>[^;,]*)(?P<parameters>(;[^;,]*)*),")
_BLANKS = re.compile(r"\s+")
_DEFAULT_PORTS = {"http": 80, "https": 443}


def is_http_url(text: str) -> bool:
    """Whether the text is an absolute http or https URL."""
    # First, since the text may be an image of many megabytes.
    if not text[:8].lower().startswith(("http://", "https://")):
        return False
    if any(character.isspace() or not character.isprintable() for character in text):
        return False
    try:
        parts = urlsplit(text)
        parts.port  # noqa: B018 - reading it is what checks it
    except ValueError:
        return False
    return bool(parts.hostname)


def is_address(image: str) -> bool:
    """Whether an image is given by UUID or URL, and not by its bytes."""
    return bool(_UUID_PATTERN.fullmatch(image)) or is_http_url(image)


def image_identity(image: str) -> str:
    """A text that is the same for every spelling of one image. For comparison, never sent.

    Bytes count by their content, whatever the media type is called and wherever base64 breaks its
    lines. A URL counts without query, fragment, user, password and default port, so that a
    presigned URL that was signed again is still the same image.
    """
    if _UUID_PATTERN.fullmatch(image):
        return image.lower()
    if is_http_url(image):
        return _address_identity(image)
    match = _DATA_URI_PATTERN.match(image)
    encoded = image if match is None else image[match.end() :]
    try:
        data = base64.b64decode(_BLANKS.sub("", encoded), validate=True)
    except ValueError:
        # Not an image that can be sent, so there is no other spelling of it.
        return image
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def _address_identity(url: str) -> str:
    parts = urlsplit(url)
    host = parts.hostname or ""
    if ":" in host:
        host = f"[{host}]"
    if parts.port is not None and parts.port != _DEFAULT_PORTS[parts.scheme]:
        host += f":{parts.port}"
    return f"{parts.scheme}://{host}{parts.path or '/'}"


def image_problems(image: str, *, field: str, entry: VideoModel) -> list[Problem]:
    """What is wrong with an image for a model.

    Arguments:
        image: the image as it would be sent.
        field: the field it is given in, dotted.
        entry: the catalogue entry with the limits of the image's sides and bytes.
    """
    if is_address(image):
        return []
    encoded = image
    if image[:5].lower() == "data:":
        match = _DATA_URI_PATTERN.match(image)
        if match is None or ";base64" not in match["parameters"].lower():
            return [_problem(field, image, "this data URI is not in base64; encode it so")]
        if not match["media_type"].lower().startswith("image/"):
            return [_problem(field, image, f"its media type is {match['media_type'] or 'missing'}")]
        encoded = image[match.end() :]
    return _encoded_problems(encoded, image, field, entry)


def _encoded_problems(encoded: str, image: str, field: str, entry: VideoModel) -> list[Problem]:
    # Told from the length, so that a huge text is not decoded only to be refused.
    if len(encoded) // 4 * 3 > entry.first_frame_max_bytes + 2:
        return [_too_large(field, image, len(encoded) // 4 * 3, entry)]
    try:
        data = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        return [
            _problem(
                field,
                image,
                "it is none of these (a file has to be read and given as a data URI)"
                if encoded is image
                else "what follows the comma is not valid base64",
            )
        ]
    if len(data) > entry.first_frame_max_bytes:
        return [_too_large(field, image, len(data), entry)]
    # The accepted formats are not documented for this model; assumed from Runware's other pages.
    header = read_image_header(data)
    if header is None:
        return [
            Problem(
                field,
                shown(image),
                "PNG, JPEG or WebP",
                "its bytes are not a PNG, JPEG or WebP image; convert it",
            )
        ]
    low, high = entry.first_frame_min_pixels, entry.first_frame_max_pixels
    if not (low <= header.size.width <= high and low <= header.size.height <= high):
        return [
            Problem(
                field,
                f"an image of {header.size} pixels",
                f"{low} to {high} pixels a side for {entry.name}",
                "the image is too small or too large; scale it",
            )
        ]
    return []


def _problem(field: str, image: str, message: str) -> Problem:
    return Problem(field, shown(image), ALLOWED_IMAGES, message)


def _too_large(field: str, image: str, size_bytes: int, entry: VideoModel) -> Problem:
    return Problem(
        field,
        f"an image of {size_bytes} bytes ({shown(image[:40])})",
        f"at most {entry.first_frame_max_bytes} bytes for {entry.name}",
        "the image is too large; compress it, or give a URL",
    )
