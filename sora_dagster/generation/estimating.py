"""What asking for clips would cost, without asking for them."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from sora_dagster.generation.clips import ClipRequest
from sora_dagster.generation.deciding import Decider
from sora_dagster.generation.inference import build_inference, estimate_usd
from sora_dagster.generation.requested import Requested
from sora_dagster.runware.client import RunwareClient
from sora_dagster.runware.errors import RunwareError
from sora_dagster.runware.requests import VideoInference

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Estimate:
    """What one clip would cost.

    Arguments:
        request: the clip.
        usd: its price; 0 where it is stored or under way.
        priced_by: the API's dry run, the catalogue, or nobody where nothing would be sent.
        detail: why nothing would be sent.
    """

    request: ClipRequest
    usd: float
    priced_by: Literal["api", "catalogue", "nobody"]
    detail: str = ""


def estimate(
    client: RunwareClient,
    decider: Decider | None,
    asked: Sequence[ClipRequest],
    *,
    regenerate_stale: bool = True,
    retry_failed: bool = False,
) -> list[Estimate]:
    """What clips would cost, by the API's dry run where it tells, else by the catalogue.

    Arguments:
        client: the API client.
        decider: knows what is stored or under way; None to price everything.
        asked: the clips.
        regenerate_stale: whether a clip whose spec changed would get a new take.
        retry_failed: whether a clip that failed for good would be tried again.

    Raises:
        InvalidRequestError: where the API would refuse a clip.
        UnknownModelError: where a model has no catalogue entry.
    """
    estimates: dict[int, Estimate] = {}
    to_price: dict[int, VideoInference] = {}
    for index, request in enumerate(asked):
        decision = decider and decider.decide(
            request, regenerate_stale=regenerate_stale, retry_failed=retry_failed
        )
        if isinstance(decision, Requested):
            estimates[index] = Estimate(request, 0.0, "nobody", decision.detail)
            continue
        to_price[index] = build_inference(
            request,
            task_uuid=str(uuid.uuid4()),
            catalogue=client.catalogue,
            webhook=None,
            hosted_seconds=None,
        )
    prices = _prices(client, list(to_price.values()))
    for index, inference in to_price.items():
        price = prices.get(inference.task_uuid)
        estimates[index] = (
            Estimate(asked[index], estimate_usd(asked[index], client.catalogue), "catalogue")
            if price is None
            else Estimate(asked[index], price, "api")
        )
    return [estimates[index] for index in range(len(asked))]


def _prices(client: RunwareClient, inferences: Sequence[VideoInference]) -> dict[str, float | None]:
    prices: dict[str, float | None] = {}
    size = client.submit_batch_size
    try:
        for start in range(0, len(inferences), size):
            prices |= client.price(inferences[start : start + size])
    except RunwareError as error:
        # The catalogue's prices stand in: an estimate is wanted, and nothing is sent by it.
        _log.warning("the API's dry run told no price: %s", error)
    return prices
