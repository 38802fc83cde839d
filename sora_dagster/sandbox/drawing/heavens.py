"""Scenes of light: northern lights, outer space, and coloured discs out of focus."""

from __future__ import annotations

import numpy as np

from sora_dagster.sandbox.drawing.canvas import Canvas, sprite
from sora_dagster.sandbox.drawing.colour import Colour, Palette
from sora_dagster.sandbox.drawing.land import ridge
from sora_dagster.sandbox.drawing.layers import Drift, Field, Glow, Layer, Sprite, Stage
from sora_dagster.sandbox.drawing.paths import Orbit
from sora_dagster.sandbox.drawing.shapes import (
    billows,
    disc,
    even,
    halo,
    peak_line,
    strew,
    wave_line,
)


def stars(
    stage: Stage,
    colour: Colour,
    random: np.random.Generator,
    *,
    count: int,
    largest: float,
    drift: Drift,
    bottom: float = 1.0,
) -> Glow:
    """Points of light, strewn down to a share of the height.

    Arguments:
        largest: radius in units of the largest star.
    """
    rows = even(stage.height * bottom)
    tile = np.zeros((rows, stage.period), np.float32)
    strew(
        tile,
        (
            (
                halo(max(1.5, stage.unit * random.uniform(0.25, 1.0) * largest)),
                random.uniform(0, rows),
                random.uniform(0, stage.period),
                random.uniform(0.5, 1.6),
            )
            for _ in range(count)
        ),
    )
    return Glow(
        np.clip(tile, 0, 1),
        colour=colour,
        top=0,
        rows=rows,
        width=stage.width,
        drift=drift,
        wraps_rows=True,
    )


def aurora(stage: Stage, palette: Palette, random: np.random.Generator) -> list[Layer]:
    """Curtains of light over dark ranges."""
    night = palette.zenith.mixed(Colour(18, 132, 126), 0.5)
    canvas = Canvas(
        stage,
        [(0.0, night), (0.6, palette.zenith), (1.0, palette.middle.mixed(palette.zenith, 0.3))],
    )
    layers: list[Layer] = [
        canvas.backdrop(),
        stars(
            stage,
            palette.light,
            random,
            count=150,
            largest=0.5,
            drift=Drift(x_per_frame=stage.pace(0.4)),
            bottom=0.8,
        ),
    ]
    base = palette.middle.turned(random.uniform(-30, 30), saturation=2.0)
    for index, turn in enumerate((0.0, float(random.choice([-70, 70])))):
        layers.append(
            _curtain(
                stage,
                random,
                colour=base.turned(turn)._replace(luma=150),
                foot=random.uniform(0.45, 0.7),
                drift=Drift(
                    x_per_frame=stage.pace((3.0, -2.0)[index]),
                    sway_x=3 * stage.unit,
                    sway_frames=stage.frames_per_second * 6,
                ),
            )
        )
    for depth, share in ((0.7, 0.80), (1.0, 0.92)):
        line = stage.height * share - stage.unit * (8 - 4 * depth) * peak_line(
            random, stage.period, peaks=8
        )
        layers.append(
            ridge(
                stage,
                palette,
                line,
                depth=1.0,
                mist=0.12 * (1 - depth),
                drift=Drift(x_per_frame=stage.pace(3 * depth)),
            )
        )
    return layers


def _curtain(
    stage: Stage, random: np.random.Generator, *, colour: Colour, foot: float, drift: Drift
) -> Glow:
    rows = even(stage.height * 0.9)
    y = np.arange(rows, dtype=np.float32)[:, None]
    hem = stage.height * foot + stage.unit * 14 * wave_line(
        random, stage.period, waves=range(1, 6), roughness=1.2
    )
    above = (hem[None, :] - y) / np.float32(stage.unit)
    fall = np.exp(-np.maximum(above, 0) / 26) * np.exp(np.minimum(above, 0) / 2.2)
    streaks = 0.55 + 0.45 * wave_line(random, stage.period, waves=range(14, 60), roughness=0.5)
    folds = 0.5 + 0.5 * wave_line(random, stage.period, waves=range(2, 6))
    return Glow(
        (fall * np.clip(streaks, 0, 1) * (0.15 + 0.85 * folds)).astype(np.float32),
        colour=colour,
        top=0,
        rows=rows,
        width=stage.width,
        drift=drift,
    )


def space(stage: Stage, palette: Palette, random: np.random.Generator) -> list[Layer]:
    """A planet and its moon before a nebula."""
    unit = stage.unit
    black = palette.zenith.mixed(Colour(16, 128, 128), 0.75)
    canvas = Canvas(stage, [(0.0, black), (1.0, palette.zenith.mixed(black, 0.4))], slant=0.6)
    cloud = billows(random, stage.height, stage.width, cells=2)
    canvas.wash(np.clip((cloud - 0.5) * 2.2, 0, 0.85), palette.middle)
    canvas.wash(np.clip((cloud - 0.75) * 2.2, 0, 0.7), palette.horizon)
    layers: list[Layer] = [canvas.backdrop()]
    for count, largest, speed in ((220, 0.5, 1.0), (60, 1.1, 2.5)):
        layers.append(
            stars(
                stage,
                palette.light,
                random,
                count=count,
                largest=largest,
                drift=Drift(x_per_frame=stage.pace(speed)),
            )
        )
    ringed = random.random() < 0.5
    # A ringed planet is kept smaller: blending a picture twice as wide would slow every frame.
    radius = unit * (random.uniform(11, 19) if ringed else random.uniform(13, 34))
    x = random.uniform(0.2, 0.8) * stage.width
    y = random.uniform(0.3, 0.7) * stage.height
    turn = stage.frames_per_second * 40.0
    planet_path = Orbit(x, y, 7 * unit, 2.5 * unit, frames=turn, phase=random.uniform(0, 1))
    layers.append(_planet(palette, random, radius=radius, ringed=ringed, path=planet_path))
    moon = Orbit(
        x,
        y,
        radius * 1.7,
        radius * 0.6,
        frames=stage.frames_per_second * 14.0,
        phase=random.uniform(0, 1),
    )
    ball = disc(radius * 0.2, softness=1.5)
    shade = ball * np.linspace(0, 0.9, ball.shape[1], dtype=np.float32)[None, :] ** 2
    pale = palette.light.mixed(palette.middle, 0.3)
    layers.append(sprite([(ball, pale), (shade, palette.near)], moon))
    return layers


def _planet(
    palette: Palette, random: np.random.Generator, *, radius: float, ringed: bool, path: Orbit
) -> Sprite:
    side = even(2 * radius * (2.1 if ringed else 1.05) + 4)
    y, x = (np.mgrid[0:side, 0:side].astype(np.float32) - np.float32(side / 2)) / np.float32(radius)
    away = np.hypot(x, y)
    ball = np.clip((1 - away) * radius + 0.5, 0, 1)
    tilt = random.uniform(-0.5, 0.5)
    bands = np.sin((y + tilt * x) * random.uniform(6, 12) + 1.2 * np.sin(x * 2 + y))
    light = np.clip(1.15 - np.hypot(x + 0.45, y + 0.4) * 0.75, 0, 1)
    rim = ball * np.clip(away * 4 - 3.2, 0, 1) * light
    parts = [
        (ball, palette.far),
        (ball * np.clip(bands * 0.5 + 0.4, 0, 1) * 0.8, palette.horizon),
        (ball * (1 - light) * 0.92, palette.near),
        (rim * 0.6, palette.light),
    ]
    if ringed:
        span = np.hypot(x - tilt * 0.9 * y, (y + tilt * x) * 3.6)
        ring = np.clip((0.42 - np.abs(span - 1.62)) * radius / 3, 0, 1)
        ring *= 0.55 + 0.35 * np.sin(span * 26)
        behind = (y + tilt * x < 0) & (away < 1)
        parts.append((ring * ~behind * 0.85, palette.light.mixed(palette.horizon, 0.5)))
    return sprite([(shape.astype(np.float32), colour) for shape, colour in parts], path)


def discs(stage: Stage, palette: Palette, random: np.random.Generator) -> list[Layer]:
    """Lights out of focus, drifting through one another."""
    canvas = Canvas(
        stage,
        [(0.0, palette.zenith), (0.5, palette.far.mixed(palette.middle, 0.5)), (1.0, palette.near)],
        slant=float(random.uniform(0.3, 1.2)),
    )
    canvas.stamp(
        halo(70 * stage.unit),
        x=random.uniform(0.1, 0.9) * stage.width,
        y=random.uniform(0.1, 0.9) * stage.height,
        colour=palette.horizon,
        strength=0.55,
    )
    layers: list[Layer] = [canvas.backdrop()]
    colours = (palette.horizon, palette.light, palette.middle.turned(50, saturation=1.6))
    for index, colour in enumerate(colours):
        rows = even(stage.height * 1.5)
        tile = np.zeros((rows, stage.period), np.float32)
        strew(tile, _bokeh(stage, random, rows=rows, count=11 - 2 * index, size=1 + 0.6 * index))
        layers.append(
            Glow(
                np.clip(tile, 0, 0.75),
                colour=colour._replace(luma=min(colour.luma, 190)),
                top=0,
                rows=stage.height,
                width=stage.width,
                drift=Drift(
                    x_per_frame=stage.pace(random.uniform(-4, 4)),
                    y_per_frame=stage.pace(1.5 + 2 * index),
                    sway_x=2 * stage.unit,
                ),
                wraps_rows=True,
            )
        )
    return layers


def _bokeh(
    stage: Stage, random: np.random.Generator, *, rows: int, count: int, size: float
) -> list[tuple[Field, float, float, float]]:
    stamps = []
    for _ in range(count):
        radius = stage.unit * random.uniform(4, 11) * size
        spot = disc(radius, softness=max(2.0, radius * 0.08))
        place = np.arange(spot.shape[0], dtype=np.float32) - np.float32(spot.shape[0] / 2)
        away = np.hypot(place[:, None], place[None, :]) / np.float32(radius)
        stamps.append(
            (
                spot * np.clip(0.65 + 0.35 * away**4, 0, 1),
                random.uniform(0, rows),
                random.uniform(0, stage.period),
                random.uniform(0.18, 0.5),
            )
        )
    return stamps
