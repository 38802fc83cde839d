"""The scenes that a clip can show, each as its layers, the hindmost first."""

from __future__ import annotations

import numpy as np

from sora_dagster.sandbox.drawing.elements import (
    Random,
    beams,
    clouds,
    gradient,
    ridge,
    shine,
    sky,
)
from sora_dagster.sandbox.drawing.layers import (
    Floats,
    Layer,
    Motion,
    Stage,
    backdrop,
    light,
    mix,
    silhouette,
)
from sora_dagster.sandbox.drawing.masks import (
    below,
    blurred,
    dots,
    noise,
    peak_line,
    polygons,
    wave_line,
)
from sora_dagster.sandbox.drawing.palettes import Palette, turned


def hills(stage: Stage, palette: Palette, random: Random) -> list[Layer]:
    """Ranges behind ranges under a low sun; the near ones pass faster."""
    horizon = random.uniform(0.42, 0.6)
    picture, _ = sky(stage, palette, random, horizon)
    layers = [
        backdrop(picture),
        clouds(stage, palette, random, top=0.02, bottom=horizon, strength=0.16),
    ]
    pointed = random.random() < 0.5
    for depth in np.linspace(0, 1, random.integers(4, 6)):
        if pointed and depth < 0.8:
            line = peak_line(random, stage.period, peaks=int(random.integers(3, 6)) * 2)
        else:
            first = int(random.integers(2, 4))
            line = wave_line(random, stage.period, waves=range(first, first + 6), roughness=1.3)
        middle = stage.height * (horizon + (0.93 - horizon) * depth**1.1)
        line = middle - stage.unit * (13 - 7 * depth) * line
        motion = stage.motion(-1.2 - 9 * depth**1.5)
        layers.append(ridge(stage, palette, line, motion, depth=depth, mist=0.45 * (1 - depth)))
    return layers


def sea(stage: Stage, palette: Palette, random: Random) -> list[Layer]:
    """Waves and a sail before a low sun and its path of light."""
    unit = stage.unit
    horizon = random.uniform(0.36, 0.58)
    top = round(horizon * stage.height)
    rows = stage.height - top
    picture, sun = sky(stage, palette, random, horizon)
    depth = np.linspace(0, 1, rows, dtype=np.float32)[:, None]
    surface = mix(palette.middle, palette.far, 0.5) * 0.9
    picture[top:] = mix(surface, palette.near, 0.55 * depth[:, :, None])
    away = (np.arange(stage.period) - sun) / (unit * (7 + 26 * depth))
    path = np.exp(-(away**2)) * (1 - 0.6 * depth)
    picture[top:] = mix(picture[top:], palette.light, 0.55 * path[:, : stage.width, None])
    layers = [
        backdrop(picture),
        clouds(stage, palette, random, top=0, bottom=horizon, strength=0.18),
        _sail(stage, palette, random, foot=top + 2 * unit),
    ]
    for near in np.linspace(0.2, 1, 5):
        middle = stage.height * (horizon + (1.02 - horizon) * (0.15 + 0.8 * near**1.4))
        first = round(7 - 4 * near)
        waves = wave_line(random, stage.period, waves=range(first, first + 5), roughness=0.9)
        line = middle - unit * (0.6 + 2.2 * near) * waves
        motion = stage.motion(
            (2 + 6 * near) * random.choice([-1, 1]),
            swing=(0, 0.3 + 0.9 * near),
            seconds=random.uniform(3, 5),
            phase=random.uniform(0, 1),
        )
        layers.append(ridge(stage, palette, line, motion, depth=0.3 + 0.7 * near, mist=0))
    for finer in (1, 2):
        dashes = noise(random, rows, stage.period, (60 * finer, 30 * finer), octaves=1)
        glints = np.clip(dashes * 5 - 2.7, 0, 1) * np.clip(path * 0.6 + 0.03, 0, 1)
        swing = stage.motion(swing=(1.5 * finer, 0), seconds=3, phase=finer / 4)
        layers.append(light(stage, glints, palette.light, swing, top=top))
    return layers


def _sail(stage: Stage, palette: Palette, random: Random, *, foot: float) -> Layer:
    unit = stage.unit * random.uniform(0.8, 1.5)
    left = random.uniform(0.1, 0.9) * stage.width
    hull = [(1, 10.5), (10, 10.5), (8.5, 12.5), (2.5, 12.5)]
    shapes = [hull, [(5.2, 0.5), (9.6, 9.8), (5.2, 9.8)], [(4.7, 2), (4.7, 9.8), (1.2, 9.8)]]
    rows = round(13 * unit)
    boat = [[(left + unit * x, unit * y) for x, y in shape] for shape in shapes]
    motion = stage.motion(random.choice([-2.5, 2.5]), swing=(0, 0.4), seconds=3)
    mask = polygons(stage.period, rows, boat)
    return silhouette(stage, mask, palette.near, palette.near, motion, top=round(foot) - rows)


def city(stage: Stage, palette: Palette, random: Random) -> list[Layer]:
    """A skyline in three depths, its windows lit, lights passing on the road."""
    picture, _ = sky(stage, palette, random, random.uniform(0.68, 0.82))
    layers = [
        backdrop(picture),
        clouds(stage, palette, random, top=0.02, bottom=0.55, strength=0.14),
    ]
    window = mix(palette.light, palette.horizon, 0.4)
    for depth in (0.25, 0.6, 1.0):
        motion = stage.motion(-1.5 - 5 * depth)
        line, lit = _buildings(stage, random, depth)
        layers.append(ridge(stage, palette, line, motion, depth=depth, mist=0.3 * (1 - depth)))
        layers.append(light(stage, lit * (0.4 + 0.45 * depth), window, motion))
    for speed, colour in ((26, palette.light), (-20, turned(palette.light, 140, saturation=3))):
        rows = round(4 * stage.unit)
        middle, half = rows // 2, max(1, rows // 6)
        cars = np.zeros((rows, stage.period), np.float32)
        for x in random.integers(half, stage.period - half, 9):
            cars[middle - half : middle + half, x - half : x + half] = 1
        mask = np.clip(2 * blurred(cars, 0.5 * stage.unit), 0, 1)
        top = stage.height - round((8 if speed > 0 else 4.5) * stage.unit)
        layers.append(light(stage, mask, colour, stage.motion(speed), top=top))
    return layers


def _buildings(stage: Stage, random: Random, depth: float) -> tuple[Floats, Floats]:
    """The line of the roofs, and the lit windows."""
    unit = stage.unit
    line = np.full(stage.period, stage.height, np.float32)
    windows = np.zeros((stage.height, stage.period), np.float32)
    pane, gap = max(2, round(unit * (0.45 + 0.5 * depth))), max(2, round(unit * (0.6 + depth)))
    x = 0
    while x < stage.period:
        width = round(unit * random.uniform(6, 15) * (0.7 + 0.5 * depth))
        roof = stage.height - unit * (6 + random.uniform(18, 58) * (1.15 - 0.55 * depth))
        line[x : x + width] = roof
        lit = random.uniform(0.15, 0.55)
        for row in range(max(0, int(roof) + 2 * gap), stage.height - 2 * gap, pane + gap):
            for column in range(x + gap, x + width - gap - pane, pane + gap):
                if random.random() < lit:
                    windows[row : row + pane, column : column + pane] = random.uniform(0.5, 1)
        x += width + (round(unit * random.uniform(0, 5)) if random.random() < 0.3 else 0)
    return line, windows


def forest(stage: Stage, palette: Palette, random: Random) -> list[Layer]:
    """Trunks in three depths, with mist and slanting light between them."""
    picture = gradient(
        stage,
        (0.0, palette.middle),
        (0.45, palette.horizon),
        (0.75, mix(palette.horizon, palette.light, 0.4)),
        (1.0, palette.middle),
    )
    x, y = random.uniform(0.2, 0.8) * stage.width, random.uniform(0.2, 0.5) * stage.height
    shine(picture, x, y, 55 * stage.unit, palette.light, strength=0.9)
    layers = [backdrop(picture)]
    for depth in (0.12, 0.45, 1.0):
        colour = palette.depth(depth)
        foot = mix(colour, palette.horizon, 0.35 * (1 - depth))
        motion = stage.motion(-1 - 8 * depth**1.4)
        layers.append(silhouette(stage, _trees(stage, random, depth), colour, foot, motion))
        if depth < 1:
            layers.append(clouds(stage, palette, random, top=0.4, bottom=0.98, strength=0.17))
    layers.append(beams(stage, palette, random, strength=0.14))
    return layers


def _trees(stage: Stage, random: Random, depth: float) -> Floats:
    unit, height, period = stage.unit, stage.height, stage.period
    bumps = wave_line(random, period, waves=range(3, 9))
    ground = below(height * (0.8 + 0.14 * depth) - 2.5 * unit * bumps, top=0, rows=height)
    boughs = wave_line(random, period, waves=range(2, 7), roughness=0.8)
    leaves = np.abs(wave_line(random, period, waves=range(14, 30), roughness=0.3))
    hang = height * (0.05 + 0.15 * depth) * (0.75 + 0.45 * boughs) + unit * (1 + 3 * depth) * leaves
    canopy = 1 - below(hang, top=0, rows=height)
    trunks = []
    count = round(26 - 18 * depth)
    for index in range(count):
        x = (index + random.uniform(0.15, 0.85)) * period / count
        half = unit * (0.35 + 2.1 * depth) * random.uniform(0.7, 1.3)
        lean = random.uniform(-0.025, 0.025) * height
        crown = [(x - 0.7 * half + lean, 0), (x + 0.7 * half + lean, 0)]
        trunks.append([*crown, (x + 1.1 * half - lean, height), (x - 1.1 * half - lean, height)])
    return np.maximum(np.maximum(ground, canopy), polygons(period, height, trunks))


def underwater(stage: Stage, palette: Palette, random: Random) -> list[Layer]:
    """Light from the surface, rising bubbles, swaying weeds."""
    picture = gradient(
        stage,
        (0.0, palette.horizon),
        (0.3, palette.middle),
        (0.8, mix(palette.zenith, palette.middle, 0.25)),
        (1.0, palette.zenith),
    )
    x = random.uniform(0.2, 0.8) * stage.width
    shine(picture, x, 0, 60 * stage.unit, palette.light, strength=0.8)
    layers = [backdrop(picture), beams(stage, palette, random, strength=0.3)]
    for depth in (0.45, 1.0):
        line = 5 + 4 * wave_line(random, stage.period, waves=range(3, 8))
        for middle in random.uniform(0, stage.period, round(22 - 8 * depth)):
            away = np.abs((np.arange(stage.period) - middle) / stage.unit)
            width = random.uniform(1.2, 2.6) * (0.6 + depth)
            height = random.uniform(14, 42) * (0.6 + 0.5 * depth)
            line = np.maximum(line, height * np.clip(1 - (away / width) ** 2, 0, 1))
        line = (stage.height - stage.unit * line).astype(np.float32)
        sway = stage.motion(-1 - 3 * depth, swing=(1.2, 0), seconds=4)
        layers.append(ridge(stage, palette, line, sway, depth=0.4 + 0.6 * depth, mist=0))
        radii = (0.5 * (0.5 + depth), 2 * (0.5 + depth))
        bubbles = dots(stage, random, 26, radii, brightness=(0.15, 0.3), outline=0.35)
        rise = stage.motion(0, -7 - 9 * depth, swing=(1, 0))
        layers.append(light(stage, bubbles, palette.light, rise, repeats_down=True))
    return layers


def space(stage: Stage, palette: Palette, random: Random) -> list[Layer]:
    """A planet and its moon before a nebula."""
    black = palette.zenith * 0.25
    picture = gradient(stage, (0, black), (1, mix(palette.zenith, black, 0.4)), slant=0.6)
    cells = (2, max(2, round(2 * stage.width / stage.height)))
    cloud = noise(random, stage.height, stage.width, cells, octaves=5)[:, :, None]
    picture = mix(picture, palette.middle, np.clip(cloud * 2.2 - 1, 0, 0.85))
    picture = mix(picture, palette.horizon, np.clip(cloud * 2.2 - 1.5, 0, 0.7))
    layers = [backdrop(picture)]
    for count, largest, speed in ((220, 0.25, -1), (60, 0.5, -2.5)):
        stars = dots(stage, random, count, (0.08, largest), brightness=(0.4, 1))
        drift = stage.motion(speed)
        layers.append(light(stage, stars, palette.light, drift, repeats_down=True))
    place = (random.uniform(0.25, 0.75) * stage.width, random.uniform(0.3, 0.7) * stage.height)
    radius = random.uniform(13, 30)
    wander = stage.motion(swing=(7, 2.5), seconds=40)
    orbit = stage.motion(swing=(1.7 * radius, 0.6 * radius), seconds=14)
    layers += _planet(stage, palette, random, place, radius * stage.unit, wander)
    layers += _planet(stage, palette, random, place, radius * 0.2 * stage.unit, orbit)
    return layers


def _planet(
    stage: Stage,
    palette: Palette,
    random: Random,
    place: tuple[float, float],
    radius: float,
    motion: Motion,
) -> list[Layer]:
    rows, columns = np.ogrid[: round(2 * radius) + 2, : stage.period]
    # To both sides, since the layer repeats.
    away = (columns - place[0] + stage.period / 2) % stage.period - stage.period / 2
    x, y = away / radius, (rows - radius) / radius
    disc = np.clip((1 - np.hypot(x, y)) * radius + 0.5, 0, 1)
    tilt = random.uniform(-0.5, 0.5)
    bands = np.sin((y + tilt * x) * random.uniform(6, 12) + 1.2 * np.sin(x * 2 + y))
    lit = np.clip(1.1 - np.hypot(x + 0.45, y + 0.4) * 0.75, 0, 1) * (0.75 + 0.25 * bands)
    top = round(place[1] - radius)
    return [
        silhouette(stage, disc, palette.near, palette.near, motion, top=top),
        light(stage, disc * lit, palette.horizon, motion, top=top),
    ]


def bokeh(stage: Stage, palette: Palette, random: Random) -> list[Layer]:
    """Lights out of focus, drifting through one another."""
    picture = gradient(
        stage,
        (0, palette.zenith),
        (0.5, mix(palette.far, palette.middle, 0.5)),
        (1, palette.near),
        slant=random.uniform(0.3, 1.2),
    )
    x, y = random.uniform(0.1, 0.9, 2) * (stage.width, stage.height)
    shine(picture, x, y, 70 * stage.unit, palette.horizon, strength=0.55)
    layers = [backdrop(picture)]
    colours = (palette.horizon, palette.light, turned(palette.middle, 50, saturation=1.6))
    for index, colour in enumerate(colours):
        size = 1 + 0.6 * index
        spots = dots(
            stage,
            random,
            11 - 2 * index,
            (4 * size, 11 * size),
            brightness=(0.15, 0.4),
            outline=0.3 * size,
        )
        motion = stage.motion(random.uniform(-4, 4), -1.5 - 2 * index, swing=(2, 0))
        layers.append(light(stage, spots, colour, motion, repeats_down=True))
    return layers
