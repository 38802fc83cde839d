"""The still picture behind a scene, and small pictures that move over it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sora_dagster.sandbox.drawing.colour import Colour
from sora_dagster.sandbox.drawing.layers import (
    Backdrop,
    Field,
    Path,
    Planes,
    Sprite,
    Stage,
    as_plane,
)


class Canvas:
    """A picture being painted, in floating point until it is finished.

    Arguments:
        stage: the frame.
        stops: colours of the ground from top to bottom, each with its place (0 to 1).
        slant: how far the gradient leans: 0 is from top to bottom, 1 from corner to corner.
    """

    def __init__(
        self, stage: Stage, stops: Sequence[tuple[float, Colour]], *, slant: float = 0.0
    ) -> None:
        self.stage = stage
        places = [place for place, _ in stops]
        self._fields = []
        for channel in range(3):
            rows, columns = _channel_size(stage, channel)
            y = np.linspace(0, 1, rows, dtype=np.float32)[:, None]
            x = np.linspace(0, 1, columns, dtype=np.float32)[None, :]
            values = [colour[channel] for _, colour in stops]
            if slant == 0:
                ground = np.interp(y, places, values).astype(np.float32)
                self._fields.append(np.repeat(ground, columns, axis=1))
            else:
                mixed = (y + slant * x) / np.float32(1 + slant)
                self._fields.append(np.interp(mixed, places, values).astype(np.float32))

    def stamp(self, shape: Field, *, x: float, y: float, colour: Colour, strength: float) -> None:
        """Blend a colour in by a shape whose middle is at (x, y) in pixels."""
        top, left = round(y - shape.shape[0] / 2), round(x - shape.shape[1] / 2)
        for channel in range(3):
            step = 1 if channel == 0 else 2
            target = self._fields[channel]
            source = shape[::step, ::step] * np.float32(strength)
            start_y, start_x = top // step, left // step
            rows = slice(max(start_y, 0), min(start_y + source.shape[0], target.shape[0]))
            columns = slice(max(start_x, 0), min(start_x + source.shape[1], target.shape[1]))
            if rows.start >= rows.stop or columns.start >= columns.stop:
                continue
            share = source[
                rows.start - start_y : rows.stop - start_y,
                columns.start - start_x : columns.stop - start_x,
            ]
            part = target[rows, columns]
            part += (np.float32(colour[channel]) - part) * share

    def wash(self, share: Field, colour: Colour, *, top: int = 0) -> None:
        """Blend a colour in by a share for each pixel, from row `top` (even) on."""
        self._fields[0][top : top + share.shape[0]] += (
            np.float32(colour.luma) - self._fields[0][top : top + share.shape[0]]
        ) * share
        half = share[::2, ::2]
        for channel in (1, 2):
            part = self._fields[channel][top // 2 : top // 2 + half.shape[0]]
            part += (np.float32(colour[channel]) - part) * half

    def backdrop(self) -> Backdrop:
        """The finished picture as a layer."""
        luma, blue, red = (as_plane(values) for values in self._fields)
        return Backdrop(Planes(luma, blue, red))


def _channel_size(stage: Stage, channel: int) -> tuple[int, int]:
    step = 1 if channel == 0 else 2
    return stage.height // step, stage.width // step


def sprite(parts: Sequence[tuple[Field, Colour]], path: Path) -> Sprite:
    """A small picture from shapes of one even size, painted one over the other."""
    first, colour = parts[0]
    alpha = first.copy()
    fields = [np.full(first[::step, ::step].shape, colour[i], np.float32) for i, step in _STEPS]
    for shape, colour in parts[1:]:
        for channel, step in _STEPS:
            part = shape[::step, ::step]
            fields[channel] += (np.float32(colour[channel]) - fields[channel]) * part
        alpha = np.maximum(alpha, shape)
    luma, blue, red = (as_plane(values) for values in fields)
    return Sprite(luma, blue, red, as_plane(alpha * 255), path)


_STEPS = ((0, 1), (1, 2), (2, 2))
