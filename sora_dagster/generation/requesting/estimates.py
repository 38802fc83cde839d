"""What requesting clips would cost."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from sora_dagster.generation.requesting.carriers import CarrierError
from sora_dagster.generation.requesting.payloads import build_inference, estimate_usd
from sora_dagster.generation.requesting.planner import NextAttempt
from sora_dagster.generation.requesting.results import RequestResult
from sora_dagster.prompts.clips import ClipRequest
from sora_dagster.runware.client import RunwareClient
from sora_dagster.runware.errors import RunwareError
from sora_dagster.runware.requests import VideoInference

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Estimate:
    """What one clip would cost.

    Arguments:
        request: the clip.
        usd: expected cost of requesting it, in USD; 0 if nothing would be sent.
        priced_by: `api` for the API's dry run, `catalogue`, or `unpriced` if nothing would be sent.
        detail: why nothing would be sent.
        new_take_usd: expected cost of a new take, if its row changed and the stored take is kept.
    """

    request: ClipRequest
    usd: float
    priced_by: Literal["api", "catalogue", "unpriced"]
    detail: str = ""
    new_take_usd: float = 0.0


def estimate(
    client: RunwareClient,
    requests: Sequence[ClipRequest],
    *,
    plan: Callable[[ClipRequest], RequestResult | NextAttempt] | None = None,
    build: Callable[[ClipRequest], VideoInference] | None = None,
) -> list[Estimate]:
    """Estimate the cost of clips by the API's dry run or, without a price, by the catalogue.

    Generates nothing and writes nothing.

    Arguments:
        client: the API client.
        requests: the clips.
        plan: decides what a request would do; None to price all clips.
        build: builds the API's request of a clip; default: for clips without a parent.

    Raises:
        InvalidRequestError: if the API would refuse a clip.
        UnknownModelError: if a model has no catalogue entry.
    """

    def default_build(request: ClipRequest) -> VideoInference:
        return build_inference(
            request,
            task_uuid=str(uuid.uuid4()),
            catalogue=client.catalogue,
            webhook=None,
            hosted_seconds=None,
        )

    estimates: dict[int, Estimate] = {}
    to_price: dict[int, VideoInference] = {}
    for index, request in enumerate(requests):
        planned = None if plan is None else plan(request)
        if isinstance(planned, RequestResult):
            estimates[index] = Estimate(
                request, 0.0, "unpriced", planned.detail, planned.new_take_usd
            )
            continue
        try:
            to_price[index] = (build or default_build)(request)
        except CarrierError as error:
            estimates[index] = Estimate(request, 0.0, "unpriced", f"nothing would be sent: {error}")
    prices = _prices(client, list(to_price.values()))
    for index, inference in to_price.items():
        request, price = requests[index], prices.get(inference.task_uuid)
        estimates[index] = (
            Estimate(request, estimate_usd(request, client.catalogue), "catalogue")
            if price is None
            else Estimate(request, price, "api")
        )
    return [estimates[index] for index in range(len(requests))]


def _prices(client: RunwareClient, inferences: Sequence[VideoInference]) -> dict[str, float | None]:
    prices: dict[str, float | None] = {}
    size = client.submit_batch_size
    try:
        for start in range(0, len(inferences), size):
            prices |= client.price(inferences[start : start + size])
    except RunwareError as error:
        # The catalogue's prices are used instead: an estimate sends nothing.
        _log.warning("the API's dry run failed: %s", error)
    return prices
