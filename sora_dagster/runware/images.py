"""First-frame images: the forms in which the API accepts one, and their checks before sending.

An image is the UUID of an image at Runware, a URL, a data URI, or plain base64 (reference page).
Until it is sent it may also be a reference to a local file (see `image_files`). For a UUID or a URL
only the form can be checked; otherwise the bytes are checked too.
"""

from __future__ import annotations

import base64
import hashlib
import re
import struct
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeVar
from urllib.parse import urlsplit, urlunsplit

from sora_dagster.extras import require_extras
from sora_dagster.runware.catalogue.entry import VideoModel
from sora_dagster.runware.catalogue.parts import InputLimits
from sora_dagster.runware.catalogue.sizes import FrameSize
from sora_dagster.runware.errors import Problem
from sora_dagster.runware.image_files import ImageFile, hashed_image_file, image_file_of
from sora_dagster.runware.redaction import shown

if TYPE_CHECKING:
    from PIL import Image

_UUID_PATTERN = re.compile(r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}")
_DATA_URI_PATTERN = re.compile(r"data:(?P<media_type>[^;,]*)(?P<parameters>(;[^;,]*)*),")
_BLANKS = re.compile(r"\s+")
# A multiple of 4, so that the text of whole bytes is cut.
_HEADER_CHARACTERS = 1_000_000
_DEFAULT_PORTS = {"http": 80, "https": 443}


# Decoding takes up to 4 bytes of memory for each.
_MOST_PIXELS = 64_000_000
_ORIENTATION_TAG = 274
# Of PNG and JPEG.
_SIGNATURES = (b"\x89PNG", b"\xff\xd8\xff")
_SIGNATURE_BYTES = 12
# The headers and problems of images by hash. An image is checked with its row and each request.
_known_headers: dict[str, ImageHeader | None] = {}
_known_contents: dict[str, str | None] = {}
_MOST_KNOWN = 65_536
_Fact = TypeVar("_Fact")


class ImageHeader(NamedTuple):
    """Format (``png``, ``jpeg`` or ``webp``) and size of an image."""

    format: str
    size: FrameSize


def read_image_header(source: bytes | Path) -> ImageHeader | None:
    """Read the header of a PNG, JPEG or WebP image. None: it is none of these.

    Arguments:
        source: the bytes of the image, or its file.
    """
    # Imported here, since most processes never read an image.
    require_extras("A first frame", "media")
    from PIL import Image

    try:
        with Image.open(_opened(source), formats=("PNG", "JPEG", "WEBP")) as image:
            # MPO: a JPEG with a second picture, as some cameras write it.
            image_format = {"MPO": "jpeg"}.get(image.format or "", (image.format or "").lower())
            return ImageHeader(image_format, FrameSize(*image.size))
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError):
        return None


def _opened(source: bytes | Path) -> BytesIO | Path:
    return BytesIO(source) if isinstance(source, bytes) else source


def is_http_url(text: str) -> bool:
    """Whether the text is an absolute http or https URL."""
    # First, since the text may be an image of many megabytes.
    if not text[:8].lower().startswith(("http://", "https://")):
        return False
    if any(character.isspace() or not character.isprintable() for character in text):
        return False
    try:
        parts = urlsplit(text)
        parts.port  # noqa: B018 - reading it checks it
    except ValueError:
        return False
    return bool(parts.hostname)


def is_address(image: str) -> bool:
    """Whether an image is given by UUID or URL, not by its bytes."""
    return bool(_UUID_PATTERN.fullmatch(image)) or is_http_url(image)


def image_identity(image: str) -> str:
    """A text that is equal for every spelling of the same image. For comparison, never sent.

    Bytes are compared by their hash, whatever the media type or the line breaks of the base64. A
    URL is compared without query, fragment, user, password and default port, so a presigned URL
    that was signed again is the same image.
    """
    if _UUID_PATTERN.fullmatch(image):
        return image.lower()
    if is_http_url(image):
        return _address_identity(image)
    if (file := image_file_of(image)) is not None:
        return f"sha256:{file.content_hash}"
    match = _DATA_URI_PATTERN.match(image)
    encoded = image if match is None else image[match.end() :]
    try:
        data = base64.b64decode(_BLANKS.sub("", encoded), validate=True)
    except ValueError:
        # Not an image that can be sent, so it has no other spelling.
        return image
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def public_address(address: str) -> str:
    """An address without what may grant access: the query, user and password of a URL.

    A URL without any of them, and a UUID, are returned as they are.
    """
    if not is_http_url(address):
        return address
    parts = urlsplit(address)
    if not parts.query and "@" not in parts.netloc:
        return address
    return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))


def _address_identity(url: str) -> str:
    parts = urlsplit(url)
    host = parts.hostname or ""
    if ":" in host:
        host = f"[{host}]"
    if parts.port is not None and parts.port != _DEFAULT_PORTS[parts.scheme]:
        host += f":{parts.port}"
    return f"{parts.scheme}://{host}{parts.path or '/'}"


def image_problem(
    image: str, *, field: str, entry: VideoModel, limits: InputLimits
) -> Problem | None:
    """What is wrong with an input image for a model. None: nothing.

    Arguments:
        image: the image as it would be sent.
        field: dotted name of its field.
        entry: the model's catalogue entry.
        limits: the model's limits of the image's sides and bytes.
    """
    if is_address(image):
        return None
    file = image_file_of(image)
    message = (
        _problem_of_bytes(image, entry, limits)
        if file is None
        else _problem_of_file(file, entry, limits)
    )
    value = image if file is None else str(file.path)
    return None if message is None else Problem(field, shown(value), message)


def data_uri(data: bytes, image_format: str) -> str:
    """An image in a request, with its bytes.

    Arguments:
        data: the bytes of the image.
        image_format: such as ``jpeg``.
    """
    return f"data:image/{image_format};base64,{base64.b64encode(data).decode('ascii')}"


def image_file_format(file: ImageFile) -> str:
    """``png``, ``jpeg`` or ``webp``; ``unknown`` for another file."""
    header = _header(file.path, file.content_hash)
    return "unknown" if header is None else header.format


def image_size(image: str) -> FrameSize | None:
    """The size of an image whose bytes are known. None: it is an address, or cannot be read."""
    if is_address(image):
        return None
    if (file := image_file_of(image)) is not None:
        header = _header(file.path, file.content_hash)
        return None if header is None else header.size
    match = _DATA_URI_PATTERN.match(image)
    start = 0 if match is None else match.end()
    try:
        # The size is in the header, and images are large.
        data = base64.b64decode(image[start : start + _HEADER_CHARACTERS], validate=True)
    except ValueError:
        return None
    header = read_image_header(data)
    return None if header is None else header.size


def _problem_of_bytes(image: str, entry: VideoModel, limits: InputLimits) -> str | None:
    encoded = image
    if image[:5].lower() == "data:":
        match = _DATA_URI_PATTERN.match(image)
        if match is None or ";base64" not in match["parameters"].lower():
            return "the data URI is not base64-encoded; encode the image as base64"
        if not match["media_type"].lower().startswith("image/"):
            media_type = match["media_type"] or "missing"
            return f"the media type of the data URI is {media_type}; allowed: image/…"
        encoded = image[match.end() :]
    # Estimated from the length first, so that a huge text is not decoded only to be refused.
    if len(encoded) // 4 * 3 > limits.max_bytes + 2:
        return image_too_large(len(encoded) // 4 * 3, entry, limits)
    try:
        data = base64.b64decode(encoded, validate=True)
    except ValueError:
        if encoded is not image:
            return "the data URI is not valid base64 after the comma"
        return (
            f"{shown(image)} is not an image; allowed: the UUID of an image at Runware, an http(s) "
            f"URL, a data URI, or base64. Read a file and pass it as a data URI"
        )
    if len(data) > limits.max_bytes:
        return image_too_large(len(data), entry, limits)
    content_hash = hashlib.sha256(data).hexdigest()
    return _picture_problem(data, content_hash, data[:_SIGNATURE_BYTES], entry, limits)


def _problem_of_file(file: ImageFile, entry: VideoModel, limits: InputLimits) -> str | None:
    try:
        size_bytes = file.path.stat().st_size
        with file.path.open("rb") as opened:
            start = opened.read(_SIGNATURE_BYTES)
    except OSError as error:
        return f"the image cannot be read any more: {(error.strerror or str(error)).lower()}"
    if size_bytes > limits.max_bytes:
        return image_too_large(size_bytes, entry, limits)
    return _picture_problem(file.path, file.content_hash, start, entry, limits)


def _picture_problem(
    source: bytes | Path, content_hash: str, start: bytes, entry: VideoModel, limits: InputLimits
) -> str | None:
    """What is wrong with the picture itself.

    Arguments:
        source: the bytes of the image, or its file.
        content_hash: the hash of its bytes.
        start: its first bytes.
        entry: the model's catalogue entry.
        limits: the model's limits of the image's sides.
    """
    # The accepted formats are not documented for this model; assumed from Runware's other pages.
    header = _header(source, content_hash)
    if header is None and (start.startswith(_SIGNATURES) or start[8:12] == b"WEBP"):
        return _undecodable("its header cannot be read")
    if header is None:
        return "the image is not a PNG, JPEG or WebP image; convert it to one of these"
    low, high = limits.min_pixels, limits.max_pixels
    if min(header.size) < low or (high is not None and max(header.size) > high):
        allowed = f"at least {low}" if high is None else f"{low} to {high}"
        return (
            f"the image is {header.size} pixels; allowed: {allowed} pixels per side for "
            f"{entry.name}. Scale it"
        )
    if content_hash in _known_contents:
        return _known_contents[content_hash]
    problem = _content_problem(source, header.size)
    if _is_same(source, content_hash):
        _remember(_known_contents, content_hash, problem)
    return problem


def _header(source: bytes | Path, content_hash: str) -> ImageHeader | None:
    if content_hash in _known_headers:
        return _known_headers[content_hash]
    header = read_image_header(source)
    if _is_same(source, content_hash):
        _remember(_known_headers, content_hash, header)
    return header


def _is_same(source: bytes | Path, content_hash: str) -> bool:
    """Whether a file still has its content, so that what was read belongs to the hash."""
    if isinstance(source, bytes):
        return True
    try:
        return hashed_image_file(source).content_hash == content_hash
    except OSError:
        return False


def _remember(known: dict[str, _Fact], content_hash: str, fact: _Fact) -> None:
    if len(known) >= _MOST_KNOWN:
        known.clear()
    known[content_hash] = fact


def _content_problem(source: bytes | Path, size: FrameSize) -> str | None:
    """Why the picture itself cannot be used: it is truncated, or does not stand upright."""
    from PIL import Image

    if size.width * size.height > _MOST_PIXELS:
        return f"the image is {size} pixels; allowed: at most {_MOST_PIXELS} pixels. Scale it"
    try:
        with Image.open(_opened(source)) as image:
            image.load()
            orientation = _orientation(image)
    except (OSError, SyntaxError, ValueError) as error:
        return _undecodable(str(error).rstrip("."))
    if orientation != 1:
        return (
            f"the image is stored rotated or mirrored (EXIF orientation {orientation}), and it is "
            f"not documented whether Runware turns it; allowed: upright images. Save it upright, "
            f"for example with: magick IMAGE -auto-orient UPRIGHT"
        )
    return None


def _undecodable(reason: str) -> str:
    return (
        f"the image cannot be decoded ({reason}); it may be truncated or damaged. Save it again, "
        "or copy "
        f"the file again"
    )


def _orientation(image: Image.Image) -> int:
    """The EXIF orientation of an image, from 1 (upright) to 8."""
    try:
        orientation = image.getexif().get(_ORIENTATION_TAG, 1)
    except (OSError, SyntaxError, ValueError, TypeError, LookupError, struct.error):
        # Damaged EXIF data says nothing. The picture itself was decoded.
        return 1
    return orientation if orientation in range(1, 9) else 1


def image_too_large(size_bytes: int, entry: VideoModel, limits: InputLimits) -> str:
    """The message about an image file that is too large."""
    return (
        f"the image has {size_bytes} bytes; allowed: at most {limits.max_bytes} bytes "
        f"for {entry.name}. Compress it, or use a URL"
    )
