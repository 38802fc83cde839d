"""Width and height of an image, read from its header.

A first frame is checked before anything is sent, and that must not cost the import of an image
library, nor the decoding of an image.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from sora_dagster.runware.models import FrameSize

ImageFormat = Literal["PNG", "JPEG", "WebP"]

_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
# Start-of-frame markers; C4, C8 and CC lie among them and mean other things.
_JPEG_FRAME_MARKERS = frozenset(range(0xC0, 0xD0)) - {0xC4, 0xC8, 0xCC}
# Markers without a length: TEM, restart markers, start and end of image.
_JPEG_BARE_MARKERS = frozenset({0x01, *range(0xD0, 0xDA)})


class ImageHeader(NamedTuple):
    """What the header of an image tells."""

    format: ImageFormat
    size: FrameSize


def read_image_header(data: bytes) -> ImageHeader | None:
    """Format and size of a PNG, JPEG or WebP image; none where the bytes are none of these."""
    image_format: ImageFormat
    if data.startswith(_PNG_SIGNATURE):
        size, image_format = _png_size(data), "PNG"
    elif data.startswith(b"\xff\xd8\xff"):
        size, image_format = _jpeg_size(data), "JPEG"
    elif data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        size, image_format = _webp_size(data), "WebP"
    else:
        return None
    if size is None or 0 in size:
        return None
    return ImageHeader(image_format, size)


def _png_size(data: bytes) -> FrameSize | None:
    if data[12:16] != b"IHDR" or len(data) < 24:
        return None
    return FrameSize(int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big"))


def _jpeg_size(data: bytes) -> FrameSize | None:
    position = 2
    while position + 4 <= len(data):
        if data[position] != 0xFF:
            return None
        marker = data[position + 1]
        if marker == 0xFF:  # padding before a marker
            position += 1
        elif marker in _JPEG_BARE_MARKERS:
            position += 2
        elif marker in _JPEG_FRAME_MARKERS:
            if position + 9 > len(data):
                return None
            height = int.from_bytes(data[position + 5 : position + 7], "big")
            width = int.from_bytes(data[position + 7 : position + 9], "big")
            return FrameSize(width, height)
        else:
            length = int.from_bytes(data[position + 2 : position + 4], "big")
            if length < 2:
                return None
            position += 2 + length
    return None


def _webp_size(data: bytes) -> FrameSize | None:
    chunk = data[12:16]
    if chunk == b"VP8X" and len(data) >= 30:  # extended: canvas, each less one, in 24 bits
        width = int.from_bytes(data[24:27], "little") + 1
        height = int.from_bytes(data[27:30], "little") + 1
        return FrameSize(width, height)
    if chunk == b"VP8L" and len(data) >= 25 and data[20] == 0x2F:  # lossless: 14 bits each
        bits = int.from_bytes(data[21:25], "little")
        return FrameSize((bits & 0x3FFF) + 1, ((bits >> 14) & 0x3FFF) + 1)
    if chunk == b"VP8 " and len(data) >= 30 and data[23:26] == b"\x9d\x01\x2a":  # lossy
        width = int.from_bytes(data[26:28], "little") & 0x3FFF
        height = int.from_bytes(data[28:30], "little") & 0x3FFF
        return FrameSize(width, height)
    return None
