"""The layers that a frame is composed of, each drawn once and then only moved.

A frame of 1792x1024 has to be composed in about two milliseconds. So nothing is computed per
pixel and frame but minimum, maximum, add and copy of whole bytes, which numpy does with vector
instructions: a dark shape lies over a brighter ground by `minimum` (255 lets the ground through),
a light by a saturating add (0 lets it through), and the edges stay smooth in both.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np
import numpy.typing as npt

from sora_dagster.sandbox.drawing.colour import Colour

Plane = npt.NDArray[np.uint8]
Field = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Stage:
    """The frame that is painted on.

    Arguments:
        width, height: size in pixels, both even.
        frames_per_second: how many frames a second of video has.
    """

    width: int
    height: int
    frames_per_second: int

    @property
    def unit(self) -> float:
        """A hundredth of the shorter side in pixels, in which shapes are measured."""
        return min(self.width, self.height) / 100

    @property
    def period(self) -> int:
        """Width in pixels after which a drifting layer repeats: more than is seen at once."""
        return 2 * round(self.width * 0.75)

    def pace(self, units_per_second: float) -> float:
        """A speed in units a second as pixels a frame."""
        return units_per_second * self.unit / self.frames_per_second


class Planes(NamedTuple):
    """The three planes of a yuv420p picture: chroma has half the width and height."""

    luma: Plane
    blue: Plane
    red: Plane


class Layer(Protocol):
    """Something that paints itself over what is there already."""

    def paint(self, planes: Planes, frame: int) -> None:
        """Paint the layer as it is at a frame."""


@dataclass(frozen=True)
class Drift:
    """Which part of a layer is seen at a frame: an offset in pixels that wraps around.

    Arguments:
        x_per_frame, y_per_frame: pixels per frame; positive moves the shapes left and up.
        sway_x, sway_y: amplitude in pixels of a slow swing around that.
        sway_frames: frames of one swing.
        phase: where the swing begins, in turns.
    """

    x_per_frame: float = 0.0
    y_per_frame: float = 0.0
    sway_x: float = 0.0
    sway_y: float = 0.0
    sway_frames: float = 150.0
    phase: float = 0.0

    def at(self, frame: int) -> tuple[int, int]:
        """The offset (x, y) at a frame, not yet wrapped around."""
        swing = 1 + math.sin(2 * math.pi * (frame / self.sway_frames + self.phase))
        return (
            round(self.x_per_frame * frame + self.sway_x * swing),
            round(self.y_per_frame * frame + self.sway_y * swing),
        )


def as_plane(values: npt.NDArray[np.floating]) -> Plane:
    """Numbers rounded into bytes."""
    plane: Plane = np.clip(values + 0.5, 0, 255).astype(np.uint8)
    return plane


def wrapped(tile: npt.NDArray[np.uint8], width: int) -> Plane:
    """A tile continued to the right, so that each window of a width is one slice."""
    return np.concatenate([tile, tile[:, :width]], axis=1)


@dataclass(frozen=True)
class Backdrop:
    """What is behind everything: a still picture of the frame's size."""

    planes: Planes

    def paint(self, planes: Planes, frame: int) -> None:  # noqa: ARG002
        """Copy the picture."""
        for target, source in zip(planes, self.planes, strict=True):
            np.copyto(target, source)


class Silhouette:
    """Dark shapes over a brighter ground.

    Arguments:
        cover: how much of each pixel the shapes cover, 0 to 1; `period` columns wide.
        top: first row of the frame that the layer's window covers; even.
        rows: height of the window in pixels; even.
        width: width of the frame.
        colours: colour of the shapes at the window's top and at its bottom.
        drift: how the window moves.
    """

    def __init__(
        self,
        cover: Field,
        *,
        top: int,
        rows: int,
        width: int,
        colours: tuple[Colour, Colour],
        drift: Drift,
    ) -> None:
        height, self._period = cover.shape
        share = np.linspace(0, 1, height, dtype=np.float32)[:, None]
        upper, lower = colours
        luma = upper.luma + (lower.luma - upper.luma) * share
        self._luma = wrapped(as_plane(255 - cover * (255 - luma)), width)
        # The chroma of a pixel is chosen by an all-or-nothing mask: at half the resolution the
        # hard edge is not seen, and choosing bits costs a fraction of a blend.
        self._mask = wrapped(
            np.where(cover[::2, ::2] > 0.5, 255, 0).astype(np.uint8), (width + 1) // 2
        )
        self._chroma = tuple(
            as_plane(a + (b - a) * share[::2])
            for a, b in ((upper.blue, lower.blue), (upper.red, lower.red))
        )
        self._rows = slice(top, top + rows)
        self._half_rows = slice(top // 2, (top + rows) // 2)
        self._size = (rows, width)
        self._scratch = np.empty((rows // 2, width // 2), np.uint8)
        self._drift = drift

    def paint(self, planes: Planes, frame: int) -> None:
        """Darken the frame by the shapes that are in its window now."""
        rows, width = self._size
        x, y = self._drift.at(frame)
        x %= self._period
        luma = planes.luma[self._rows]
        np.minimum(luma, self._luma[y : y + rows, x : x + width], out=luma)
        half_x, half_y = x // 2, y // 2
        mask = self._mask[half_y : half_y + rows // 2, half_x : half_x + width // 2]
        for target, colour in zip((planes.blue, planes.red), self._chroma, strict=True):
            chroma = target[self._half_rows]
            np.bitwise_xor(chroma, colour[half_y : half_y + rows // 2], out=self._scratch)
            np.bitwise_and(self._scratch, mask, out=self._scratch)
            np.bitwise_xor(chroma, self._scratch, out=chroma)


class Glow:
    """Light added over the ground: beams, mist, stars, windows.

    Arguments:
        strength: how much light each pixel gets, 0 to 1; a tile that repeats in both directions.
        colour: colour of the light; its luma is what a strength of 1 adds.
        top: first row of the frame that the window covers; even.
        rows: height of the window; even.
        width: width of the frame.
        drift: how the window moves.
        wraps_rows: whether the tile repeats downwards too (falling snow); else its height must
            leave room for the drift.
        envelope: a still limit of the light, 0 to 1, of the window's size (a path of light on
            water stays under the sun while the waves pass).
    """

    def __init__(
        self,
        strength: Field,
        *,
        colour: Colour,
        top: int,
        rows: int,
        width: int,
        drift: Drift,
        wraps_rows: bool = False,
        envelope: Field | None = None,
    ) -> None:
        self._row_period = strength.shape[0] if wraps_rows else None
        self._period = strength.shape[1]
        if wraps_rows:
            strength = np.concatenate([strength, strength[:rows]], axis=0)
        self._luma = wrapped(as_plane(strength * colour.luma), width)
        self._envelope = None if envelope is None else as_plane(envelope * colour.luma)
        half = strength[::2, ::2] * 0.75
        self._chroma = tuple(
            (
                wrapped(as_plane(half * abs(value - 128)), (width + 1) // 2),
                _add_saturating if value >= 128 else _subtract_saturating,
            )
            for value in (colour.blue, colour.red)
        )
        self._rows = slice(top, top + rows)
        self._half_rows = slice(top // 2, (top + rows) // 2)
        self._size = (rows, width)
        self._scratch = np.empty((rows, width), np.uint8)
        self._limited = np.empty((rows, width), np.uint8)
        self._half_scratch = np.empty((rows // 2, width // 2), np.uint8)
        self._drift = drift

    def paint(self, planes: Planes, frame: int) -> None:
        """Add the light that is in the window now."""
        rows, width = self._size
        x, y = self._drift.at(frame)
        x %= self._period
        if self._row_period is not None:
            y %= self._row_period
        window = self._luma[y : y + rows, x : x + width]
        if self._envelope is not None:
            window = np.minimum(window, self._envelope, out=self._limited)
        _add_saturating(planes.luma[self._rows], window, self._scratch)
        half_x, half_y = x // 2, y // 2
        for target, (tile, move) in zip((planes.blue, planes.red), self._chroma, strict=True):
            window = tile[half_y : half_y + rows // 2, half_x : half_x + width // 2]
            move(target[self._half_rows], window, self._half_scratch)


def _add_saturating(plane: Plane, amount: Plane, scratch: Plane) -> None:
    np.invert(plane, out=scratch)
    np.minimum(scratch, amount, out=scratch)
    np.add(plane, scratch, out=plane)


def _subtract_saturating(plane: Plane, amount: Plane, scratch: Plane) -> None:
    np.minimum(plane, amount, out=scratch)
    np.subtract(plane, scratch, out=plane)


class Path(Protocol):
    """Where the middle of a sprite is at a frame, in pixels."""

    def __call__(self, frame: int) -> tuple[float, float]: ...


@dataclass(frozen=True)
class Sprite:
    """A small picture that moves over the frame, with soft edges.

    Arguments:
        luma, blue, red: the picture; even sides, chroma at half the resolution.
        alpha: its opacity, 0 to 255, at the luma's resolution.
        path: where its middle is.
    """

    luma: Plane
    blue: Plane
    red: Plane
    alpha: Plane
    path: Path
    _half_alpha: Plane = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "_half_alpha", np.ascontiguousarray(self.alpha[::2, ::2]))

    def paint(self, planes: Planes, frame: int) -> None:
        """Blend the picture in where it is now; what is outside of the frame is cut off."""
        middle_x, middle_y = self.path(frame)
        height, width = self.luma.shape
        # Even positions keep luma and chroma together.
        left = 2 * round((middle_x - width / 2) / 2)
        top = 2 * round((middle_y - height / 2) / 2)
        _blend(planes.luma, self.luma, self.alpha, left, top)
        _blend(planes.blue, self.blue, self._half_alpha, left // 2, top // 2)
        _blend(planes.red, self.red, self._half_alpha, left // 2, top // 2)


def _blend(target: Plane, source: Plane, alpha: Plane, left: int, top: int) -> None:
    rows = slice(max(top, 0), min(top + source.shape[0], target.shape[0]))
    columns = slice(max(left, 0), min(left + source.shape[1], target.shape[1]))
    if rows.start >= rows.stop or columns.start >= columns.stop:
        return
    inside = (
        slice(rows.start - top, rows.stop - top),
        slice(columns.start - left, columns.stop - left),
    )
    ground = target[rows, columns].astype(np.int16)
    change = (source[inside].astype(np.int16) - ground) * alpha[inside].astype(np.int32) // 255
    target[rows, columns] = (ground + change).astype(np.uint8)
