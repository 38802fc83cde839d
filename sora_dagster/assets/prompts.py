"""Assets of dataset rows: the request of each partition, with its data version."""

from collections.abc import Iterator
from typing import Any

import dagster as dg

from sora_dagster.dataset import CODE_VERSION, VideoDataset
from sora_dagster.reporting.dataset_sync import rows_of
from sora_dagster.reporting.runs import failure_of, partitioned_asset, report_partitions

_ROWS_PER_RUN = 1000


def build_prompts_asset(
    dataset: VideoDataset,
    key: dg.AssetKey,
    *,
    partitions_def: dg.PartitionsDefinition[Any],
    description: str,
) -> dg.AssetsDefinition:
    """The asset of the rows, or of the remixes that rows list.

    Materializing it reads the prompt file; the dataset sensor does the same without a run.

    Arguments:
        dataset: the dataset.
        key: `dataset.prompts` or `dataset.remix_prompts`.
        partitions_def: its partitions.
        description: its description in the UI.
    """

    spec = dg.AssetSpec(
        key,
        partitions_def=partitions_def,
        skippable=True,
        **dataset.labels,
        code_version=CODE_VERSION,
        kinds={"yaml"},
        description=description,
    )

    @partitioned_asset(spec, partitions_per_run=_ROWS_PER_RUN)
    def prompts(context: dg.AssetExecutionContext) -> Iterator[dg.MaterializeResult[Any]]:
        rows = {row.partition: row for row in rows_of(dataset, dataset.load_prompts())}
        found = [rows[partition] for partition in context.partition_keys if partition in rows]
        missing = [partition for partition in context.partition_keys if partition not in rows]
        if missing:
            for row in found:
                context.log_event(row.event())
            raise failure_of(
                dict.fromkeys(missing, f"it is not in {dataset.prompts_path}"),
                done=len(found),
                verb="read",
            )
        yield from report_partitions(context, key, [row.event() for row in found])

    return prompts
