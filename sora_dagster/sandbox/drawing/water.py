"""Scenes of water: an open sea, and below its surface."""

from __future__ import annotations

import numpy as np

from sora_dagster.sandbox.drawing.canvas import Canvas, sprite
from sora_dagster.sandbox.drawing.colour import Colour, Palette
from sora_dagster.sandbox.drawing.land import beams, clouds, ridge, sky
from sora_dagster.sandbox.drawing.layers import Drift, Field, Glow, Layer, Sprite, Stage
from sora_dagster.sandbox.drawing.paths import Cruise
from sora_dagster.sandbox.drawing.shapes import (
    disc,
    even,
    halo,
    polygon,
    smooth_noise,
    strew,
    wave_line,
)


def sea(stage: Stage, palette: Palette, random: np.random.Generator) -> list[Layer]:
    """Waves before a low sun and its path of light; now and then a sail."""
    unit = stage.unit
    horizon = float(random.uniform(0.36, 0.58))
    top = even(horizon * stage.height)
    canvas, sun = sky(stage, palette, random, horizon=horizon)
    rows = stage.height - top
    depth = np.linspace(0, 1, rows, dtype=np.float32)[:, None]
    surface = palette.middle.mixed(palette.far, 0.5).lighter(-12)
    canvas.wash(np.ones((rows, 1), np.float32), surface, top=top)
    canvas.wash(0.55 * depth, palette.near, top=top)
    path = _light_path(stage, sun, rows)
    canvas.wash(path * 0.55, palette.light, top=top)
    layers: list[Layer] = [
        canvas.backdrop(),
        clouds(stage, palette, random, top=0.0, bottom=horizon, strength=0.18),
    ]
    if random.random() < 0.6:
        layers.append(_sail(stage, palette, random, y=top + 3 * unit))
    for index in range(5):
        layers.extend(_wave(stage, palette, random, horizon=horizon, depth=(index + 1) / 5))
    for speed, finer in ((4.0, 1), (-3.0, 2)):
        dashes = smooth_noise(random, rows, stage.period, cells=(60 * finer, 30 * finer))
        layers.append(
            Glow(
                np.clip((dashes - 0.55) * 5, 0, 1) * 0.5,
                colour=palette.light,
                top=top,
                rows=rows,
                width=stage.width,
                drift=Drift(x_per_frame=stage.pace(speed)),
                envelope=np.clip(path * 0.55 + 0.04, 0, 1),
            )
        )
    return layers


def _light_path(stage: Stage, sun: float, rows: int) -> Field:
    depth = np.linspace(0, 1, rows, dtype=np.float32)[:, None]
    x = (np.arange(stage.width, dtype=np.float32)[None, :] - sun * stage.width) / stage.unit
    width = 7 + 26 * depth
    path: Field = np.exp(-((x / width) ** 2)) * (1 - 0.6 * depth)
    return path


def _wave(
    stage: Stage, palette: Palette, random: np.random.Generator, *, horizon: float, depth: float
) -> list[Layer]:
    unit = stage.unit
    middle = stage.height * (horizon + (1.02 - horizon) * (0.15 + 0.8 * depth**1.4))
    first = round(7 - 4 * depth)
    line = middle - unit * (0.6 + 2.2 * depth) * wave_line(
        random, stage.period, waves=range(first, first + 5), roughness=0.9
    )
    drift = Drift(
        x_per_frame=stage.pace((2 + 6 * depth) * random.choice([-1, 1])),
        sway_y=unit * (0.3 + 0.9 * depth),
        sway_frames=stage.frames_per_second * random.uniform(3, 5),
        phase=random.uniform(0, 1),
    )
    body = ridge(stage, palette, line, depth=0.3 + 0.7 * depth, mist=0.0, drift=drift)
    top = max(0, even(float(line.min()) - 2 * drift.sway_y - 2))
    rows = even(float(line.max() - line.min()) + 4 * unit)
    rows = min(rows, stage.height - top)
    y = np.arange(top, top + rows + 2 * int(2 * drift.sway_y + 2), dtype=np.float32)[:, None]
    thickness = unit * (0.15 + 0.35 * depth)
    crest = np.exp(-(((y - line[None, :] - thickness) / thickness) ** 2))
    foam = Glow(
        crest * np.float32(0.25),
        colour=palette.light.mixed(palette.middle, 0.4),
        top=top,
        rows=rows,
        width=stage.width,
        drift=drift,
    )
    return [body, foam]


def _sail(stage: Stage, palette: Palette, random: np.random.Generator, *, y: float) -> Sprite:
    unit = stage.unit * random.uniform(0.8, 1.5)
    size = (even(13 * unit), even(11 * unit))

    def shape(*corners: tuple[float, float]) -> Field:
        return polygon([(across * unit, down * unit) for across, down in corners], size=size)

    hull = shape((1, 10.5), (10, 10.5), (8.5, 12.5), (2.5, 12.5))
    main = shape((5.2, 0.5), (9.6, 9.8), (5.2, 9.8))
    jib = shape((4.7, 2), (4.7, 9.8), (1.2, 9.8))
    path = Cruise(
        x=random.uniform(0.1, 0.9) * stage.width,
        y=y - 5 * unit,
        x_per_frame=stage.pace(random.choice([-2.5, 2.5])),
        span=stage.width,
        heave=0.4 * unit,
    )
    return sprite([(hull, palette.near), (main, palette.light), (jib, palette.light)], path)


def underwater(stage: Stage, palette: Palette, random: np.random.Generator) -> list[Layer]:
    """Light from the surface, rising bubbles, swaying weeds, a few fish."""
    unit = stage.unit
    canvas = Canvas(
        stage,
        [
            (0.0, palette.horizon),
            (0.3, palette.middle),
            (0.8, palette.zenith.mixed(palette.middle, 0.25)),
            (1.0, palette.zenith),
        ],
    )
    x = random.uniform(0.2, 0.8) * stage.width
    canvas.stamp(halo(60 * unit), x=x, y=0, colour=palette.light, strength=0.8)
    layers: list[Layer] = [canvas.backdrop(), beams(stage, palette, random, strength=0.3)]
    for depth in (0.45, 1.0):
        layers.extend(_fish(stage, palette, random, depth=depth) for _ in range(4))
        layers.append(_weeds(stage, palette, random, depth=depth))
        layers.append(_bubbles(stage, palette, random, depth=depth))
    return layers


def _bubbles(stage: Stage, palette: Palette, random: np.random.Generator, *, depth: float) -> Glow:
    rows = even(stage.height * 1.5)
    tile = np.zeros((rows, stage.period), np.float32)
    stamps = []
    for _ in range(26):
        radius = stage.unit * random.uniform(0.5, 2.0) * (0.5 + depth)
        stamps.append(
            (_ring(radius), random.uniform(0, rows), random.uniform(0, stage.period), 0.5)
        )
    strew(tile, stamps)
    return Glow(
        np.clip(tile, 0, 1),
        colour=palette.light,
        top=0,
        rows=stage.height,
        width=stage.width,
        drift=Drift(y_per_frame=stage.pace(7 + 9 * depth), sway_x=stage.unit),
        wraps_rows=True,
    )


def _ring(radius: float) -> Field:
    outer = disc(radius, softness=1.5)
    place = np.arange(outer.shape[0], dtype=np.float32) - np.float32((outer.shape[0] - 1) / 2)
    inner = np.hypot(place[:, None], place[None, :]) / np.float32(radius)
    ring: Field = outer * np.clip(0.2 + 0.8 * inner**3, 0, 1)
    return ring


def _weeds(stage: Stage, palette: Palette, random: np.random.Generator, *, depth: float) -> Layer:
    unit = stage.unit
    line = stage.height - unit * (5 + 4 * wave_line(random, stage.period, waves=range(3, 8)))
    x = np.arange(stage.period, dtype=np.float32)
    for middle in random.uniform(0, stage.period, round(22 - 8 * depth)):
        width = unit * random.uniform(1.2, 2.6) * (0.6 + depth)
        height = unit * random.uniform(14, 42) * (0.6 + 0.5 * depth)
        away = np.abs((x - middle + stage.period / 2) % stage.period - stage.period / 2)
        line = np.minimum(line, stage.height - height * np.clip(1 - (away / width) ** 2, 0, 1))
    return ridge(
        stage,
        palette,
        line.astype(np.float32),
        depth=0.4 + 0.6 * depth,
        mist=0.0,
        drift=Drift(
            x_per_frame=stage.pace(1 + 3 * depth),
            sway_x=unit * 1.2,
            sway_frames=stage.frames_per_second * 4,
        ),
    )


def _fish(stage: Stage, palette: Palette, random: np.random.Generator, *, depth: float) -> Sprite:
    length = stage.unit * random.uniform(6, 11) * (0.5 + depth)
    height = length * 0.45
    size = (even(height + 2), even(length + 2))
    y, x = np.mgrid[0 : size[0], 0 : size[1]].astype(np.float32)
    across = (y - size[0] / 2) / np.float32(height / 2)
    along = (x - length * 0.42) / np.float32(length * 0.4)
    body = np.clip((1 - along**2 - across**2) * length / 6, 0, 1)
    behind = (x - length * 0.72) / np.float32(length * 0.28)
    tail = np.clip((0.9 * behind - np.abs(across) + 0.12) * length / 8, 0, 1) * (behind > 0)
    shape = np.maximum(body, tail * (behind < 1)).astype(np.float32)
    leftward = random.random() < 0.5
    path = Cruise(
        x=random.uniform(0, stage.width),
        y=random.uniform(0.2, 0.75) * stage.height,
        x_per_frame=stage.pace(random.uniform(8, 16)) * (-1 if leftward else 1),
        span=stage.width,
        heave=stage.unit,
        heave_frames=stage.frames_per_second * 2.0,
    )
    stripe = shape * np.clip(1 - np.abs(across + 0.35) * 4, 0, 1)
    body_colour = (
        Colour.from_hex("#f58a3c")
        .turned(random.uniform(-70, 70))
        .mixed(palette.middle, 0.75 - 0.6 * depth)
    )
    parts = [(shape, body_colour), (stripe, palette.light)]
    return sprite([(p if leftward else p[:, ::-1].copy(), colour) for p, colour in parts], path)
