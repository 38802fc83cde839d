"""What a video shows of its input images besides the first frame."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from sora_dagster.sandbox.drawing.layers import Frame, Layer, Stage

# A placed image fades in and out within this time.
_FADE_SECONDS = 0.75
# Reference images are tiles along the lower edge, of this share of the height.
_TILE_SHARE = 0.2
_GAP_SHARE = 0.02


@dataclass(frozen=True)
class Still:
    """An image that a video shows at a moment.

    Arguments:
        encoded: the image file.
        at_seconds: the moment; the nearest frame shows the image alone.
    """

    encoded: bytes
    at_seconds: float


def still_layer(still: Still, stage: Stage, *, frames: int, frames_per_second: float) -> Layer:
    """An image that fades in until its moment, and out again."""
    picture = _scaled(still.encoded, (stage.width, stage.height)).astype(np.float32)
    moment = min(max(round(still.at_seconds * frames_per_second), 0), frames - 1)
    fade = max(_FADE_SECONDS * frames_per_second, 1.0)

    def paint(frame: Frame, index: int) -> None:
        share = 1 - abs(index - moment) / fade
        if share > 0:
            frame[:] = (frame + (picture - frame) * share + 0.5).astype(np.uint8)

    return paint


def tile_layers(images: Sequence[bytes], stage: Stage) -> Iterator[Layer]:
    """Small images side by side along the lower edge."""
    gap = max(round(stage.height * _GAP_SHARE), 1)
    most_width = (stage.width - gap) // max(len(images), 1) - gap
    side = max(min(round(stage.height * _TILE_SHARE), most_width), 2)
    top = stage.height - gap - side
    for position, encoded in enumerate(images):
        left = gap + position * (side + gap)
        yield _tile(_scaled(encoded, (side, side)), left, top)


def _tile(picture: Frame, left: int, top: int) -> Layer:
    rows, columns = picture.shape[:2]

    def paint(frame: Frame, _: int) -> None:
        place = frame[top : top + rows, left : left + columns]
        np.copyto(place, picture[: place.shape[0], : place.shape[1]])

    return paint


def _scaled(encoded: bytes, size: tuple[int, int]) -> Frame:
    with Image.open(io.BytesIO(encoded)) as image:
        return np.asarray(image.convert("RGB").resize(size, Image.Resampling.LANCZOS))
