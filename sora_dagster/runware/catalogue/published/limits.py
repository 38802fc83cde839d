"""The limits of single fields in a published schema, as data of a catalogue entry."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, get_args

from sora_dagster.runware.catalogue.parts import REQUEST_FIELDS, InputName, OutputFormat
from sora_dagster.runware.catalogue.published.predicates import is_size
from sora_dagster.runware.catalogue.sizes import FrameSize

# The fields of every request; other top-level fields are settings of the model. `routing` has no
# documentation and is in every schema of the official SDK 1.8.0.
COMMON_FIELDS = REQUEST_FIELDS | {"routing"}
INPUT_NAMES: tuple[str, ...] = get_args(InputName)
MAX_SEED = 2**31 - 1

_TIER = re.compile(r"\b(\d{3,4}p|[248][kK])\b")


def part(schema: object, *path: str) -> dict[str, Any]:
    """The schema of a property, by its path. Empty: there is none."""
    for name in path:
        properties = schema.get("properties") if isinstance(schema, dict) else None
        schema = properties.get(name) if isinstance(properties, dict) else None
    return schema if isinstance(schema, dict) else {}


def tier_in(text: str) -> str | None:
    """The resolution tier that a text names, such as ``720p`` in ``720p (16:9)``."""
    found = _TIER.search(text)
    return None if found is None else _spelled(found[1])


def _spelled(tier: str) -> str:
    return tier if tier.endswith("p") else tier.upper()


def sizes_of(schema: object) -> Iterator[tuple[FrameSize, str | None]]:
    """Every pair of width and height that a schema lists, with the tier of its title."""
    if isinstance(schema, list):
        for item in schema:
            yield from sizes_of(item)
    elif isinstance(schema, dict):
        if is_size(schema):
            sides = schema["properties"]
            size = FrameSize(sides["width"]["const"], sides["height"]["const"])
            yield size, tier_in(str(schema.get("title", "")))
        else:
            for key in ("allOf", "anyOf", "oneOf", "then", "else"):
                yield from sizes_of(schema.get(key))


def tier_by_height(size: FrameSize) -> str:
    """The usual name of a size's tier, by its shorter side."""
    return f"{min(size)}p" if min(size) < 2000 else "4K"


def alternatives(schema: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """The alternatives of a property: those of oneOf and anyOf, or the property itself."""
    found = [
        item
        for key in ("oneOf", "anyOf")
        for item in schema.get(key) or ()
        if isinstance(item, Mapping)
    ]
    return found or [schema]


def values_of(schema: Mapping[str, Any]) -> list[Any]:
    """Every value that a property lists."""
    values: list[Any] = []
    for item in alternatives(schema):
        values += item["enum"] if isinstance(item.get("enum"), list) else []
        values += [item["const"]] if "const" in item else []
    return list(dict.fromkeys(value for value in values if isinstance(value, (str, int, float))))


def number_rule(schema: Mapping[str, Any]) -> dict[str, Any] | None:
    """Allowed numbers, as a list or a range. None: the schema does not limit them."""
    values = [
        value
        for value in values_of(schema)
        if isinstance(value, (int, float)) and not isinstance(value, bool)
    ]
    if values:
        return {"values": values}
    for item in alternatives(schema):
        low, high = _bound(item, "minimum", 1), _bound(item, "maximum", -1)
        if low is not None and high is not None:
            step = item.get("multipleOf")
            whole = {"min": low, "max": high}
            return whole if step in (None, 1) else {**whole, "step": step}
    return None


def _bound(item: Mapping[str, Any], name: str, inward: int) -> Any:
    """A limit; an exclusive one of whole numbers is the next number inside."""
    exclusive = "exclusive" + name.capitalize()
    if name in item:
        return item[name]
    return item[exclusive] + inward if isinstance(item.get(exclusive), int) else None


def durations(schema: Mapping[str, Any]) -> dict[str, Any] | None:
    """Allowed lengths. None: the schema has none, or does not limit them."""
    rule = number_rule(schema)
    if rule is None:
        return None
    is_auto = "auto" in values_of(schema)
    return {**rule, "auto": True} if is_auto else rule


def setting(schema: Mapping[str, Any], at: str) -> dict[str, Any]:
    """A setting of the model."""
    kinds = schema.get("type")
    kind = {"boolean": "boolean", "integer": "integer", "number": "number", "string": "text"}.get(
        kinds if isinstance(kinds, str) else "", "any"
    )
    data: dict[str, Any] = {"at": at, "type": kind}
    if kind in ("text", "integer", "number") and (values := values_of(schema)):
        data["values"] = values
    if kind in ("integer", "number"):
        data |= {
            short: schema[name]
            for short, name in (("min", "minimum"), ("max", "maximum"))
            if isinstance(schema.get(name), (int, float))
        }
    if schema.get("default") is not None:
        data["default"] = schema["default"]
    if at == "settings":
        del data["at"]
    return data


def frame_images(schema: Mapping[str, Any]) -> dict[str, Any]:
    """What frame images allow: how many, and where."""
    data: dict[str, Any] = {"max": schema["maxItems"]} if "maxItems" in schema else {}
    items = schema.get("items")
    for item in alternatives(items) if isinstance(items, Mapping) else ():
        frame = part(item, "frame")
        named = {0: "first", -1: "last"}
        positions = [named.get(value, value) for value in values_of(frame)]
        if positions := [p for p in ("first", "last") if p in positions]:
            data["positions"] = positions
        if any(
            kind.get("type") == "integer" and "const" not in kind and "enum" not in kind
            for kind in alternatives(frame)
        ):
            data["by_index"] = True
        if part(item, "timestamp"):
            data["by_time"] = True
    return data


def output_formats(schema: Mapping[str, Any]) -> list[str]:
    """The containers that are known here; empty if the schema lists none."""
    return [value for value in values_of(schema) if value in get_args(OutputFormat)]
