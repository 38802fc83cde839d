"""What the sandbox charges: the catalogue's price of the facts, without any margin."""

from __future__ import annotations

import functools
import logging
from dataclasses import dataclass

from sora_dagster.runware.catalogue import FrameSize
from sora_dagster.runware.pricing import price_of
from sora_dagster.runware.requests import VideoInference
from sora_dagster.sandbox.request_form import VideoRequest

_log = logging.getLogger(__name__)

# Charged for each video of a model whose entry has no price.
ASSUMED_PRICE_USD = 1.0


@dataclass(frozen=True)
class Bill:
    """What a task costs.

    Arguments:
        usd: price of all its videos in USD.
        is_assumed: whether the entry has no price, so that `ASSUMED_PRICE_USD` is charged.
    """

    usd: float
    is_assumed: bool = False


def bill_of(
    request: VideoRequest, *, size: FrameSize, seconds: float, input_seconds: float | None
) -> Bill:
    """The price of a request, by what is really generated.

    Arguments:
        request: the request.
        size: size of the videos.
        seconds: length of what is generated, in seconds.
        input_seconds: length of all input videos in seconds. None: there are none.
    """
    entry = request.entry
    own = {name for name, setting in entry.settings.items() if setting.at == "request"}
    fields = {name: value for name, value in request.raw.items() if name != "taskType"}
    inference = VideoInference.build(
        **{name: value for name, value in fields.items() if name not in own},
        extra_parameters={name: value for name, value in fields.items() if name in own},
    ).model_copy(update={"duration": seconds})
    tier = entry.tier_of(size)
    if inference.size is None and inference.resolution is None and tier is not None:
        inference = inference.model_copy(update={"resolution": tier})
    price = price_of(inference, entry, input_size=size, input_seconds=input_seconds)
    if price.usd is None:
        _warn_of_unknown_price(entry.name, entry.air)
        return Bill(ASSUMED_PRICE_USD * request.number_results, is_assumed=True)
    return Bill(round(price.usd - price.margin, 6))


@functools.cache
def _warn_of_unknown_price(name: str, air: str) -> None:
    """Log it once for each model."""
    message = "%s (%s) has no price in the catalogue; %g USD is charged for each video"
    _log.warning(message, name, air, ASSUMED_PRICE_USD)
