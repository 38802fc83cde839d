"""The parts of a catalogue entry."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, JsonValue

from sora_dagster.runware.catalogue.conditions import Condition, Scalar
from sora_dagster.runware.catalogue.numbers import NumberRule
from sora_dagster.runware.catalogue.sizes import FrameSize

OutputFormat = Literal["MP4", "WEBM", "MOV"]
SafetyMode = Literal["none", "fast", "full"]
InputName = Literal[
    "frameImages", "referenceImages", "referenceVideos", "referenceAudios", "video", "videoId"
]
RemixMode = Literal["remix", "edit", "extend", "continue"]

DEFAULT_IMAGE_MAX_BYTES = 20_000_000

# What rules may name besides the settings of the entry.
FIELD_NAMES = (
    "positivePrompt",
    "negativePrompt",
    "size",
    "resolution",
    "tier",
    "duration",
    "seed",
    "fps",
    "audio",
    "numberResults",
    "outputFormat",
    "inputs",
    *(f"inputs.{name}" for name in InputName.__args__),  # type: ignore[attr-defined]
)

# The fields at the top of every request, which no setting can be.
REQUEST_FIELDS = frozenset(
    {
        "taskType",
        "taskUUID",
        "model",
        "positivePrompt",
        "negativePrompt",
        "width",
        "height",
        "resolution",
        "duration",
        "fps",
        "seed",
        "inputs",
        "settings",
        "providerSettings",
        "numberResults",
        "outputType",
        "outputFormat",
        "outputQuality",
        "deliveryMethod",
        "webhookURL",
        "uploadEndpoint",
        "ttl",
        "includeCost",
        "safety",
    }
)


class EntryPart(BaseModel):
    """A part of an entry; unknown names are errors."""

    model_config = ConfigDict(frozen=True, extra="forbid", populate_by_name=True)


class TextLimits(EntryPart):
    """Length of a text.

    Arguments:
        min: minimum number of characters. Default: 2.
        max: maximum number of characters.
    """

    min: int = Field(default=2, ge=0)
    max: int = Field(ge=1)


class SizeRule(EntryPart):
    """Sizes by rule instead of a list.

    Arguments:
        min, max: limits of each side, in pixels.
        step: each side is a multiple of it, in pixels.
        tiers: maximum number of pixels of each tier, smallest tier first.
    """

    min: int = Field(ge=2)
    max: int
    step: int = Field(default=1, ge=1)
    tiers: Mapping[str, int] = Field(min_length=1)

    def allows(self, size: FrameSize) -> bool:
        """Whether a size follows the rule."""
        sides_fit = all(self.min <= side <= self.max and side % self.step == 0 for side in size)
        return sides_fit and self.tier_of(size) is not None

    def tier_of(self, size: FrameSize) -> str | None:
        """The tier of a size. None: it has too many pixels for all tiers."""
        return next((name for name, most in self.tiers.items() if size.pixels <= most), None)

    def nearest(self, size: FrameSize) -> FrameSize:
        """The nearest size whose sides are allowed."""
        sides = (
            min(
                max(round(side / self.step) * self.step, -(-self.min // self.step) * self.step),
                self.max // self.step * self.step,
            )
            for side in size
        )
        return FrameSize(*sides)

    def __str__(self) -> str:
        return f"{self.min} to {self.max} pixels per side, in steps of {self.step}"


class InputLimits(EntryPart):
    """What one kind of input allows.

    Arguments:
        max: maximum number of items. Default: 1.
        positions: for frame images, the places that ``frame`` may name: ``first``, ``last``.
            Default: ``first``.
        by_index: for frame images, whether ``frame`` may be a frame's number. Default: false.
        by_time: for frame images, whether ``timestamp`` is accepted. Default: false.
        min_pixels, max_pixels: limits of each side of an image, in pixels. Default: unknown, so
            not checked.
        max_bytes: maximum size of an image file, in bytes. Default: 20,000,000 (Runware's
            documentation of Sora; for other models an assumption).
        min_seconds, max_seconds: limits of the length of a video or sound, in seconds. Default:
            unknown, so not checked.
    """

    max: int = Field(default=1, ge=1)
    positions: tuple[Literal["first", "last"], ...] = ("first",)
    by_index: bool = False
    by_time: bool = False
    min_pixels: int = Field(default=1, ge=1)
    max_pixels: int | None = None
    max_bytes: int = DEFAULT_IMAGE_MAX_BYTES
    min_seconds: float | None = None
    max_seconds: float | None = None


class Setting(EntryPart):
    """A parameter that only some models have.

    Arguments:
        at: where it is sent: ``settings``, ``providerSettings.<maker>``, or ``request`` for the top
            of the request. Default: ``settings``.
        type: form of its value; ``any`` is sent as it is.
        values: allowed values. Default: any of the type.
        min, max: limits of a number. Default: none.
        default: the API's own default, used if it is not sent. Default: not known.
    """

    at: str = Field(
        default="settings", pattern=r"^(settings|request|providerSettings\.[A-Za-z0-9_]+)$"
    )
    type: Literal["boolean", "integer", "number", "text", "any"]
    values: tuple[Scalar, ...] = ()
    min: float | None = None
    max: float | None = None
    default: JsonValue = None

    def problem(self, value: object) -> str | None:
        """What a value must be instead. None: it is allowed."""
        if self.type == "any":
            return None
        is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
        fits = {
            "boolean": isinstance(value, bool),
            "integer": is_number and float(value).is_integer() if is_number else False,  # type: ignore[arg-type]
            "number": is_number,
            "text": isinstance(value, str),
        }[self.type]
        fits = fits and (not self.values or value in self.values)
        if fits and is_number:
            number = float(value)  # type: ignore[arg-type]
            low = -float("inf") if self.min is None else self.min
            fits = low <= number <= (float("inf") if self.max is None else self.max)
        return None if fits else self.allowed

    @property
    def allowed(self) -> str:
        """The allowed values in words."""
        if self.values:
            return ", ".join(map(shown_value, self.values))
        if self.type == "boolean":
            return "true, false"
        if self.min is not None or self.max is not None:
            low, high = (
                shown_value(limit) if limit is not None else None for limit in (self.min, self.max)
            )
            kind = "a whole number" if self.type == "integer" else "a number"
            if low is None or high is None:
                return f"{kind}, {f'{low} or higher' if high is None else f'{high} or lower'}"
            return f"{kind} from {low} to {high}"
        return {"integer": "a whole number", "number": "a number", "text": "a string"}.get(
            self.type, "any value"
        )


class AudioSwitch(EntryPart):
    """The setting that switches sound on and off.

    Arguments:
        setting: its name among the settings of the entry.
        default: whether there is sound if it is not sent.
    """

    setting: str
    default: bool


class Rule(EntryPart):
    """A rule between fields, which holds where its condition does.

    Arguments:
        if_: the condition (see `sora_dagster.runware.catalogue.conditions`). Default: always.
        forbid: fields that must not be sent.
        require: fields that must be sent.
        allow: for a field, the only values that may be sent.
        at_most_one_of: of these fields at most one may be sent.
        exactly_one_of: of these fields exactly one must be sent.
        max_items: for an input, the maximum number of its items.
    """

    if_: Condition = Field(default={}, alias="if")
    forbid: tuple[str, ...] = ()
    require: tuple[str, ...] = ()
    allow: Mapping[str, NumberRule | tuple[Scalar, ...]] = {}
    at_most_one_of: tuple[str, ...] = ()
    exactly_one_of: tuple[str, ...] = ()
    max_items: Mapping[str, Annotated[int, Field(ge=0)]] = {}

    @property
    def fields(self) -> Iterator[str]:
        """All fields that it names."""
        yield from self.if_
        yield from (*self.forbid, *self.require, *self.at_most_one_of, *self.exactly_one_of)
        yield from self.allow
        yield from self.max_items


class RemixWay(EntryPart):
    """How a video is made from an earlier one.

    Arguments:
        input: where the earlier video goes: ``videoId``, ``video`` or ``referenceVideos``.
        size: the size to send: ``none``, ``parent`` (the parent's, or the nearest allowed one), or
            ``resolution`` (the tier of the parent's size).
        duration: the length to send if the recipe sets none: ``none``, ``parent`` (the parent's, or
            the nearest allowed one), ``default`` (the model's), ``auto``, or seconds.
        settings: settings to send, by name.
        result_length: the expected length of the video: ``parent``, ``requested``, or ``unknown``.
            Default: ``unknown``.
    """

    input: Literal["videoId", "video", "referenceVideos"]
    size: Literal["none", "parent", "resolution"] = "none"
    duration: Literal["none", "parent", "default", "auto"] | float = "none"
    settings: Mapping[str, JsonValue] = {}
    result_length: Literal["parent", "requested", "unknown"] = "unknown"


def shown_value(value: object) -> str:
    """A value as an entry has it, for messages."""
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)
