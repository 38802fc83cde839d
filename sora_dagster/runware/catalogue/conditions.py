"""Conditions on the fields of a request: the language of an entry's rules and prices.

A condition maps fields to what they must be, such as ``{inputs.video: given}``,
``{settings.operation: edit}`` or ``{fps: [48, 50]}``. Fields have their names in the API, with dots
(``inputs.frameImages``). Four more stand for several fields:

- ``size``: width and height, with values such as ``1280x720``.
- ``inputs``: any input.
- ``tier``: the resolution tier of the size, or ``resolution``.
- ``audio``: whether the video gets sound, as a boolean.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final

from pydantic import BeforeValidator

from sora_dagster.runware.catalogue.sizes import FrameSize

GIVEN: Final = "given"
MISSING: Final = "missing"

Scalar = str | int | float | bool
Fields = Mapping[str, object]
"""The fields of a request by their names; those that are not set are absent."""


def _as_tuple(value: object) -> object:
    return tuple(value) if isinstance(value, (list, tuple)) else (value,)


Values = Annotated[tuple[Scalar, ...], BeforeValidator(_as_tuple)]
Condition = Mapping[str, Values]


def holds(condition: Condition, fields: Fields) -> bool:
    """Whether a condition holds for a request."""
    return all(_matches(fields.get(name), values) for name, values in condition.items())


def _matches(value: object, values: tuple[Scalar, ...]) -> bool:
    if MISSING in values and value is None:
        return True
    if GIVEN in values and value is not None:
        return True
    return is_one_of(value, values)


def is_one_of(value: object, values: tuple[Scalar, ...]) -> bool:
    """Whether the value of a field is one of those that an entry lists."""
    if isinstance(value, FrameSize):
        value = str(value)
    # True equals 1, but a switch is not a number.
    return any(
        value == listed and isinstance(value, bool) == isinstance(listed, bool) for listed in values
    )


def condition_text(condition: Condition) -> str:
    """A condition in words, for messages, such as ``with inputs.video and tier 720p``."""
    parts = []
    for name, values in condition.items():
        if values == (GIVEN,):
            parts.append(f"with {name}")
        elif values == (MISSING,):
            parts.append(f"without {name}")
        else:
            parts.append(f"with {name} {' or '.join(map(_shown, values))}")
    return " and ".join(parts)


def _shown(value: Scalar) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
