"""What a clip is: the row of the dataset that asks for it, and the request that follows."""

from __future__ import annotations

import hashlib
import json
import re
import unicodedata
from collections.abc import Mapping
from typing import Annotated

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from sora_dagster.runware.image_input import image_identity
from sora_dagster.runware.models import (
    DEFAULT_MODEL,
    DEFAULT_OUTPUT_QUALITY,
    FrameSize,
    OutputFormat,
    SafetyMode,
    Size,
)

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
    """The id itself, where it can be a partition key and a readable file name everywhere.

    Raises:
        ValueError: where it cannot; the message says what is allowed.
    """
    if (
        not _CLIP_ID_PATTERN.fullmatch(value)
        or ".." in value
        or value.endswith(" ")
        or unicodedata.normalize("NFC", value) != value
    ):
        raise ValueError(f"{value!r} cannot be a clip id; allowed are {_CLIP_ID_ALLOWED}")
    return value


def check_recipe_name(value: str) -> str:
    """The name itself, where it can be a partition key.

    Raises:
        ValueError: where it cannot; the message says what is allowed.
    """
    if not _RECIPE_PATTERN.fullmatch(value):
        raise ValueError(
            f"{value!r} cannot be a recipe name; allowed are 1 to 50 of A-Z, a-z, 0-9, '_' and "
            f"'-', starting with a letter or digit"
        )
    return value


ClipId = Annotated[str, AfterValidator(check_clip_id)]
RecipeName = Annotated[str, AfterValidator(check_recipe_name)]


class ClipSpec(BaseModel):
    """One row of a prompt dataset: the clip that is wanted.

    Arguments:
        clip_id: the clip's id, unique in the dataset (column `id`).
        prompt: what the video shows.
        model: AIR id of a catalogue entry.
        size: width and height in pixels; the model's default where neither this nor a first
            frame is given.
        duration_seconds: length of the video (column `duration`); the model's default where
            not given.
        number_results: how many videos of it, each with its own seed (1 to 4).
        output_format: container of the video.
        output_quality: 20 to 99; higher keeps more detail in a larger file. The API's default,
            95, where not given.
        first_frame: the image the video starts from: URL, data URI, or UUID of an image at
            Runware. A path in a dataset file is read into a data URI.
        safety: content check: none, fast (key frames) or full (all frames).
        take: the number of the take that is wanted; a clip whose latest take is lower gets a
            new one.
        recipes: names of the remixes wanted of this clip.
        tags: words of the team's own; changing one generates nothing.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    clip_id: ClipId
    prompt: str
    model: str = DEFAULT_MODEL
    size: Size | None = None
    duration_seconds: float | None = None
    number_results: int = Field(default=1, ge=1, le=4)
    output_format: OutputFormat = "MP4"
    output_quality: int | None = Field(default=None, ge=20, le=99)
    first_frame: str | None = None
    safety: SafetyMode = "none"
    take: int = Field(default=1, ge=1)
    recipes: tuple[RecipeName, ...] = ()
    tags: tuple[str, ...] = ()

    @property
    def fingerprint(self) -> str:
        """Hash (32 hex digits) of all that decides what is generated.

        It hashes what is meant, not how it is typed, since a clip whose fingerprint changed may be
        paid for again. Line ends, Unicode form and blanks at line ends of the prompt do not count,
        nor does the query of a first frame's URL (see `image_identity`). Size and duration have no
        default here, as they depend on the model: the dataset reader fills them in.
        """
        return _fingerprint(
            {
                "model": self.model,
                "prompt": _prompt_as_meant(self.prompt),
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


def _prompt_as_meant(prompt: str) -> str:
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
        video_uuid: Runware's id of the video.
        video_id: what a remix request names in `inputs.videoId`.
        size: the video's size in pixels.
        duration_seconds: the video's length.
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
    """A requested clip: where it belongs, and what is to be generated.

    Arguments:
        asset: asset key of the clip, such as ``clips``; ``board/shot`` for a storyboard's shot.
        clip: its partition key: a clip id, or ``clip|recipe`` for a remix; a shot's id.
        spec: what is to be generated. For a remix: the recipe's prompt, no size, no first frame.
        recipe: name of the remix recipe, for a remix of a dataset's clip.
        parent: the video a remix is made from.
        board: name of the storyboard, for a shot, which is an asset of its own.
        dataset: name of the dataset that it belongs to; a storyboard is a dataset of its own.
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
        """Partition key in Dagster; None for a storyboard's shot, which has no partitions."""
        return self.clip if self.board is None else None

    @property
    def expected_size(self) -> FrameSize | None:
        """What size its video should have: that asked for, or its parent's; None for any."""
        return self.spec.size or (None if self.parent is None else self.parent.size)

    @property
    def name(self) -> str:
        """What people know it by: the partition key, or ``board/shot``."""
        return self.clip if self.board is None else self.asset


def remix_spec(parent: ClipSpec, *, prompt: str) -> ClipSpec:
    """The spec of a remix of a clip: the recipe's prompt, the parent's model and container.

    The API takes no size and no first frame with a video id, and the length follows the parent's.
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
