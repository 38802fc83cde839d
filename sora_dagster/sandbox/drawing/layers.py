"""The layers that a frame is composed of. Each is drawn once and then only moved.

A frame is an array of RGB bytes. Composing one must take about two milliseconds, so it uses only
operations on whole bytes that numpy vectorizes: a dark shape is a minimum with the ground, light
is a saturating add. Edges stay smooth in both.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

Frame = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.floating]
Colour = Floats

# Distance (x, y) in pixels from the start position, by the index of the frame.
Motion = Callable[[int], tuple[float, float]]


@dataclass(frozen=True)
class Stage:
    """The frame to paint on.

    Arguments:
        width, height: size in pixels.
        frames_per_second: frames in a second of video.
    """

    width: int
    height: int
    frames_per_second: int

    @property
    def unit(self) -> float:
        """A hundredth of the shorter side in pixels; shapes are measured in it."""
        return min(self.width, self.height) / 100

    @property
    def period(self) -> int:
        """Width in pixels after which a moving layer repeats."""
        return round(self.width * 1.5)

    def motion(
        self,
        x: float = 0.0,
        y: float = 0.0,
        *,
        swing: tuple[float, float] = (0.0, 0.0),
        seconds: float = 5.0,
        phase: float = 0.0,
    ) -> Motion:
        """A steady movement with a swing around it.

        Arguments:
            x, y: units per second, to the right and down.
            swing: amplitude (x, y) of the swing in units.
            seconds: duration of one swing.
            phase: where the swing begins, in turns.
        """

        def offset(index: int) -> tuple[float, float]:
            time = index / self.frames_per_second
            angle = 2 * math.pi * (time / seconds + phase)
            return (
                self.unit * (x * time + swing[0] * math.cos(angle)),
                self.unit * (y * time + swing[1] * math.sin(angle)),
            )

        return offset


class Layer(Protocol):
    """Something that paints itself over a frame."""

    def paint(self, frame: Frame, index: int) -> None:
        """Paint the layer over the frame with this index."""


class Backdrop:
    """A still picture of the frame's size, behind everything else."""

    def __init__(self, picture: Floats) -> None:
        self._picture = as_bytes(picture)

    def paint(self, frame: Frame, index: int) -> None:  # noqa: ARG002
        np.copyto(frame, self._picture)


class _Tile(ABC):
    """A picture that repeats to the right, and with `repeats` downwards, seen through the frame."""

    def __init__(
        self, stage: Stage, picture: Frame, motion: Motion, *, top: int = 0, repeats: bool = False
    ) -> None:
        self._rows, self._columns = picture.shape[:2]
        if repeats:
            picture = np.concatenate([picture, picture[: stage.height]])
        self._picture = np.concatenate([picture, picture[:, : stage.width]], axis=1)
        self._motion = motion
        self._top = top
        self._repeats = repeats

    def paint(self, frame: Frame, index: int) -> None:
        height, width = frame.shape[:2]
        x, y = map(round, self._motion(index))
        top = y % self._rows - self._rows if self._repeats else self._top + y
        first, last = max(top, 0), min(top + len(self._picture), height)
        left = -x % self._columns
        tile = self._picture[first - top : last - top, left : left + width]
        self._blend(frame[first:last], tile)

    @abstractmethod
    def _blend(self, ground: Frame, tile: Frame) -> None:
        """Paint the tile over the ground."""


class Silhouette(_Tile):
    """Dark shapes over a brighter ground.

    Arguments:
        mask: how much of each pixel the shapes cover, 0 to 1.
        colour: their colour at the top.
        foot: their colour at the bottom.
        top: row of the frame where the mask begins.
    """

    def __init__(
        self, stage: Stage, mask: Floats, colour: Colour, foot: Colour, motion: Motion, top: int
    ) -> None:
        share = np.linspace(0, 1, len(mask), dtype=np.float32)[:, None, None]
        picture = as_bytes(255 - mask[:, :, None] * (255 - mix(colour, foot, share)))
        super().__init__(stage, picture, motion, top=top)

    def _blend(self, ground: Frame, tile: Frame) -> None:
        np.minimum(ground, tile, out=ground)


class Light(_Tile):
    """Light added to the ground.

    Arguments:
        mask: how much light each pixel gets, 0 to 1.
        colour: colour of the light at 1.
        top: row of the frame where the mask begins.
        repeats: whether the mask repeats downwards too; then it begins at the top.
    """

    def __init__(
        self,
        stage: Stage,
        mask: Floats,
        colour: Colour,
        motion: Motion,
        *,
        top: int = 0,
        repeats: bool = False,
    ) -> None:
        picture = as_bytes(mask[:, :, None] * colour)
        super().__init__(stage, picture, motion, top=top, repeats=repeats)
        self._scratch = np.empty((stage.height, stage.width, 3), np.uint8)

    def _blend(self, ground: Frame, tile: Frame) -> None:
        added = self._scratch[: len(ground)]
        np.invert(ground, out=added)
        np.minimum(added, tile, out=added)
        np.add(ground, added, out=ground)


class Sprite:
    """A small picture that crosses the frame and comes in again on the other side.

    Arguments:
        image: the picture, RGBA.
        x, y: where its middle starts, in pixels; `x` below 0 is left of the frame.
    """

    def __init__(self, image: Image.Image, motion: Motion, *, x: float, y: float) -> None:
        pixels = np.asarray(image, np.float32)
        alpha = pixels[:, :, 3:] / 255
        self._premultiplied = (pixels[:, :, :3] * alpha).astype(np.uint16)
        self._ground_share = np.round(256 * (1 - alpha)).astype(np.uint16)
        self._start = (x, y)
        self._margin = max(*image.size, -x)
        self._motion = motion

    def paint(self, frame: Frame, index: int) -> None:
        rows, columns = self._premultiplied.shape[:2]
        (x, y), margin = self._motion(index), self._margin
        x = (self._start[0] + x + margin) % (frame.shape[1] + 2 * margin) - margin
        y = (self._start[1] + y + margin) % (frame.shape[0] + 2 * margin) - margin
        left, top = round(x - columns / 2), round(y - rows / 2)
        ground = frame[max(top, 0) : max(top + rows, 0), max(left, 0) : max(left + columns, 0)]
        inside = (
            slice(max(-top, 0), max(-top, 0) + ground.shape[0]),
            slice(max(-left, 0), max(-left, 0) + ground.shape[1]),
        )
        kept = (ground * self._ground_share[inside]) >> 8
        ground[:] = (kept + self._premultiplied[inside]).astype(np.uint8)


def mix(one: Floats, other: Floats, share: float | Floats) -> Floats:
    """`one` with a share (0 to 1) of `other`."""
    mixed: Floats = (one + (other - one) * share).astype(np.float32)
    return mixed


def as_bytes(values: Floats) -> Frame:
    """Values from 0 to 255, rounded."""
    rounded: Frame = np.clip(values + 0.5, 0, 255).astype(np.uint8)
    return rounded
