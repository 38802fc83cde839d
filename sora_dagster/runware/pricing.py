"""What a request costs by its model's catalogue entry.

A published price is never below the bill: whatever decides the price and is not known before, such
as the size of a first frame behind a URL, counts at its most expensive possible value.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Literal

from pydantic import BaseModel, ConfigDict

from sora_dagster.runware.catalogue import FrameSize, VideoModel
from sora_dagster.runware.catalogue.conditions import GIVEN, MISSING, holds
from sora_dagster.runware.catalogue.descriptions import input_prices, rate_text
from sora_dagster.runware.catalogue.numbers import Durations
from sora_dagster.runware.catalogue.prices import Certainty, Rate
from sora_dagster.runware.images import image_size
from sora_dagster.runware.request_fields import IMAGE_INPUTS, VIDEO_INPUTS, request_fields
from sora_dagster.runware.requests import FrameImage, VideoInference

PricedBy = Literal["catalogue", "api"]

# Containers round the length of a video to whole frames.
_CONTAINER_ROUNDING_SECONDS = 0.1


class Price(BaseModel):
    """Expected price of a task.

    Arguments:
        usd: in USD, for all its videos, with the margin. None: the price is unknown.
        certainty: how sure the price is; a price of the API's dry run is ``published``.
        margin: the part of `usd` that was added since prices are approximate, in USD. Default: 0.
        priced_by: the ``catalogue``, or the ``api`` by its dry run. Default: the catalogue.
        rate: the price that counted, in words, such as ``0.3 USD per second with tier 720p``.
            Default: empty.
        source: address of the page that the prices of the entry are from. Default: none.
        as_of: date of the prices of the entry. Default: unknown.
    """

    model_config = ConfigDict(frozen=True)

    usd: float | None
    certainty: Certainty
    margin: float = 0.0
    priced_by: PricedBy = "catalogue"
    rate: str = ""
    source: str = ""
    as_of: date | None = None

    @classmethod
    def by_api(cls, usd: float) -> Price:
        """A price of the API's dry run, in USD."""
        return cls(usd=usd, certainty="published", priced_by="api")

    @property
    def text(self) -> str:
        """The price in words: ``about 1.15 USD (approximate, +25% margin)``."""
        if self.usd is None:
            return "unknown"
        note = self.note
        about = "about " if self.certainty == "approximate" else ""
        return f"{about}{self.usd:.2f} USD{f' ({note})' if note else ''}"

    @property
    def basis(self) -> str:
        """What the price is from, in words, with source and date."""
        if self.priced_by == "api":
            return "the API's dry run"
        place = f"{self.certainty} by {self.source}" if self.source else self.certainty
        dated = "" if self.as_of is None else f", as of {self.as_of}"
        return f"the catalogue entry: {self.rate} ({place}{dated})"

    def would_cost(self, what: str) -> str:
        """The price of something in a sentence: ``a new take would cost 1.20 USD``.

        Arguments:
            what: what is priced.
        """
        return _would_cost(what, self.text)

    @property
    def note(self) -> str:
        """What to know besides the amount, such as the margin. Empty: nothing."""
        if self.usd is None:
            return ""
        parts = []
        if self.certainty == "approximate":
            parts.append("approximate")
        if self.margin > 0:
            parts.append(f"+{_percent(self.usd, self.margin)} margin")
        return ", ".join(parts)


@dataclass(frozen=True)
class PriceTotal:
    """The sum of several prices.

    Arguments:
        usd: sum of the known prices in USD, with their margins.
        margin: the part of it that was added since prices are approximate, in USD.
        approximate_usd: the part of `usd` whose prices are approximate, in USD.
        unknown: number of unknown prices, which are not in the sum.
    """

    usd: float
    margin: float
    approximate_usd: float
    unknown: int

    @classmethod
    def of(cls, prices: Iterable[Price | None]) -> PriceTotal:
        """Add prices up. None: nothing would be bought."""
        bought = [price for price in prices if price is not None]
        known = [(price, price.usd) for price in bought if price.usd is not None]
        return cls(
            usd=round(math.fsum(usd for _, usd in known), 6),
            margin=round(math.fsum(price.margin for price, _ in known), 6),
            approximate_usd=round(
                math.fsum(usd for price, usd in known if price.certainty == "approximate"), 6
            ),
            unknown=len(bought) - len(known),
        )

    @property
    def text(self) -> str:
        """The sum in words: ``about 4.15 USD (including a margin of 0.23 USD)``."""
        if self.unknown and not self.usd:
            return "unknown"
        about = "about " if self.approximate_usd else ""
        text = f"{about}{self.usd:.2f} USD"
        if self.margin > 0:
            if self.approximate_usd == self.usd:
                text += f" (approximate, +{_percent(self.usd, self.margin)} margin)"
            else:
                text += f" (including a margin of {self.margin:.2f} USD)"
        elif self.approximate_usd:
            text += " (approximate)"
        if self.unknown:
            text += f", and {self.unknown} of unknown price"
        return text

    def would_cost(self, what: str) -> str:
        """The sum in a sentence, as `Price.would_cost`."""
        return _would_cost(what, self.text)


def _would_cost(what: str, text: str) -> str:
    return f"the price of {what} is unknown" if text == "unknown" else f"{what} would cost {text}"


def usd_text(usd: float | None) -> str:
    """A cost in words: ``1.20 USD``, or ``unknown cost``."""
    return "unknown cost" if usd is None else f"{usd:.2f} USD"


def costs_text(costs_usd: Iterable[float | None]) -> str:
    """The sum of costs in words: ``1.20 USD, and 1 of unknown cost``. None: an unknown cost."""
    costs = list(costs_usd)
    known = [usd for usd in costs if usd is not None]
    unknown = len(costs) - len(known)
    if unknown and not known:
        return usd_text(None)
    text = usd_text(math.fsum(known))
    return f"{text}, and {unknown} of unknown cost" if unknown else text


def _percent(usd: float, margin: float) -> str:
    return f"{100 * margin / (usd - margin):.0f}%" if usd > margin else f"{margin:.2f} USD"


def price_of(
    request: VideoInference,
    entry: VideoModel,
    *,
    input_size: FrameSize | None = None,
    input_seconds: float | None = None,
) -> Price:
    """The price of a request by the catalogue.

    Arguments:
        request: the request. It need not be valid.
        entry: the catalogue entry of its model.
        input_size: size of the input video or first frame, in pixels. Default: that of the first
            frame if the request has its bytes, else unknown.
        input_seconds: length of the input videos in seconds, summed up. Default: unknown.
    """
    prices = entry.prices
    unknown = Price(usd=None, certainty="unknown", source=prices.source, as_of=prices.as_of)
    fields = request_fields(request, entry)
    has_video = any(name in fields for name in VIDEO_INPUTS)
    if not has_video:
        input_seconds = None
    elif input_seconds is not None:
        input_seconds = _counted_seconds(input_seconds)
    seconds = _seconds(request, entry, fields, input_seconds)
    video_usd, video_rate = 0.0, None
    for variant in _variants(fields, entry, input_size or _first_frame_size(request)):
        rate = next((rate for rate in prices.rates if holds(rate.if_, variant)), None)
        usd = None if rate is None else _rate_usd(rate, seconds)
        if usd is None or rate is None:
            return unknown
        if video_rate is None or usd > video_usd:
            video_usd, video_rate = usd, rate
    if video_rate is None:
        return unknown
    images = sum(_count(fields.get(name)) for name in IMAGE_INPUTS)
    video_usd += max(0, images - prices.free_input_images) * prices.input_image_usd
    if has_video and prices.input_video_second_usd:
        counted = _longest_input(entry, fields) if input_seconds is None else input_seconds
        if counted is None:
            return unknown
        video_usd += prices.input_video_second_usd * counted
    usd = video_usd * request.number_results
    with_margin = _rounded_up(usd * (1 + prices.estimate_margin))
    return Price(
        usd=with_margin,
        certainty=prices.certainty,
        margin=round(with_margin - _rounded_up(usd), 6),
        rate=", ".join([rate_text(video_rate), *input_prices(prices)]),
        source=prices.source,
        as_of=prices.as_of,
    )


def _rounded_up(usd: float) -> float:
    """An amount in millionths of a USD, rounded up, but for noise of the calculation."""
    return math.ceil(round(usd * 1e6, 3)) / 1e6


def _counted_seconds(seconds: float) -> float:
    """The length of a video as it may be billed at most: as it was requested, or rounded up."""
    whole = float(round(seconds))
    if abs(seconds - whole) <= _CONTAINER_ROUNDING_SECONDS:
        return max(seconds, whole)
    return float(math.ceil(seconds))


def _rate_usd(rate: Rate, seconds: float | None) -> float | None:
    if not rate.usd_per_second:
        return rate.usd or 0.0
    return None if seconds is None else rate.usd_per_second * seconds + (rate.usd or 0.0)


# What is not known before a video is generated


def _variants(
    fields: dict[str, object], entry: VideoModel, input_size: FrameSize | None
) -> Iterator[Mapping[str, object]]:
    """The fields of a request, once for each combination of what is not known of them."""
    named: dict[str, set[object]] = {}
    for rate in entry.prices.rates:
        for name, conditions in rate.if_.items():
            named.setdefault(name, set()).update(conditions)
    possible = {
        name: values
        for name in named
        if (values := _possible(name, fields, entry, named[name], input_size))
    }
    for combination in itertools.product(*possible.values()):
        variant = {**fields, **dict(zip(possible, combination, strict=True))}
        yield {name: value for name, value in variant.items() if value is not None}


def _possible(
    name: str,
    fields: Mapping[str, object],
    entry: VideoModel,
    named: set[object],
    input_size: FrameSize | None,
) -> Sequence[object]:
    """The values that a field may have although the request does not say so; None: any other.

    Arguments:
        name: the field.
        fields: the fields of the request.
        entry: the catalogue entry of the model.
        named: the values of the field that rates name.
        input_size: size of the input video or first frame. None: unknown.
    """
    listed = named - {GIVEN, MISSING}
    if name == "duration" and entry.durations is not None:
        sent = fields.get(name, MISSING)
        if sent not in ("auto", MISSING) or sent in named:
            return ()
        lengths = _lengths(entry.durations, listed)
        # A video that follows its input may have any length.
        has_video = any(name in fields for name in VIDEO_INPUTS)
        return (*lengths, None) if lengths and has_video else lengths
    if name in fields:
        return ()
    if name == "tier":
        tier = _unsent_tier(fields, entry, input_size)
        return entry.tiers if tier is None else (tier,)
    if name == "fps" and entry.fps is not None:
        return entry.fps.values or (*listed, None)
    for setting_name, setting in entry.settings.items():
        if entry.setting_field(setting_name) == name:
            if setting.default is not None:
                return (setting.default,)
            is_switch = setting.type == "boolean"
            return setting.values or ((False, True) if is_switch else (*listed, None))
    return ()


def _lengths(durations: Durations, named: set[object]) -> Sequence[object]:
    """Lengths that stand for all allowed ones: those that rates name, and the longest other one."""
    lengths = [
        value for value in named if isinstance(value, (int, float)) and durations.allows(value)
    ]
    if not lengths:
        return ()
    other = next((length for length in durations.from_longest() if length not in lengths), None)
    return lengths if other is None else [*lengths, other]


def _unsent_tier(
    fields: Mapping[str, object], entry: VideoModel, input_size: FrameSize | None
) -> str | None:
    """The tier of a video whose request has neither size nor resolution. None: unknown."""
    if "size" in fields:
        # Not an allowed size.
        return None
    if entry.default_resolution is not None or input_size is None:
        return entry.default_resolution
    # The input decides the size where the entry does not say otherwise.
    has_input = any(name in fields for name in (*VIDEO_INPUTS, "inputs.frameImages"))
    return entry.tier_of(input_size) if has_input else None


def _first_frame_size(request: VideoInference) -> FrameSize | None:
    images = None if request.inputs is None else request.inputs.frame_images
    if not images:
        return None
    first = images[0]
    return image_size(first.image if isinstance(first, FrameImage) else first)


def _seconds(
    request: VideoInference,
    entry: VideoModel,
    fields: Mapping[str, object],
    input_seconds: float | None,
) -> float | None:
    """Length of each video in seconds; if it is unknown, the longest possible one."""
    if isinstance(request.duration, (int, float)):
        return float(request.duration)
    ways = [
        way
        for way in entry.remix.values()
        if f"inputs.{way.input}" in fields
        and all(
            fields.get(entry.setting_field(name)) == value for name, value in way.settings.items()
        )
    ]
    is_parents = bool(ways) and all(way.result_length == "parent" for way in ways)
    if is_parents and input_seconds is not None:
        return input_seconds
    longest = [] if entry.durations is None else [entry.durations.highest]
    input_seconds = input_seconds or _longest_input(entry, fields)
    longest += [] if input_seconds is None else [input_seconds]
    return max(longest, default=None)


def _longest_input(entry: VideoModel, fields: Mapping[str, object]) -> float | None:
    """The longest that the input videos can be together, in seconds. None: unknown."""
    limits = {f"inputs.{name}": limits.max_seconds for name, limits in entry.inputs.items()}
    seconds = 0.0
    for name in VIDEO_INPUTS:
        if name not in fields:
            continue
        longest = limits.get(name)
        if longest is None:
            return None
        seconds += longest * _count(fields[name])
    return seconds or None


def _count(value: object) -> int:
    if value is None:
        return 0
    return len(value) if isinstance(value, (tuple, list)) else 1
