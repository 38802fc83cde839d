"""Assets of submissions: each partition is asked for, and paid for, once."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import dagster as dg
from pydantic import Field

from sora_dagster.dataset_sync import sync_rows
from sora_dagster.events import request_data_version, request_event
from sora_dagster.generation.archive import content_hash
from sora_dagster.generation.clips import ClipRequest
from sora_dagster.generation.estimating import Estimate
from sora_dagster.generation.ledger import Ledger
from sora_dagster.generation.prompts import PromptDataset
from sora_dagster.generation.requester import Asking
from sora_dagster.graph import CODE_VERSION, VideoGraph, asset_key_of
from sora_dagster.metadata import request_metadata
from sora_dagster.partition_runs import failure_of, log_exact_events, partitioned_asset
from sora_dagster.resources import ClipStorageResource, RunwareResource
from sora_dagster.run_facts import add_post_counts, is_automatic, root_run_of

# Submitting is quick, and small runs share the work of a large backfill.
_REQUESTS_PER_RUN = 100

AskFor = Callable[[PromptDataset, str, Ledger], ClipRequest]


class RequestConfig(dg.Config):
    """How clips are asked for.

    Arguments:
        max_usd: the run's spending limit in USD; None for the resource's.
        regenerate_stale: whether a clip whose spec changed gets a new take, which is paid for.
        retry_failed: whether a clip that failed for good is tried again.
        dry_run: show what it would cost, send nothing, and materialize nothing.
    """

    max_usd: float | None = Field(
        default=None, description="Spending limit of this run in USD; the resource's where null."
    )
    regenerate_stale: bool = Field(
        default=True, description="Whether a clip whose prompt or settings changed is made anew."
    )
    retry_failed: bool = Field(
        default=False, description="Whether a clip that failed for good is tried again."
    )
    dry_run: bool = Field(
        default=False,
        description="Show what it would cost; send nothing, pay nothing, materialize nothing.",
    )


def asking_of(config: RequestConfig, run: dg.DagsterRun, default_limit_usd: float | None) -> Asking:
    """On whose behalf a run asks for clips."""
    return Asking(
        root_run=root_run_of(run),
        run_limit_usd=default_limit_usd if config.max_usd is None else config.max_usd,
        # Nothing is bought anew because an upstream asset changed by itself.
        regenerate_stale=config.regenerate_stale and not is_automatic(run),
        retry_failed=config.retry_failed,
    )


def log_estimates(
    context: dg.AssetExecutionContext | dg.OpExecutionContext,
    graph: VideoGraph | None,
    estimates: Sequence[Estimate],
) -> None:
    """Show what a request would cost: an observation for each clip, and the total in the log.

    Arguments:
        context: the run's context.
        graph: names of the assets of submissions; None for shots, which are asked for themselves.
        estimates: what each clip would cost.
    """
    for item in estimates:
        asset = item.request.asset
        context.log.info(f"{item.request.name}: {item.usd:.2f} USD {item.detail}".rstrip())
        context.log_event(
            dg.AssetObservation(
                asset_key=asset_key_of(asset) if graph is None else graph.request_key(asset),
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
    context.log.info(f"dry run: {total:.2f} USD in all; nothing was sent, nothing is paid")


def build_requests_asset(
    graph: VideoGraph,
    key: dg.AssetKey,
    *,
    deps: Sequence[dg.AssetKey | dg.AssetDep],
    partitions_def: dg.PartitionsDefinition[Any],
    description: str,
    ask: AskFor,
    automation_condition: dg.AutomationCondition[Any] | None = None,
) -> dg.AssetsDefinition:
    @partitioned_asset(
        key=key,
        deps=deps,
        partitions_def=partitions_def,
        backfill_policy=dg.BackfillPolicy.multi_run(_REQUESTS_PER_RUN),
        automation_condition=automation_condition,
        **graph.labels,
        code_version=CODE_VERSION,
        kinds={"runware"},
        description=description,
        dagster_type=dg.Nothing,
        # A dry run has no output.
        output_required=False,
    )
    def requests(
        context: dg.AssetExecutionContext,
        config: RequestConfig,
        runware: RunwareResource,
        clip_storage: ClipStorageResource,
    ) -> Iterator[dg.Output[None]]:
        dataset = graph.load_dataset()
        rows_changed = sync_rows(context, graph, dataset, set(context.partition_keys))
        failures: dict[str, str] = {}
        with runware.generator(clip_storage) as generator:
            asked = []
            for partition in context.partition_keys:
                try:
                    asked.append(ask(dataset, partition, generator.ledger))
                except (LookupError, ValueError) as error:
                    failures[partition] = str(error)
            asking = asking_of(config, context.run, runware.run_limit_usd())
            if config.dry_run:
                log_estimates(context, graph, generator.estimate(asked, asking))
                return
            requested = generator.request(asked, asking)
            add_post_counts(context, generator.client.posts)
        failures |= {item.request.clip: item.detail for item in requested if not item.ok}
        for item in requested:
            context.log.info(f"{item.request.clip}: {item.detail}")
        if failures:
            for item in requested:
                if item.ok:
                    context.log_event(request_event(context.instance, graph, item))
            raise failure_of(failures, done=len(requested) - len(failures), verb="requested")
        versions = [request_data_version(item) for item in requested]
        context.set_data_version(key, dg.DataVersion(content_hash(versions)))
        if len(requested) == 1:
            context.add_asset_metadata(request_metadata(requested[0]))
        yield dg.Output(None)
        if len(requested) > 1 or rows_changed:
            log_exact_events(
                context, [request_event(context.instance, graph, item) for item in requested]
            )

    return requests
