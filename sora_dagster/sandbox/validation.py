"""Reads the raw JSON of a `videoInference` task by the documented rules.

It shares no code with the client's own checks, so that each of them finds the other's mistakes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, Literal, NoReturn
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    ValidationError,
    field_validator,
)
from pydantic_core import ErrorDetails

from sora_dagster.runware.catalogue import Catalogue, FrameSize, OutputFormat, VideoModel
from sora_dagster.sandbox.refusals import RefusedTaskError, parameter_page

_UUID_V4 = re.compile(
    r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}", re.IGNORECASE
)


def _http_uri(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname or " " in value:
        raise ValueError("must be an http or https URI")
    return value


_Uri = Annotated[str, AfterValidator(_http_uri)]


class _Object(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    @field_validator("*", mode="before")
    @classmethod
    def _is_not_null(cls, value: object) -> object:
        if value is None:
            raise ValueError("must not be null")
        return value


class _FrameImage(_Object):
    image: str = Field(min_length=1)
    frame: Literal["first"] = "first"


class _Inputs(_Object):
    frame_images: list[
        Annotated[
            _FrameImage,
            BeforeValidator(lambda item: {"image": item} if isinstance(item, str) else item),
        ]
    ] = Field([], alias="frameImages", min_length=1, max_length=1)
    video_id: str | None = Field(None, alias="videoId")


class _Safety(_Object):
    check_content: bool = Field(False, alias="checkContent")
    mode: Literal["none", "fast", "full"] | None = None


class VideoRequest(_Object):
    """A valid `videoInference` task. Fields that are not described here are the API's."""

    task_type: Literal["videoInference"] = Field(alias="taskType")
    task_uuid: str = Field(alias="taskUUID")
    model: str
    prompt: str = Field(alias="positivePrompt")
    width: int | None = Field(None, ge=1)
    height: int | None = Field(None, ge=1)
    duration_seconds: float | None = Field(None, alias="duration")
    inputs: _Inputs = _Inputs()
    number_results: int = Field(1, alias="numberResults", ge=1)
    output_type: Literal["URL"] = Field("URL", alias="outputType")
    output_format: OutputFormat | None = Field(None, alias="outputFormat")
    output_quality: int = Field(95, alias="outputQuality", ge=20, le=99)
    delivery_method: Literal["async"] = Field("async", alias="deliveryMethod")
    webhook_url: _Uri | None = Field(None, alias="webhookURL")
    upload_endpoint: _Uri | None = Field(None, alias="uploadEndpoint")
    ttl_seconds: int | None = Field(None, alias="ttl", ge=60)
    include_cost: bool = Field(False, alias="includeCost")
    safety: _Safety = _Safety()

    _entry: VideoModel = PrivateAttr()
    _raw: Mapping[str, Any] = PrivateAttr()

    @property
    def entry(self) -> VideoModel:
        """The model's entry in the catalogue."""
        return self._entry

    @property
    def raw(self) -> Mapping[str, Any]:
        """The task as it was sent."""
        return self._raw

    @property
    def size(self) -> FrameSize | None:
        """Width and height in pixels; None if an image or a video decides them."""
        if self.width is None or self.height is None:
            return None
        return FrameSize(self.width, self.height)

    @property
    def image(self) -> str | None:
        """The first frame as it was sent: UUID, URL, data URI or base64."""
        return self.inputs.frame_images[0].image if self.inputs.frame_images else None

    @property
    def checks_content(self) -> bool:
        """Whether results report that their content was checked."""
        return self.safety.check_content if self.safety.mode is None else self.safety.mode != "none"


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
    fields = {name: value for name, value in task.items() if name not in entry.settings}
    try:
        request = VideoRequest.model_validate(fields)
    except ValidationError as error:
        _refuse_invalid(entry, error.errors()[0])
    _check_limits(request, entry)
    request._entry, request._raw = entry, dict(task)
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


def _check_limits(request: VideoRequest, entry: VideoModel) -> None:
    """Check the rules of the model."""

    def refuse(code: str, parameter: str, what: str) -> NoReturn:
        _refuse(entry, code, parameter, what)

    low, high = entry.prompt.min, entry.prompt.max
    if not low <= len(request.prompt) <= high:
        what = f"has {len(request.prompt)} characters; it must have {low} to {high}"
        refuse("invalidPositivePromptLength", "positivePrompt", what)
    video_id, image = request.inputs.video_id, request.image
    for name, value, is_accepted in (
        ("frameImages", image, "frameImages" in entry.inputs),
        ("videoId", video_id, "videoId" in entry.inputs),
    ):
        if value is not None and not is_accepted:
            what = f"is not supported by {entry.name}"
            refuse("unsupportedParameter", f"inputs.{name}", what)
    if image is not None and video_id is not None:
        refuse("incompatibleParameters", "inputs.videoId", "cannot be given with frameImages")
    decider = "inputs.videoId" if image is None else "inputs.frameImages"
    has_decider = image is not None or video_id is not None
    sizes = ", ".join(map(str, entry.allowed_sizes))
    for name, side in (("width", request.width), ("height", request.height)):
        if has_decider and side is not None:
            what = f"cannot be given with {decider}, which decides the size"
            refuse("incompatibleParameters", name, what)
        if not has_decider and side is None:
            refuse(f"missing{name.capitalize()}", name, f"is required; sizes: {sizes}")
    if request.size is not None and request.size not in entry.allowed_sizes:
        what = f"and height are {request.size}; they must be one of {sizes}"
        refuse("unsupportedDimensions", "width", what)
    duration = request.duration_seconds
    durations = entry.durations
    if duration is not None and (durations is None or not durations.allows(duration)):
        refuse("unsupportedDuration", "duration", f"is {duration:g}; it must be {durations}")
    if request.number_results > entry.max_results:
        what = f"is {request.number_results}; it must be at most {entry.max_results}"
        refuse("invalidNumberResults", "numberResults", what)
    if request.output_format not in (None, *entry.output_formats):
        what = f"is {request.output_format}; it must be one of {', '.join(entry.output_formats)}"
        refuse("unsupportedOutputFormat", "outputFormat", what)


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
        "too_long": "arrayTooLarge",
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
    raise RefusedTaskError(
        code,
        f"{parameter} {what}.",
        parameter=parameter,
        documentation=parameter_page(entry, parameter),
    )
