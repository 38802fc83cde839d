"""Reads the raw JSON of a `videoInference` task by the documented rules.

It shares no code with the client's own checks, so that each of them finds the other's mistakes.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from sora_dagster.runware.catalogue import Catalogue, VideoModel
from sora_dagster.sandbox.model_rules import refuse_broken_rules
from sora_dagster.sandbox.refusals import RefusedTaskError, refusal
from sora_dagster.sandbox.request_form import VideoRequest

_UUID_V4 = re.compile(
    r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", re.IGNORECASE
)


def task_uuid_of(task: Mapping[str, Any]) -> str:
    """The UUID of a task.

    Raises:
        RefusedTaskError: it is missing or not a UUID v4.
    """
    value = task.get("taskUUID")
    if value is None:
        raise RefusedTaskError(
            "missingTaskUUID", "taskUUID is required: a UUID v4.", parameter="taskUUID"
        )
    if not isinstance(value, str) or not _UUID_V4.fullmatch(value):
        raise RefusedTaskError(
            "invalidTaskUUID", "taskUUID must be a UUID v4.", parameter="taskUUID"
        )
    return value


def read_video_request(task: Mapping[str, Any], catalogue: Catalogue) -> VideoRequest:
    """Check a task and read it.

    Raises:
        RefusedTaskError: the task breaks a rule; it names the first one.
    """
    task_uuid_of(task)
    entry = _model(task, catalogue)
    for parameter in _unsupported(task, entry):
        _refuse(entry, "unsupportedParameter", parameter, f"is not supported by {entry.name}")
    try:
        request = VideoRequest.read(task, entry)
    except ValidationError as error:
        _refuse_invalid(entry, error.errors()[0])
    refuse_broken_rules(request)
    return request


def _model(task: Mapping[str, Any], catalogue: Catalogue) -> VideoModel:
    air = task.get("model")
    if air is None:
        raise RefusedTaskError("missingModel", "model is required.", parameter="model")
    for entry in catalogue.entries:
        if entry.air == air:
            return entry
    known = ", ".join(entry.air for entry in catalogue.entries)
    raise RefusedTaskError(
        "invalidModel", f"model {air!r} is not available; available: {known}.", parameter="model"
    )


def _unsupported(task: Mapping[str, Any], entry: VideoModel) -> Iterator[str]:
    """The fields of a task that only other models have."""
    places = {setting.at for setting in entry.settings.values()}
    has_field = {
        "negativePrompt": entry.negative_prompt is not None,
        "width": entry.takes_size,
        "height": entry.takes_size,
        "resolution": bool(entry.resolutions),
        "duration": entry.durations is not None,
        "seed": entry.seed is not None,
        "fps": entry.fps is not None,
        "settings": "settings" in places,
        "providerSettings": any(place.startswith("providerSettings.") for place in places),
    }
    for name, is_supported in has_field.items():
        if name in task and not is_supported:
            yield name
    inputs = task.get("inputs")
    if isinstance(inputs, Mapping):
        yield from (f"inputs.{name}" for name in inputs if name not in entry.inputs)


def _refuse_invalid(entry: VideoModel, error: ErrorDetails) -> NoReturn:
    """Refuse a task with the first error that pydantic found."""
    location = error["loc"]
    name = [part for part in location if isinstance(part, str)][-1]
    camel = name[0].upper() + name[1:]
    codes = {
        "extra_forbidden": "unsupportedParameter",
        "literal_error": f"unsupported{camel}",
        "missing": f"missing{camel}",
        "too_short": "arrayTooSmall",
    }
    code = codes.get(error["type"], f"invalid{camel}")
    is_image = location[:2] == ("inputs", "frameImages") and len(location) > 2
    if is_image and error["type"] not in ("extra_forbidden", "literal_error"):
        code = "invalidFrameImage"
    message = error["msg"].removeprefix("Value error, ")
    whats = {"extra_forbidden": "is not supported by this model", "missing": "is required"}
    what = whats.get(error["type"], f"is invalid: {message[0].lower()}{message[1:]}")
    _refuse(entry, code, ".".join(map(str, location)), what)


def _refuse(entry: VideoModel, code: str, parameter: str, what: str) -> NoReturn:
    raise refusal(entry, code, parameter, what)
