"""Parts that several scenes and overlays are made of."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from PIL import Image, ImageDraw

from sora_dagster.sandbox.drawing.layers import (
    Colour,
    Floats,
    Light,
    Motion,
    Silhouette,
    Stage,
    mix,
)
from sora_dagster.sandbox.drawing.masks import below, noise, wave_line
from sora_dagster.sandbox.drawing.palettes import Palette

Random = np.random.Generator


def gradient(stage: Stage, stops: Sequence[tuple[float, Colour]], *, slant: float = 0.0) -> Floats:
    """A picture whose colour changes from top to bottom, or with `slant` towards a corner."""
    y = np.linspace(0, 1, stage.height)[:, None]
    x = np.linspace(0, 1, stage.width)[None, :]
    place = (y + slant * x) / (1 + slant)
    places, colours = zip(*stops, strict=True)
    channels = [np.interp(place, places, values) for values in np.transpose(colours)]
    return np.stack(channels, axis=-1).astype(np.float32)


def shine(
    picture: Floats, x: float, y: float, radius: float, colour: Colour, *, strength: float
) -> None:
    """Add a round light to a picture, fading towards its radius in pixels."""
    rows, columns = np.ogrid[: picture.shape[0], : picture.shape[1]]
    fade = np.clip(1 - np.hypot(columns - x, rows - y) / radius, 0, 1)[:, :, None] ** 2
    picture += (colour - picture) * (fade * strength).astype(np.float32)


def sky(stage: Stage, palette: Palette, random: Random, horizon: float) -> tuple[Floats, float]:
    """A sky down to a horizon (share of the height), and the column of its sun or moon."""
    picture = gradient(
        stage,
        [
            (0.0, palette.zenith),
            (horizon * 0.55, palette.middle),
            (horizon, palette.horizon),
            (1.0, mix(palette.horizon, palette.middle, 0.3)),
        ],
    )
    x = random.uniform(0.15, 0.85) * stage.width
    y = horizon * stage.height - random.uniform(2, 32) * stage.unit
    radius = random.uniform(5, 12) * stage.unit
    shine(picture, x, y, radius * 5, palette.light, strength=0.75)
    rows, columns = np.ogrid[: stage.height, : stage.width]
    disc = np.clip(radius - np.hypot(columns - x, rows - y), 0, 1)[:, :, None]
    return mix(picture, palette.light, disc.astype(np.float32)), float(x)


def clouds(
    stage: Stage,
    palette: Palette,
    random: Random,
    *,
    top: float,
    bottom: float,
    strength: float,
) -> Light:
    """Drifting bands of cloud or mist between two shares of the height."""
    rows = round((bottom - top) * stage.height)
    cover = np.clip(noise(random, rows, stage.period, (5, 7), octaves=2) * 3 - 1.3, 0, 1)
    fade = np.sin(np.linspace(0, np.pi, rows, dtype=np.float32))[:, None]
    return Light(
        stage,
        cover * fade * strength,
        palette.light,
        stage.motion(-2),
        top=round(top * stage.height),
    )


def ridge(
    stage: Stage, palette: Palette, line: Floats, motion: Motion, *, depth: float, mist: float
) -> Silhouette:
    """Ground below a line (in rows of the frame), its foot lost in mist."""
    top = max(0, int(line.min()))
    # Deep enough for a motion that lifts it.
    rows = stage.height - top + round(4 * stage.unit)
    colour = palette.depth(depth)
    foot = mix(colour, palette.horizon, mist)
    return Silhouette(stage, below(line, top=top, rows=rows), colour, foot, motion, top)


def beams(stage: Stage, palette: Palette, random: Random, *, strength: float) -> Light:
    """Slanting shafts of light from above, moving slowly sideways."""
    line = wave_line(random, stage.period, waves=range(4, 11), roughness=0.6).clip(0, 1)
    y, x = np.ogrid[: stage.height, : stage.period]
    slant = random.choice([-0.5, 0.5])
    shafts = line[(x + slant * y).astype(int) % stage.period]
    fade = np.linspace(strength, 0, stage.height, dtype=np.float32)[:, None]
    return Light(stage, shafts * fade, palette.light, stage.motion(-2.5))


class Sketch:
    """A small picture, drawn at twice its size so that its edges are smooth.

    Arguments:
        width, height: in units.
        unit: pixels of a unit.
    """

    def __init__(self, width: float, height: float, unit: float) -> None:
        self._scale = 2 * unit
        size = (2 * round(width * unit) + 2, 2 * round(height * unit) + 2)
        self._image = Image.new("RGBA", size)
        self._pen = ImageDraw.Draw(self._image)

    @property
    def image(self) -> Image.Image:
        """The picture at its own size."""
        return self._image.reduce(2)

    def polygon(self, points: Iterable[tuple[float, float]], colour: Colour) -> None:
        """Add a polygon."""
        corners = [(self._scale * x, self._scale * y) for x, y in points]
        self._pen.polygon(corners, _as_rgb(colour))

    def ellipse(self, box: tuple[float, float, float, float], colour: Colour) -> None:
        """Add an ellipse in a box (left, top, right, bottom)."""
        self._pen.ellipse([self._scale * side for side in box], _as_rgb(colour))

    def rectangle(self, box: tuple[float, float, float, float], colour: Colour) -> None:
        """Add a rectangle (left, top, right, bottom)."""
        self._pen.rectangle([self._scale * side for side in box], _as_rgb(colour))


def _as_rgb(colour: Colour) -> tuple[int, int, int]:
    red, green, blue = (round(value) for value in colour.tolist())
    return red, green, blue
