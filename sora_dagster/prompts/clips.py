"""Clips: the row of a dataset that describes one, and the request for it."""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Mapping
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from sora_dagster.runware.catalogue import (
    DEFAULT_MODEL,
    FrameSize,
    OutputFormat,
    SafetyMode,
    Size,
)
from sora_dagster.runware.images import image_identity
from sora_dagster.runware.requests import DEFAULT_OUTPUT_QUALITY, Inputs, Safety

FINGERPRINT_VERSION = 1
DEFAULT_DATASET = "default"

_CLIP_ID_ALLOWED = (
    "1 to 100 letters, digits, '.', '_', '-' and inner spaces, "
    "starting with a letter or digit, without '..'"
)
_CLIP_ID_PATTERN = re.compile(r"[^\W_][\w .\-]{0,99}")
_RECIPE_PATTERN = re.compile(r"[A-Za-z0-9][A-Za-z0-9_\-]{0,49}")
_LINE_END = re.compile(r"\r\n?|\n")


def check_clip_id(value: str) -> str:
    """Return a clip id that is valid as a partition key and as a file name.

    Raises:
        ValueError: if it is not; the message says what is allowed.
    """
    if (
        not _CLIP_ID_PATTERN.fullmatch(value)
        or ".." in value
        or value.endswith(" ")
        or unicodedata.normalize("NFC", value) != value
    ):
        raise ValueError(f"{value!r} cannot be a clip id; allowed: {_CLIP_ID_ALLOWED}")
    return value


def check_recipe_name(value: str) -> str:
    """Return a recipe name that is valid as a partition key.

    Raises:
        ValueError: if it is not; the message says what is allowed.
    """
    if not _RECIPE_PATTERN.fullmatch(value):
        raise ValueError(
            f"{value!r} cannot be a recipe name; allowed: 1 to 50 of A-Z, a-z, 0-9, '_' and "
            f"'-', starting with a letter or digit"
        )
    return value


ClipId = Annotated[str, AfterValidator(check_clip_id)]
RecipeName = Annotated[str, AfterValidator(check_recipe_name)]


class ClipSpec(BaseModel):
    """A clip as one row of a prompt dataset describes it.

    Arguments:
        clip_id: the clip's id, unique in the dataset (column `id`).
        prompt: what the video shows.
        model: AIR id of a model in the catalogue. Default: Sora 2 Pro.
        size: width and height in pixels. Default: none; the dataset reader fills in the model's
            default if there is no first frame.
        duration_seconds: length of the video in seconds (column `duration`). Default: none; the
            dataset reader fills in the model's default.
        number_results: number of videos, each with its own seed. Default: 1.
        output_format: container of the video. Default: ``MP4``.
        output_quality: 20 to 99; higher keeps more detail in a larger file. Default: the API's, 95.
        first_frame: the image that the video starts from: URL, data URI, or UUID of an image at
            Runware. A path in a dataset file is read into a data URI. Default: none.
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
    size: Size | None = None
    duration_seconds: float | None = None
    number_results: int = 1
    output_format: OutputFormat = "MP4"
    output_quality: int | None = None
    first_frame: str | None = None
    safety: SafetyMode = "none"
    take: int = Field(default=1, ge=1)
    recipes: tuple[RecipeName, ...] = ()
    tags: tuple[str, ...] = ()

    @property
    def fingerprint(self) -> str:
        """Hash (32 hex digits) of everything that decides what is generated.

        It hashes the meaning, not the spelling, since a clip whose fingerprint changed may be paid
        for again. Line ends, Unicode form and blanks at line ends of the prompt do not count, nor
        does the query of a first frame's URL (see `image_identity`). Size and duration have no
        default here, since theirs depends on the model: the dataset reader fills them in.
        """
        return _fingerprint(
            {
                "model": self.model,
                "prompt": _normalized_prompt(self.prompt),
                "size": None if self.size is None else str(self.size),
                "duration_seconds": self.duration_seconds,
                "number_results": self.number_results,
                "output_format": self.output_format,
                "output_quality": self.output_quality or DEFAULT_OUTPUT_QUALITY,
                "first_frame": None
                if self.first_frame is None
                else image_identity(self.first_frame),
                "safety": self.safety,
            }
        )

    def request_fields(self) -> dict[str, Any]:
        """The fields of an API request that the row decides, for `VideoInference.build`."""
        fields: dict[str, Any] = {
            "model": self.model,
            "positive_prompt": self.prompt,
            "number_results": self.number_results,
            "output_format": self.output_format,
        }
        if self.first_frame is not None:
            fields["inputs"] = Inputs(frame_images=(self.first_frame,))
        if self.size is not None:
            fields |= {"width": self.size.width, "height": self.size.height}
        if self.duration_seconds is not None:
            fields["duration"] = self.duration_seconds
        if self.output_quality is not None:
            fields["output_quality"] = self.output_quality
        if self.safety != "none":
            # Not validated here, since the row of this clip may not have been checked yet.
            fields["safety"] = Safety.model_construct(None, check_content=True, mode=self.safety)
        return fields


def _normalized_prompt(prompt: str) -> str:
    lines = _LINE_END.split(unicodedata.normalize("NFC", prompt))
    return "\n".join(line.rstrip(" \t") for line in lines).rstrip("\n")


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
        video_id: the id for `inputs.videoId` of a remix request.
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
    video_id: str
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
        """Expected size of its video: the requested one, or the parent's. None: any."""
        return self.spec.size or (None if self.parent is None else self.parent.size)

    @property
    def name(self) -> str:
        """Display name: the partition key, or ``board/shot``."""
        return self.clip if self.board is None else self.asset


def remix_spec(parent: ClipSpec, *, prompt: str) -> ClipSpec:
    """The spec of a remix of a clip: the recipe's prompt, the parent's model and container.

    With a video id, the API accepts no size and no first frame; the length is the parent's.
    """
    return ClipSpec(
        clip_id=parent.clip_id,
        prompt=prompt,
        model=parent.model,
        output_format=parent.output_format,
        output_quality=parent.output_quality,
        safety=parent.safety,
        tags=parent.tags,
    )
