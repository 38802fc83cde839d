"""Clips: the row of a dataset that describes one, and the request for it."""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from sora_dagster.prompts.ids import ClipId, RecipeName
from sora_dagster.runware.catalogue import (
    DEFAULT_MODEL,
    FrameSize,
    OutputFormat,
    RemixMode,
    SafetyMode,
    Size,
    VideoModel,
)
from sora_dagster.runware.catalogue.parts import AudioSwitch
from sora_dagster.runware.images import image_identity, is_http_url, public_address
from sora_dagster.runware.requests import DEFAULT_OUTPUT_QUALITY, FrameImage, Inputs, Safety

FINGERPRINT_VERSION = 1
DEFAULT_DATASET = "default"

_LINE_END = re.compile(r"\r\n?|\n")


class ClipSpec(BaseModel):
    """A clip as one row of a prompt dataset describes it.

    Arguments:
        clip_id: the clip's id, unique in the dataset (column `id`).
        prompt: what the video shows.
        model: AIR id of a model in the catalogue. Default: Sora 2 Pro.
        mode: for a remix, how it uses its parent's video (see `Recipe`). Default: ``remix``.
        size: width and height in pixels. Default: none; the dataset reader fills in the model's
            default where the model's rules allow one.
        resolution: resolution tier instead of a size, such as ``720p``. Default: none.
        duration_seconds: length of the video in seconds, or ``auto``, which leaves it to the model
            (column `duration`). Default: none; the dataset reader fills in the model's default.
        fps: frames per second. Default: the model's.
        seed: seed of the first video. Default: random.
        negative_prompt: what the video must not show. Default: none.
        audio: whether the video has sound. Default: the model's.
        number_results: number of videos, each with its own seed. Default: 1.
        output_format: container of the video. Default: ``MP4``.
        output_quality: 20 to 99; higher keeps more detail in a larger file. Default: the API's, 95.
        first_frame: the image that the video starts from: URL, data URI, or UUID of an image at
            Runware. For a path in a dataset file, the hash and path of that file, which is read
            when the clip is sent. Default: none.
        last_frame: the image that the video ends with, in the same forms. Default: none.
        reference_images: images of what the video shows, in the same forms. Default: none.
        settings: parameters that only this model has, by their names in its catalogue entry.
            Default: none.
        at_default: fields that have the model's own default, such as ``audio`` or
            ``settings.promptExtend``. They are sent, but do not count in the fingerprint. The
            dataset reader fills it in. Default: none.
        safety: content check: ``none``, ``fast`` (key frames) or ``full`` (all frames). Default:
            ``none``.
        take: number of the take; a clip whose latest take is lower gets a new one. Default: 1.
        recipes: names of the remixes of this clip. Default: none.
        tags: your own labels; changing one generates nothing. Default: none.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    clip_id: ClipId
    prompt: str
    model: str = DEFAULT_MODEL
    mode: RemixMode | None = None
    size: Size | None = None
    resolution: str | None = None
    duration_seconds: float | Literal["auto"] | None = None
    fps: float | None = None
    seed: int | None = None
    negative_prompt: str | None = None
    audio: bool | None = None
    number_results: int = 1
    output_format: OutputFormat = "MP4"
    output_quality: int | None = None
    first_frame: str | None = None
    last_frame: str | None = None
    reference_images: tuple[str, ...] = ()
    settings: Mapping[str, JsonValue] = {}
    at_default: tuple[str, ...] = ()
    safety: SafetyMode = "none"
    take: int = Field(default=1, ge=1)
    recipes: tuple[RecipeName, ...] = ()
    tags: tuple[str, ...] = ()

    @property
    def fingerprint(self) -> str:
        """Hash (32 hex digits) of everything that decides what is generated.

        It hashes the meaning, not the spelling, since a clip whose fingerprint changed may be paid
        for again. Line ends, Unicode form and blanks at line ends of a prompt do not count, nor
        does the query of an image's URL (see `image_identity`), nor the order of settings, nor a
        value that is the model's own default. Size and duration have no default here, since theirs
        depends on the model: the dataset reader fills them in.
        """
        deciding: dict[str, object] = {
            "model": self.model,
            "prompt": _normalized_prompt(self.prompt),
            "size": None if self.size is None else str(self.size),
            "duration_seconds": self.duration_seconds,
            "number_results": self.number_results,
            "output_format": self.output_format,
            "output_quality": self.output_quality or DEFAULT_OUTPUT_QUALITY,
            "first_frame": None if self.first_frame is None else image_identity(self.first_frame),
            "safety": self.safety,
        }
        return _fingerprint({**deciding, **dict(self._optional_deciding())})

    def _optional_deciding(self) -> Iterator[tuple[str, object]]:
        """What counts in the fingerprint only if it is set."""
        if self.mode not in (None, "remix"):
            yield "mode", self.mode
        for name in ("resolution", "fps", "seed", "audio"):
            value = getattr(self, name)
            if value is not None and name not in self.at_default:
                yield name, value
        if self.negative_prompt is not None:
            yield "negative_prompt", _normalized_prompt(self.negative_prompt)
        if self.last_frame is not None:
            yield "last_frame", image_identity(self.last_frame)
        if self.reference_images:
            yield "reference_images", [image_identity(image) for image in self.reference_images]
        settings = {
            name: _normalized_value(value)
            for name, value in self.settings.items()
            if f"settings.{name}" not in self.at_default
        }
        if settings:
            yield "settings", settings

    @property
    def seconds(self) -> float | None:
        """The requested length of the video in seconds. None: the model chooses it."""
        return None if self.duration_seconds == "auto" else self.duration_seconds

    @property
    def options(self) -> dict[str, JsonValue]:
        """For display: what it sets besides prompt, model, size, duration and images.

        URLs in its settings are without query, user and password, which may grant access.
        """
        values: dict[str, JsonValue] = {
            "resolution": self.resolution,
            "fps": self.fps,
            "seed": self.seed,
            "negative_prompt": self.negative_prompt,
            "audio": self.audio,
            **{name: with_urls(value, public_address) for name, value in self.settings.items()},
        }
        return {name: value for name, value in values.items() if value is not None}

    def with_files(self, replaced: Callable[[str], str]) -> ClipSpec:
        """The same clip with other texts for its images and for the URLs in its settings.

        Arguments:
            replaced: returns the new text of an image or URL.
        """
        first, last = self.first_frame, self.last_frame
        return self.model_copy(
            update={
                "first_frame": None if first is None else replaced(first),
                "last_frame": None if last is None else replaced(last),
                "reference_images": tuple(map(replaced, self.reference_images)),
                "settings": {
                    name: with_urls(value, replaced) for name, value in self.settings.items()
                },
            }
        )

    def request_fields(self, entry: VideoModel) -> dict[str, Any]:
        """The fields of an API request that the row decides, for `VideoInference.build`.

        Nothing is checked here, since the row of this clip may not have been checked yet.

        Arguments:
            entry: the catalogue entry of its model.
        """
        fields: dict[str, Any] = {
            "model": entry.air,
            "positive_prompt": self.prompt,
            "negative_prompt": self.negative_prompt,
            "resolution": self.resolution,
            "duration": self.duration_seconds,
            "fps": self.fps,
            "seed": self.seed,
            "number_results": self.number_results,
            "output_format": self.output_format,
            "output_quality": self.output_quality,
        }
        fields = {name: value for name, value in fields.items() if value is not None}
        if self.size is not None:
            fields |= {"width": self.size.width, "height": self.size.height}
        inputs: dict[str, Any] = {}
        if frames := self._frame_images():
            inputs["frame_images"] = frames
        if self.reference_images:
            inputs["reference_images"] = self.reference_images
        if inputs:
            fields["inputs"] = Inputs(**inputs)
        if self.safety != "none":
            fields["safety"] = Safety.model_construct(None, check_content=True, mode=self.safety)
        return {**fields, **self._settings_fields(entry)}

    def _frame_images(self) -> tuple[str | FrameImage, ...]:
        if self.last_frame is None:
            return () if self.first_frame is None else (self.first_frame,)
        last = FrameImage(image=self.last_frame, frame="last")
        if self.first_frame is None:
            return (last,)
        return (FrameImage(image=self.first_frame, frame="first"), last)

    def _settings_fields(self, entry: VideoModel) -> dict[str, Any]:
        """The model's own settings, each at the place that its entry names."""
        values = dict(self.settings)
        if self.audio is not None and isinstance(entry.audio, AudioSwitch):
            values[entry.audio.setting] = self.audio
        settings: dict[str, JsonValue] = {}
        of_makers: dict[str, dict[str, JsonValue]] = {}
        at_top: dict[str, JsonValue] = {}
        for name, value in values.items():
            setting = entry.settings.get(name)
            place, _, maker = ("settings" if setting is None else setting.at).partition(".")
            if maker:
                of_makers.setdefault(maker, {})[name] = value
            else:
                (at_top if place == "request" else settings)[name] = value
        fields: dict[str, Any] = {
            "settings": settings,
            "provider_settings": of_makers,
            "extra_parameters": at_top,
        }
        return {name: value for name, value in fields.items() if value}


def _normalized_prompt(prompt: str) -> str:
    lines = _LINE_END.split(unicodedata.normalize("NFC", prompt))
    return "\n".join(line.rstrip(" \t") for line in lines).rstrip("\n")


def _normalized_value(value: JsonValue) -> JsonValue:
    """A value of a setting in one spelling: 1 and 1.0 are the same number."""
    if isinstance(value, str) and is_http_url(value):
        return image_identity(value)
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if isinstance(value, dict):
        return {name: _normalized_value(item) for name, item in value.items()}
    if isinstance(value, list):
        return [_normalized_value(item) for item in value]
    return value


def with_urls(value: JsonValue, replaced: Callable[[str], str]) -> JsonValue:
    """A value of a setting with other texts for its URLs.

    Arguments:
        value: the value; its URLs are texts that are nothing but a URL.
        replaced: returns the new text of a URL.
    """
    if isinstance(value, str):
        return replaced(value) if is_http_url(value) else value
    if isinstance(value, dict):
        return {name: with_urls(item, replaced) for name, item in value.items()}
    if isinstance(value, list):
        return [with_urls(item, replaced) for item in value]
    return value


def _fingerprint(deciding: Mapping[str, object]) -> str:
    canonical = json.dumps(
        {"version": FINGERPRINT_VERSION, **deciding},
        sort_keys=True,
        ensure_ascii=True,
        separators=(",", ":"),
    )
    return hashlib.sha256(canonical.encode()).hexdigest()[:32]


class ParentVideo(BaseModel):
    """The stored video that a remix is made from.

    Arguments:
        asset: asset key of the parent clip.
        clip: partition key of the parent clip.
        take: its take.
        video_uuid: Runware's UUID of the video.
        video_id: the id for `inputs.videoId` of a remix by Sora. Default: Runware gave it none.
        size: the video's size in pixels.
        duration_seconds: the video's length in seconds.
        content_hash: data version of the parent clip.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    asset: str
    clip: str
    take: int
    content_hash: str
    video_uuid: str
    video_id: str | None = None
    size: Size
    duration_seconds: float


class ClipRequest(BaseModel):
    """A requested clip: where it belongs, and what to generate.

    Arguments:
        asset: asset key of the clip, such as ``clips``; ``board/shot`` for a storyboard's shot.
        clip: its partition key: a clip id, or ``clip|recipe`` for a remix; a shot's id.
        spec: what to generate. For a remix: the recipe's prompt, no size, no first frame.
        recipe: name of the recipe, for a remix of a dataset's clip. Default: none.
        parent: the video that a remix is made from. Default: none.
        board: name of the storyboard, for a shot. Default: none.
        dataset: name of its dataset; each storyboard is one. Default: ``default``.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    asset: str
    clip: str
    spec: ClipSpec
    recipe: RecipeName | None = None
    parent: ParentVideo | None = None
    board: str | None = None
    dataset: str = DEFAULT_DATASET

    @property
    def partition(self) -> str | None:
        """Partition key in Dagster. None: a storyboard's shot, which has no partitions."""
        return self.clip if self.board is None else None

    @property
    def expected_size(self) -> FrameSize | None:
        """Expected size of its video: the requested one, or that of Sora's parent. None: any."""
        if self.spec.size is not None or self.parent is None:
            return self.spec.size
        return self.parent.size if self.spec.mode in (None, "remix") else None

    @property
    def name(self) -> str:
        """Display name: the partition key, or ``board/shot``."""
        return self.clip if self.board is None else self.asset
