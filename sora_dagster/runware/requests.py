"""The requests of the API: Python names in code, the API's names in JSON."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    PlainSerializer,
    Strict,
    ValidationError,
    model_serializer,
)
from pydantic.alias_generators import to_camel

from sora_dagster.runware.catalogue import DEFAULT_MODEL, FrameSize, OutputFormat, SafetyMode
from sora_dagster.runware.errors import InvalidRequestError, Problem
from sora_dagster.runware.redaction import shown

DEFAULT_OUTPUT_QUALITY = 95

_UUID4_PATTERN = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


def _uuid4(value: str) -> str:
    # Answers are matched by this text, so it has one spelling.
    value = value.lower()
    if not _UUID4_PATTERN.fullmatch(value):
        raise ValueError("Input should be a UUID of version 4")
    return value


def _whole_as_int(value: float) -> int | float:
    return int(value) if value.is_integer() else value


TaskUUID = Annotated[str, AfterValidator(_uuid4)]
_Int = Annotated[int, Strict()]
_Bool = Annotated[bool, Strict()]
_Number = Annotated[float, Strict(), Field(allow_inf_nan=False), PlainSerializer(_whole_as_int)]


def _wire_name(name: str) -> str:
    special = {"task_uuid": "taskUUID", "webhook_url": "webhookURL"}
    return special.get(name) or to_camel(name)


class _WireModel(BaseModel):
    model_config = ConfigDict(
        frozen=True, extra="forbid", populate_by_name=True, alias_generator=_wire_name
    )


class FrameImage(_WireModel):
    """An image and its place in the video.

    Arguments:
        image: UUID of an image at Runware, a URL, a data URI, or base64.
        frame: ``first`` (the only place on Sora's reference page), ``last``, or, for models that
            take one, the number of a frame; -1 is the last one. Default: not sent.
        timestamp: the image's time in the video in seconds, for models that take one. Default: not
            sent.
    """

    image: str
    frame: Literal["first", "last"] | _Int | None = None
    timestamp: _Number | None = None


class Inputs(_WireModel):
    """What a video is made from besides the prompt.

    Which of them a model accepts, and how many, is in its catalogue entry. Images are UUIDs of
    images at Runware, URLs, data URIs or base64; videos and audios are UUIDs or URLs.

    Arguments:
        frame_images: images that the video starts from, ends with or passes, plain or as
            `FrameImage`.
        reference_images: images of what the video shows.
        reference_videos: videos that guide it.
        reference_audios: sounds that guide it.
        video: the video to edit or to extend: its UUID (`VideoResult.video_uuid`), or a URL.
        video_id: id of an earlier video (`VideoResult.video_id`), for a remix by Sora.
    """

    frame_images: tuple[str | FrameImage, ...] | None = None
    reference_images: tuple[str, ...] | None = None
    reference_videos: tuple[str, ...] | None = None
    reference_audios: tuple[str, ...] | None = None
    video: str | None = None
    video_id: str | None = None


class Safety(_WireModel):
    """The content check of a video.

    Arguments:
        check_content: whether content is checked; true alone means mode ``fast`` (reference page).
        mode: ``none``, ``fast`` (key frames) or ``full`` (all frames). The page names the first
            two; the schemas of newer models name ``full``.
    """

    check_content: _Bool | None = None
    mode: SafetyMode | None = None

    @model_serializer(mode="wrap")
    def _with_check(self, dump: Callable[[Self], dict[str, Any]]) -> dict[str, Any]:
        # Whether a mode alone turns the check on is not documented, so both are sent.
        wire = dump(self)
        if self.mode == "none":
            # The schemas of live models know no such mode.
            return {"checkContent": False}
        return {**wire, "checkContent": True} if self.mode is not None else wire


class VideoInference(_WireModel):
    """A task that generates videos.

    It has every field of the reference page of Sora 2 Pro, and those that live models have besides
    (official SDK 1.8.0). Which of them a model accepts is in its catalogue entry.

    `taskType`, `taskUUID`, `model`, `positivePrompt` and `deliveryMethod` are always sent; other
    fields only if set, so the API's defaults apply.

    Arguments:
        task_uuid: UUID (version 4) of the task, unique for each task; kept in lower case.
        model: AIR id of the model. Default: Sora 2 Pro.
        positive_prompt: what the video shows.
        negative_prompt: what it must not show.
        width: width in pixels; together with `height`.
        height: height in pixels; together with `width`.
        resolution: resolution tier instead of a size, such as ``720p``.
        duration: length of the video in seconds, or ``auto``, which leaves it to the model.
        fps: frames per second.
        seed: seed of the first video.
        inputs: images, videos and sounds that the video is made from.
        settings: parameters that only this model has, in the API's object ``settings``.
        provider_settings: the same in ``providerSettings``, by maker.
        number_results: number of videos, each with its own seed. Default: 1.
        output_type: ``URL``, the only value.
        output_format: container of the video: ``MP4``, ``WEBM`` or ``MOV``. Default: ``MP4``.
        output_quality: 20 to 99. Default: 95.
        delivery_method: ``async``, the only value.
        webhook_url: URL that Runware calls for each finished video.
        upload_endpoint: URL that Runware uploads the video to, with PUT.
        ttl: life of the video's URL in seconds, at least 60.
        include_cost: whether results include their cost. Default: false.
        safety: content check.
        extra_parameters: parameters that only this model has, at the top of the request, by their
            names in the API.
    """

    task_uuid: TaskUUID
    model: str = DEFAULT_MODEL
    positive_prompt: str
    negative_prompt: str | None = None
    width: _Int | None = None
    height: _Int | None = None
    resolution: str | None = None
    duration: _Number | Literal["auto"] | None = None
    fps: _Number | None = None
    seed: _Int | None = None
    inputs: Inputs | None = None
    settings: Mapping[str, JsonValue] | None = None
    provider_settings: Mapping[str, Mapping[str, JsonValue]] | None = None
    number_results: _Int = 1
    output_type: Literal["URL"] = "URL"
    output_format: OutputFormat = "MP4"
    output_quality: _Int = DEFAULT_OUTPUT_QUALITY
    delivery_method: Literal["async"] = "async"
    webhook_url: str | None = Field(default=None, repr=False)
    upload_endpoint: str | None = Field(default=None, repr=False)
    ttl: _Int | None = None
    include_cost: _Bool = False
    safety: Safety | None = None
    extra_parameters: Mapping[str, JsonValue] = Field(default={}, alias="extra_parameters")

    @classmethod
    def build(cls, **fields: Any) -> Self:
        """Create a request from fields by their Python names or the API's names.

        Raises:
            InvalidRequestError: if a field is unknown, missing, or of the wrong type or form; it
                lists all of them.
        """
        try:
            return cls(**fields)
        except ValidationError as error:
            task_uuid = fields.get("task_uuid", fields.get("taskUUID"))
            raise InvalidRequestError(
                _form_problems(error), shown(task_uuid) if task_uuid is not None else None
            ) from None

    @property
    def size(self) -> FrameSize | None:
        """Width and height. None: not both are set."""
        if self.width is None or self.height is None:
            return None
        return FrameSize(self.width, self.height)

    def to_wire(self) -> dict[str, Any]:
        """The task object in the API's JSON, without nulls."""
        return {
            **self.extra_parameters,
            "taskType": "videoInference",
            "taskUUID": self.task_uuid,
            "model": self.model,
            "positivePrompt": self.positive_prompt,
            "deliveryMethod": self.delivery_method,
            **self.model_dump(
                mode="json",
                by_alias=True,
                exclude_unset=True,
                exclude_none=True,
                exclude={"extra_parameters"},
            ),
        }


_FIELD_NAMES = {
    name
    for model in (VideoInference, Inputs, Safety, FrameImage)
    for name in model.model_fields
    if name != "extra_parameters"
}


def _form_problems(error: ValidationError) -> list[Problem]:
    problems: dict[str, Problem] = {}
    for detail in error.errors(include_url=False):
        path = [str(part) for part in detail["loc"]]
        if detail["type"] != "extra_forbidden":
            # Of a union, pydantic names each branch that it tried.
            path = [part for part in path if part not in ("str", FrameImage.__name__)]
        field = ".".join(_wire_name(part) if part in _FIELD_NAMES else part for part in path)
        message = detail["msg"].removeprefix("Value error, ")
        value = "not given" if detail["type"] == "missing" else shown(detail["input"])
        if detail["type"] == "extra_forbidden":
            message = (
                "there is no such field; put a parameter that only one model has into "
                "extra_parameters and into the model's catalogue entry"
            )
        elif detail["type"] != "missing":
            message = f"{value} is not allowed: {message}"
        problems.setdefault(field, Problem(field, value, message))
    return list(problems.values())


def get_response(task_uuid: str) -> dict[str, Any]:
    """The task object that asks for the status and results of a task (Runware documentation)."""
    return {"taskType": "getResponse", "taskUUID": task_uuid}


def get_task_details(task_uuid: str) -> dict[str, Any]:
    """The task object that asks for the archived request and answer of a task (same source)."""
    return {"taskType": "getTaskDetails", "taskUUID": task_uuid}


def account_details(task_uuid: str) -> dict[str, Any]:
    """The task object that asks for the account's balance and name (same source)."""
    return {"taskType": "accountManagement", "taskUUID": task_uuid, "operation": "getDetails"}


def ping() -> dict[str, Any]:
    """The task object that asks whether the API is up (same source)."""
    return {"taskType": "ping", "ping": True}
