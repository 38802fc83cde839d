"""What a remix adds to the picture it is made from: one more moving layer."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from sora_dagster.sandbox.drawing.canvas import sprite
from sora_dagster.sandbox.drawing.colour import Colour, Palette
from sora_dagster.sandbox.drawing.land import beams
from sora_dagster.sandbox.drawing.layers import Drift, Field, Glow, Layer, Stage
from sora_dagster.sandbox.drawing.paths import Crossing, Cruise, Tumble
from sora_dagster.sandbox.drawing.shapes import disc, even, halo, polygon, strew

Overlay = Callable[[Stage, Palette, np.random.Generator], list[Layer]]


def _falling(
    stage: Stage,
    stamps: list[tuple[Field, float]],
    random: np.random.Generator,
    *,
    colour: Colour,
    count: int,
    drift: Drift,
) -> Glow:
    rows = even(stage.height * 1.5)
    tile = np.zeros((rows, stage.period), np.float32)
    chosen = random.integers(0, len(stamps), count)
    strew(
        tile,
        (
            (stamps[i][0], random.uniform(0, rows), random.uniform(0, stage.period), stamps[i][1])
            for i in chosen
        ),
    )
    return Glow(
        np.clip(tile, 0, 1),
        colour=colour,
        top=0,
        rows=stage.height,
        width=stage.width,
        drift=drift,
        wraps_rows=True,
    )


def snow(stage: Stage, palette: Palette, random: np.random.Generator) -> list[Layer]:
    """Flakes falling in two depths."""
    del palette
    unit = stage.unit
    white = Colour(225, 130, 126)
    return [
        _falling(
            stage,
            [(disc(unit * size * k, softness=unit * size * 0.7), 0.85) for k in (0.7, 1.0, 1.3)],
            random,
            colour=white,
            count=count,
            drift=Drift(
                x_per_frame=stage.pace(1.5),
                y_per_frame=-stage.pace(speed),
                sway_x=2 * unit,
                sway_frames=stage.frames_per_second * 4,
            ),
        )
        for size, count, speed in ((0.45, 330, 9.0), (0.95, 120, 17.0))
    ]


def rain(stage: Stage, palette: Palette, random: np.random.Generator) -> list[Layer]:
    """Slanting streaks of rain."""
    del palette
    unit = stage.unit
    stamps = []
    for length in (8.0, 13.0):
        size = (even(length * unit), even(length * unit * 0.25 + 6))
        lean = length * unit * 0.22
        width = max(1.5, 0.22 * unit)
        streak = polygon(
            [(lean, 0), (lean + width, 0), (width + 1, size[0]), (1, size[0])], size=size
        )
        stamps.append((streak, 0.55))
    return [
        _falling(
            stage,
            stamps,
            random,
            colour=Colour(200, 136, 122),
            count=260,
            drift=Drift(x_per_frame=stage.pace(22), y_per_frame=-stage.pace(100)),
        )
    ]


def lanterns(stage: Stage, palette: Palette, random: np.random.Generator) -> list[Layer]:
    """Warm lights rising."""
    del palette
    unit = stage.unit
    layers: list[Layer] = []
    for size, count, speed in ((0.7, 22, 3.0), (1.3, 12, 5.5)):
        glow = halo(7 * unit * size) * 0.7
        core = disc(1.3 * unit * size, softness=unit * 0.6)
        start = (glow.shape[0] - core.shape[0]) // 2
        glow[start : start + core.shape[0], start : start + core.shape[1]] += core
        layers.append(
            _falling(
                stage,
                [(glow, 1.0)],
                random,
                colour=Colour.from_hex("#ffb65c")._replace(luma=200),
                count=count,
                drift=Drift(
                    x_per_frame=stage.pace(1),
                    y_per_frame=stage.pace(speed),
                    sway_x=1.5 * unit,
                    sway_frames=stage.frames_per_second * 5,
                ),
            )
        )
    return layers


def rays(stage: Stage, palette: Palette, random: np.random.Generator) -> list[Layer]:
    """Broad shafts of light."""
    return [beams(stage, palette, random, strength=0.42)]


def birds(
    stage: Stage, palette: Palette, random: np.random.Generator, *, entering: bool = False
) -> list[Layer]:
    """A flock passing."""
    unit = stage.unit
    layers: list[Layer] = []
    height = random.uniform(0.16, 0.4) * stage.height
    speed = stage.pace(random.uniform(7, 10))
    lead = -10 * unit if entering else random.uniform(0.35, 0.8) * stage.width
    for place in range(9):
        rank = (place + 1) // 2
        side = 1 if place % 2 else -1
        x = lead - 9.5 * unit * rank + random.uniform(-1, 1) * unit
        y = height + side * 4.2 * unit * rank + random.uniform(-1, 1) * unit
        shape = _bird(9.5 * unit * random.uniform(0.85, 1.15))
        colour = palette.near.lighter(-20)
        path = (
            Crossing(x, y, speed)
            if entering
            else Cruise(x, y, speed, span=stage.width, heave=0.8 * unit, heave_frames=40)
        )
        layers.append(sprite([(shape, colour)], path))
    return layers


def _bird(span: float) -> Field:
    size = (even(span * 0.42), even(span + 2))
    y, x = np.mgrid[0 : size[0], 0 : size[1]].astype(np.float32)
    out = np.abs(x - size[1] / 2) / np.float32(span / 2)
    wing = size[0] * (0.75 - 0.62 * np.sin(np.clip(out, 0, 1) * 2.1))
    thickness = span * 0.055 * (1.15 - out)
    cover: Field = np.clip(thickness - np.abs(y - wing) + 0.5, 0, 1) * (out < 1)
    return cover.astype(np.float32)


def balloons(
    stage: Stage, palette: Palette, random: np.random.Generator, *, entering: bool = False
) -> list[Layer]:
    """Hot-air balloons drifting."""
    layers: list[Layer] = []
    for index in range(4):
        unit = stage.unit * (1.0, 0.55, 0.75, 0.4)[index]
        turn = random.uniform(-50, 50) + 90 * index
        speed = stage.pace((2.6 + 2 * index) * (1 + 2 * entering))
        x = (
            -14 * unit - index * 0.12 * stage.width
            if entering
            else (0.14 + 0.24 * index + random.uniform(-0.06, 0.06)) * stage.width
        )
        y = random.uniform(0.18, 0.5) * stage.height
        path = (
            Crossing(x, y, speed, -0.1 * speed)
            if entering
            else Cruise(x, y, speed, span=stage.width, heave=1.5 * unit, heave_frames=150)
        )
        base = Colour(150, 90, 185).turned(turn)
        layers.append(sprite(_balloon(unit, base, palette), path))
    return layers


def _balloon(unit: float, base: Colour, palette: Palette) -> list[tuple[Field, Colour]]:
    size = (even(27 * unit), even(20 * unit))
    y, x = np.mgrid[0 : size[0], 0 : size[1]].astype(np.float32) / np.float32(unit)
    across, down = x - 10, y - 9.5
    narrowing = 1 - np.clip(down / 14, 0, 0.62)
    envelope = np.clip(
        (8.6 * np.clip(narrowing, 0.3, 1) - np.hypot(across, down * 0.92)) * unit, 0, 1
    )
    envelope *= (y < 19.5).astype(np.float32)
    bulge = np.sqrt(np.clip(75 - down**2, 1, None))
    gores = np.clip(np.sin(np.arcsin(np.clip(across / bulge, -1, 1)) * 6) * 3, 0, 1) * envelope
    shade = envelope * np.clip((across + 2) / 14, 0, 0.5)
    basket = ((np.abs(across) < 1.5) & (y > 22) & (y < 24.8)).astype(np.float32)
    ropes = ((np.abs(np.abs(across) - 1.3) < 0.16) & (y > 18) & (y < 23)).astype(np.float32)
    parts = [
        (np.maximum(envelope, np.maximum(basket, ropes * 0.8)), base),
        (gores * 0.85, palette.light),
        (shade, palette.near),
        (np.maximum(basket, ropes), palette.near),
    ]
    return [(shape.astype(np.float32), colour) for shape, colour in parts]


def petals(stage: Stage, palette: Palette, random: np.random.Generator) -> list[Layer]:
    """Petals blowing past."""
    del palette
    unit = stage.unit
    pink = Colour.from_hex("#ffb3d1")
    layers: list[Layer] = []
    for _ in range(34):
        radius = unit * random.uniform(1.4, 3.4)
        side = even(2 * radius + 4)
        y, x = np.mgrid[0:side, 0:side].astype(np.float32) - np.float32(side / 2)
        angle = random.uniform(0, np.pi)
        along = x * np.cos(angle) + y * np.sin(angle)
        across = y * np.cos(angle) - x * np.sin(angle)
        shape = np.clip((1 - np.hypot(along / radius, across / (radius * 0.5))) * radius / 2, 0, 1)
        colour = pink.turned(random.uniform(-15, 15)).lighter(random.uniform(-25, 25))
        path = Tumble(
            x=random.uniform(0, stage.width),
            y=random.uniform(0, stage.height),
            x_per_frame=stage.pace(random.uniform(5, 9)),
            y_per_frame=stage.pace(random.uniform(5, 10)),
            width=stage.width,
            height=stage.height,
        )
        layers.append(sprite([(shape.astype(np.float32), colour)], path))
    return layers
