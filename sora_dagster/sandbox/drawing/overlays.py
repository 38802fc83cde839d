"""What a remix adds to the picture that it is made from: one more moving layer."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageDraw

from sora_dagster.sandbox.drawing.elements import Random, Sketch, beams
from sora_dagster.sandbox.drawing.layers import Layer, Light, Sprite, Stage
from sora_dagster.sandbox.drawing.masks import blurred, dots, drawn
from sora_dagster.sandbox.drawing.palettes import Palette, rgb, turned

Overlay = Callable[[Stage, Palette, Random], list[Layer]]


def snow(stage: Stage, palette: Palette, random: Random) -> list[Layer]:
    """Flakes falling in two depths."""
    del palette
    layers: list[Layer] = []
    for size, count, speed in ((0.45, 330, 9), (0.95, 120, 17)):
        flakes = dots(stage, random, count, (0.7 * size, 1.3 * size), brightness=(0.8, 0.9))
        fall = stage.motion(-1.5, speed, swing=(2, 0), seconds=4)
        layers.append(Light(stage, flakes, rgb("#f4f6ff"), fall, repeats=True))
    return layers


def rain(stage: Stage, palette: Palette, random: Random) -> list[Layer]:
    """Slanting streaks of rain."""
    del palette
    rows = round(stage.height * 1.5)

    def streaks(pen: ImageDraw.ImageDraw, scale: int) -> None:
        width = max(1, round(0.32 * stage.unit * scale))
        for _ in range(260):
            length = random.uniform(8, 13) * stage.unit
            x, y = random.uniform(0, stage.period), random.uniform(0, rows)
            for left in (x, x + stage.period):
                for top in (y, y - rows):
                    end = (scale * (left - 0.22 * length), scale * (top + length))
                    pen.line([(scale * left, scale * top), end], fill=170, width=width)

    mask = drawn(stage.period, rows, streaks)
    return [Light(stage, mask, rgb("#c4d4e0"), stage.motion(-22, 100), repeats=True)]


def lanterns(stage: Stage, palette: Palette, random: Random) -> list[Layer]:
    """Warm lights rising."""
    del palette
    layers: list[Layer] = []
    for size, count, speed in ((0.7, 22, -3), (1.3, 12, -5.5)):
        cores = dots(stage, random, count, (size, 1.5 * size))
        mask = np.clip(cores + 2.5 * blurred(cores, 2.5 * size * stage.unit), 0, 1)
        rise = stage.motion(1, speed, swing=(1.5, 0))
        layers.append(Light(stage, mask, rgb("#ffb65c"), rise, repeats=True))
    return layers


def rays(stage: Stage, palette: Palette, random: Random) -> list[Layer]:
    """Broad shafts of light."""
    return [beams(stage, palette, random, strength=0.42)]


def birds(stage: Stage, palette: Palette, random: Random, *, entering: bool = False) -> list[Layer]:
    """A flock passing; with `entering` it starts outside of the frame."""
    unit = stage.unit
    layers: list[Layer] = []
    height = random.uniform(0.16, 0.4) * stage.height
    motion = stage.motion(random.uniform(7, 10), swing=(0, 0.8), seconds=1.3)
    lead = -10 * unit if entering else random.uniform(0.35, 0.8) * stage.width
    for place in range(9):
        rank, side = (place + 1) // 2, 1 if place % 2 else -1
        x = lead - unit * (9.5 * rank + random.uniform(-1, 1))
        y = height + unit * (4.2 * side * rank + random.uniform(-1, 1))
        bird = Sketch(1, 0.4, 9.5 * unit * random.uniform(0.85, 1.15))
        wing = [(0.0, 0.06), (0.14, 0.05), (0.3, 0.13), (0.45, 0.3), (0.5, 0.32)]
        wing += [(1 - across, down) for across, down in reversed(wing)]
        lower = [(across, down + 0.06 * (1 - 2 * abs(across - 0.5))) for across, down in wing]
        bird.polygon([*wing, *reversed(lower)], palette.near * 0.5)
        layers.append(Sprite(bird.image, motion, x=x, y=y))
    return layers


def balloons(
    stage: Stage, palette: Palette, random: Random, *, entering: bool = False
) -> list[Layer]:
    """Hot-air balloons drifting; with `entering` they start outside of the frame."""
    layers: list[Layer] = []
    for index, size in enumerate((1.0, 0.55, 0.75, 0.4)):
        unit = stage.unit * size
        colour = turned(rgb("#d9706e"), random.uniform(-50, 50) + 90 * index)
        balloon = Sketch(20, 27, unit)
        balloon.polygon([(2.9, 14), (17.1, 14), (12, 21), (8, 21)], colour)
        for half, stripe in ((8.6, colour), (6, palette.light), (3.4, colour)):
            balloon.ellipse((10 - half, 1, 10 + half, 18.2), stripe)
        for rope in (8.4, 11.2):
            balloon.rectangle((rope, 20, rope + 0.3, 23), palette.near)
        balloon.rectangle((8.4, 22.5, 11.6, 25.2), palette.near)
        x = -14 * unit - index * 0.12 * stage.width
        if not entering:
            x = (0.14 + 0.24 * index + random.uniform(-0.06, 0.06)) * stage.width
        y = random.uniform(0.18, 0.5) * stage.height
        speed = (2.6 + 2 * index) * (3 if entering else 1)
        motion = stage.motion(speed, swing=(0, 1.5))
        layers.append(Sprite(balloon.image, motion, x=x, y=y))
    return layers


def petals(stage: Stage, palette: Palette, random: Random) -> list[Layer]:
    """Petals blowing past."""
    del palette
    layers: list[Layer] = []
    for _ in range(34):
        petal = Sketch(1, 1, 2 * stage.unit * random.uniform(1.4, 3.4))
        colour = turned(rgb("#ffb3d1"), random.uniform(-15, 15)) * random.uniform(0.85, 1)
        petal.ellipse((0, 0.25, 1, 0.75), colour)
        image = petal.image.rotate(random.uniform(0, 180), Image.Resampling.BICUBIC)
        motion = stage.motion(
            random.uniform(5, 9),
            random.uniform(5, 10),
            swing=(5, 0),
            seconds=3.5,
            phase=random.uniform(0, 1),
        )
        x, y = random.uniform(0, stage.width), random.uniform(0, stage.height)
        layers.append(Sprite(image, motion, x=x, y=y))
    return layers
