"""Sizes of videos and pictures, in pixels."""

from __future__ import annotations

import math
import re
from typing import Annotated, NamedTuple

from pydantic import BeforeValidator, PlainSerializer

_SIZE_PATTERN = re.compile(r"(\d{2,5})\s*[xX×]\s*(\d{2,5})")


class FrameSize(NamedTuple):
    """Size of a video or picture.

    Arguments:
        width: in pixels.
        height: in pixels.
    """

    width: int
    height: int

    def __str__(self) -> str:
        return f"{self.width}x{self.height}"

    @property
    def pixels(self) -> int:
        """Number of pixels."""
        return self.width * self.height

    def distance(self, other: FrameSize) -> float:
        """How much another size differs, in shape first and then in area. 0: equal."""
        width, height = max(self.width, 1), max(self.height, 1)
        shape = abs(math.log(width * other.height / (height * other.width)))
        return 10 * shape + abs(math.log(width * height / other.pixels))


def parse_size(value: object) -> FrameSize:
    """Read a size such as ``"1792x1024"``, or a pair of integers, in pixels.

    Raises:
        ValueError: if the value is neither.
    """
    width: object = None
    height: object = None
    if isinstance(value, str) and (match := _SIZE_PATTERN.fullmatch(value.strip())):
        width, height = int(match[1]), int(match[2])
    elif isinstance(value, (tuple, list)) and len(value) == 2:
        width, height = value
    if isinstance(width, int) and isinstance(height, int) and width > 0 and height > 0:
        return FrameSize(width, height)
    raise ValueError(f"{value!r} is not a size; write WIDTHxHEIGHT in pixels, such as 1792x1024")


Size = Annotated[FrameSize, BeforeValidator(parse_size), PlainSerializer(str, return_type=str)]
