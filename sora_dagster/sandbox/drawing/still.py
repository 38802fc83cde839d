"""A first-frame image as the ground of a video: shown whole, then slowly moved into."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from sora_dagster.sandbox.drawing.colour import Palette
from sora_dagster.sandbox.drawing.layers import Field, Plane, Planes, Stage, as_plane

_ZOOM = 0.14
# The zoom moves the edge of the picture by a third of a pixel a frame: every third frame is enough.
_FRAMES_PER_STEP = 3


def still_planes(encoded: bytes, stage: Stage) -> Planes:
    """An encoded image, scaled to the frame, as planes in BT.709 video range."""
    with Image.open(io.BytesIO(encoded)) as image:
        scaled = image.convert("RGB").resize((stage.width, stage.height), Image.Resampling.LANCZOS)
    red, green, blue = np.moveaxis(np.asarray(scaled, np.float32) / 255, -1, 0)
    brightness = 0.2126 * red + 0.7152 * green + 0.0722 * blue
    return Planes(
        luma=as_plane(16 + 219 * brightness),
        blue=as_plane(128 + 224 * _halved(blue - brightness) / 1.8556),
        red=as_plane(128 + 224 * _halved(red - brightness) / 1.5748),
    )


def _halved(values: Field) -> Field:
    halved: Field = (
        values[::2, ::2] + values[1::2, ::2] + values[::2, 1::2] + values[1::2, 1::2]
    ) / np.float32(4)
    return halved


def graded(planes: Planes, palette: Palette, share: float) -> Planes:
    """A picture with its colours moved towards a palette's, dark to near and bright to light."""
    stops = sorted(
        (palette.near, palette.zenith, palette.middle, palette.horizon, palette.light),
        key=lambda colour: colour.luma,
    )
    places = [stop.luma for stop in stops]
    scale = np.arange(256, dtype=np.float32)
    half = planes.luma[::2, ::2]
    chroma = []
    for plane, channel in ((planes.blue, 1), (planes.red, 2)):
        table = np.interp(scale, places, [stop[channel] for stop in stops]).astype(np.float32)
        chroma.append(as_plane(plane * np.float32(1 - share) + table[half] * np.float32(share)))
    return Planes(planes.luma, *chroma)


class MovedStill:
    """An image that fills the frame at first and is slowly zoomed into.

    Arguments:
        planes: the image at the frame's size.
        frames: how many frames the video has.
    """

    def __init__(self, planes: Planes, *, frames: int) -> None:
        self._still = planes
        self._frames = frames
        self._shown = planes
        self._step = 0

    def paint(self, planes: Planes, frame: int) -> None:
        """Copy the part of the image that is seen at a frame."""
        step = frame // _FRAMES_PER_STEP
        if step != self._step:
            share = _ZOOM / 2 * step * _FRAMES_PER_STEP / max(self._frames, 240)
            self._shown = Planes(*(_cropped(plane, share) for plane in self._still))
            self._step = step
        for target, source in zip(planes, self._shown, strict=True):
            np.copyto(target, source)


def _cropped(plane: Plane, share: float) -> Plane:
    height, width = plane.shape
    # The middle moves a little too, or the zoom would look like a lens and not like a camera.
    box = (width * share * 1.3, height * share, width * (1 - share * 0.7), height * (1 - share))
    image = Image.fromarray(plane)
    return np.asarray(image.resize((width, height), Image.Resampling.BILINEAR, box=box))
