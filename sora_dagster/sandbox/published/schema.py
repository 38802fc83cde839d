"""The JSON Schema of a model's requests, in the form that Runware publishes."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations
from typing import Any

from sora_dagster.runware.catalogue import FrameSize, VideoModel
from sora_dagster.runware.catalogue.numbers import NumberRule
from sora_dagster.runware.catalogue.parts import InputLimits, Rule, Setting
from sora_dagster.sandbox.published.predicates import (
    Schema,
    UntranslatableError,
    matches,
    one_of_values,
    predicate,
    present,
    sides,
    within,
)

_MAX_LISTED = 1000
_ADDRESS: Schema = {"type": "string", "minLength": 1}
_URI: Schema = {"type": "string", "format": "uri"}


def request_schema(entry: VideoModel) -> Schema:
    """The schema of one `videoInference` task of a model.

    It is the entry's form of what Runware publishes. What JSON Schema cannot say is left out: the
    number of pixels of a tier, where sizes follow a rule.
    """
    required = ["taskType", "taskUUID", "model"]
    if entry.prompt.min > 0:
        required.append("positivePrompt")
    schema: Schema = {
        "type": "object",
        "additionalProperties": False,
        "required": required,
        "properties": _properties(entry),
    }
    if rules := [*_size_rules(entry), *_rules(entry)]:
        schema["allOf"] = rules
    return schema


def response_schema() -> Schema:
    """The schema of the answer to a task (official SDK 1.8.0)."""
    result = {
        "taskType": {"type": "string"},
        "taskUUID": {"type": "string", "format": "uuid"},
        "videoUUID": {"type": "string", "format": "uuid"},
        "videoURL": _URI,
        "seed": {"type": "integer"},
        "cost": {"type": "number"},
        "NSFWContent": {"type": "boolean"},
    }
    item = {"type": "object", "required": ["taskType", "taskUUID"], "properties": result}
    return {"type": "object", "properties": {"data": {"type": "array", "items": item}}}


def _properties(entry: VideoModel) -> Schema:
    properties: Schema = {
        "taskType": {"type": "string", "const": "videoInference"},
        "taskUUID": {"type": "string", "format": "uuid"},
        "model": {"type": "string", "const": entry.air},
        "positivePrompt": {
            "type": "string",
            "minLength": entry.prompt.min,
            "maxLength": entry.prompt.max,
        },
    }
    if entry.negative_prompt is not None:
        limits = entry.negative_prompt
        properties["negativePrompt"] = {
            "type": "string",
            "minLength": limits.min,
            "maxLength": limits.max,
        }
    properties |= _sides(entry)
    if entry.resolutions:
        properties["resolution"] = {"type": "string", "enum": list(entry.resolutions)}
        if entry.default_resolution is not None:
            properties["resolution"]["default"] = entry.default_resolution
    if entry.durations is not None:
        properties["duration"] = _duration(entry)
    for name, rule in (("seed", entry.seed), ("fps", entry.fps)):
        if rule is not None:
            properties[name] = _number(rule)
    if entry.inputs:
        properties["inputs"] = _inputs(entry)
    properties |= _settings(entry)
    properties |= {
        "numberResults": {
            "type": "integer",
            "minimum": 1,
            "maximum": entry.max_results,
            "default": 1,
        },
        "outputType": {"type": "string", "enum": ["URL"], "default": "URL"},
        "outputFormat": {
            "type": "string",
            "enum": list(entry.output_formats),
            "default": entry.output_formats[0],
        },
        "outputQuality": {"type": "integer", "minimum": 20, "maximum": 99, "default": 95},
        "deliveryMethod": {"type": "string", "enum": ["async"], "default": "async"},
        "webhookURL": _URI,
        "uploadEndpoint": _URI,
        "ttl": {"type": "integer", "minimum": 60},
        "includeCost": {"type": "boolean", "default": False},
        "safety": {
            "type": "object",
            "additionalProperties": False,
            "properties": {
                "checkContent": {"type": "boolean", "default": False},
                "mode": {"type": "string", "enum": ["fast", "full"], "default": "fast"},
            },
        },
    }
    return properties


def _sides(entry: VideoModel) -> Schema:
    if not entry.takes_size:
        return {}
    side: Schema = {"type": "integer"}
    if (rule := entry.size_rule) is not None:
        side |= {"minimum": rule.min, "maximum": rule.max, "multipleOf": rule.step}
    size = entry.default_size
    if size is None:
        return {"width": side, "height": side}
    return {
        "width": {**side, "default": size.width},
        "height": {**side, "default": size.height},
    }


def _duration(entry: VideoModel) -> Schema:
    durations = entry.durations
    if durations is None:
        raise AssertionError("only called for a model with durations")
    number = _number(durations)
    default = {"default": _plain(durations.default)}
    if not durations.auto:
        return {**number, **default}
    kind = number["type"]
    return {"type": [kind, "string"], **default, "oneOf": [number, {"const": "auto"}]}


def _number(rule: NumberRule) -> Schema:
    """The schema of allowed numbers, as a list if JSON Schema has no range for them."""
    if rule.values:
        values = [_plain(value) for value in rule.values]
        is_whole = all(isinstance(value, int) for value in values)
        return {"type": "integer" if is_whole else "number", "enum": values}
    low, high, step = rule.min or 0.0, rule.max or 0.0, float(rule.step)
    is_whole = low.is_integer() and step.is_integer()
    count = (high - low) / step + 1
    if low % step and count <= _MAX_LISTED:
        values = [_plain(round(low + index * step, 9)) for index in range(int(count + 1e-9))]
        return {"type": "integer" if is_whole else "number", "enum": values}
    schema: Schema = {
        "type": "integer" if is_whole else "number",
        "minimum": _plain(low),
        "maximum": _plain(high),
    }
    if is_whole and step != 1:
        schema["multipleOf"] = int(step)
    return schema


def _inputs(entry: VideoModel) -> Schema:
    properties: Schema = {}
    for name, limits in entry.inputs.items():
        if name in ("video", "videoId"):
            properties[name] = _ADDRESS
            continue
        items = _frame_image(limits) if name == "frameImages" else _ADDRESS
        properties[name] = {
            "type": "array",
            "minItems": 1,
            "maxItems": limits.max,
            "items": items,
        }
    return {
        "type": "object",
        "additionalProperties": False,
        "minProperties": 1,
        "properties": properties,
    }


def _frame_image(limits: InputLimits) -> Schema:
    properties: Schema = {"image": _ADDRESS}
    named = {"first": 0, "last": -1}
    places = [
        {"const": value} for position in limits.positions for value in (position, named[position])
    ]
    if limits.by_index:
        # Not oneOf, since 0 is a number of a frame and the first one.
        properties["frame"] = {"anyOf": [*places, {"type": "integer"}]}
    elif places:
        properties["frame"] = {"oneOf": places}
    item: Schema = {
        "type": "object",
        "required": ["image"],
        "additionalProperties": False,
        "properties": properties,
    }
    if limits.by_time:
        properties["timestamp"] = {"type": "number", "minimum": 0}
        item["not"] = {"required": ["frame", "timestamp"]}
    return {"anyOf": [_ADDRESS, item]}


def _settings(entry: VideoModel) -> Schema:
    """The settings of a model, by where they are sent."""
    top: Schema = {}
    for name, setting in entry.settings.items():
        place = top
        if setting.at != "request":
            for part in setting.at.split("."):
                empty = {"type": "object", "additionalProperties": False, "properties": {}}
                place = place.setdefault(part, empty)["properties"]
        place[name] = _setting(setting)
    return top


def _setting(setting: Setting) -> Schema:
    schema: Schema = {}
    if setting.type != "any":
        schema["type"] = "string" if setting.type == "text" else setting.type
    if setting.values:
        schema["enum"] = list(setting.values)
    for name, limit in (("minimum", setting.min), ("maximum", setting.max)):
        if limit is not None:
            schema[name] = _plain(limit)
    if setting.default is not None:
        schema["default"] = setting.default
    return schema


# Rules between fields


def _size_rules(entry: VideoModel) -> Iterator[Schema]:
    if not entry.takes_size:
        return
    yield {"dependentRequired": {"width": ["height"], "height": ["width"]}}
    if entry.sizes:
        branches = [
            {"title": f"{tier} ({_shape(size)})", **sides(size.width, size.height)}
            for tier, sizes in entry.sizes.items()
            for size in sizes
        ]
        then = {"required": ["width", "height"], "oneOf": branches}
        yield {"if": present("size", entry), "then": then}


def _shape(size: FrameSize) -> str:
    known = {(16, 9), (9, 16), (4, 3), (3, 4), (1, 1), (21, 9)}
    near = min(known, key=lambda shape: abs(shape[0] / shape[1] - size.width / size.height))
    exact = near[0] * size.height == near[1] * size.width
    return f"{'' if exact else '~'}{near[0]}:{near[1]}"


def _rules(entry: VideoModel) -> Iterator[Schema]:
    for rule in entry.rules:
        try:
            condition = predicate(rule.if_, entry)
            effects = list(_effects(rule, entry))
        except UntranslatableError:
            continue
        for effect in effects:
            yield {"if": condition, "then": effect} if condition else effect


def _effects(rule: Rule, entry: VideoModel) -> Iterator[Schema]:
    """What must hold where the condition of a rule does."""
    if rule.forbid:
        forbidden = [present(name, entry) for name in rule.forbid]
        yield {"not": forbidden[0] if len(forbidden) == 1 else {"anyOf": forbidden}}
    yield from (present(name, entry) for name in rule.require)
    for names in (rule.at_most_one_of, rule.exactly_one_of):
        for pair in combinations(names, 2):
            yield {"not": {"allOf": [present(name, entry) for name in pair]}}
    if rule.exactly_one_of:
        yield {"anyOf": [present(name, entry) for name in rule.exactly_one_of]}
    for name, allowed in rule.allow.items():
        if isinstance(allowed, NumberRule):
            yield within(name, _number(allowed))
        elif name in ("audio", "tier", "size"):
            yield {"anyOf": [{"not": present(name, entry)}, matches(name, allowed, entry)]}
        else:
            yield within(name, one_of_values(allowed))
    for name, most in rule.max_items.items():
        yield within(name, {"maxItems": most})


def _plain(value: Any) -> Any:
    """A number without a needless fraction."""
    return int(value) if isinstance(value, float) and value.is_integer() else value
