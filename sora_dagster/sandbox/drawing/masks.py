"""Masks: arrays that say how much of each pixel a shape covers, from 0 to 1."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from sora_dagster.sandbox.drawing.layers import Floats, Stage

Point = tuple[float, float]

# Shapes are drawn at a multiple of their size, so that their edges are smooth.
_SCALE = 2


def polygons(columns: int, rows: int, shapes: Iterable[Sequence[Point]]) -> Floats:
    """Polygons in a mask that repeats in both directions."""
    image, pen = _canvas(columns, rows)
    for corners in shapes:
        for repeated in _repeated(corners, columns, rows):
            pen.polygon(repeated, 255)
    return _mask(image)


def dots(
    stage: Stage,
    random: np.random.Generator,
    count: int,
    radii: tuple[float, float],
    *,
    brightness: tuple[float, float] = (1.0, 1.0),
    outline: float = 0.0,
) -> Floats:
    """Round spots at random places of a mask that repeats in both directions.

    Arguments:
        radii: smallest and largest radius in units.
        brightness: lowest and highest value of a spot.
        outline: width in units of a brighter rim.
    """
    columns, rows = stage.period, round(stage.height * 1.5)
    image, pen = _canvas(columns, rows)
    width = round(_SCALE * outline * stage.unit)
    for _ in range(count):
        radius = stage.unit * random.uniform(*radii)
        x, y = random.uniform(0, columns), random.uniform(0, rows)
        fill = round(255 * random.uniform(*brightness))
        box = [(x - radius, y - radius), (x + radius, y + radius)]
        for repeated in _repeated(box, columns, rows):
            pen.ellipse(repeated, fill, outline=min(255, 2 * fill), width=width)
    return _mask(image)


def blurred(mask: Floats, radius: float) -> Floats:
    """The mask with a Gaussian blur, in pixels."""
    image = Image.fromarray((np.clip(mask, 0, 1) * 255).astype(np.uint8))
    return np.asarray(image.filter(ImageFilter.GaussianBlur(radius)), np.float32) / 255


def _canvas(columns: int, rows: int) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    image = Image.new("L", (columns * _SCALE, rows * _SCALE))
    return image, ImageDraw.Draw(image)


def _repeated(points: Sequence[Point], columns: int, rows: int) -> Iterator[list[Point]]:
    """The points on the canvas: what crosses an edge goes on at the opposite one."""
    for left in (-columns, 0, columns):
        for top in (-rows, 0, rows):
            yield [(_SCALE * (x + left), _SCALE * (y + top)) for x, y in points]


def _mask(canvas: Image.Image) -> Floats:
    return np.asarray(canvas.reduce(_SCALE), np.float32) / 255


def wave_line(
    random: np.random.Generator, period: int, *, waves: range, roughness: float = 1.0
) -> Floats:
    """A line between -1 and 1 that repeats after a period: a sum of sines.

    Arguments:
        waves: how many waves of each sine fit into the period.
        roughness: how fast the finer sines get weaker; 0.5 is jagged, 2 is smooth.
    """
    x = np.arange(period) * (2 * math.pi / period)
    line = np.zeros(period)
    for count in waves:
        strength = (count / waves.start) ** -roughness
        line += strength * np.sin(x * count + random.uniform(0, 2 * math.pi))
    scaled: Floats = (line / np.abs(line).max()).astype(np.float32)
    return scaled


def peak_line(random: np.random.Generator, period: int, *, peaks: int) -> Floats:
    """A line between about -1 and 1 with pointed summits, that repeats after a period."""
    places = (random.uniform(0.1, 0.9, peaks) + np.arange(peaks)) * period / peaks
    heights = random.uniform(0.4, 1, peaks) * np.where(np.arange(peaks) % 2, -1, 1)
    line = np.interp(np.arange(period), places, heights, period=period).astype(np.float32)
    return line + 0.12 * wave_line(random, period, waves=range(9, 40), roughness=0.8)


def below(line: Floats, *, top: int, rows: int) -> Floats:
    """What lies below a line (in rows of the frame), from row `top` on."""
    y = np.arange(top, top + rows, dtype=np.float32)[:, None]
    return np.clip(y - line[None, :] + np.float32(0.5), 0, 1)


def noise(
    random: np.random.Generator, rows: int, columns: int, cells: tuple[int, int], *, octaves: int
) -> Floats:
    """Soft blotches between 0 and 1 that repeat to the right.

    Arguments:
        cells: how many of the largest blotches fit downwards and across.
        octaves: how many times ever finer blotches are added.
    """
    total = np.zeros((rows, columns), np.float32)
    for octave in range(octaves):
        down, across = (count * 2**octave for count in cells)
        grid = np.tile(random.uniform(0, 1, (down, across)).astype(np.float32), (1, 3))
        image = Image.fromarray(grid).resize((3 * columns, rows), Image.Resampling.BICUBIC)
        total += np.asarray(image)[:, columns : 2 * columns] * np.float32(0.5**octave)
    total -= total.min()
    return total / np.float32(total.max())
