"""Assets of submissions: each partition is requested, and paid for, once."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Self

import dagster as dg
from pydantic import Field, model_validator

from sora_dagster.assets.dataset_sync import sync_rows
from sora_dagster.dataset import CODE_VERSION, VideoDataset, asset_key_of
from sora_dagster.generation.protocol.ledger import Ledger
from sora_dagster.generation.requesting.estimates import Estimate
from sora_dagster.generation.requesting.options import RequestOptions
from sora_dagster.generation.requesting.results import RequestResult, RequestState, failure_reasons
from sora_dagster.prompts.clips import ClipRequest
from sora_dagster.prompts.dataset import PromptDataset
from sora_dagster.reporting.event_log import InputEvents
from sora_dagster.reporting.events import request_events
from sora_dagster.reporting.runs import (
    add_post_counts,
    failure_of,
    is_launched_by_a_person,
    partitioned_asset,
    report_partitions,
    root_run_of,
)
from sora_dagster.resources import ClipStorageResource, RunwareResource, check_limit_fields

# Submitting is fast, and small runs divide the work of a large backfill.
_REQUESTS_PER_RUN = 100

RequestOf = Callable[[PromptDataset, str, Ledger], ClipRequest]


class RequestConfig(dg.Config):
    """How clips are requested."""

    max_usd: float | None = Field(
        default=None,
        ge=0,
        allow_inf_nan=False,
        description="Spending limit of this run in USD. Default: the limit of the resource.",
    )
    unlimited: bool = Field(
        default=False, description="No spending limit for this run. Excludes max_usd."
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


def log_requested(
    context: dg.AssetExecutionContext | dg.OpExecutionContext, requested: Sequence[RequestResult]
) -> None:
    """Log the result for each clip, and the cost of new takes of changed rows."""
    for item in requested:
        context.log.info(f"{item.request.name}: {item.detail}")
    changed = [item for item in requested if item.state is RequestState.CHANGED]
    if changed:
        usd = sum(item.new_take_usd for item in changed)
        names = ", ".join(item.request.name for item in changed)
        context.log.warning(
            f"{len(changed)} changed and keep their current takes: {names}. New takes would cost "
            f"about {usd:.2f} USD; set regenerate_changed in the run config to buy them"
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
    for item in estimates:
        asset = item.request.asset
        context.log.info(f"{item.request.name}: {item.usd:.2f} USD {item.detail}".rstrip())
        context.log_event(
            dg.AssetObservation(
                asset_key=asset_key_of(asset) if dataset is None else dataset.request_key(asset),
                partition=item.request.partition,
                metadata={
                    "dry_run": True,
                    "estimate_usd": item.usd,
                    "priced_by": item.priced_by,
                    "detail": item.detail,
                },
            )
        )
    total = sum(item.usd for item in estimates)
    context.log.info(f"dry run: {total:.2f} USD in total; nothing was sent, nothing is paid")


def build_requests_asset(
    dataset: VideoDataset,
    key: dg.AssetKey,
    *,
    deps: Sequence[dg.AssetKey | dg.AssetDep],
    partitions_def: dg.PartitionsDefinition[Any],
    description: str,
    request_of: RequestOf,
    automation_condition: dg.AutomationCondition[Any] | None = None,
) -> dg.AssetsDefinition:
    """The asset of the submissions of a dataset's clips, or of its remixes.

    Arguments:
        dataset: the dataset.
        key: `dataset.clip_requests` or `dataset.remix_requests`.
        deps: its upstream assets.
        partitions_def: its partitions.
        description: its description in the UI.
        request_of: the request for a partition.
        automation_condition: when clips are requested automatically. Default: never.
    """

    spec = dg.AssetSpec(
        key,
        deps=deps,
        partitions_def=partitions_def,
        skippable=True,
        automation_condition=automation_condition,
        **dataset.labels,
        code_version=CODE_VERSION,
        kinds={"runware"},
        description=description,
    )

    @partitioned_asset(spec, partitions_per_run=_REQUESTS_PER_RUN)
    def submissions(
        context: dg.AssetExecutionContext,
        config: RequestConfig,
        runware: RunwareResource,
        clip_storage: ClipStorageResource,
    ) -> Iterator[dg.MaterializeResult[Any]]:
        partitions = list(context.partition_keys)
        prompts = dataset.load_prompts()
        sync_rows(context, dataset, prompts, set(partitions))
        failures: dict[str, str] = {}
        with runware.generator(clip_storage) as generator:
            requests = []
            for partition in partitions:
                try:
                    requests.append(request_of(prompts, partition, generator.ledger))
                except (LookupError, ValueError) as error:
                    failures[partition] = str(error)
            options = request_options_of(
                config, context.run, runware.run_limit_usd(), is_for_one=len(partitions) == 1
            )
            if config.dry_run:
                log_estimates(context, dataset, generator.estimate(requests, options))
                return
            if requests:
                generator.bind()
                dataset.bind(generator.ledger)
            try:
                results = generator.request(requests, options)
            finally:
                add_post_counts(context, generator.client.posts)
            log_requested(context, results)
            failures |= failure_reasons(results)
            events = request_events(
                InputEvents(context.instance),
                generator.ledger,
                dataset,
                [item for item in results if item.request.name not in failures],
            )
        if failures:
            for event in events:
                context.log_event(event)
            raise failure_of(failures, done=len(events), verb="requested")
        yield from report_partitions(context, key, events)

    return submissions
