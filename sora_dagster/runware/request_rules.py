"""The rules that a video request must keep before it is sent: a model's, and those between fields.

Each function here looks at one concern and yields a problem for each rule that is broken, so that
a user sees all of them at once.
"""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING

from sora_dagster.runware.errors import Problem
from sora_dagster.runware.image_input import image_problems, is_http_url
from sora_dagster.runware.models import VideoModel
from sora_dagster.runware.redaction import shown

if TYPE_CHECKING:
    from sora_dagster.runware.requests import VideoInference

MIN_OUTPUT_QUALITY = 20
MAX_OUTPUT_QUALITY = 99
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


def broken_rules(request: VideoInference, entry: VideoModel) -> tuple[Problem, ...]:
    """Every rule of the model and between fields that the request breaks."""
    return (
        *_model(request, entry),
        *_prompt(request, entry),
        *_inputs(request, entry),
        *_size(request, entry),
        *_duration(request, entry),
        *_results(request, entry),
        *_output(request, entry),
        *_urls(request),
        *_safety(request),
        *_extra_parameters(request, entry),
    )


def _model(request: VideoInference, entry: VideoModel) -> Iterator[Problem]:
    if request.model != entry.air:
        yield Problem(
            "model",
            shown(request.model),
            entry.air,
            "the request is held against the entry of another model",
        )


def prompt_length_problem(prompt: str, entry: VideoModel) -> Problem | None:
    """What is wrong with the length of a prompt for a model, if anything.

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
        f"{low} to {high} characters, at least {low} of them visible, for {entry.name}",
        f"it has {characters}",
    )


def _is_visible(character: str) -> bool:
    if character.isspace() or unicodedata.category(character) in ("Cc", "Cf", "Cs"):
        return False
    return not any(first <= ord(character) <= last for first, last in _BLANK_RANGES)


def _prompt(request: VideoInference, entry: VideoModel) -> Iterator[Problem]:
    prompt = request.positive_prompt
    if (problem := prompt_length_problem(prompt, entry)) is not None:
        yield problem
    if not _is_encodable(prompt):
        yield Problem(
            "positivePrompt",
            ascii(prompt[:40]),
            "text that can be written in UTF-8",
            "it holds half of a surrogate pair; read the text again with its right encoding",
        )


def _inputs(request: VideoInference, entry: VideoModel) -> Iterator[Problem]:
    inputs = request.inputs
    if inputs is None:
        return
    if inputs.frame_images is None and inputs.video_id is None:
        yield Problem(
            "inputs", "empty", "frameImages or videoId", "leave it out where there is no input"
        )
    if inputs.video_id is not None:
        if not entry.accepts_video_id:
            yield Problem(
                "inputs.videoId",
                shown(inputs.video_id),
                f"nothing for {entry.name}",
                "this model makes no remixes; choose one whose entry has accepts_video_id",
            )
        if not inputs.video_id.strip() or not inputs.video_id.isprintable():
            yield Problem(
                "inputs.videoId",
                shown(inputs.video_id),
                "the videoId of an earlier video",
                "it is blank, or has characters that no id has",
            )
    if inputs.frame_images is not None:
        yield from _frame_images(request, entry)


def _frame_images(request: VideoInference, entry: VideoModel) -> Iterator[Problem]:
    assert request.inputs is not None
    images = request.inputs.frame_images or ()
    if not entry.accepts_first_frame:
        yield Problem(
            "inputs.frameImages",
            f"{len(images)} images",
            f"nothing for {entry.name}",
            "this model takes no first frame; leave it out or choose another model",
        )
    if request.inputs.video_id is not None:
        yield Problem(
            "inputs.frameImages",
            f"{len(images)} images",
            "nothing beside inputs.videoId",
            "a remix starts from its video; leave one of the two out",
        )
    if len(images) != 1:
        yield Problem(
            "inputs.frameImages",
            f"{len(images)} images",
            "exactly one image",
            "give the first frame only",
        )
    for index, image in enumerate(images):
        field = f"inputs.frameImages.{index}"
        if isinstance(image, str):
            yield from image_problems(image, field=field, entry=entry)
        else:
            yield from image_problems(image.image, field=f"{field}.image", entry=entry)


def _size(request: VideoInference, entry: VideoModel) -> Iterator[Problem]:
    sizes = f"one of {', '.join(map(str, entry.sizes))} for {entry.name}"
    given = {
        name: value
        for name, value in (("width", request.width), ("height", request.height))
        if value is not None
    }
    inputs = request.inputs
    decided_by = None
    if inputs is not None and inputs.video_id is not None:
        decided_by = "inputs.videoId"
    elif inputs is not None and inputs.frame_images is not None:
        decided_by = "inputs.frameImages"

    if decided_by is not None:
        for name, value in given.items():
            yield Problem(
                name,
                str(value),
                f"nothing beside {decided_by}",
                f"the size of the video is that of {decided_by}; leave width and height out",
            )
    elif not given:
        yield Problem(
            "width",
            "not given",
            sizes,
            "without inputs.frameImages and inputs.videoId, width and height are required",
        )
    elif len(given) == 1:
        missing = "height" if "width" in given else "width"
        yield Problem(missing, "not given", sizes, "width and height go together")
    elif request.size not in entry.sizes:
        yield Problem(
            "width",
            str(request.size),
            sizes,
            "this is not a size of the model (width and height are looked at together)",
        )


def _duration(request: VideoInference, entry: VideoModel) -> Iterator[Problem]:
    if request.duration is not None and request.duration not in entry.durations_seconds:
        listed = ", ".join(f"{seconds:g}" for seconds in entry.durations_seconds)
        yield Problem(
            "duration",
            f"{request.duration:g}",
            f"{listed} seconds for {entry.name}",
            "this is not a length of the model",
        )


def _results(request: VideoInference, entry: VideoModel) -> Iterator[Problem]:
    if not 1 <= request.number_results <= entry.max_results:
        yield Problem(
            "numberResults",
            str(request.number_results),
            f"1 to {entry.max_results} for {entry.name}",
            "ask for more by further tasks",
        )


def _output(request: VideoInference, entry: VideoModel) -> Iterator[Problem]:
    if request.output_format not in entry.output_formats:
        yield Problem(
            "outputFormat",
            request.output_format,
            f"{', '.join(entry.output_formats)} for {entry.name}",
            "the model does not deliver this container",
        )
    if not MIN_OUTPUT_QUALITY <= request.output_quality <= MAX_OUTPUT_QUALITY:
        yield Problem(
            "outputQuality",
            str(request.output_quality),
            f"{MIN_OUTPUT_QUALITY} to {MAX_OUTPUT_QUALITY}",
            "it is out of range",
        )
    if request.ttl is not None and request.ttl < MIN_TTL_SECONDS:
        yield Problem(
            "ttl",
            str(request.ttl),
            f"{MIN_TTL_SECONDS} seconds or more",
            "the video's URL would end too soon",
        )


def _urls(request: VideoInference) -> Iterator[Problem]:
    for field, url in (
        ("webhookURL", request.webhook_url),
        ("uploadEndpoint", request.upload_endpoint),
    ):
        if url is not None and not is_http_url(url):
            yield Problem(
                field,
                # Cut by hand: what is no URL is not recognised as one that may hold a secret.
                shown(url.partition("?")[0]),
                "an absolute URL that begins with http:// or https://",
                "Runware could not call it",
            )


def _safety(request: VideoInference) -> Iterator[Problem]:
    safety = request.safety
    if safety is None or safety.mode is None or safety.check_content is None:
        return
    if safety.check_content != (safety.mode != "none"):
        yield Problem(
            "safety.mode",
            safety.mode,
            "fast or full where checkContent is true, none where it is false",
            f"it contradicts checkContent, which is {str(safety.check_content).lower()}",
        )


def _extra_parameters(request: VideoInference, entry: VideoModel) -> Iterator[Problem]:
    documented = {field.alias or name for name, field in type(request).model_fields.items()}
    for name, value in request.extra_parameters.items():
        if name in documented or name == "taskType":
            yield Problem(
                name, shown(value), "a name of its own", "it is a field already; give that instead"
            )
        elif name not in entry.extra_parameters:
            listed = ", ".join(entry.extra_parameters) or "none"
            yield Problem(
                name,
                shown(value),
                f"extra parameters of {entry.name}: {listed}",
                "the model's catalogue entry does not name it; add it to extra_parameters there",
            )
        try:
            json.dumps({name: value}, ensure_ascii=False, allow_nan=False).encode()
        except ValueError:
            yield Problem(
                name.encode(errors="backslashreplace").decode(),
                ascii(value),
                "finite numbers, and text that can be written in UTF-8",
                "it cannot be sent as JSON",
            )


def _is_encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
