"""What requesting clips would cost."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from sora_dagster.generation.requesting.carriers import CarrierError
from sora_dagster.generation.requesting.payloads import build_inference, request_price
from sora_dagster.generation.requesting.planner import NextAttempt
from sora_dagster.generation.requesting.results import RequestResult
from sora_dagster.prompts.clips import ClipRequest
from sora_dagster.runware.client import RunwareClient
from sora_dagster.runware.errors import RunwareError
from sora_dagster.runware.pricing import Price
from sora_dagster.runware.requests import VideoInference

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Estimate:
    """What one clip would cost.

    Arguments:
        request: the clip.
        price: expected price of requesting it. None: nothing would be sent.
        detail: why nothing would be sent, or why its price is unknown.
        new_take_price: expected price of a new take, if its row changed and the stored take is
            kept. Default: none.
    """

    request: ClipRequest
    price: Price | None
    detail: str = ""
    new_take_price: Price | None = None


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
            estimates[index] = Estimate(request, None, planned.detail, planned.new_take_price)
            continue
        try:
            to_price[index] = (build or default_build)(request)
        except CarrierError as error:
            estimates[index] = Estimate(request, None, f"nothing would be sent: {error}")
    prices = dry_run_prices(client, list(to_price.values()))
    for index, inference in to_price.items():
        request, found = requests[index], prices[inference.task_uuid]
        if found.usd is not None:
            estimates[index] = Estimate(request, Price.by_api(found.usd))
            continue
        price = request_price(request, client.catalogue)
        estimates[index] = Estimate(request, price, found.problem if price.usd is None else "")
    return [estimates[index] for index in range(len(requests))]


@dataclass(frozen=True)
class DryRunPrice:
    """What the API's dry run says about the price of a request.

    Arguments:
        usd: the price in USD. None: it gave none.
        problem: why it gave none. Empty if it gave one.
    """

    usd: float | None
    problem: str = ""


def dry_run_prices(
    client: RunwareClient, inferences: Sequence[VideoInference]
) -> dict[str, DryRunPrice]:
    """The prices of requests by the API's dry run, by task UUID. Never raises an API error.

    Arguments:
        client: the API client.
        inferences: the requests, which keep the rules of their models.
    """
    prices: dict[str, DryRunPrice] = {}
    size = client.submit_batch_size
    for start in range(0, len(inferences), size):
        batch = inferences[start : start + size]
        try:
            prices |= _prices_of(client, batch)
        except RunwareError as error:
            if not error.retryable and len(batch) > 1:
                # One of them is refused, and the API does not price the others with it.
                for inference in batch:
                    prices |= dry_run_prices(client, [inference])
                continue
            problem = f"the API's dry run failed: {error}"
            _log.warning("%s", problem)
            prices |= {inference.task_uuid: DryRunPrice(None, problem) for inference in batch}
            if error.retryable:
                # It would fail for the others as well, after the same wait.
                rest = inferences[start + size :]
                return prices | {one.task_uuid: DryRunPrice(None, problem) for one in rest}
    return prices


def _prices_of(
    client: RunwareClient, inferences: Sequence[VideoInference]
) -> dict[str, DryRunPrice]:
    found = client.price(inferences)
    return {
        task_uuid: DryRunPrice(usd, "" if usd is not None else "the API's dry run gave no price")
        for task_uuid, usd in found.items()
    }
