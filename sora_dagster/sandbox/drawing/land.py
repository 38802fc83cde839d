"""Scenes on the ground: hills, a city, a forest."""

from __future__ import annotations

import numpy as np

from sora_dagster.sandbox.drawing.canvas import Canvas
from sora_dagster.sandbox.drawing.colour import Palette
from sora_dagster.sandbox.drawing.layers import Drift, Field, Glow, Layer, Silhouette, Stage
from sora_dagster.sandbox.drawing.shapes import (
    Line,
    below,
    disc,
    even,
    halo,
    peak_line,
    smooth_noise,
    wave_line,
)


def sky(
    stage: Stage, palette: Palette, random: np.random.Generator, *, horizon: float
) -> tuple[Canvas, float]:
    """A sky with its sun or moon, down to a horizon (share of the height).

    Returns the canvas, and where the sun is (share of the width).
    """
    canvas = Canvas(
        stage,
        [
            (0.0, palette.zenith),
            (horizon * 0.55, palette.middle),
            (horizon, palette.horizon),
            (1.0, palette.horizon.mixed(palette.middle, 0.3)),
        ],
    )
    unit = stage.unit
    place = float(random.uniform(0.15, 0.85))
    x = place * stage.width
    y = horizon * stage.height - random.uniform(2, 32) * unit
    radius = random.uniform(5, 12) * unit
    canvas.stamp(halo(radius * 5), x=x, y=y, colour=palette.light, strength=0.75)
    canvas.stamp(disc(radius, softness=1.5), x=x, y=y, colour=palette.light, strength=1.0)
    return canvas, place


def clouds(
    stage: Stage,
    palette: Palette,
    random: np.random.Generator,
    *,
    top: float,
    bottom: float,
    strength: float,
    speed: float = 2.0,
) -> Glow:
    """Soft bands of cloud or mist between two shares of the height, drifting."""
    start = even(top * stage.height)
    rows = even((bottom - top) * stage.height)
    noise = smooth_noise(random, rows, stage.period, cells=(5, 7)) * 0.6
    noise += smooth_noise(random, rows, stage.period, cells=(11, 18)) * 0.4
    fade = np.sin(np.linspace(0, np.pi, rows, dtype=np.float32))[:, None]
    cover = np.clip((noise - 0.45) * 3, 0, 1) * fade
    return Glow(
        cover * np.float32(strength),
        colour=palette.light,
        top=start,
        rows=rows,
        width=stage.width,
        drift=Drift(x_per_frame=stage.pace(speed)),
    )


def ridge(
    stage: Stage, palette: Palette, line: Line, *, depth: float, mist: float, drift: Drift
) -> Silhouette:
    """Ground below a line (rows of the frame), its foot lost in mist."""
    top = max(0, even(float(line.min()) - 2 * drift.sway_y - 2))
    rows = stage.height - top
    height = rows + 2 * int(2 * drift.sway_y + 2)
    colour = palette.depth(depth)
    return Silhouette(
        below(line, top=top, rows=height),
        top=top,
        rows=rows,
        width=stage.width,
        colours=(colour, colour.mixed(palette.horizon, mist)),
        drift=drift,
    )


def hills(stage: Stage, palette: Palette, random: np.random.Generator) -> list[Layer]:
    """Ranges behind ranges under a low sun, the near ones passing faster."""
    horizon = float(random.uniform(0.42, 0.6))
    canvas, _ = sky(stage, palette, random, horizon=horizon)
    layers: list[Layer] = [canvas.backdrop()]
    layers.append(
        clouds(stage, palette, random, top=0.02, bottom=horizon, strength=0.16, speed=1.5)
    )
    ranges = int(random.integers(4, 6))
    pointed = random.random() < 0.5
    for index in range(ranges):
        depth = index / (ranges - 1)
        middle = stage.height * (horizon + (0.93 - horizon) * depth**1.1)
        relief = stage.unit * (13 - 7 * depth)
        if pointed and depth < 0.8:
            line = peak_line(random, stage.period, peaks=int(random.integers(3, 6)) * 2)
        else:
            first = int(random.integers(2, 4))
            line = wave_line(random, stage.period, waves=range(first, first + 6), roughness=1.3)
        layers.append(
            ridge(
                stage,
                palette,
                middle - relief * line,
                depth=depth,
                mist=0.45 * (1 - depth),
                drift=Drift(x_per_frame=stage.pace(1.2 + 9 * depth**1.5)),
            )
        )
    return layers


def city(stage: Stage, palette: Palette, random: np.random.Generator) -> list[Layer]:
    """A skyline at dusk in three depths, its windows lit, lights passing on the road."""
    horizon = float(random.uniform(0.68, 0.82))
    canvas, _ = sky(stage, palette, random, horizon=horizon)
    layers: list[Layer] = [canvas.backdrop()]
    layers.append(clouds(stage, palette, random, top=0.02, bottom=0.55, strength=0.14))
    for index, depth in enumerate((0.25, 0.6, 1.0)):
        drift = Drift(x_per_frame=stage.pace(1.5 + 5 * depth))
        line, windows = _buildings(stage, random, depth=depth)
        top = max(0, 2 * int(line.min() / 2))
        layers.append(ridge(stage, palette, line, depth=depth, mist=0.3 * (1 - depth), drift=drift))
        layers.append(
            Glow(
                windows[top:] * np.float32(0.45 + 0.2 * index),
                colour=palette.light.mixed(palette.horizon, 0.4),
                top=top,
                rows=stage.height - top,
                width=stage.width,
                drift=drift,
            )
        )
    layers.extend(_traffic(stage, palette, random))
    return layers


def _buildings(stage: Stage, random: np.random.Generator, *, depth: float) -> tuple[Line, Field]:
    unit = stage.unit
    line = np.full(stage.period, stage.height, np.float32)
    windows = np.zeros((stage.height, stage.period), np.float32)
    pane, gap = max(2, round(unit * (0.45 + 0.5 * depth))), max(2, round(unit * (0.6 + depth)))
    x = 0
    while x < stage.period:
        width = min(round(unit * random.uniform(6, 15) * (0.7 + 0.5 * depth)), stage.period - x)
        height = unit * random.uniform(18, 58) * (1.15 - 0.55 * depth) + unit * 6
        roof = stage.height - height
        line[x : x + width] = roof
        if width > 4 * unit and random.random() < 0.35:
            mast = x + width // 2
            line[mast : mast + max(2, round(unit * 0.4))] = roof - unit * random.uniform(3, 8)
        lit = random.uniform(0.15, 0.55)
        for row in range(int(roof) + 2 * gap, stage.height - 2 * gap, pane + gap):
            for column in range(x + gap, x + width - gap - pane, pane + gap):
                if row >= 0 and random.random() < lit:
                    windows[row : row + pane, column : column + pane] = random.uniform(0.5, 1)
        x += width + (round(unit * random.uniform(0, 5)) if random.random() < 0.3 else 0)
    return line, windows


def _traffic(stage: Stage, palette: Palette, random: np.random.Generator) -> list[Layer]:
    unit = stage.unit
    layers: list[Layer] = []
    for lane, (colour, speed) in enumerate(
        ((palette.light, 26.0), (palette.light.turned(140, saturation=3), -20.0))
    ):
        rows = even(3 * unit)
        tile = np.zeros((rows, stage.period), np.float32)
        spot = halo(1.4 * unit)
        half = spot.shape[0] // 2
        for x in random.uniform(half, stage.period - half, 9):
            left = int(x) - half
            tile[: spot.shape[0], left : left + spot.shape[1]] = spot[:rows]
        layers.append(
            Glow(
                np.clip(tile * 1.6, 0, 1),
                colour=colour,
                top=even(stage.height - (7.5 - 3.5 * lane) * unit),
                rows=rows,
                width=stage.width,
                drift=Drift(x_per_frame=stage.pace(speed)),
            )
        )
    return layers


def forest(stage: Stage, palette: Palette, random: np.random.Generator) -> list[Layer]:
    """Trunks in three depths with mist and slanting light between them."""
    unit = stage.unit
    canvas = Canvas(
        stage,
        [
            (0.0, palette.middle),
            (0.45, palette.horizon),
            (0.75, palette.horizon.mixed(palette.light, 0.4)),
            (1.0, palette.middle),
        ],
    )
    canvas.stamp(
        halo(55 * unit),
        x=random.uniform(0.2, 0.8) * stage.width,
        y=random.uniform(0.2, 0.5) * stage.height,
        colour=palette.light,
        strength=0.9,
    )
    layers: list[Layer] = [canvas.backdrop()]
    for depth in (0.12, 0.45, 1.0):
        layers.append(
            Silhouette(
                _trees(stage, random, depth=depth),
                top=0,
                rows=stage.height,
                width=stage.width,
                colours=(
                    palette.depth(depth),
                    palette.depth(depth).mixed(palette.horizon, 0.35 * (1 - depth)),
                ),
                drift=Drift(x_per_frame=stage.pace(1 + 8 * depth**1.4)),
            )
        )
        if depth < 1:
            layers.append(
                clouds(stage, palette, random, top=0.4, bottom=0.98, strength=0.17, speed=3.5)
            )
    layers.append(beams(stage, palette, random, strength=0.14))
    return layers


def _trees(stage: Stage, random: np.random.Generator, *, depth: float) -> Field:
    unit = stage.unit
    y = np.arange(stage.height, dtype=np.float32)[:, None]
    bottom = stage.height * (0.80 + 0.14 * depth)
    cover = below(
        bottom - 2.5 * unit * wave_line(random, stage.period, waves=range(3, 9)),
        top=0,
        rows=stage.height,
    )
    hang = stage.height * (0.05 + 0.15 * depth)
    leaves = np.abs(wave_line(random, stage.period, waves=range(14, 30), roughness=0.3))
    boughs = wave_line(random, stage.period, waves=range(2, 7), roughness=0.8)
    edge = hang * (0.75 + 0.45 * boughs) + unit * (1 + 3 * depth) * leaves
    cover = np.maximum(cover, 1 - below(edge.astype(np.float32), top=0, rows=stage.height))
    count = round(26 - 18 * depth)
    for index in range(count):
        width = unit * (0.7 + 4.2 * depth) * random.uniform(0.7, 1.3)
        lean = random.uniform(-0.05, 0.05)
        middle = (index + random.uniform(0.15, 0.85)) * stage.period / count
        reach = round(width + abs(lean) * stage.height) + 2
        columns = np.arange(int(middle) - reach, int(middle) + reach)
        taper = 0.75 + 0.35 * (y / stage.height) ** 2
        axis = middle + lean * (y - stage.height / 2)
        trunk = np.clip(width / 2 * taper - np.abs(columns[None, :] - axis) + 0.5, 0, 1)
        wrapped = columns % stage.period
        cover[:, wrapped] = np.maximum(cover[:, wrapped], trunk.astype(np.float32))
    return cover


def beams(stage: Stage, palette: Palette, random: np.random.Generator, *, strength: float) -> Glow:
    """Slanting shafts of light from above, moving slowly sideways."""
    y = np.arange(stage.height, dtype=np.float32)[:, None]
    x = np.arange(stage.period, dtype=np.float32)[None, :]
    slant = float(random.choice([-0.5, 0.5]))
    line = np.clip(wave_line(random, stage.period, waves=range(4, 11), roughness=0.6), 0, 1)
    place = np.mod(x + slant * y, stage.period).astype(np.int64) % stage.period
    fade = np.clip(1 - y / stage.height, 0, 1)
    return Glow(
        line[place] * (fade * np.float32(strength)).astype(np.float32),
        colour=palette.light,
        top=0,
        rows=stage.height,
        width=stage.width,
        drift=Drift(x_per_frame=stage.pace(2.5)),
    )
