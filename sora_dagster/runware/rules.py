"""The rules of a request: those of its model's catalogue entry, and those between its fields.

Each rule is here, once. Requests are checked before they are sent and rows of a prompt dataset
when they are read, so both report the same sentence. All broken rules are reported at once.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from itertools import islice
from typing import get_args

from sora_dagster.runware.catalogue import Catalogue, SafetyMode, VideoModel
from sora_dagster.runware.catalogue.parts import REQUEST_FIELDS
from sora_dagster.runware.errors import InvalidRequestError, Problem
from sora_dagster.runware.images import (
    is_http_url,
)
from sora_dagster.runware.input_rules import common_input_rules, input_limits
from sora_dagster.runware.redaction import shown
from sora_dagster.runware.request_fields import request_fields, settings_fields
from sora_dagster.runware.requests import Inputs, VideoInference

# Limits of the API for every model (reference page).
OUTPUT_QUALITY = range(20, 100)
MIN_TTL_SECONDS = 60

# Letters, symbols and marks by their category that are drawn as nothing or as a blank: fillers and
# variation selectors, by Unicode's property Default_Ignorable_Code_Point, and the empty Braille
# pattern.
_BLANK_RANGES = (
    (0x034F, 0x034F),
    (0x115F, 0x1160),
    (0x17B4, 0x17B5),
    (0x180B, 0x180F),
    (0x2065, 0x2065),
    (0x2800, 0x2800),
    (0x3164, 0x3164),
    (0xFE00, 0xFE0F),
    (0xFFA0, 0xFFA0),
    (0xFFF0, 0xFFF8),
    (0xE0000, 0xE0FFF),
)


def check_request(request: VideoInference, catalogue: Catalogue) -> None:
    """Check a request against the rules of its model.

    Raises:
        UnknownModelError: if the catalogue has no entry for the model.
        InvalidRequestError: if the request breaks rules; it lists all of them.
    """
    if problems := broken_rules(request, catalogue.get(request.model)):
        raise InvalidRequestError(problems, request.task_uuid)


def broken_rules(request: VideoInference, entry: VideoModel | None) -> list[Problem]:
    """Every rule that a request breaks, one for each field at most.

    Arguments:
        request: the request; it need not be complete or of the right form.
        entry: the catalogue entry of its model. None: the model is unknown, so only the rules
            that hold for all models are checked.
    """
    problems: dict[str, Problem] = {}
    for problem in (
        *(() if entry is None else _model_rules(request, entry)),
        *_common_rules(request),
    ):
        problems.setdefault(problem.field, problem)
    return list(problems.values())


def allowed_values(field: str, entry: VideoModel | None) -> str:
    """What a field allows, for messages.

    Arguments:
        field: ``width``, ``resolution``, ``duration``, ``fps``, ``seed``, ``numberResults`` or
            ``outputQuality``.
        entry: the model's catalogue entry. None: the model is unknown.
    """
    for_model = "" if entry is None else f" for {entry.name}"
    if field == "outputQuality":
        return f"a whole number from {OUTPUT_QUALITY[0]} to {OUTPUT_QUALITY[-1]}"
    if field == "numberResults":
        limits = f" from 1 to {entry.max_results}" if entry else ", 1 or higher"
        return f"a whole number{limits}{for_model}"
    if entry is None:
        return {
            "duration": "a number of seconds, or auto",
            "width": "WIDTHxHEIGHT in pixels",
            "resolution": "a tier such as 720p",
        }.get(field, "a number")
    rules: Mapping[str, object] = {
        "duration": entry.durations,
        "fps": entry.fps,
        "seed": entry.seed,
        "resolution": ", ".join(entry.resolutions) or None,
        "width": entry.sizes_text,
    }
    return f"{rules[field] or 'none'}{for_model}"


def may_send(
    field: str, entry: VideoModel, given: Mapping[str, object], value: object = None
) -> bool:
    """Whether a field may be sent beside others, by the model's rules.

    Arguments:
        field: ``size``, ``resolution``, ``duration``, …: a field of conditions.
        entry: the model's catalogue entry.
        given: the fields that are sent, by their names in conditions.
        value: its value. Default: any.
    """
    without, with_it = _with_and_without(field, entry, given, value)
    return with_it <= without


def must_send(field: str, entry: VideoModel, given: Mapping[str, object]) -> bool:
    """Whether a field must be sent beside others, by the model's rules; arguments as above."""
    without, with_it = _with_and_without(field, entry, given)
    return not without <= with_it


def _with_and_without(
    field: str, entry: VideoModel, given: Mapping[str, object], value: object = None
) -> tuple[set[Problem], set[Problem]]:
    """The broken rules if a field is not sent, and if it is."""
    without = {name: sent for name, sent in given.items() if name != field}
    with_it = {**without, field: given.get(field, True) if value is None else value}
    return (
        set(entry.field_rules.broken(without, only_presence=value is None)),
        set(entry.field_rules.broken(with_it, only_presence=value is None)),
    )


def prompt_problem(prompt: str, entry: VideoModel) -> Problem | None:
    """What is wrong with the length of a prompt for a model. None: nothing.

    How Runware counts characters is not documented; assumed to be code points. Only visible
    characters count towards the minimum, since blanks and control characters describe no video
    but would be paid for.
    """
    low, high = entry.prompt.min, entry.prompt.max
    # Counted no further than needed.
    visible = len(list(islice(filter(_is_visible, prompt), low)))
    if low <= visible and len(prompt) <= high:
        return None
    characters = "1 character" if len(prompt) == 1 else f"{len(prompt)} characters"
    if visible < low <= len(prompt):
        characters += f", {visible} of them visible"
    return Problem(
        "positivePrompt",
        shown(prompt),
        f"the prompt {shown(prompt)} has {characters}; allowed: {low} to {high} characters, at "
        f"least {low} of them visible, for {entry.name}",
    )


def audio_problem(audio: bool | None, entry: VideoModel) -> Problem | None:
    """Why a model cannot make a video with sound, or without. None: it can.

    Arguments:
        audio: whether the video is to have sound. None: the model's default.
        entry: the model's catalogue entry.
    """
    if audio is None or entry.has_audio_switch or audio == entry.makes_sound():
        return None
    always = "all its videos have sound" if entry.makes_sound() else "its videos have no sound"
    return Problem(
        "audio",
        str(audio).lower(),
        f"audio is {str(audio).lower()}, but {entry.name} ({entry.air}) cannot switch sound: "
        f"{always}; remove it or choose another model",
    )


def _model_rules(request: VideoInference, entry: VideoModel) -> Iterator[Problem]:
    if request.model != entry.air:
        yield Problem(
            "model",
            shown(request.model),
            f"{shown(request.model)} is checked against the entry of another model, {entry.air}",
        )
    if (problem := prompt_problem(request.positive_prompt, entry)) is not None:
        yield problem
    yield from _negative_prompt(request, entry)
    yield from input_limits(request.inputs or Inputs(), entry)
    yield from _values(request, entry)
    yield from _settings(request, entry)
    yield from entry.field_rules.broken(request_fields(request, entry))


def _negative_prompt(request: VideoInference, entry: VideoModel) -> Iterator[Problem]:
    text, limits = request.negative_prompt, entry.negative_prompt
    if text is None:
        return
    if limits is None:
        yield _unsupported("negativePrompt", shown(text), "negative prompt", entry)
    elif not limits.min <= len(text) <= limits.max:
        yield Problem(
            "negativePrompt",
            shown(text),
            f"the negative prompt {shown(text)} has {len(text)} characters; allowed: {limits.min} "
            f"to {limits.max} characters for {entry.name}",
        )


def _values(request: VideoInference, entry: VideoModel) -> Iterator[Problem]:
    """The values of single fields."""
    yield from _size(request, entry)
    if request.resolution is not None and request.resolution not in entry.resolutions:
        if not entry.resolutions:
            yield _unsupported("resolution", shown(request.resolution), "resolution", entry)
        else:
            nearest = next(
                iter(get_close_matches(request.resolution, entry.resolutions, n=1)), None
            )
            yield _not_allowed(
                "resolution", "resolution", shown(request.resolution), entry, nearest
            )
    durations = entry.durations
    if request.duration is not None:
        given = request.duration
        value = given if isinstance(given, str) else f"{given:g} seconds"
        if durations is None:
            yield _unsupported("duration", value, "duration", entry)
        elif not durations.allows_duration(given):
            nearest = None if isinstance(given, str) else f"{durations.nearest(given):g} seconds"
            yield _not_allowed("duration", "duration", value, entry, nearest)
    for field, what, number, rule in (
        ("fps", "frame rate", request.fps, entry.fps),
        ("seed", "seed", request.seed, entry.seed),
    ):
        if number is None:
            continue
        if rule is None:
            yield _unsupported(field, f"{number:.15g}", what, entry)
        elif not rule.allows(number):
            nearest = f"{rule.nearest(number):.15g}"
            yield _not_allowed(field, what, f"{number:.15g}", entry, nearest)
    results = request.number_results
    if not 1 <= results <= entry.max_results:
        nearest = str(min(max(results, 1), entry.max_results))
        yield _not_allowed("numberResults", "number of results", str(results), entry, nearest)
    if request.output_format not in entry.output_formats:
        yield Problem(
            "outputFormat",
            shown(request.output_format),
            f"{shown(request.output_format)} is not an output format of {entry.name}; allowed: "
            f"{', '.join(entry.output_formats)}",
        )


def _size(request: VideoInference, entry: VideoModel) -> Iterator[Problem]:
    width, height, size = request.width, request.height, request.size
    if width is None and height is None:
        return
    if not entry.takes_size:
        yield _unsupported("width", f"{width}x{height}", "size", entry)
    elif size is None:
        yield Problem(
            "height" if height is None else "width",
            "not given",
            f"width and height are required together; allowed: {allowed_values('width', entry)}",
        )
    elif not entry.allows_size(size):
        nearest = entry.nearest_size(size)
        yield _not_allowed(
            "width", "size", str(size), entry, None if nearest is None else str(nearest)
        )


def _settings(request: VideoInference, entry: VideoModel) -> Iterator[Problem]:
    known = {entry.setting_field(name): setting for name, setting in entry.settings.items()}
    for field, value in (*settings_fields(request), *request.extra_parameters.items()):
        setting = known.get(field)
        if field in REQUEST_FIELDS:
            yield Problem(
                field, shown(value), "this is a field of every request; set it there instead"
            )
        elif setting is None:
            listed = ", ".join(known) or "none"
            yield Problem(
                field,
                shown(value),
                f"this is not a setting of {entry.name}; allowed: {listed}. Add it to settings of "
                f"the model's catalogue entry",
            )
        elif (allowed := setting.problem(value)) is not None:
            yield Problem(
                field,
                shown(value),
                f"{field} is {shown(value)}; allowed: {allowed} for {entry.name}",
            )
        if (problem := _json_problem(field, value)) is not None:
            yield problem


def _json_problem(field: str, value: object) -> Problem | None:
    try:
        json.dumps({field: value}, ensure_ascii=False, allow_nan=False).encode()
    except (TypeError, ValueError):
        return Problem(
            field.encode(errors="backslashreplace").decode(),
            ascii(value),
            f"{value!a} cannot be sent as JSON; allowed: finite numbers and UTF-8 text",
        )
    return None


def _unsupported(field: str, value: str, what: str, entry: VideoModel) -> Problem:
    return Problem(
        field,
        value,
        f"the {what} is {value}, but {entry.name} ({entry.air}) takes no {what}; remove it or "
        f"choose another model",
    )


def _common_rules(request: VideoInference) -> Iterator[Problem]:
    try:
        request.positive_prompt.encode()
    except UnicodeEncodeError as error:
        yield Problem(
            "positivePrompt",
            ascii(request.positive_prompt[:40]),
            f"character {error.start + 1} is half of a surrogate pair "
            f"({request.positive_prompt[error.start]!a}); write the whole character",
        )
    yield from common_input_rules(request)
    if request.output_quality not in OUTPUT_QUALITY:
        nearest = min(max(request.output_quality, OUTPUT_QUALITY[0]), OUTPUT_QUALITY[-1])
        yield _not_allowed(
            "outputQuality", "output quality", str(request.output_quality), nearest=str(nearest)
        )
    if request.ttl is not None and request.ttl < MIN_TTL_SECONDS:
        yield Problem(
            "ttl",
            str(request.ttl),
            f"{request.ttl} seconds is too short for the life of the video's URL; allowed: "
            f"{MIN_TTL_SECONDS} seconds or more",
        )
    for field, url in (
        ("webhookURL", request.webhook_url),
        ("uploadEndpoint", request.upload_endpoint),
    ):
        if url is not None and not is_http_url(url):
            # Cut here: text that is not a URL is not recognised as one that may hold a secret.
            value = shown(url.partition("?")[0])
            yield Problem(
                field, value, f"{value} is not an absolute URL that begins with http:// or https://"
            )
    yield from _safety(request)


def _safety(request: VideoInference) -> Iterator[Problem]:
    safety = request.safety
    if safety is None or safety.mode is None:
        return
    modes = get_args(SafetyMode)
    if safety.mode not in modes:
        yield Problem(
            "safety.mode",
            shown(safety.mode),
            f"{shown(safety.mode)} is not a safety mode; allowed: {', '.join(modes)}",
        )
    elif safety.check_content is not None and safety.check_content != (safety.mode != "none"):
        yield Problem(
            "safety.mode",
            safety.mode,
            f"mode {safety.mode} contradicts checkContent {str(safety.check_content).lower()}; "
            f"allowed: fast or full with true, none with false",
        )


def _not_allowed(
    field: str, what: str, value: str, entry: VideoModel | None = None, nearest: str | None = None
) -> Problem:
    hint = "" if nearest is None else f"; nearest: {nearest}"
    return Problem(
        field, value, f"the {what} is {value}; allowed: {allowed_values(field, entry)}{hint}"
    )


def _is_visible(character: str) -> bool:
    if character.isspace() or unicodedata.category(character) in ("Cc", "Cf", "Cs"):
        return False
    return not any(first <= ord(character) <= last for first, last in _BLANK_RANGES)
