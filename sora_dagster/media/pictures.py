"""Pictures of a video: one frame as a JPEG, and a contact sheet of several side by side."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy.typing as npt
    from av.video.frame import VideoFrame

# Base64 makes three bytes into four: as a data URI it stays under 6,000 characters.
MOST_THUMBNAIL_BYTES = 4_300

_MOST_SHEET_WIDTH = 1440
_MOST_PANEL_HEIGHT = 480
_PANEL_GAP = 6
# Between the panels: told apart from dark pictures as well as from light ones.
_GAP_LUMA = 128

_MOST_GREY_SIDE = 960
# Lighter than the gaps, so that they show in a sheet of grey panels too.
_GREY_LUMA = 160

# FFmpeg's scale of a JPEG's coarseness: 2 is the best, 31 the coarsest.
_POSTER_COARSENESS = (3, 5)
_SHEET_COARSENESS = (4, 6)
# Widths and coarseness of a thumbnail, the best first: whichever fits first is taken.
_THUMBNAIL_TRIALS = (
    (420, 6), (420, 9), (360, 9), (360, 13), (300, 13), (300, 18), (240, 18), (240, 25),
    (180, 25), (180, 31), (120, 31), (60, 31),
)  # fmt: skip


def jpeg_of(
    frame: VideoFrame, max_width: int, coarseness: tuple[int, int] = _POSTER_COARSENESS
) -> bytes:
    """A frame as a JPEG.

    Arguments:
        max_width: a wider picture is made smaller, to this width in pixels.
        coarseness: the range that the encoder chooses from, each 2 (best) to 31.
    """
    from av.codec import CodecContext

    width, height = _fitted(frame, max_width)
    picture = frame.reformat(
        width=width,
        height=height,
        format="yuvj420p",
        # What every JPEG reader assumes, whatever the video is in.
        dst_colorspace="ITU601",
        dst_color_range="JPEG",
        interpolation="AREA",
    )
    picture.pts = 0
    encoder = CodecContext.create("mjpeg", "w")
    encoder.width, encoder.height, encoder.pix_fmt = width, height, "yuvj420p"
    encoder.time_base = Fraction(1, 25)
    encoder.qmin, encoder.qmax = coarseness
    packets = [*encoder.encode(picture), *encoder.encode(None)]
    return b"".join(bytes(packet) for packet in packets)


def grey_frame(width: int, height: int) -> VideoFrame:
    """A plain grey frame in the proportions of a size, at most 960 pixels wide and high.

    It stands for a video of which no frame can be decoded.
    """
    import numpy as np
    from av.video.frame import VideoFrame

    scale = min(1.0, _MOST_GREY_SIDE / max(width, height))
    shape = (max(2, round(height * scale)), max(2, round(width * scale)), 3)
    return VideoFrame.from_ndarray(np.full(shape, _GREY_LUMA, np.uint8), format="rgb24")


def panel_of(frame: VideoFrame, panels: int) -> VideoFrame:
    """A small copy of a frame for a contact sheet.

    Arguments:
        panels: how many are put side by side.
    """
    most_width = (_MOST_SHEET_WIDTH - (panels - 1) * _PANEL_GAP) // panels
    most_width = min(most_width, round(frame.width * _MOST_PANEL_HEIGHT / frame.height))
    width, height = _fitted(frame, most_width)
    return frame.reformat(width=width, height=height, format="rgb24", interpolation="AREA")


def sheet_of(panels: Sequence[VideoFrame]) -> VideoFrame:
    """Panels side by side, the first on the left, all in its size."""
    import numpy as np
    from av.video.frame import VideoFrame

    width, height = panels[0].width, panels[0].height
    gap = np.full((height, _PANEL_GAP, 3), _GAP_LUMA, np.uint8)
    parts: list[npt.NDArray[Any]] = []
    for panel in panels:
        # Some videos change their size on the way.
        parts += [gap, panel.reformat(width=width, height=height).to_ndarray()]
    return VideoFrame.from_ndarray(np.hstack(parts[1:]), format="rgb24")


def sheet_jpeg(sheet: VideoFrame) -> bytes:
    """A contact sheet as a JPEG in its full size."""
    return jpeg_of(sheet, sheet.width, _SHEET_COARSENESS)


def thumbnail_jpeg(sheet: VideoFrame) -> bytes:
    """A contact sheet as a JPEG of at most `MOST_THUMBNAIL_BYTES`."""
    for width, coarseness in _THUMBNAIL_TRIALS:
        thumbnail = jpeg_of(sheet, width, (coarseness, coarseness))
        if len(thumbnail) <= MOST_THUMBNAIL_BYTES:
            break
    return thumbnail


def _fitted(frame: VideoFrame, max_width: int) -> tuple[int, int]:
    scale = min(1.0, max_width / frame.width)
    # 4:2:0 needs even sides.
    width = max(2, round(frame.width * scale) // 2 * 2)
    height = max(2, round(frame.height * scale) // 2 * 2)
    return width, height
