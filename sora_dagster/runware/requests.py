"""The requests of the API, in the words of Python, and their form on the wire."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    JsonValue,
    SecretStr,
    Strict,
    ValidationError,
)

from sora_dagster.runware.errors import InvalidRequestError, Problem
from sora_dagster.runware.models import (
    DEFAULT_MODEL,
    DEFAULT_OUTPUT_QUALITY,
    Catalogue,
    FrameSize,
    OutputFormat,
    SafetyMode,
    VideoModel,
)
from sora_dagster.runware.redaction import shown
from sora_dagster.runware.request_form import problems_of_form
from sora_dagster.runware.request_rules import broken_rules

_UUID4_PATTERN = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


def _uuid4(value: str) -> str:
    # The API's answers are matched by this text, so there is one way to write it.
    value = value.lower()
    if not _UUID4_PATTERN.fullmatch(value):
        raise ValueError("this is not a UUID of version 4")
    return value


TaskUUID = Annotated[str, AfterValidator(_uuid4)]
_Int = Annotated[int, Strict()]
_Bool = Annotated[bool, Strict()]
_Number = Annotated[float, Strict(), Field(allow_inf_nan=False)]


class _WireModel(BaseModel):
    """A part of a request: Python's names, and the wire's as aliases."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)

    def given(self) -> Iterator[tuple[str, Any]]:
        """Wire name and value of each field that was given and is not none."""
        for name, field in type(self).model_fields.items():
            value = getattr(self, name)
            if name in self.model_fields_set and value is not None:
                yield field.alias or name, value


class FrameImage(_WireModel):
    """An image and the frame of the video it stands for (reference page)."""

    image: str = Field(description="the UUID of an image, a URL, a data URI, or base64")
    frame: Literal["first"] | None = Field(default=None, description='"first"')

    def to_wire(self) -> dict[str, Any]:
        """The object as it is sent."""
        return dict(self.given())


class Inputs(_WireModel):
    """What a video is made from besides the prompt.

    Arguments:
        frame_images: one image that the video starts from; plain, or with its frame named.
        video_id: id of an earlier video (`VideoResult.video_id`): a remix or an extension.
    """

    frame_images: tuple[str | FrameImage, ...] | None = Field(
        default=None, alias="frameImages", description="a list of one image"
    )
    video_id: str | None = Field(
        default=None, alias="videoId", description="the videoId of an earlier video"
    )

    def to_wire(self) -> dict[str, Any]:
        """The object as it is sent."""
        wire = dict(self.given())
        if "frameImages" in wire:
            wire["frameImages"] = [
                image if isinstance(image, str) else image.to_wire()
                for image in wire["frameImages"]
            ]
        return wire


class Safety(_WireModel):
    """The content check of a video.

    Arguments:
        check_content: whether content is checked; true alone means mode ``fast`` (reference page).
        mode: ``none``, ``fast`` (key frames) or ``full`` (all frames). The page tells of three
            values and names two; the name ``full`` is not documented; assumed.
    """

    check_content: _Bool | None = Field(
        default=None, alias="checkContent", description="true or false"
    )
    mode: SafetyMode | None = Field(default=None, description="none, fast or full")

    def to_wire(self) -> dict[str, Any]:
        """The object as it is sent.

        A mode that checks is sent with `checkContent`, since it is not documented whether the
        mode alone turns the check on.
        """
        wire = dict(self.given())
        if self.mode in ("fast", "full"):
            wire["checkContent"] = True
        return wire


class VideoInference(_WireModel):
    """A task that generates videos, with every field of the reference page.

    Only what is given is sent, besides `taskType`, `taskUUID`, `model`, `positivePrompt` and
    `deliveryMethod`; the API's defaults fill in the rest.

    Arguments:
        task_uuid: UUID v4 of the task, unique for each task; kept in lower case.
        model: AIR id of the model.
        positive_prompt: what the video shows.
        width: width in pixels; with `height`, or not at all.
        height: height in pixels; with `width`, or not at all.
        duration: length of the video in seconds.
        inputs: first frame, or earlier video.
        number_results: how many videos, each with its own seed.
        output_type: ``URL``, the only value.
        output_format: container of the video.
        output_quality: 20 to 99.
        delivery_method: ``async``, the only value.
        webhook_url: URL that Runware calls for each finished video.
        upload_endpoint: URL that Runware puts the bytes of the video to.
        ttl: life of the hosted URL in seconds, at least 60.
        include_cost: whether results tell what they cost.
        safety: content check.
        extra_parameters: parameters that only this model has, by their wire names.
    """

    task_uuid: TaskUUID = Field(alias="taskUUID", description="a UUID of version 4")
    model: str = Field(default=DEFAULT_MODEL, description="the AIR id of a model")
    positive_prompt: str = Field(alias="positivePrompt", description="text")
    width: _Int | None = Field(default=None, description="a whole number of pixels")
    height: _Int | None = Field(default=None, description="a whole number of pixels")
    duration: _Number | None = Field(default=None, description="a number of seconds")
    inputs: Inputs | None = Field(default=None, description="frameImages or videoId")
    number_results: _Int = Field(
        default=1, alias="numberResults", description="a whole number of videos"
    )
    output_type: Literal["URL"] = Field(default="URL", alias="outputType", description="URL")
    output_format: OutputFormat = Field(
        default="MP4", alias="outputFormat", description="MP4, WEBM or MOV"
    )
    output_quality: _Int = Field(
        default=DEFAULT_OUTPUT_QUALITY,
        alias="outputQuality",
        description="a whole number from 20 to 99",
    )
    delivery_method: Literal["async"] = Field(
        default="async", alias="deliveryMethod", description="async"
    )
    webhook_url: str | None = Field(
        default=None, alias="webhookURL", description="an http(s) URL", repr=False
    )
    upload_endpoint: str | None = Field(
        default=None, alias="uploadEndpoint", description="an http(s) URL", repr=False
    )
    ttl: _Int | None = Field(default=None, description="a whole number of seconds, 60 or more")
    include_cost: _Bool = Field(default=False, alias="includeCost", description="true or false")
    safety: Safety | None = Field(default=None, description="checkContent and mode")
    extra_parameters: Mapping[str, JsonValue] = Field(
        default={}, description="JSON values by the names of the model's own parameters"
    )

    @classmethod
    def build(cls, **fields: Any) -> Self:
        """A request from fields by their Python names or their wire names.

        Raises:
            InvalidRequestError: where a field is unknown, missing, or of a wrong type or form;
                it lists all of them.
        """
        try:
            return cls(**fields)
        except ValidationError as error:
            task_uuid = fields.get("task_uuid", fields.get("taskUUID"))
            raise InvalidRequestError(
                problems_of_form(error, (cls, Inputs, Safety, FrameImage)),
                shown(task_uuid) if task_uuid is not None else None,
            ) from None

    @classmethod
    def from_wire(cls, wire: Mapping[str, Any]) -> Self:
        """The request that a task object on the wire is; unknown keys are extra parameters.

        Raises:
            InvalidRequestError: where it is no `videoInference` task of a right form.
        """
        if wire.get("taskType") != "videoInference":
            raise InvalidRequestError(
                [
                    Problem(
                        "taskType",
                        shown(wire.get("taskType")),
                        "videoInference",
                        "this is not a task that generates videos",
                    )
                ]
            )
        fields = {name: value for name, value in wire.items() if name in WIRE_NAMES}
        extra = {
            name: value
            for name, value in wire.items()
            if name not in WIRE_NAMES and name != "taskType"
        }
        return cls.build(**fields, **({"extra_parameters": extra} if extra else {}))

    @property
    def size(self) -> FrameSize | None:
        """Width and height, where both are given."""
        if self.width is None or self.height is None:
            return None
        return FrameSize(self.width, self.height)

    def to_wire(self) -> dict[str, Any]:
        """The task object as it is sent: nothing null, whole numbers as integers."""
        wire: dict[str, Any] = {
            "taskType": "videoInference",
            "taskUUID": self.task_uuid,
            "model": self.model,
            "positivePrompt": self.positive_prompt,
            "deliveryMethod": self.delivery_method,
        }
        for name, value in self.given():
            if name == "extra_parameters":
                continue
            if isinstance(value, (Inputs, Safety)):
                wire[name] = value.to_wire()
            elif isinstance(value, float) and value.is_integer():
                wire[name] = int(value)
            else:
                wire[name] = value
        return {**self.extra_parameters, **wire}

    def problems(self, entry: VideoModel) -> tuple[Problem, ...]:
        """Every rule that the request breaks: those of the entry, and those between fields."""
        return broken_rules(self, entry)

    def check(self, catalogue: Catalogue) -> None:
        """Hold the request against the rules of its model.

        Raises:
            UnknownModelError: where the catalogue has no entry of the model.
            InvalidRequestError: where it breaks rules; it lists all of them.
        """
        if problems := self.problems(catalogue.get(self.model)):
            raise InvalidRequestError(problems, self.task_uuid)

    def price_usd(self, entry: VideoModel) -> float:
        """What the task costs by the catalogue, in USD; never less than its bill."""
        return entry.price_usd(
            size=self.size,
            duration_seconds=self.duration,
            number_results=self.number_results,
        )


WIRE_NAMES: frozenset[str] = frozenset(
    field.alias or name
    for name, field in VideoInference.model_fields.items()
    if name != "extra_parameters"
)


class _TaskReference(_WireModel):
    task_uuid: TaskUUID = Field(alias="taskUUID", description="a UUID of version 4")


class GetResponse(_TaskReference):
    """Asks how a task is going, and for its results so far (Runware documentation)."""

    def to_wire(self) -> dict[str, Any]:
        """The task object as it is sent."""
        return {"taskType": "getResponse", "taskUUID": self.task_uuid}


class GetTaskDetails(_TaskReference):
    """Asks the archive for the request and the answer of an old task (Runware documentation)."""

    def to_wire(self) -> dict[str, Any]:
        """The task object as it is sent."""
        return {"taskType": "getTaskDetails", "taskUUID": self.task_uuid}


class AccountDetails(_TaskReference):
    """Asks for the account's balance and name (Runware documentation)."""

    def to_wire(self) -> dict[str, Any]:
        """The task object as it is sent."""
        return {
            "taskType": "accountManagement",
            "taskUUID": self.task_uuid,
            "operation": "getDetails",
        }


class Ping(_WireModel):
    """Asks whether the API is there (Runware documentation)."""

    def to_wire(self) -> dict[str, Any]:
        """The task object as it is sent."""
        return {"taskType": "ping", "ping": True}


class Authentication(_WireModel):
    """The key as the first task of a request, in place of a header (Runware documentation)."""

    api_key: SecretStr = Field(alias="apiKey", description="the API key")

    def to_wire(self) -> dict[str, Any]:
        """The task object as it is sent, with the key in the clear."""
        return {"taskType": "authentication", "apiKey": self.api_key.get_secret_value()}
