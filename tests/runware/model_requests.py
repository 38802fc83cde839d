"""Requests made from the data of a catalogue entry, by a reading of its rules for tests only."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from hypothesis import strategies as st

from sora_dagster.runware import Catalogue, VideoInference, VideoModel
from sora_dagster.runware.catalogue.numbers import NumberRule
from sora_dagster.runware.catalogue.parts import InputLimits, Rule, Setting
from tests.runware.examples import FIRST, SECOND

ENTRIES = Catalogue.builtin().entries

Shape = Mapping[str, Any]
"""The fields of a request by their names in rules; those that are not set are None."""

_INPUTS = {
    "frameImages": "frame_images",
    "referenceImages": "reference_images",
    "referenceVideos": "reference_videos",
    "referenceAudios": "reference_audios",
    "video": "video",
    "videoId": "video_id",
}


@dataclass(frozen=True)
class Addresses:
    """The addresses of inputs."""

    image: str = SECOND
    video: str = SECOND
    audio: str = SECOND
    video_id: str = "video_0"


def entry_named(short_name: str) -> VideoModel:
    return Catalogue.builtin().get(short_name)


@cache
def _shapes(short_name: str) -> tuple[tuple[Shape, ...], tuple[Shape, ...]]:
    """The combinations of fields that an entry's rules allow, and those that they forbid."""
    entry = entry_named(short_name)
    choices: dict[str, list[Any]] = {f"inputs.{name}": [None, True] for name in entry.inputs}
    choices["size"] = [None, *entry.sizes]
    choices["resolution"] = [None, *entry.resolutions]
    choices["duration"] = [None, *_durations(entry)]
    if entry.seed is not None:
        choices["seed"] = [None, entry.seed.lowest]
    if entry.fps is not None:
        choices["fps"] = [None, *entry.fps.values]
    for name, setting in entry.settings.items():
        choices[entry.setting_field(name)] = [None, *_values(setting)]
    allowed, forbidden = [], []
    for values in itertools.product(*choices.values()):
        shape = dict(zip(choices, values, strict=True))
        (forbidden if broken_clauses(entry, shape) else allowed).append(shape)
    return tuple(allowed), tuple(forbidden)


def allowed_shapes(entry: VideoModel) -> tuple[Shape, ...]:
    return _shapes(entry.short_name)[0]


def forbidden_shapes(entry: VideoModel) -> tuple[Shape, ...]:
    return _shapes(entry.short_name)[1]


def _durations(entry: VideoModel) -> list[Any]:
    numbers = entry.durations
    if numbers is None:
        return []
    values: list[Any] = [numbers.default, numbers.lowest, numbers.highest]
    values += [value for rule in entry.rules for value in _numbers(rule.allow.get("duration", ()))]
    values += ["auto"] * numbers.auto
    return list(dict.fromkeys(values))


def _numbers(allowed: NumberRule | tuple[Any, ...]) -> list[Any]:
    return [allowed.lowest, allowed.highest] if isinstance(allowed, NumberRule) else list(allowed)


def _values(setting: Setting) -> list[Any]:
    if setting.values:
        return list(setting.values)
    return {
        "boolean": [True, False],
        "integer": [setting.min or 1],
        "number": [setting.min or 0.5],
        "text": ["slow"],
        "any": [{"voices": ["ara"]}],
    }[setting.type]


def broken_clauses(entry: VideoModel, shape: Shape) -> list[tuple[str, ...]]:
    """The fields of each clause of a rule that a combination breaks."""
    switch = entry.audio if isinstance(entry.audio, str) else entry.audio.setting
    audio = entry.makes_sound(
        shape[entry.setting_field(switch)] if entry.has_audio_switch else None
    )
    fields = {name: value for name, value in shape.items() if value is not None}
    derived: dict[str, Any] = {"audio": audio, "positivePrompt": "", "numberResults": 1}
    if any(name.startswith("inputs.") for name in fields):
        derived["inputs"] = True
    if "size" in fields or "resolution" in fields:
        derived["tier"] = fields.get("size", fields.get("resolution"))
    every = {**fields, **derived}
    return [names for rule in entry.rules for names in _broken(rule, every)]


def _broken(rule: Rule, fields: Mapping[str, Any]) -> Iterator[tuple[str, ...]]:
    for name, values in rule.if_.items():
        is_given = name in fields
        options = [
            (value == "given" and is_given)
            or (value == "missing" and not is_given)
            or (is_given and _same(fields[name], value))
            for value in values
        ]
        if not any(options):
            return
    yield from ((name,) for name in rule.forbid if name in fields)
    yield from ((name,) for name in rule.require if name not in fields)
    if sum(name in fields for name in rule.at_most_one_of) > 1:
        yield rule.at_most_one_of
    if rule.exactly_one_of and sum(name in fields for name in rule.exactly_one_of) != 1:
        yield rule.exactly_one_of
    for name, allowed in rule.allow.items():
        if name in fields and not any(fields[name] == value for value in _listed(allowed)):
            yield (name,)


def _same(value: Any, other: Any) -> bool:
    # True equals 1, but a switch is not a number.
    return bool(value == other) and isinstance(value, bool) == isinstance(other, bool)


def _listed(allowed: NumberRule | tuple[Any, ...]) -> list[Any]:
    if not isinstance(allowed, NumberRule):
        return list(allowed)
    if allowed.values:
        return list(allowed.values)
    assert allowed.min is not None
    assert allowed.max is not None
    count = int((allowed.max - allowed.min) / allowed.step) + 1
    return [allowed.min + index * allowed.step for index in range(count)]


@st.composite
def request_fields(
    draw: st.DrawFn, entry: VideoModel, shape: Shape, addresses: Addresses
) -> dict[str, Any]:
    """The fields of a request with a combination of fields; each field alone is allowed."""
    fields: dict[str, Any] = {
        "task_uuid": FIRST,
        "model": entry.air,
        "positive_prompt": draw(_text(entry.prompt.min, entry.prompt.max)),
        "number_results": draw(st.integers(1, entry.max_results)),
        "output_format": draw(st.sampled_from(entry.output_formats)),
    }
    if entry.negative_prompt is not None and draw(st.booleans()):
        limits = entry.negative_prompt
        fields["negative_prompt"] = draw(_text(limits.min, limits.max))
    if shape["size"] is not None:
        fields["width"], fields["height"] = draw(st.sampled_from(entry.sizes[shape["size"]]))
    for name in ("resolution", "duration", "fps"):
        if shape.get(name) is not None:
            fields[name] = shape[name]
    if shape.get("seed") is not None:
        assert entry.seed is not None
        fields["seed"] = draw(st.integers(int(entry.seed.lowest), int(entry.seed.highest)))
    inputs = {
        _INPUTS[name]: draw(_input(name, limits, addresses))
        for name, limits in entry.inputs.items()
        if shape[f"inputs.{name}"]
    }
    if inputs:
        fields["inputs"] = inputs
    for name, setting in entry.settings.items():
        value = shape[entry.setting_field(name)]
        if value is not None:
            add_setting(fields, setting.at, name, value)
    return fields


def add_setting(fields: dict[str, Any], at: str, name: str, value: object) -> None:
    """Set a setting of a request at its place."""
    if at == "request":
        fields["extra_parameters"] = {**fields.get("extra_parameters", {}), name: value}
    elif at == "settings":
        fields["settings"] = {**fields.get("settings", {}), name: value}
    else:
        maker = at.removeprefix("providerSettings.")
        of_maker = {**fields.get("provider_settings", {}).get(maker, {}), name: value}
        fields["provider_settings"] = {maker: of_maker}


def _text(low: int, high: int) -> st.SearchStrategy[str]:
    # Long texts are slow to draw: the limits themselves, and short ones.
    lengths = st.sampled_from([max(low, 1), high]) | st.integers(max(low, 1), min(high, 60))
    return lengths.map(lambda length: "a" * length)


def _input(name: str, limits: InputLimits, addresses: Addresses) -> st.SearchStrategy[Any]:
    if name == "video":
        return st.just(addresses.video)
    if name == "videoId":
        return st.just(addresses.video_id)
    if name == "frameImages":
        return st.integers(1, limits.max).flatmap(
            lambda count: st.just(_frames(count, limits, addresses.image))
        )
    address = {"referenceImages": addresses.image, "referenceVideos": addresses.video}.get(
        name, addresses.audio
    )
    return st.integers(1, limits.max).map(lambda count: (address,) * count)


def _frames(count: int, limits: InputLimits, image: str) -> tuple[Any, ...]:
    places: list[dict[str, Any]] = [{"frame": position} for position in limits.positions]
    places += [{"frame": index} for index in (24, 48)] if limits.by_index else []
    places += [{"timestamp": seconds} for seconds in (0.5, 1, 1.5)] if limits.by_time else []
    return tuple({"image": image, **place} for place in places[:count])


@st.composite
def allowed_requests(
    draw: st.DrawFn, entry: VideoModel, addresses: Addresses = Addresses()
) -> VideoInference:
    """Any request that the entry allows."""
    shape = draw(st.sampled_from(allowed_shapes(entry)))
    return VideoInference.build(**draw(request_fields(entry, shape, addresses)))


@st.composite
def forbidden_requests(
    draw: st.DrawFn, entry: VideoModel, addresses: Addresses = Addresses()
) -> tuple[VideoInference, list[tuple[str, ...]]]:
    """A request whose fields are allowed alone but not together, and the clauses it breaks."""
    shape = draw(st.sampled_from(forbidden_shapes(entry)))
    request = VideoInference.build(**draw(request_fields(entry, shape, addresses)))
    clauses = broken_clauses(entry, shape)
    return request, [tuple("width" if name == "size" else name for name in c) for c in clauses]
