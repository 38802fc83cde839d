"""Parts that several scenes and overlays are made of."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from sora_dagster.sandbox.drawing.layers import (
    Colour,
    Floats,
    Layer,
    Motion,
    Stage,
    light,
    mix,
    silhouette,
)
from sora_dagster.sandbox.drawing.masks import below, noise, wave_line
from sora_dagster.sandbox.drawing.palettes import Palette

Random = np.random.Generator


def gradient(stage: Stage, *stops: tuple[float, Colour], slant: float = 0.0) -> Floats:
    """A picture whose colour changes from top to bottom, or with `slant` towards a corner."""
    y = np.linspace(0, 1, stage.height)[:, None]
    x = np.linspace(0, 1, stage.width)[None, :]
    return coloured((y + slant * x) / (1 + slant), stops)


def coloured(values: Floats, stops: Sequence[tuple[float, Colour]]) -> Floats:
    """A picture of values, each in the colour that the nearest stops give it."""
    places, colours = zip(*stops, strict=True)
    channels = [np.interp(values, places, channel) for channel in np.transpose(colours)]
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
        (0.0, palette.zenith),
        (horizon * 0.55, palette.middle),
        (horizon, palette.horizon),
        (1.0, mix(palette.horizon, palette.middle, 0.3)),
    )
    x = random.uniform(0.15, 0.85) * stage.width
    y = horizon * stage.height - random.uniform(2, 32) * stage.unit
    radius = random.uniform(5, 12) * stage.unit
    shine(picture, x, y, radius * 5, palette.light, strength=0.75)
    rows, columns = np.ogrid[: stage.height, : stage.width]
    disc = np.clip(radius - np.hypot(columns - x, rows - y), 0, 1)[:, :, None]
    return mix(picture, palette.light, disc), float(x)


def clouds(
    stage: Stage, palette: Palette, random: Random, *, top: float, bottom: float, strength: float
) -> Layer:
    """Drifting bands of cloud or mist between two shares of the height."""
    rows = round((bottom - top) * stage.height)
    cover = np.clip(noise(random, rows, stage.period, (5, 7), octaves=2) * 3 - 1.3, 0, 1)
    fade = np.sin(np.linspace(0, np.pi, rows))[:, None]
    top_row = round(top * stage.height)
    return light(stage, cover * fade * strength, palette.light, stage.motion(-2), top=top_row)


def ridge(
    stage: Stage, palette: Palette, line: Floats, motion: Motion, *, depth: float, mist: float
) -> Layer:
    """Ground below a line (in rows of the frame), its foot lost in mist."""
    top = max(0, int(line.min()))
    # Deep enough for a motion that lifts it.
    rows = stage.height - top + round(4 * stage.unit)
    colour = palette.depth(depth)
    foot = mix(colour, palette.horizon, mist)
    return silhouette(stage, below(line, top=top, rows=rows), colour, foot, motion, top=top)


def beams(stage: Stage, palette: Palette, random: Random, *, strength: float) -> Layer:
    """Slanting shafts of light from above, moving slowly sideways."""
    line = wave_line(random, stage.period, waves=range(4, 11), roughness=0.6).clip(0, 1)
    y, x = np.ogrid[: stage.height, : stage.period]
    slant = random.choice([-0.5, 0.5])
    shafts = line[(x + slant * y).astype(int) % stage.period]
    fade = np.linspace(strength, 0, stage.height)[:, None]
    return light(stage, shafts * fade, palette.light, stage.motion(-2.5))
