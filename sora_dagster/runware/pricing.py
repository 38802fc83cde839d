"""What a request costs by its model's catalogue entry."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from sora_dagster.runware.catalogue import FrameSize, VideoModel
from sora_dagster.runware.catalogue.conditions import UNKNOWN, holds
from sora_dagster.runware.catalogue.prices import Certainty, Rate
from sora_dagster.runware.request_fields import IMAGE_INPUTS, VIDEO_INPUTS, request_fields
from sora_dagster.runware.requests import VideoInference


@dataclass(frozen=True)
class Price:
    """Expected price of a task.

    Arguments:
        usd: in USD, for all its videos; never below the bill if the prices are published. None:
            the price of the model is unknown.
        certainty: how sure the prices of the entry are.
        margin: the part of `usd` that was added since the prices are approximate, in USD.
    """

    usd: float | None
    certainty: Certainty
    margin: float = 0.0


def price_of(
    request: VideoInference,
    entry: VideoModel,
    *,
    input_size: FrameSize | None = None,
    input_seconds: float | None = None,
) -> Price:
    """The price of a request by the catalogue.

    If something that decides the price is unknown, such as the size of a first frame, the highest
    price that is possible counts.

    Arguments:
        request: the request.
        entry: the catalogue entry of its model.
        input_size: size of the input video or first frame, in pixels. Default: unknown.
        input_seconds: length of the input videos in seconds, summed up. Default: unknown.
    """
    prices = entry.prices
    fields = request_fields(request, entry)
    has_video = any(name in fields for name in VIDEO_INPUTS)
    fields.setdefault("tier", _unsent_tier(fields, entry, input_size))
    seconds = _seconds(request, entry, fields, input_seconds if has_video else None)
    rates = list(_possible_rates(prices.rates, fields))
    if not rates or seconds is None:
        return Price(None, "unknown")
    video_usd = max((rate.usd_per_second or 0) * seconds + (rate.usd or 0) for rate in rates)
    images = sum(_count(fields.get(name)) for name in IMAGE_INPUTS)
    video_usd += max(0, images - prices.free_input_images) * prices.input_image_usd
    if has_video:
        known = input_seconds is not None
        video_usd += prices.input_video_second_usd * (input_seconds if known else seconds)  # type: ignore[operator]
    usd = video_usd * request.number_results
    margin = usd * prices.estimate_margin
    return Price(round(usd + margin, 6), prices.certainty, round(margin, 6))


def _possible_rates(rates: tuple[Rate, ...], fields: Mapping[str, object]) -> Iterator[Rate]:
    """The rates that may count: up to the first whose condition surely holds."""
    for rate in rates:
        match holds(rate.if_, fields):
            case True:
                yield rate
                return
            case None:
                yield rate


def _unsent_tier(
    fields: Mapping[str, object], entry: VideoModel, input_size: FrameSize | None
) -> object:
    """The tier of a video whose request has neither size nor resolution."""
    if any(name in fields for name in (*VIDEO_INPUTS, "inputs.frameImages")):
        # The input decides the size where the entry does not say otherwise.
        if entry.default_resolution is not None:
            return entry.default_resolution
        tier = None if input_size is None else entry.tier_of(input_size)
        return UNKNOWN if tier is None else tier
    return UNKNOWN if entry.default_resolution is None else entry.default_resolution


def _seconds(
    request: VideoInference,
    entry: VideoModel,
    fields: Mapping[str, object],
    input_seconds: float | None,
) -> float | None:
    """Length of each video in seconds; if it is unknown, the longest possible one."""
    if isinstance(request.duration, (int, float)):
        return float(request.duration)
    if request.duration is None and input_seconds is not None:
        return input_seconds
    longest = [
        entry.inputs[name].max_seconds for name in entry.inputs if f"inputs.{name}" in fields
    ]
    possible = [seconds for seconds in longest if seconds is not None]
    possible += [] if entry.durations is None else [entry.durations.highest]
    possible += [] if input_seconds is None else [input_seconds]
    return max(possible, default=None)


def _count(value: object) -> int:
    if value is None:
        return 0
    return len(value) if isinstance(value, (tuple, list)) else 1
