"""The form of a `videoInference` task: its fields and their types, whatever the model."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Literal, Self
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    PrivateAttr,
    field_validator,
    model_validator,
)

from sora_dagster.runware.catalogue import FrameSize, OutputFormat, VideoModel

# More frames than any video has.
_MAX_FRAME = 1_000_000


def _http_uri(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in ("http", "https") or not parts.hostname or " " in value:
        raise ValueError("must be an http or https URI")
    return value


def _finite(value: Any) -> float:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not abs(value) <= sys.float_info.max:
        raise ValueError("must be a finite number")
    return float(value)


def _duration(value: object) -> float | Literal["auto"]:
    return "auto" if value == "auto" else _finite(value)


def _frame(value: Any) -> object:
    is_number = isinstance(value, int) and not isinstance(value, bool)
    is_number = is_number and abs(value) <= _MAX_FRAME
    if not is_number and value not in ("first", "last"):
        raise ValueError("must be first, last or the number of a frame")
    return value


_Uri = Annotated[str, AfterValidator(_http_uri)]
_Number = Annotated[float, BeforeValidator(_finite)]
_Text = Annotated[str, Field(min_length=1)]
_Items = Annotated[list[_Text], Field(min_length=1)]


class _Object(BaseModel):
    model_config = ConfigDict(strict=True, extra="forbid", frozen=True)

    @field_validator("*", mode="before")
    @classmethod
    def _is_not_null(cls, value: object) -> object:
        if value is None:
            raise ValueError("must not be null")
        return value


class FrameImage(_Object):
    """An image and where it stands in the video."""

    image: _Text
    frame: Annotated[Any, BeforeValidator(_frame)] = None
    timestamp: _Number | None = None


class Inputs(_Object):
    """What a video is made from besides the prompt, each as it was sent."""

    frame_images: list[
        Annotated[
            FrameImage,
            BeforeValidator(lambda item: {"image": item} if isinstance(item, str) else item),
        ]
    ] = Field([], alias="frameImages", min_length=1)
    reference_images: _Items = Field([], alias="referenceImages")
    reference_videos: _Items = Field([], alias="referenceVideos")
    reference_audios: _Items = Field([], alias="referenceAudios")
    video: _Text | None = None
    video_id: str | None = Field(None, alias="videoId")

    @model_validator(mode="after")
    def _is_not_empty(self) -> Self:
        if not self.model_fields_set:
            raise ValueError("must have at least one input")
        return self

    def given(self) -> Iterator[tuple[str, Any]]:
        """The inputs that are set, by their names in the API."""
        for field, info in type(self).model_fields.items():
            value = getattr(self, field)
            if value not in ([], None):
                yield info.alias or field, value


class _Safety(_Object):
    check_content: bool = Field(False, alias="checkContent")
    mode: Literal["none", "fast", "full"] | None = None


class VideoRequest(_Object):
    """A valid `videoInference` task. Fields that are not described here are the API's."""

    task_type: Literal["videoInference"] = Field(alias="taskType")
    task_uuid: str = Field(alias="taskUUID")
    model: str
    prompt: str = Field("", alias="positivePrompt")
    negative_prompt: str | None = Field(None, alias="negativePrompt")
    width: int | None = Field(None, ge=1)
    height: int | None = Field(None, ge=1)
    resolution: str | None = None
    duration: Annotated[float | Literal["auto"] | None, BeforeValidator(_duration)] = None
    fps: _Number | None = None
    seed: int | None = None
    inputs: Inputs = Inputs.model_construct()
    settings: dict[str, Any] = {}
    provider_settings: dict[str, dict[str, Any]] = Field({}, alias="providerSettings")
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

    @classmethod
    def read(cls, task: Mapping[str, Any], entry: VideoModel) -> VideoRequest:
        """Read a task, whatever the limits of its model.

        Raises:
            pydantic.ValidationError: a field is unknown, missing or of the wrong type.
        """
        at_top = {name for name, setting in entry.settings.items() if setting.at == "request"}
        request = cls.model_validate(
            {name: value for name, value in task.items() if name not in at_top}
        )
        request._entry, request._raw = entry, dict(task)
        return request

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
        """Width and height in pixels; None if something else decides them."""
        if self.width is None or self.height is None:
            return None
        return FrameSize(self.width, self.height)

    @property
    def checks_content(self) -> bool:
        """Whether results report that their content was checked."""
        return self.safety.check_content if self.safety.mode is None else self.safety.mode != "none"

    def own_settings(self) -> Iterator[tuple[str, Any]]:
        """The parameters that only this model has, by their dotted names."""
        for name, setting in self.entry.settings.items():
            if setting.at == "request" and name in self.raw:
                yield name, self.raw[name]
        for name, value in self.settings.items():
            yield f"settings.{name}", value
        for maker, settings in self.provider_settings.items():
            for name, value in settings.items():
                yield f"providerSettings.{maker}.{name}", value

    def fields(self) -> dict[str, Any]:
        """All fields that are set, by their dotted names, with those that rules know besides."""
        entry, size = self.entry, self.size
        given: dict[str, Any] = {
            "positivePrompt": self.prompt or None,
            "negativePrompt": self.negative_prompt,
            "size": size,
            "resolution": self.resolution,
            "tier": self.resolution if size is None else entry.tier_of(size),
            "duration": self.duration,
            "seed": self.seed,
            "fps": self.fps,
            "numberResults": self.number_results,
            "outputFormat": self.output_format or "MP4",
            **{f"inputs.{name}": value for name, value in self.inputs.given()},
            **dict(self.own_settings()),
        }
        if any(True for _ in self.inputs.given()):
            given["inputs"] = True
        given["audio"] = self.has_sound
        return {name: value for name, value in given.items() if value is not None}

    @property
    def has_sound(self) -> bool:
        """Whether its videos have sound."""
        audio = self.entry.audio
        if isinstance(audio, str):
            return audio == "always"
        switch = dict(self.own_settings()).get(self.entry.setting_field(audio.setting))
        return audio.default if switch is None else bool(switch)
