"""The rules of a request: those of its model's catalogue entry, and those between its fields.

Each rule is here, once. Requests are checked before they are sent and rows of a prompt dataset
when they are read, so both report the same sentence. All broken rules are reported at once.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterator
from itertools import islice
from typing import get_args

from sora_dagster.runware.errors import InvalidRequestError, Problem
from sora_dagster.runware.images import image_problem, is_http_url
from sora_dagster.runware.models import Catalogue, SafetyMode, VideoModel
from sora_dagster.runware.redaction import shown
from sora_dagster.runware.requests import WIRE_NAMES, FrameImage, Inputs, VideoInference

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
    """Every rule that a request breaks.

    Arguments:
        request: the request; it need not be complete or of the right form.
        entry: the catalogue entry of its model. None: the model is unknown, so only the rules
            that hold for all models are checked.
    """
    return [*(() if entry is None else _model_rules(request, entry)), *_common_rules(request)]


def allowed_values(field: str, entry: VideoModel | None) -> str:
    """What a field allows, for messages.

    Arguments:
        field: ``width``, ``duration``, ``numberResults`` or ``outputQuality``.
        entry: the model's catalogue entry. None: the model is unknown.
    """
    for_model = "" if entry is None else f" for {entry.name}"
    if field == "outputQuality":
        return f"a whole number from {OUTPUT_QUALITY[0]} to {OUTPUT_QUALITY[-1]}"
    if field == "numberResults":
        return f"a whole number from 1 {f'to {entry.max_results}' if entry else 'on'}{for_model}"
    if field == "duration":
        lengths = () if entry is None else entry.durations_seconds
        return f"{', '.join(f'{s:g}' for s in lengths) or 'a number of'} seconds{for_model}"
    sizes = () if entry is None else entry.sizes
    return (", ".join(map(str, sizes)) or "WIDTHxHEIGHT in pixels") + for_model


def prompt_problem(prompt: str, entry: VideoModel) -> Problem | None:
    """What is wrong with the length of a prompt for a model. None: nothing.

    How Runware counts characters is not documented; assumed to be code points. Only visible
    characters count towards the minimum, since blanks and control characters describe no video
    but would be paid for.
    """
    low, high = entry.prompt_min_characters, entry.prompt_max_characters
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


def remix_problem(entry: VideoModel) -> Problem | None:
    """Why a model cannot make a remix. None: it can."""
    if entry.accepts_video_id:
        return None
    return Problem(
        "inputs.videoId",
        "given",
        f"{entry.name} ({entry.air}) does not support remixes, as it accepts no video ids; choose "
        f"another model",
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
    inputs = request.inputs or Inputs()
    if inputs.video_id is not None and (problem := remix_problem(entry)) is not None:
        yield problem
    if inputs.frame_images is not None:
        yield from _frame_images(inputs.frame_images, entry)
    yield from _size(request, entry)
    if request.duration is not None and request.duration not in entry.durations_seconds:
        yield _not_allowed("duration", "duration", f"{request.duration:g} seconds", entry)
    if not 1 <= request.number_results <= entry.max_results:
        yield _not_allowed("numberResults", "number of results", str(request.number_results), entry)
    if request.output_format not in entry.output_formats:
        yield Problem(
            "outputFormat",
            shown(request.output_format),
            f"{shown(request.output_format)} is not an output format of {entry.name}; allowed: "
            f"{', '.join(entry.output_formats)}",
        )
    yield from _extra_parameters(request, entry)


def _frame_images(images: tuple[str | FrameImage, ...], entry: VideoModel) -> Iterator[Problem]:
    if not entry.accepts_first_frame:
        yield Problem(
            "inputs.frameImages",
            "given",
            f"{entry.name} ({entry.air}) accepts no first frame; remove it or choose another model",
        )
    for index, image in enumerate(images):
        field = f"inputs.frameImages.{index}"
        if isinstance(image, FrameImage):
            image, field = image.image, f"{field}.image"
        if (problem := image_problem(image, field=field, entry=entry)) is not None:
            yield problem


def _size(request: VideoInference, entry: VideoModel) -> Iterator[Problem]:
    given = {
        name: value
        for name, value in (("width", request.width), ("height", request.height))
        if value is not None
    }
    inputs = request.inputs
    if inputs is not None and (inputs.video_id is not None or inputs.frame_images is not None):
        source = "parent video" if inputs.video_id is not None else "first frame"
        for name, value in given.items():
            yield Problem(
                name,
                str(value),
                f"a size cannot be combined with a {source}, which decides the size of the video; "
                f"remove one of the two",
            )
    elif len(given) < 2:
        yield Problem(
            "height" if "width" in given else "width",
            "not given",
            f"width and height are required together, unless there is a first frame or a parent "
            f"video; allowed: {allowed_values('width', entry)}",
        )
    elif request.size not in entry.sizes:
        yield _not_allowed("width", "size", str(request.size), entry)


def _extra_parameters(request: VideoInference, entry: VideoModel) -> Iterator[Problem]:
    for name, value in request.extra_parameters.items():
        if name in WIRE_NAMES or name == "taskType":
            yield Problem(
                name, shown(value), "this is a field of every request; set it there instead"
            )
        elif name not in entry.extra_parameters:
            listed = ", ".join(entry.extra_parameters) or "none"
            yield Problem(
                name,
                shown(value),
                f"this is not an extra parameter of {entry.name}; allowed: {listed}. Add it to "
                f"extra_parameters of the model's catalogue entry",
            )
        try:
            json.dumps({name: value}, ensure_ascii=False, allow_nan=False).encode()
        except ValueError:
            yield Problem(
                name.encode(errors="backslashreplace").decode(),
                ascii(value),
                f"{value!a} cannot be sent as JSON; allowed: finite numbers and UTF-8 text",
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
    yield from _inputs(request)
    if request.output_quality not in OUTPUT_QUALITY:
        yield _not_allowed("outputQuality", "output quality", str(request.output_quality))
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


def _inputs(request: VideoInference) -> Iterator[Problem]:
    inputs = request.inputs
    if inputs is None:
        return
    images, video_id = inputs.frame_images, inputs.video_id
    if images is None and video_id is None:
        yield Problem(
            "inputs", "empty", "inputs is empty; set frameImages or videoId, or remove it"
        )
    if video_id is not None and (not video_id.strip() or not video_id.isprintable()):
        yield Problem(
            "inputs.videoId",
            shown(video_id),
            f"{shown(video_id)} is not the videoId of an earlier video",
        )
    if images is not None and video_id is not None:
        yield Problem(
            "inputs.frameImages",
            f"{len(images)} images",
            "a first frame cannot be combined with a parent video; remove one of the two",
        )
    if images is not None and len(images) != 1:
        yield Problem(
            "inputs.frameImages",
            f"{len(images)} images",
            f"{len(images)} images are given; allowed: exactly one, the first frame",
        )


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


def _not_allowed(field: str, what: str, value: str, entry: VideoModel | None = None) -> Problem:
    return Problem(field, value, f"the {what} is {value}; allowed: {allowed_values(field, entry)}")


def _is_visible(character: str) -> bool:
    if character.isspace() or unicodedata.category(character) in ("Cc", "Cf", "Cs"):
        return False
    return not any(first <= ord(character) <= last for first, last in _BLANK_RANGES)
