"""The model catalogue: what each video model accepts and what it costs.

Limits, sizes, durations and prices are data. A model is used only through its entry, so a request
is checked and priced before it is sent, and a retired model is replaced by writing an entry.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    JsonValue,
    PlainSerializer,
    ValidationError,
    model_validator,
)

from sora_dagster.runware.errors import UnknownModelError

DEFAULT_MODEL = "openai:3@2"
DEFAULT_OUTPUT_QUALITY = 95

OutputFormat = Literal["MP4", "WEBM", "MOV"]
SafetyMode = Literal["none", "fast", "full"]

_SIZE_PATTERN = re.compile(r"(\d{2,5})\s*[xX×]\s*(\d{2,5})")


class FrameSize(NamedTuple):
    """Size of a video or picture.

    Arguments:
        width: in pixels.
        height: in pixels.
    """

    width: int
    height: int

    def __str__(self) -> str:
        return f"{self.width}x{self.height}"


def parse_size(value: object) -> FrameSize:
    """Read a size such as ``"1792x1024"``, or a pair of integers, in pixels.

    Raises:
        ValueError: if the value is neither.
    """
    if isinstance(value, str) and (match := _SIZE_PATTERN.fullmatch(value.strip())):
        return FrameSize(int(match[1]), int(match[2]))
    if isinstance(value, (tuple, list)) and len(value) == 2:
        width, height = value
        if isinstance(width, int) and isinstance(height, int):
            return FrameSize(width, height)
    raise ValueError(f"{value!r} is not a size; write WIDTHxHEIGHT in pixels, such as 1792x1024")


Size = Annotated[FrameSize, BeforeValidator(parse_size), PlainSerializer(str, return_type=str)]


class VideoModel(BaseModel):
    """A catalogue entry: what one `videoInference` model accepts, and its price.

    Write an entry for each model that you use besides the built-in ones, in Python or in a YAML
    file (see `Catalogue.from_yaml`). Limits and prices are on the model's page at
    https://runware.ai/models.

    Arguments:
        air: Runware's id of the model, such as ``openai:3@2``.
        name: display name.
        usd_per_second: price in USD of one second of one video, for each allowed size
            (``{"1280x720": 0.30}``). The keys are the allowed sizes, in pixels.
        default_size: size in pixels of a clip that sets no size and has no first frame.
        durations_seconds: allowed lengths of a video, in seconds.
        default_duration_seconds: length of a clip that sets none, in seconds.
        output_formats: containers that the model delivers. Default: ``("MP4",)``.
        prompt_min_characters: minimum length of a prompt. Default: 2 (Sora's reference page).
        prompt_max_characters: maximum length of a prompt. Default: 6000 (Sora's reference page).
        max_results: maximum number of videos of one task. Default: 4 (Sora's reference page).
        accepts_first_frame: whether `inputs.frameImages` is accepted (one image). Default: true.
        first_frame_min_pixels: minimum length of each side of a first frame. Default: 300
            (Runware's documentation of Sora).
        first_frame_max_pixels: maximum length of each side of a first frame. Default: 2048 (same
            source).
        first_frame_max_bytes: maximum size of a first frame's file in bytes. Default: 20,000,000
            (same source).
        accepts_video_id: whether `inputs.videoId` (a remix) is accepted. Default: false.
        makes_sound: whether its videos have sound. Default: false.
        extra_parameters: parameters that only this model has, sent with each request as they are
            (``{"resolution": "1080p"}``). Default: none.

    Raises:
        pydantic.ValidationError: if a value has the wrong type, or a default is not allowed.

    Example:
        >>> model = VideoModel(
        ...     air="google:3@2",
        ...     name="Veo 3.1",
        ...     usd_per_second={"1280x720": 0.20, "1920x1080": 0.40},
        ...     default_size="1280x720",
        ...     durations_seconds=(4, 6, 8),
        ...     default_duration_seconds=8,
        ... )
        >>> Catalogue.builtin().extended([model]).get("google:3@2").sizes[0]
        FrameSize(width=1280, height=720)
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    air: str = Field(pattern=r"^[^\s:@]+:[^\s@]+@[^\s]+$")
    name: str
    usd_per_second: Mapping[Size, Annotated[float, Field(ge=0)]] = Field(min_length=1)
    default_size: Size
    durations_seconds: tuple[float, ...] = Field(min_length=1)
    default_duration_seconds: float
    output_formats: tuple[OutputFormat, ...] = ("MP4",)
    prompt_min_characters: int = 2
    prompt_max_characters: int = 6000
    max_results: int = Field(default=4, ge=1)
    accepts_first_frame: bool = True
    first_frame_min_pixels: int = 300
    first_frame_max_pixels: int = 2048
    first_frame_max_bytes: int = 20_000_000
    accepts_video_id: bool = False
    makes_sound: bool = False
    extra_parameters: Mapping[str, JsonValue] = {}

    @model_validator(mode="after")
    def _defaults_are_allowed(self) -> VideoModel:
        if self.default_size not in self.usd_per_second:
            raise ValueError(f"default_size {self.default_size} has no price in usd_per_second")
        if self.default_duration_seconds not in self.durations_seconds:
            raise ValueError(
                f"default_duration_seconds {self.default_duration_seconds:g} "
                f"is not in durations_seconds"
            )
        return self

    @property
    def sizes(self) -> tuple[FrameSize, ...]:
        """The allowed sizes, in the order of the entry."""
        return tuple(self.usd_per_second)

    def price_usd(
        self, *, size: FrameSize | None, duration_seconds: float | None, number_results: int
    ) -> float:
        """The price of a task in USD.

        If size or duration is unknown (that of a first frame or a parent), the model's highest
        price or longest duration counts, so an estimate is never below the bill.

        Arguments:
            size: size of the video in pixels. None: unknown.
            duration_seconds: length of each video in seconds. None: unknown.
            number_results: number of videos.
        """
        rate = self.usd_per_second.get(size) if size is not None else None
        if rate is None:
            rate = max(self.usd_per_second.values())
        seconds = max(self.durations_seconds) if duration_seconds is None else duration_seconds
        return round(rate * seconds * number_results, 6)


# Sizes: the reference page's example is 1792x1024; other pages of Runware list the other five.
# Prices: 0.30 USD a second at 720p, 0.50 above (the page's 8 s at 1792x1024 cost 4 USD).
SORA_2_PRO = VideoModel(
    air="openai:3@2",
    name="Sora 2 Pro",
    usd_per_second={
        FrameSize(1280, 720): 0.30,
        FrameSize(720, 1280): 0.30,
        FrameSize(1792, 1024): 0.50,
        FrameSize(1024, 1792): 0.50,
        FrameSize(1920, 1080): 0.50,
        FrameSize(1080, 1920): 0.50,
    },
    default_size=FrameSize(1280, 720),
    durations_seconds=(4, 8, 12, 16, 20),
    default_duration_seconds=4,
    output_formats=("MP4", "WEBM", "MOV"),
    accepts_video_id=True,
    makes_sound=True,
)

SORA_2 = VideoModel(
    air="openai:3@1",
    name="Sora 2",
    usd_per_second={FrameSize(1280, 720): 0.10, FrameSize(720, 1280): 0.10},
    default_size=FrameSize(1280, 720),
    durations_seconds=(4, 8, 12, 16, 20),
    default_duration_seconds=4,
    output_formats=("MP4", "WEBM", "MOV"),
    accepts_video_id=True,
    makes_sound=True,
)

_HOW_TO_WRITE_AN_ENTRY = """\
Write an entry for it in a YAML file and name that file in SORA_MODELS:

  - air: {air}
    name: what you call it
    usd_per_second: {{1280x720: 0.20, 1920x1080: 0.40}}   # allowed sizes and their prices
    default_size: 1280x720
    durations_seconds: [4, 8]
    default_duration_seconds: 4"""


class Catalogue:
    """The models that may be used, by their AIR id.

    Arguments:
        entries: the models. A later entry replaces an earlier one with the same id.

    Example:
        >>> Catalogue.builtin().get("openai:3@2").name
        'Sora 2 Pro'
    """

    def __init__(self, entries: Iterable[VideoModel]) -> None:
        self._entries = {entry.air: entry for entry in entries}

    @classmethod
    def builtin(cls) -> Catalogue:
        """The built-in models: Sora 2 Pro and Sora 2."""
        return cls([SORA_2_PRO, SORA_2])

    @property
    def entries(self) -> tuple[VideoModel, ...]:
        """All entries, the built-in ones first."""
        return tuple(self._entries.values())

    def get(self, air: str) -> VideoModel:
        """The entry of a model.

        Raises:
            UnknownModelError: if there is none; the message shows how to write one.
        """
        try:
            return self._entries[air]
        except KeyError:
            raise UnknownModelError(
                f"model {air!r} has no catalogue entry, so its limits and price are unknown; known "
                f"models: {', '.join(self._entries)}. " + _HOW_TO_WRITE_AN_ENTRY.format(air=air)
            ) from None

    def makes_sound(self, air: str) -> bool:
        """Whether a model's videos have sound. False also for a model without an entry."""
        return air in self._entries and self._entries[air].makes_sound

    def extended(self, entries: Iterable[VideoModel]) -> Catalogue:
        """A copy with more entries; an entry replaces an earlier one with the same id."""
        return Catalogue([*self._entries.values(), *entries])

    @classmethod
    def from_yaml(cls, path: str | Path) -> Catalogue:
        """The built-in catalogue, extended by the entries of a YAML file.

        Arguments:
            path: a file with a list of mappings, whose keys are the arguments of `VideoModel`.

        Raises:
            OSError: if the file cannot be read.
            ValueError: if it is not a list of entries; the message lists every problem.
        """
        parsed: Any = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
        if not isinstance(parsed, list):
            # A ValueError, as in the errors below: the content of the file is wrong.
            raise ValueError(  # noqa: TRY004
                f"{path}: a YAML list of model entries is expected, each starting with '- air: …'"
            )
        entries = []
        for index, item in enumerate(parsed, start=1):
            try:
                entries.append(VideoModel.model_validate(item))
            except ValidationError as error:
                problems = "; ".join(
                    f"{'.'.join(map(str, problem['loc'])) or 'entry'}: {problem['msg']}"
                    for problem in error.errors()
                )
                raise ValueError(f"{path}: entry {index}: {problems}") from error
        return cls.builtin().extended(entries)
