"""Conditions of catalogue entries as predicates of JSON Schema."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from sora_dagster.runware.catalogue import FrameSize, VideoModel
from sora_dagster.runware.catalogue.conditions import GIVEN, MISSING, Condition
from sora_dagster.runware.catalogue.parts import AudioSwitch
from sora_dagster.runware.catalogue.sizes import parse_size

Schema = dict[str, Any]

# The values of fields that a request has even if they are not sent.
_DEFAULTS = {"numberResults": 1, "outputFormat": "MP4"}


class UntranslatableError(Exception):
    """JSON Schema cannot say a condition, such as one about a number of pixels."""


def predicate(condition: Condition, entry: VideoModel) -> Schema:
    """The requests for which a condition holds.

    Raises:
        UntranslatableError: if JSON Schema cannot say it.
    """
    return _all_of([matches(name, values, entry) for name, values in condition.items()])


def present(name: str, entry: VideoModel) -> Schema:
    """The requests that have a field of conditions."""
    if name == "size":
        return {"anyOf": [{"required": ["width"]}, {"required": ["height"]}]}
    if name == "audio" or name in _DEFAULTS:
        return {}
    if name == "tier":
        return matches("tier", entry.tiers, entry)
    return _at(name, {"minLength": 1} if name == "positivePrompt" else None)


def matches(name: str, values: Sequence[Any], entry: VideoModel) -> Schema:
    """The requests whose field has one of some values.

    Raises:
        UntranslatableError: if JSON Schema cannot say it.
    """
    parts: list[Schema] = []
    if GIVEN in values:
        parts.append(present(name, entry))
    if MISSING in values:
        parts.append({"not": present(name, entry)})
    if listed := [value for value in values if value not in (GIVEN, MISSING)]:
        parts.append(_has_value(name, listed, entry))
    return _any_of(parts)


def _has_value(name: str, values: Sequence[Any], entry: VideoModel) -> Schema:
    if name == "audio":
        return _any_of([_sounds(bool(value), entry) for value in values])
    if name == "tier":
        return _any_of([_in_tier(str(value), entry) for value in values])
    if name == "size":
        return _any_of([_has_size(parse_size(value)) for value in values])
    equal = _at(name, one_of_values(values))
    if _DEFAULTS.get(name) in values:
        return {"anyOf": [{"not": _at(name)}, equal]}
    return equal


def _sounds(has_sound: bool, entry: VideoModel) -> Schema:
    """The requests for videos with sound, or without."""
    if not isinstance(entry.audio, AudioSwitch):
        return {} if entry.makes_sound() == has_sound else {"not": {}}
    switch = entry.setting_field(entry.audio.setting)
    if has_sound == entry.audio.default:
        return {"not": _at(switch, {"const": not has_sound})}
    return _at(switch, {"const": has_sound})


def _in_tier(tier: str, entry: VideoModel) -> Schema:
    if entry.size_rule is not None:
        raise UntranslatableError
    parts: list[Schema] = []
    if tier in entry.resolutions:
        parts.append(_at("resolution", {"const": tier}))
    parts += [_has_size(size) for size in entry.sizes.get(tier, ())]
    return _any_of(parts)


def _has_size(size: FrameSize) -> Schema:
    return {"required": ["width", "height"], **sides(size.width, size.height)}


def sides(width: int, height: int) -> Schema:
    """The requests with a size, if they have any."""
    return {"properties": {"width": {"const": width}, "height": {"const": height}}}


def within(name: str, schema: Schema) -> Schema:
    """A schema of a field, which holds for requests without it, too."""
    for part in reversed(name.split(".")):
        schema = {"properties": {part: schema}}
    return schema


def one_of_values(values: Sequence[Any]) -> Schema:
    """The schema of a list of values."""
    return {"const": values[0]} if len(values) == 1 else {"enum": list(values)}


def _at(name: str, schema: Schema | None = None) -> Schema:
    """The requests that have a field, with a schema of its own."""
    found = schema
    for part in reversed(name.split(".")):
        found = {"required": [part]} | ({} if found is None else {"properties": {part: found}})
    return found or {}


def _all_of(parts: Iterable[Schema]) -> Schema:
    kept = [part for part in parts if part]
    return kept[0] if len(kept) == 1 else {"allOf": kept} if kept else {}


def _any_of(parts: list[Schema]) -> Schema:
    if {} in parts:
        return {}
    return parts[0] if len(parts) == 1 else {"anyOf": parts} if parts else {"not": {}}
