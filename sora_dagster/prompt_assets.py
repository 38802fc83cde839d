"""Assets of dataset rows: what is asked for under each partition, with its data version."""

from collections.abc import Iterator
from typing import Any

import dagster as dg

from sora_dagster.dataset_sync import rows_of
from sora_dagster.generation.archive import content_hash
from sora_dagster.graph import CODE_VERSION, VideoGraph
from sora_dagster.partition_runs import failure_of, log_exact_events, partitioned_asset

_ROWS_PER_RUN = 1000


def build_prompts_asset(
    graph: VideoGraph,
    key: dg.AssetKey,
    *,
    partitions_def: dg.PartitionsDefinition[Any],
    description: str,
) -> dg.AssetsDefinition:
    """The asset of the rows, or of the remixes that rows ask for.

    Materializing it reads the dataset anew; the dataset sensor does the same without a run.

    Arguments:
        graph: names, partitions and the dataset.
        key: `graph.prompts` or `graph.remix_prompts`.
        partitions_def: its partitions.
        description: what the UI says of it.
    """

    @partitioned_asset(
        key=key,
        partitions_def=partitions_def,
        backfill_policy=dg.BackfillPolicy.multi_run(_ROWS_PER_RUN),
        **graph.labels,
        code_version=CODE_VERSION,
        kinds={"yaml"},
        description=description,
        dagster_type=dg.Nothing,
    )
    def prompts(context: dg.AssetExecutionContext) -> Iterator[dg.Output[None]]:
        rows = {row.partition: row for row in rows_of(graph, graph.load_dataset())}
        wanted = {partition: rows.get(partition) for partition in context.partition_keys}
        found = {partition: row for partition, row in wanted.items() if row is not None}
        if missing := [partition for partition, row in wanted.items() if row is None]:
            for row in found.values():
                context.log_event(row.event())
            raise failure_of(
                dict.fromkeys(missing, f"{graph.prompts_path} does not ask for it"),
                done=len(found),
                verb="read",
            )
        versions = [row.data_version for row in found.values()]
        context.set_data_version(key, dg.DataVersion(content_hash(versions)))
        if len(found) == 1:
            context.add_asset_metadata(next(iter(found.values())).metadata())
        yield dg.Output(None)
        if len(found) > 1:
            log_exact_events(context, [row.event() for row in found.values()])

    return prompts
