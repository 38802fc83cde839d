"""The layers that a frame is composed of. Each is drawn once and then only moved.

A frame is an array of RGB bytes. Composing one must take about two milliseconds, so layers use only
operations on whole bytes that numpy vectorizes: a dark shape is a minimum with the ground, light
is a saturating add. Edges stay smooth in both.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Frame = npt.NDArray[np.uint8]
Floats = npt.NDArray[np.floating]
Colour = Floats

# Distance (x, y) in pixels from the start position, by the index of the frame.
Motion = Callable[[int], tuple[float, float]]

# Paints itself over the frame with this index.
Layer = Callable[[Frame, int], None]


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


def backdrop(picture: Floats) -> Layer:
    """A still picture of the frame's size, behind everything else."""
    still = as_bytes(picture)
    return lambda frame, _: np.copyto(frame, still)


def silhouette(
    stage: Stage, mask: Floats, colour: Colour, foot: Colour, motion: Motion, *, top: int = 0
) -> Layer:
    """Dark shapes over a brighter ground.

    Arguments:
        mask: how much of each pixel the shapes cover, 0 to 1; it repeats to the right.
        colour, foot: their colour at the top and at the bottom.
        top: row of the frame where the mask begins.
    """
    share = np.linspace(0, 1, len(mask), dtype=np.float32)[:, None, None]
    picture = 255 - mask[:, :, None] * (255 - mix(colour, foot, share))

    def darken(ground: Frame, tile: Frame) -> None:
        np.minimum(ground, tile, out=ground)

    return _moving(stage, picture, motion, darken, top=top)


def light(
    stage: Stage,
    mask: Floats,
    colour: Colour,
    motion: Motion,
    *,
    top: int = 0,
    repeats_down: bool = False,
) -> Layer:
    """Light added to the ground.

    Arguments:
        mask: how much light each pixel gets, 0 to 1; it repeats to the right.
        colour: colour of the light at 1.
        top: row of the frame where the mask begins.
        repeats_down: whether the mask repeats downwards too; then it begins at the top.
    """

    def lighten(ground: Frame, tile: Frame) -> None:
        ground += np.minimum(~ground, tile)

    return _moving(
        stage, mask[:, :, None] * colour, motion, lighten, top=top, repeats_down=repeats_down
    )


def _moving(
    stage: Stage,
    picture: Floats,
    motion: Motion,
    blend: Callable[[Frame, Frame], None],
    *,
    top: int,
    repeats_down: bool = False,
) -> Layer:
    rows, columns = picture.shape[:2]
    if repeats_down:
        picture = np.concatenate([picture, picture[: stage.height]])
    tile = as_bytes(np.concatenate([picture, picture[:, : stage.width]], axis=1))

    def paint(frame: Frame, index: int) -> None:
        x, y = map(round, motion(index))
        start = y % rows - rows if repeats_down else top + y
        first = max(start, 0)
        last = max(first, min(start + len(tile), stage.height))
        left = -x % columns
        blend(frame[first:last], tile[first - start : last - start, left : left + stage.width])

    return paint


def mix(one: Floats, other: Floats, share: float | Floats) -> Floats:
    """`one` with a share (0 to 1) of `other`."""
    mixed: Floats = (one + (other - one) * share).astype(np.float32)
    return mixed


def as_bytes(values: Floats) -> Frame:
    """Values from 0 to 255, rounded."""
    rounded: Frame = np.clip(values + 0.5, 0, 255).astype(np.uint8)
    return rounded
