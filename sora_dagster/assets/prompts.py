"""Assets of dataset rows: the request of each partition, with its data version."""

from collections.abc import Iterator, Sequence
from typing import Any

import dagster as dg

from sora_dagster.dataset import CODE_VERSION, VideoDataset
from sora_dagster.prompts.dataset import DatasetError
from sora_dagster.prompts.table_sources import AssetPrompts
from sora_dagster.reporting.dataset_rows import rows_of
from sora_dagster.reporting.dataset_sync import sync_dataset, sync_lines
from sora_dagster.reporting.events import PROMPT_ROWS_VERSION, not_requested_events
from sora_dagster.reporting.partition_owner import location_of
from sora_dagster.reporting.runs import (
    failure_of,
    partitioned_asset,
    report_partitions,
    warn_of_missing_rows,
)
from sora_dagster.resources import ClipStorageResource, resource_of
from sora_dagster.resources.run_settings import settings_tag


def build_prompts_asset(
    dataset: VideoDataset,
    key: dg.AssetKey,
    *,
    partitions_def: dg.PartitionsDefinition[Any],
    description: str,
    deps: Sequence[dg.AssetKey | dg.AssetDep] = (),
) -> dg.AssetsDefinition:
    """The asset of the rows, or of the remixes that rows list.

    Materializing it reads the prompt dataset; the dataset sensor does the same without a run.

    Arguments:
        dataset: the dataset.
        key: `dataset.prompts` or `dataset.remix_prompts`.
        partitions_def: its partitions.
        description: its description in the UI.
        deps: its upstream assets.
    """

    spec = dg.AssetSpec(
        key,
        deps=deps,
        partitions_def=partitions_def,
        skippable=True,
        **dataset.labels,
        code_version=CODE_VERSION,
        kinds={"table"},
        description=description,
    )

    storage_key = dataset.resource_keys.clip_storage

    @partitioned_asset(spec, required_resource_keys={storage_key})
    def prompts(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult[Any]]:
        clip_storage = resource_of(context, storage_key, ClipStorageResource)
        source = dataset.load_prompts(clip_storage)
        rows = {row.partition: row for row in rows_of(dataset, source)}
        found = [rows[partition] for partition in context.partition_keys if partition in rows]
        missing = [partition for partition in context.partition_keys if partition not in rows]
        events = [row.event() for row in found]
        if missing and key == dataset.remix_prompts:
            details = {cell: f"no row of the dataset lists {cell}" for cell in missing}
            events += not_requested_events(context.instance, dataset, key, details)
        elif missing and len(context.partition_keys) == 1:
            raise failure_of(
                dict.fromkeys(missing, f"it is not in {source.label}"), done=0, verb="read"
            )
        elif missing:
            warn_of_missing_rows(context, source.label, missing)
        yield from report_partitions(context, key, events)

    return prompts


def build_prompt_rows_asset(dataset: VideoDataset, source: AssetPrompts) -> dg.AssetsDefinition:
    """The asset that loads the rows of an upstream asset, and keeps them in the storage root.

    It also updates the partitions of the dataset, as the dataset sensor does. Rows with problems
    make it fail, and the rows before stay.

    Arguments:
        dataset: the dataset.
        source: its source.
    """
    storage_key = dataset.resource_keys.clip_storage
    upstream = dg.AssetKey(source.asset)

    @dg.asset(
        key=dataset.prompt_rows,
        ins={"rows": dg.AssetIn(upstream)},
        **dataset.labels,
        code_version=CODE_VERSION,
        kinds={"table"},
        required_resource_keys={storage_key},
        op_tags=settings_tag(),
        automation_condition=dg.AutomationCondition.eager(),
        description=f"The rows of {upstream.to_user_string()}, checked and kept for all runs. "
        f"Updates the partitions of the dataset.",
    )
    def prompt_rows(context: dg.AssetExecutionContext, rows: Any) -> dg.MaterializeResult[Any]:
        root = resource_of(context, storage_key, ClipStorageResource).root()
        try:
            # Once: an iterator can be read only once.
            records = source.records(rows)
            prompts = source.dataset_of_records(records, dataset.catalogue)
        except DatasetError as error:
            raise dg.Failure(description=str(error), allow_retries=False) from error
        source.keep(records, root)
        report = sync_dataset(
            context.instance,
            dataset,
            prompts,
            root,
            context.log_event,
            location=location_of(context.run),
        )
        for line in sync_lines(report):
            context.log.info(line)
        return dg.MaterializeResult(
            data_version=dg.DataVersion(PROMPT_ROWS_VERSION),
            metadata={
                "dagster/row_count": len(records),
                "changed": len(report.changed),
                "removed": len(report.removed),
            },
        )

    return prompt_rows
