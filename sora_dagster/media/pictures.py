"""Pictures of a video: poster, contact sheet and thumbnail, as JPEGs."""

from __future__ import annotations

import io
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from av.video.frame import VideoFrame
    from PIL.Image import Image

# Base64 turns three bytes into four: as a data URI, the thumbnail stays under 6,000 characters.
MOST_THUMBNAIL_BYTES = 4_300
POSTER_WIDTH = 960

_SHEET_WIDTH = 1440
_PANEL_HEIGHT = 480
_PANEL_GAP = 6
# Distinct from dark and light pictures, and from the panels of a placeholder.
_GAP_GREY = 128
_PLACEHOLDER_GREY = 160
_QUALITY = 88
# Width and JPEG quality, the best first; the first thumbnail that is small enough is taken.
_THUMBNAIL_TRIALS = (
    (420, 75), (420, 60), (360, 60), (360, 40), (300, 40), (300, 25), (240, 25), (240, 15),
    (180, 15), (180, 8), (120, 8), (60, 5),
)  # fmt: skip


@dataclass(frozen=True)
class Pictures:
    """Pictures of one video, as JPEGs.

    Arguments:
        poster: the middle frame, at most 960 pixels wide.
        sheet: the first, middle and last frame side by side, at most 1440 pixels wide.
        thumbnail: the sheet in small, at most 4,300 bytes.
    """

    poster: bytes
    sheet: bytes
    thumbnail: bytes


def image_of(frame: VideoFrame) -> Image:
    """A decoded frame as an image, at most as wide as a poster."""
    scale = min(1.0, POSTER_WIDTH / frame.width)
    width, height = max(2, round(frame.width * scale)), max(2, round(frame.height * scale))
    image: Image = frame.to_image(  # type: ignore[no-untyped-call]
        width=width, height=height, interpolation="AREA"
    )
    return image


def placeholder(width: int, height: int) -> Image:
    """A plain grey image in the proportions of a size, for a video without a decodable frame."""
    from PIL import Image

    scale = min(1.0, POSTER_WIDTH / max(width, height))
    size = (max(2, round(width * scale)), max(2, round(height * scale)))
    return Image.new("RGB", size, (_PLACEHOLDER_GREY,) * 3)


def draw_pictures(first: Image, middle: Image, last: Image) -> Pictures:
    """Draw the pictures of a video from its first, middle and last frame."""
    from PIL import Image

    widest = (_SHEET_WIDTH - 2 * _PANEL_GAP) // 3
    scale = min(1.0, widest / first.width, _PANEL_HEIGHT / first.height)
    # Some videos change their size on the way: all panels have the size of the first.
    width, height = max(2, round(first.width * scale)), max(2, round(first.height * scale))
    sheet = Image.new("RGB", (3 * width + 2 * _PANEL_GAP, height), (_GAP_GREY,) * 3)
    for index, image in enumerate((first, middle, last)):
        panel = image.resize((width, height), Image.Resampling.BOX)
        sheet.paste(panel, (index * (width + _PANEL_GAP), 0))
    return Pictures(_jpeg(middle), _jpeg(sheet), _thumbnail(sheet))


def _thumbnail(sheet: Image) -> bytes:
    for width, quality in _THUMBNAIL_TRIALS:
        small = sheet.copy()
        small.thumbnail((width, sheet.height))
        jpeg = _jpeg(small, quality)
        if len(jpeg) <= MOST_THUMBNAIL_BYTES:
            break
    return jpeg


def _jpeg(image: Image, quality: int = _QUALITY) -> bytes:
    body = io.BytesIO()
    image.save(body, "JPEG", quality=quality)
    return body.getvalue()
