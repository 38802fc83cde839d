"""What runs that request clips share: their config, the submission, and what they log."""

from collections.abc import Sequence
from typing import Self

import dagster as dg
from pydantic import Field, model_validator

from sora_dagster.dataset import VideoDataset, asset_key_of
from sora_dagster.generation.generator import Generator
from sora_dagster.generation.requesting.estimates import Estimate
from sora_dagster.generation.requesting.options import RequestOptions
from sora_dagster.generation.requesting.results import RequestResult, RequestState
from sora_dagster.prompts.clips import ClipRequest
from sora_dagster.prompts.retired_models import retired_model_warnings
from sora_dagster.reporting.metadata import price_metadata
from sora_dagster.reporting.runs import (
    add_post_counts,
    is_launched_by_a_person,
    log_details,
    root_run_of,
)
from sora_dagster.resources import check_limit_fields
from sora_dagster.runware.pricing import PriceTotal


class RequestConfig(dg.Config):
    """How clips are requested."""

    max_usd: float | None = Field(
        default=None,
        ge=0,
        allow_inf_nan=False,
        description="Spending limit of this run in USD. Default: the limit of the resource.",
    )
    unlimited: bool = Field(
        default=False,
        description="No spending limit for this run. Cannot be combined with max_usd.",
    )
    regenerate_changed: bool = Field(
        default=False,
        description=(
            "Whether clips whose row changed get a new take, which costs money. If false, the run "
            "lists them with the cost of new takes, and keeps the current ones. A run of one "
            "partition that a person launched buys its new take without this."
        ),
    )
    retry_failed: bool = Field(
        default=False, description="Whether a clip that failed permanently is tried again."
    )
    dry_run: bool = Field(
        default=False,
        description="Only log the cost; send nothing, pay nothing, materialize nothing.",
    )

    @model_validator(mode="after")
    def _check_limit(self) -> Self:
        check_limit_fields(self.max_usd, self.unlimited)
        return self

    def run_limit_usd(self, default_usd: float | None) -> float | None:
        """Spending limit of the run in USD; None: no limit.

        Arguments:
            default_usd: the limit of the resource.
        """
        if self.unlimited:
            return None
        return default_usd if self.max_usd is None else self.max_usd


def request_options_of(
    config: RequestConfig,
    run: dg.DagsterRun,
    default_limit_usd: float | None,
    *,
    is_for_one: bool = False,
) -> RequestOptions:
    """The options of a run's requests.

    Arguments:
        config: the run's config.
        run: the run.
        default_limit_usd: the spending limit in USD if the config sets none; None: no limit.
        is_for_one: whether the run is for exactly one clip. If a person launched it, it buys a new
            take of that clip if its row changed.
    """
    return RequestOptions(
        root_run=root_run_of(run),
        run_limit_usd=config.run_limit_usd(default_limit_usd),
        regenerate_changed=config.regenerate_changed
        or (is_for_one and is_launched_by_a_person(run)),
        retry_failed=config.retry_failed,
    )


def submit(
    context: dg.AssetExecutionContext | dg.OpExecutionContext,
    dataset: VideoDataset,
    generator: Generator,
    requests: Sequence[ClipRequest],
    options: RequestOptions,
) -> list[RequestResult]:
    """Request clips or remixes of a dataset, and add the POSTs to the run's tags.

    Logs one warning for each retired model that they use.

    Arguments:
        context: the run's context.
        dataset: the dataset; its name and keys are bound to the storage root.
        generator: requests the clips; its account is bound to the storage root.
        requests: the clips. Without any, the API is not called.
        options: the options of the run's requests.

    Raises:
        RunwareError: if the API refuses the key or cannot be reached.
        StorageError: if the storage root is another account's or cannot be written.
        DatasetNameError: if another dataset of the root has the name, or the same assets.
    """
    specs = [request.spec for request in requests]
    for warning in retired_model_warnings(specs, dataset.catalogue):
        context.log.warning(warning)
    try:
        if requests:
            generator.bind()
            dataset.bind(generator.ledger)
        return generator.request(requests, options)
    finally:
        add_post_counts(context, generator.client.posts)


def log_requested(
    context: dg.AssetExecutionContext | dg.OpExecutionContext, requested: Sequence[RequestResult]
) -> None:
    """Log the results of the clips, and the cost of new takes of changed rows."""
    log_details(context, ((item.request.name, item.detail) for item in requested))
    changed = [item for item in requested if item.state is RequestState.CHANGED]
    if changed:
        total = PriceTotal.of(item.new_take_price for item in changed)
        names = ", ".join(item.request.name for item in changed)
        context.log.warning(
            f"{len(changed)} changed and keep their current takes: {names}; "
            f"{total.would_cost('new takes')}; set regenerate_changed in the run config to buy them"
        )


def log_estimates(
    context: dg.AssetExecutionContext | dg.OpExecutionContext,
    dataset: VideoDataset | None,
    estimates: Sequence[Estimate],
) -> None:
    """Report what a request would cost: an observation for each clip, and the total in the log.

    Arguments:
        context: the run's context.
        dataset: the dataset; None for shots of a storyboard, which are requested themselves.
        estimates: the estimate for each clip.
    """
    log_details(context, ((item.request.name, _price_and_detail(item)) for item in estimates))
    for item in estimates:
        asset = item.request.asset
        context.log_event(
            dg.AssetObservation(
                asset_key=asset_key_of(asset) if dataset is None else dataset.request_key(asset),
                partition=item.request.partition,
                metadata={
                    "dry_run": True,
                    **price_metadata(item.price),
                    "detail": item.detail,
                },
            )
        )
    total = PriceTotal.of(item.price for item in estimates)
    context.log.info(f"dry run: {total.text} in total; nothing was sent or paid")


def _price_and_detail(estimate: Estimate) -> str:
    price = "0.00 USD" if estimate.price is None else estimate.price.text
    return f"{price} {estimate.detail}".rstrip()
