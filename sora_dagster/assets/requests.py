"""Assets of submissions: each partition is requested, and paid for, once."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import dagster as dg

from sora_dagster.dataset import (
    CODE_VERSION,
    RemixNotListedError,
    RowMissingError,
    VideoDataset,
)
from sora_dagster.generation.protocol.ledger import Ledger
from sora_dagster.generation.requesting.results import failure_reasons
from sora_dagster.prompts.clips import ClipRequest
from sora_dagster.prompts.dataset import PromptDataset
from sora_dagster.reporting.dataset_sync import sync_rows
from sora_dagster.reporting.event_log import InputEvents
from sora_dagster.reporting.events import not_requested_events, request_events
from sora_dagster.reporting.runs import (
    failure_of,
    partitioned_asset,
    report_partitions,
    warn_of_missing_rows,
)
from sora_dagster.resources import ClipStorageResource, RunwareResource, resource_of
from sora_dagster.submission import (
    RequestConfig,
    log_estimates,
    log_requested,
    request_options_of,
    submit,
)

RequestOf = Callable[[PromptDataset, str, Ledger], ClipRequest]


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

    keys = dataset.resource_keys

    @partitioned_asset(
        spec,
        required_resource_keys={keys.runware, keys.clip_storage},
    )
    def submissions(
        context: dg.AssetExecutionContext,
        config: RequestConfig,
    ) -> Iterator[dg.MaterializeResult[Any]]:
        runware = resource_of(context, keys.runware, RunwareResource)
        clip_storage = resource_of(context, keys.clip_storage, ClipStorageResource)
        partitions = list(context.partition_keys)
        prompts = dataset.load_prompts(clip_storage)
        sync_rows(context, dataset, prompts, set(partitions))
        failures: dict[str, str] = {}
        not_requested: dict[str, str] = {}
        without_row: list[str] = []
        with runware.generator(clip_storage, dataset.day_limits_usd) as generator:
            requests = []
            for partition in partitions:
                try:
                    requests.append(request_of(prompts, partition, generator.ledger))
                except RemixNotListedError as error:
                    not_requested[partition] = str(error)
                except RowMissingError as error:
                    if len(partitions) == 1:
                        failures[partition] = str(error)
                    else:
                        without_row.append(partition)
                except (LookupError, ValueError) as error:
                    failures[partition] = str(error)
            warn_of_missing_rows(context, prompts.label, without_row)
            options = request_options_of(
                config, context.run, runware.run_limit_usd(), is_for_one=len(partitions) == 1
            )
            if config.dry_run:
                log_estimates(context, dataset, generator.estimate(requests, options))
                return
            results = submit(context, dataset, generator, requests, options)
            log_requested(context, results)
            failures |= failure_reasons(results)
            events = request_events(
                InputEvents(context.instance),
                generator.ledger,
                dataset,
                [item for item in results if item.request.name not in failures],
            )
        done = len(events)
        events += not_requested_events(context.instance, dataset, key, not_requested)
        if failures:
            for event in events:
                context.log_event(event)
            raise failure_of(failures, done=done, verb="requested")
        yield from report_partitions(context, key, events)

    return submissions
