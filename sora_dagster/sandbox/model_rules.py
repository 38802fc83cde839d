"""What a model accepts, by its catalogue entry: the limits of single fields, and its own rules."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn

from sora_dagster.runware.catalogue import FrameSize
from sora_dagster.runware.catalogue.conditions import condition_text, holds
from sora_dagster.runware.catalogue.numbers import NumberRule
from sora_dagster.runware.catalogue.parts import AudioSwitch, InputLimits, Rule, Setting
from sora_dagster.sandbox.refusals import refusal
from sora_dagster.sandbox.request_form import FrameImage, VideoRequest


def refuse_broken_rules(request: VideoRequest) -> None:
    """Check a task against its model's entry.

    Raises:
        RefusedTaskError: it breaks a limit or a rule; it names the first one.
    """
    entry = request.entry
    _check_texts(request)
    _check_size(request)
    _check_numbers(request)
    _check_settings(request)
    for name, items in request.inputs.given():
        limits = entry.inputs[name]  # type: ignore[index]
        count = len(items) if isinstance(items, list) else 1
        if count > limits.max:
            what = f"has {count} items; it must have at most {limits.max}"
            raise refusal(entry, "arrayTooLarge", f"inputs.{name}", what)
    if "frameImages" in entry.inputs:
        _check_places(request, entry.inputs["frameImages"])
    fields = request.fields()
    for rule in entry.rules:
        if holds(rule.if_, fields):
            _RuleCheck(request, fields, rule).refuse_broken()


def _check_texts(request: VideoRequest) -> None:
    entry = request.entry
    for name, text, limits in (
        ("positivePrompt", request.prompt, entry.prompt),
        ("negativePrompt", request.negative_prompt, entry.negative_prompt),
    ):
        if text is None or limits is None:
            continue
        if name not in request.raw and limits.min > 0:
            raise refusal(entry, f"missing{_camel(name)}", name, "is required")
        if not limits.min <= len(text) <= limits.max:
            what = f"has {len(text)} characters; it must have {limits.min} to {limits.max}"
            raise refusal(entry, f"invalid{_camel(name)}Length", name, what)


def _check_size(request: VideoRequest) -> None:
    entry, size = request.entry, request.size
    allowed = str(entry.size_rule or ", ".join(map(str, entry.allowed_sizes)))
    if size is not None:
        if not entry.allows_size(size):
            what = f"and height are {size}; they must be one of {allowed}"
            raise refusal(entry, "unsupportedDimensions", "width", what)
    elif request.width is not None or request.height is not None:
        missing = "height" if request.height is None else "width"
        given = "width" if request.height is None else "height"
        what = f"is required together with {given}; sizes: {allowed}"
        raise refusal(entry, f"missing{_camel(missing)}", missing, what)
    if request.resolution is not None and request.resolution not in entry.resolutions:
        what = f"is {request.resolution!r}; it must be one of {', '.join(entry.resolutions)}"
        raise refusal(entry, "unsupportedResolution", "resolution", what)


def _check_numbers(request: VideoRequest) -> None:
    entry, durations = request.entry, request.entry.durations
    duration = request.duration
    if duration is not None and durations is not None and not durations.allows_duration(duration):
        what = f"is {_shown(duration)}; it must be {durations}"
        raise refusal(entry, "unsupportedDuration", "duration", what)
    for name, number, rule in (("fps", request.fps, entry.fps), ("seed", request.seed, entry.seed)):
        if number is None or rule is None:
            continue
        if not _is_finite(number) or not rule.allows(number):
            what = f"is {_shown(number)}; it must be {rule}"
            raise refusal(entry, f"unsupported{_camel(name)}", name, what)
    if request.number_results > entry.max_results:
        what = f"is {request.number_results}; it must be at most {entry.max_results}"
        raise refusal(entry, "invalidNumberResults", "numberResults", what)
    if request.output_format not in (None, *entry.output_formats):
        what = f"is {request.output_format}; it must be one of {', '.join(entry.output_formats)}"
        raise refusal(entry, "unsupportedOutputFormat", "outputFormat", what)


def _check_settings(request: VideoRequest) -> None:
    entry = request.entry
    known = {entry.setting_field(name): setting for name, setting in entry.settings.items()}
    for field, value in request.own_settings():
        setting = known.get(field)
        if setting is None:
            what = f"is not supported by {entry.name}"
            raise refusal(entry, "unsupportedParameter", field, what)
        if not _fits(value, setting):
            what = f"is {_shown(value)}; it must be {_allowed_of(setting)}"
            raise refusal(entry, f"invalid{_camel(field)}", field, what)
    for maker in request.provider_settings:
        if not any(setting.at == f"providerSettings.{maker}" for setting in known.values()):
            what = f"is not supported by {entry.name}"
            raise refusal(entry, "unsupportedParameter", f"providerSettings.{maker}", what)


def _fits(value: Any, setting: Setting) -> bool:
    is_number = _is_finite(value)
    match setting.type:
        case "any":
            return True
        case "boolean":
            has_type = isinstance(value, bool)
        case "text":
            has_type = isinstance(value, str)
        case "number":
            has_type = is_number
        case "integer":
            has_type = is_number and value == int(value)
    if not has_type or (setting.values and value not in setting.values):
        return False
    is_too_low = setting.min is not None and value < setting.min
    return not is_too_low and (setting.max is None or value <= setting.max)


def _allowed_of(setting: Setting) -> str:
    if setting.values:
        return f"one of {', '.join(map(_shown, setting.values))}"
    limits = [
        f"{word} {limit:g}"
        for word, limit in (("at least", setting.min), ("at most", setting.max))
        if limit is not None
    ]
    return " and ".join([f"of type {setting.type}", *limits])


def _check_places(request: VideoRequest, limits: InputLimits) -> None:
    """Check where the frame images stand."""
    taken: list[object] = []
    for index, item in enumerate(request.inputs.frame_images):
        parameter = f"inputs.frameImages.{index}"
        if item.timestamp is not None:
            if not limits.by_time or item.frame is not None or item.timestamp < 0:
                what = (
                    "must be 0 or more, without frame"
                    if limits.by_time
                    else f"is not supported by {request.entry.name}"
                )
                code = "invalidTimestamp" if limits.by_time else "unsupportedParameter"
                raise refusal(request.entry, code, f"{parameter}.timestamp", what)
        elif item.frame is not None and not _is_place(item.frame, limits):
            allowed = [*limits.positions, *(["a number"] if limits.by_index else [])]
            what = f"is {item.frame!r}; it must be {' or '.join(allowed)}"
            raise refusal(request.entry, "unsupportedFrame", f"{parameter}.frame", what)
        place = _place(item)
        if place is not None and place in taken:
            what = "is the place of another image"
            raise refusal(request.entry, "duplicateFrame", f"{parameter}.frame", what)
        taken.append(place)


def _is_place(frame: str | int, limits: InputLimits) -> bool:
    if isinstance(frame, str):
        return frame in limits.positions
    # The schemas of live models take 0 and -1 for the first and the last frame.
    named = {0: "first", -1: "last"}.get(frame)
    return limits.by_index or named in limits.positions


def _place(item: FrameImage) -> object:
    if item.timestamp is not None:
        return ("second", item.timestamp)
    return {"first": 0, "last": -1}.get(item.frame, item.frame)


class _RuleCheck:
    """One rule between fields, whose condition holds for a request."""

    def __init__(self, request: VideoRequest, fields: Mapping[str, Any], rule: Rule) -> None:
        self._request = request
        self._fields = fields
        self._rule = rule

    def refuse_broken(self) -> None:
        """Check the rule.

        Raises:
            RefusedTaskError: it is broken.
        """
        rule, fields = self._rule, self._fields
        if given := [name for name in rule.forbid if name in fields]:
            self._refuse("incompatibleParameters", given, "cannot be given")
        if missing := [name for name in rule.require if name not in fields]:
            self._refuse("missingParameter", missing, "must be given")
        for names in (rule.at_most_one_of, rule.exactly_one_of):
            given = [name for name in names if name in fields]
            if len(given) > 1:
                self._refuse("incompatibleParameters", given, "cannot be given together")
        if rule.exactly_one_of and not any(name in fields for name in rule.exactly_one_of):
            self._refuse("missingParameter", rule.exactly_one_of, "are missing; give one of them")
        for name, allowed in rule.allow.items():
            if name in fields and not _is_one_of(fields[name], allowed):
                is_range = isinstance(allowed, NumberRule)
                listed = str(allowed) if is_range else ", ".join(map(_shown, allowed))
                what = "Dimensions" if name == "size" else _camel(self._parameters(name)[0])
                code = f"unsupported{what}"
                self._refuse(code, [name], f"is {_shown(fields[name])}; it must be {listed}")
        for name, most in rule.max_items.items():
            value = fields.get(name)
            count = 0 if value is None else len(value) if isinstance(value, list) else 1
            if count > most:
                what = f"has {count} items; it must have at most {most}"
                self._refuse("arrayTooLarge", [name], what)

    def _refuse(self, code: str, names: Sequence[str], what: str) -> NoReturn:
        rule = self._rule
        fields = [parameter for name in names for parameter in self._parameters(name)]
        others = [parameter for name in rule.if_ for parameter in self._parameters(name)]
        where = f" {condition_text(rule.if_)}" if rule.if_ else ""
        error = refusal(self._request.entry, code, fields, f"{what}{where}")
        named = [*dict.fromkeys((*fields, *others))]
        error.parameter = named[0] if len(named) == 1 else named
        raise error

    def _parameters(self, name: str) -> tuple[str, ...]:
        """The fields of the request that a name of rules stands for."""
        entry = self._request.entry
        match name:
            case "size":
                return ("width", "height")
            case "tier":
                return ("resolution",) if self._request.size is None else ("width", "height")
            case "audio" if isinstance(entry.audio, AudioSwitch):
                return (entry.setting_field(entry.audio.setting),)
        return (name,)


def _is_one_of(value: Any, allowed: NumberRule | tuple[Any, ...]) -> bool:
    if isinstance(allowed, NumberRule):
        return isinstance(value, (int, float)) and allowed.allows(value)
    if isinstance(value, FrameSize):
        value = str(value)
    return any(value == one and isinstance(value, bool) == isinstance(one, bool) for one in allowed)


def _is_finite(value: Any) -> bool:
    """Whether a value is a number that a float can hold; JSON has larger ones."""
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return is_number and abs(value) <= sys.float_info.max


def _camel(name: str) -> str:
    last = name.rpartition(".")[2]
    return last[:1].upper() + last[1:]


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:.15g}" if _is_finite(value) else str(value)[:80]
