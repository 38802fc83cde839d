"""Allowed numbers: a list, or a range with a step."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class NumberRule(BaseModel):
    """Allowed numbers, as a list or as a range.

    Arguments:
        values: the allowed numbers. Default: those of the range.
        min, max: limits of the range, both allowed.
        step: distance of the allowed numbers from `min` on. Default: 1.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    values: tuple[float, ...] = ()
    min: float | None = Field(default=None, allow_inf_nan=False)
    max: float | None = Field(default=None, allow_inf_nan=False)
    step: float = Field(default=1, gt=0, allow_inf_nan=False)

    @model_validator(mode="after")
    def _is_list_or_range(self) -> NumberRule:
        if self.values:
            if self.min is not None or self.max is not None:
                raise ValueError("values and min/max cannot be combined; remove one")
            if not all(map(math.isfinite, self.values)):
                raise ValueError("values must be finite")
        elif self.min is None or self.max is None:
            raise ValueError("set values, or min and max")
        elif self.min > self.max:
            raise ValueError(f"min {self.min:g} is above max {self.max:g}")
        return self

    @property
    def lowest(self) -> float:
        """The smallest allowed number."""
        return min(self.values) if self.values else self.min or 0.0

    @property
    def highest(self) -> float:
        """The largest allowed number."""
        if self.values:
            return max(self.values)
        return self.nearest(self.max or 0.0)

    def allows(self, value: float) -> bool:
        """Whether a number is allowed."""
        return math.isfinite(value) and abs(self.nearest(value) - value) <= 1e-9

    def nearest(self, value: float) -> float:
        """The nearest allowed number; of two, the smaller one."""
        if self.values:
            return min(sorted(self.values), key=lambda allowed: abs(allowed - value))
        low, high = self.min or 0.0, self.max or 0.0
        if not math.isfinite(value):
            value = high if value > 0 else low
        steps = math.floor((high - low) / self.step + 1e-9)
        index = min(max(round((value - low) / self.step), 0), steps)
        return round(low + index * self.step, 9)

    def __str__(self) -> str:
        if self.values:
            return ", ".join(f"{value:.15g}" for value in self.values)
        step = "" if self.step == 1 else f" in steps of {self.step:g}"
        return f"{self.min:.15g} to {self.max:.15g}{step}"


class Durations(NumberRule):
    """Allowed lengths of a video, in seconds.

    Arguments:
        values, min, max, step: as in `NumberRule`.
        auto: whether the model can choose the length (``"auto"``). Default: false.
        default: length of a clip that sets none, in seconds, or ``auto``.
    """

    auto: bool = False
    default: float | Literal["auto"]

    @model_validator(mode="after")
    def _default_is_allowed(self) -> Durations:
        if not self.allows_duration(self.default):
            raise ValueError(f"default {self.default} is not allowed; allowed: {self}")
        return self

    def allows_duration(self, value: float | str) -> bool:
        """Whether a length in seconds, or ``auto``, is allowed."""
        return self.auto if isinstance(value, str) else self.allows(value)

    def from_longest(self) -> Iterator[float]:
        """The allowed lengths in seconds, the longest first."""
        if self.values:
            yield from sorted(self.values, reverse=True)
            return
        low, length = self.lowest, self.highest
        while length >= low - 1e-9:
            yield length
            length = round(length - self.step, 9)

    def __str__(self) -> str:
        return f"{super().__str__()} seconds{', or auto' if self.auto else ''}"
