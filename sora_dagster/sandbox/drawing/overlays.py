"""What a remix adds to the picture that it is made from: one more moving layer."""

from __future__ import annotations

import numpy as np

from sora_dagster.sandbox.drawing.elements import Random, beams
from sora_dagster.sandbox.drawing.layers import Layer, Stage, light, silhouette
from sora_dagster.sandbox.drawing.masks import blurred, dots, polygons
from sora_dagster.sandbox.drawing.palettes import Palette, rgb


def snow(stage: Stage, palette: Palette, random: Random) -> list[Layer]:  # noqa: ARG001
    """Flakes falling in two depths."""
    layers = []
    for size, count, speed in ((0.45, 330, 9), (0.95, 120, 17)):
        flakes = dots(stage, random, count, (0.7 * size, 1.3 * size), brightness=(0.8, 0.9))
        fall = stage.motion(-1.5, speed, swing=(2, 0), seconds=4)
        layers.append(light(stage, flakes, rgb("#f4f6ff"), fall, repeats_down=True))
    return layers


def rain(stage: Stage, palette: Palette, random: Random) -> list[Layer]:  # noqa: ARG001
    """Slanting streaks of rain."""
    rows, width = round(stage.height * 1.5), 0.32 * stage.unit
    streaks = []
    for _ in range(260):
        length = random.uniform(8, 13) * stage.unit
        x, y = random.uniform(0, stage.period), random.uniform(0, rows)
        foot = (x - 0.22 * length, y + length)
        streaks.append([(x, y), (x + width, y), (foot[0] + width, foot[1]), foot])
    mask = 0.67 * polygons(stage.period, rows, streaks)
    fall = stage.motion(-22, 100)
    return [light(stage, mask, rgb("#c4d4e0"), fall, repeats_down=True)]


def lanterns(stage: Stage, palette: Palette, random: Random) -> list[Layer]:  # noqa: ARG001
    """Warm lights rising."""
    layers = []
    for size, count, speed in ((0.7, 22, -3), (1.3, 12, -5.5)):
        cores = dots(stage, random, count, (size, 1.5 * size))
        mask = np.clip(cores + 2.5 * blurred(cores, 2.5 * size * stage.unit), 0, 1)
        rise = stage.motion(1, speed, swing=(1.5, 0))
        layers.append(light(stage, mask, rgb("#ffb65c"), rise, repeats_down=True))
    return layers


def rays(stage: Stage, palette: Palette, random: Random) -> list[Layer]:
    """Broad shafts of light."""
    return [beams(stage, palette, random, strength=0.42)]


def birds(stage: Stage, palette: Palette, random: Random) -> list[Layer]:
    """A flock passing."""
    rows = round(45 * stage.unit)
    wing = [(0.0, 0.06), (0.14, 0.05), (0.3, 0.13), (0.45, 0.3), (0.5, 0.32)]
    wing += [(1 - across, down) for across, down in reversed(wing)]
    lower = [(across, down + 0.06 * (1 - 2 * abs(across - 0.5))) for across, down in wing]
    outline = [*wing, *reversed(lower)]
    lead = random.uniform(0.5, 0.9) * stage.width
    flock = []
    for place in range(9):
        rank, side = (place + 1) // 2, 1 if place % 2 else -1
        size = 9.5 * stage.unit * random.uniform(0.85, 1.15)
        x = lead - stage.unit * (9.5 * rank + random.uniform(-1, 1))
        y = rows / 2 + stage.unit * (4.2 * side * rank + random.uniform(-1, 1))
        flock.append([(x + size * across, y + size * down) for across, down in outline])
    motion = stage.motion(random.uniform(7, 10), swing=(0, 0.8), seconds=1.3)
    mask, colour = polygons(stage.period, rows, flock), palette.near * 0.5
    return [silhouette(stage, mask, colour, colour, motion, top=round(0.04 * stage.height))]
