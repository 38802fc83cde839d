"""Updates Dagster from the prompt file: partitions, and data versions of rows."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import dagster as dg

from sora_dagster.dataset import VideoDataset, remix_partition
from sora_dagster.prompts.clips import ClipSpec
from sora_dagster.prompts.dataset import PromptDataset
from sora_dagster.reporting.event_log import data_version_of, newest_materializations
from sora_dagster.reporting.events import prompt_event, row_data_version
from sora_dagster.reporting.metadata import spec_metadata
from sora_dagster.reporting.partition_owner import location_of, require_own_partitions


@dataclass(frozen=True)
class Row:
    """The row of one partition.

    Arguments:
        asset: `prompts` or `remix_prompts`.
        partition: the partition key.
        data_version: changes exactly when the row describes another video.
        spec: the clip or remix to generate.
    """

    asset: dg.AssetKey
    partition: str
    data_version: str
    spec: ClipSpec

    def metadata(self) -> dict[str, Any]:
        """Metadata for the UI."""
        return {
            "prompt": self.spec.prompt,
            "model": self.spec.model,
            "take": self.spec.take,
            "tags": list(self.spec.tags),
            **spec_metadata(self.spec),
        }

    def event(self) -> dg.AssetMaterialization:
        """The materialization of the row."""
        return prompt_event(
            self.asset, self.partition, data_version=self.data_version, metadata=self.metadata()
        )


def rows_of(dataset: VideoDataset, prompts: PromptDataset) -> Iterator[Row]:
    """All rows, and all remixes that they list."""
    for spec in prompts.clips:
        yield Row(
            dataset.prompts, spec.clip_id, row_data_version(spec.fingerprint, spec.take), spec
        )
    for clip_id, recipe in prompts.remix_cells:
        spec = dataset.remix_spec(prompts, clip_id, recipe)
        yield Row(
            dataset.remix_prompts,
            remix_partition(clip_id, recipe),
            row_data_version(spec.fingerprint, spec.take),
            spec,
        )


def missing_partitions(
    dataset: VideoDataset, instance: dg.DagsterInstance, prompts: PromptDataset
) -> Mapping[str, list[str]]:
    """Partitions that are missing in Dagster, by partitions definition."""
    wanted = {
        dataset.clip_partitions: [spec.clip_id for spec in prompts.clips],
        dataset.recipe_partitions: [recipe.name for recipe in prompts.recipes],
    }
    missing: dict[str, list[str]] = {}
    for definition, keys in wanted.items():
        known = set(instance.get_dynamic_partitions(str(definition.name)))
        if new := [key for key in keys if key not in known]:
            missing[str(definition.name)] = new
    return missing


def sync_rows(
    context: dg.OpExecutionContext | dg.AssetExecutionContext,
    dataset: VideoDataset,
    prompts: PromptDataset,
    partitions: Collection[str],
) -> bool:
    """Log rows before they are requested, so that their requests refer to their versions.

    The dataset sensor later does the same for the whole dataset, and does not log these again.

    Arguments:
        context: the run's context, for its instance and log.
        dataset: the dataset.
        prompts: its rows.
        partitions: partition keys of the rows.

    Returns:
        Whether any row was new or changed.

    Raises:
        SharedPartitionsError: if another code location has a dataset with the same partitions.
    """
    require_own_partitions(context.instance, dataset, location_of(context.run))
    for name, keys in missing_partitions(dataset, context.instance, prompts).items():
        context.instance.add_dynamic_partitions(name, keys)
    rows = [row for row in rows_of(dataset, prompts) if row.partition in partitions]
    changed = unlogged_rows(context.instance, rows)
    for row in changed:
        context.log_event(row.event())
    return bool(changed)


def unlogged_rows(instance: dg.DagsterInstance, rows: Sequence[Row]) -> list[Row]:
    """The rows whose current version is not in Dagster's log, in their order."""
    partitions: dict[dg.AssetKey, list[str]] = {}
    for row in rows:
        partitions.setdefault(row.asset, []).append(row.partition)
    known = {
        (asset, partition): None if event is None else data_version_of(event)
        for asset, keys in partitions.items()
        for partition, record in newest_materializations(instance, asset, keys).items()
        for event in [record.asset_materialization]
    }
    return [row for row in rows if known.get((row.asset, row.partition)) != row.data_version]
