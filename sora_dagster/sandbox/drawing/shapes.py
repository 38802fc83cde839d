"""Shapes as arrays: how much of each pixel they cover, from 0 to 1, with smooth edges."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from sora_dagster.sandbox.drawing.layers import Field

Line = npt.NDArray[np.float32]


def even(value: float) -> int:
    """The even number next to a value."""
    return 2 * round(value / 2)


def wave_line(
    random: np.random.Generator, period: int, *, waves: range, roughness: float = 1.0
) -> Line:
    """A line between -1 and 1 that repeats after a period: a sum of sines.

    Arguments:
        waves: how many waves of each sine fit into the period.
        roughness: how slowly the finer sines grow weaker; 0.5 is jagged, 2 is smooth.
    """
    x = np.arange(period, dtype=np.float32) * np.float32(2 * math.pi / period)
    line = np.zeros(period, np.float32)
    for count in waves:
        line += np.sin(x * count + random.uniform(0, 2 * math.pi)) / (count / waves.start) ** (
            roughness
        )
    return line / np.float32(np.abs(line).max())


def peak_line(random: np.random.Generator, period: int, *, peaks: int) -> Line:
    """A line between -1 and 1 with pointed summits, that repeats after a period."""
    positions = np.sort(random.uniform(0.1, 0.9, peaks) + np.arange(peaks)) * period / peaks
    heights = random.uniform(-1, 1, peaks)
    heights[::2] = np.abs(heights[::2]) * 0.6 + 0.4
    heights[1::2] = -np.abs(heights[1::2])
    x = np.arange(period, dtype=np.float64)
    line = np.interp(x, positions, heights, period=period).astype(np.float32)
    return line + 0.12 * wave_line(random, period, waves=range(9, 40), roughness=0.8)


def below(line: Line, *, top: int, rows: int) -> Field:
    """What lies below a line (in rows of the frame), from row `top` on."""
    y = np.arange(top, top + rows, dtype=np.float32)[:, None]
    cover: Field = np.clip(y - line[None, :] + np.float32(0.5), 0, 1)
    return cover


def smooth_noise(
    random: np.random.Generator, rows: int, columns: int, *, cells: tuple[int, int]
) -> Field:
    """Soft blotches between 0 and 1 that repeat in both directions.

    Arguments:
        cells: how many blotches fit downwards and across.
    """
    grid = random.uniform(0, 1, cells).astype(np.float32)
    grid = (grid - grid.min()) / (grid.max() - grid.min())
    noise: Field = _spread(rows, cells[0]) @ grid @ _spread(columns, cells[1]).T
    return noise


def billows(random: np.random.Generator, rows: int, columns: int, *, cells: int) -> Field:
    """Noise between 0 and about 1 with ever finer blotches, like smoke.

    Arguments:
        cells: how many of the largest blotches fit downwards.
    """
    noise = np.zeros((rows, columns), np.float32)
    across = max(2, round(cells * columns / rows))
    for octave in range(5):
        size = (cells * 2**octave, across * 2**octave)
        noise += smooth_noise(random, rows, columns, cells=size) * np.float32(0.5**octave)
    return noise / np.float32(1.6)


def _spread(length: int, cells: int) -> Field:
    """Weights that spread `cells` values over a length, eased so that no grid is seen."""
    place = np.arange(length, dtype=np.float32) * np.float32(cells / length)
    cell = np.floor(place).astype(np.int64) % cells
    share = place - np.floor(place)
    share = share * share * (3 - 2 * share)
    weights = np.zeros((length, cells), np.float32)
    rows = np.arange(length)
    weights[rows, cell] += 1 - share
    weights[rows, (cell + 1) % cells] += share
    return weights


def disc(radius: float, *, softness: float = 1.0) -> Field:
    """A round spot in a square of even side.

    Arguments:
        radius: in pixels.
        softness: pixels over which the edge fades.
    """
    side = even(2 * radius + 2 * softness + 2)
    distance = _distance(side)
    cover: Field = np.clip((radius + softness / 2 - distance) / np.float32(softness), 0, 1)
    return cover


def halo(radius: float) -> Field:
    """A round light that fades from its middle to nothing at a radius in pixels."""
    distance = _distance(even(2 * radius)) / np.float32(radius)
    light: Field = np.clip(1 - distance, 0, 1) ** 2
    return light


def _distance(side: int) -> Field:
    place = np.arange(side, dtype=np.float32) - np.float32((side - 1) / 2)
    distance: Field = np.hypot(place[:, None], place[None, :])
    return distance


def strew(tile: Field, stamps: Iterable[tuple[Field, float, float, float]]) -> None:
    """Add stamps to a tile that repeats in both directions.

    Arguments:
        tile: what is added to.
        stamps: shape, row and column of its middle, strength.
    """
    height, width = tile.shape
    for shape, row, column, strength in stamps:
        rows = (np.arange(shape.shape[0]) + int(row - shape.shape[0] / 2)) % height
        columns = (np.arange(shape.shape[1]) + int(column - shape.shape[1] / 2)) % width
        tile[np.ix_(rows, columns)] += shape * np.float32(strength)


def polygon(points: Iterable[tuple[float, float]], *, size: tuple[int, int]) -> Field:
    """A convex polygon, its corners clockwise as (x, y) in pixels.

    Arguments:
        size: rows and columns of the picture that it is in.
    """
    corners = list(points)
    y, x = np.mgrid[0 : size[0], 0 : size[1]].astype(np.float32) + np.float32(0.5)
    cover = np.ones(size, np.float32)
    for (x1, y1), (x2, y2) in zip(corners, corners[1:] + corners[:1], strict=True):
        length = math.hypot(x2 - x1, y2 - y1)
        inside = ((x2 - x1) * (y - y1) - (y2 - y1) * (x - x1)) / np.float32(length)
        cover = np.minimum(cover, np.clip(inside + np.float32(0.5), 0, 1))
    return cover
