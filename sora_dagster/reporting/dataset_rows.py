"""The rows of a prompt dataset, and the remixes that they list, as Dagster sees them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import dagster as dg

from sora_dagster.dataset import VideoDataset, remix_partition
from sora_dagster.prompts.clips import ClipSpec
from sora_dagster.prompts.dataset import PromptDataset
from sora_dagster.reporting.event_log import data_version_of, newest_materializations
from sora_dagster.reporting.events import prompt_event, row_data_version, row_input_tags
from sora_dagster.reporting.metadata import spec_metadata

REMOVED_TAG = "sora_dagster/removed"


@dataclass(frozen=True)
class Row:
    """The row of one partition.

    Arguments:
        asset: `prompts` or `remix_prompts`.
        partition: the partition key.
        data_version: changes exactly when the row describes another video.
        spec: the clip or remix to generate.
        input_tags: provenance of the upstream asset. Default: none.
    """

    asset: dg.AssetKey
    partition: str
    data_version: str
    spec: ClipSpec
    input_tags: Mapping[str, str] = field(default_factory=dict)

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
            self.asset,
            self.partition,
            data_version=self.data_version,
            metadata=self.metadata(),
            tags=self.input_tags,
        )


def rows_of(dataset: VideoDataset, prompts: PromptDataset) -> Iterator[Row]:
    """All rows, and all remixes that they list."""
    input_tags = row_input_tags(dataset, dataset.prompts)
    for spec in prompts.clips:
        version = row_data_version(spec.fingerprint, spec.take)
        yield Row(dataset.prompts, spec.clip_id, version, spec, input_tags)
    input_tags = row_input_tags(dataset, dataset.remix_prompts)
    for clip_id, recipe in prompts.remix_cells:
        spec = dataset.remix_spec(prompts, clip_id, recipe)
        yield Row(
            dataset.remix_prompts,
            remix_partition(clip_id, recipe),
            row_data_version(spec.fingerprint, spec.take),
            spec,
            input_tags,
        )


def unlogged_rows(instance: dg.DagsterInstance, rows: Sequence[Row]) -> list[Row]:
    """The rows whose current version is not in Dagster's log, in their order."""
    partitions: dict[dg.AssetKey, list[str]] = {}
    for row in rows:
        partitions.setdefault(row.asset, []).append(row.partition)
    known = {
        (asset, partition): None if event is None or is_removal(event) else data_version_of(event)
        for asset, keys in partitions.items()
        for partition, record in newest_materializations(instance, asset, keys).items()
        for event in [record.asset_materialization]
    }
    return [row for row in rows if known.get((row.asset, row.partition)) != row.data_version]


def removal_event(
    asset: dg.AssetKey,
    partition: str,
    newest: dg.AssetMaterialization | None,
    input_tags: Mapping[str, str],
) -> dg.AssetMaterialization:
    """The materialization that says that a row was removed.

    It has the data version of the row, so that nothing downstream becomes stale.

    Arguments:
        asset: `prompts` or `remix_prompts`.
        partition: the partition key.
        newest: the newest materialization of the partition. None: there is none.
        input_tags: provenance of the upstream asset that the rows come from.
    """
    version = None if newest is None else data_version_of(newest)
    return prompt_event(
        asset,
        partition,
        data_version=version or "removed",
        tags={**input_tags, REMOVED_TAG: "true"},
        metadata={
            **({} if newest is None else newest.metadata),
            "removed": True,
            "what_to_do": "Nothing. The row is not in the dataset any more; what was generated is "
            "kept. If the row returns unchanged, nothing is bought.",
        },
    )


def is_removal(event: dg.AssetMaterialization | None) -> bool:
    """Whether an event says that a row was removed."""
    return event is not None and REMOVED_TAG in (event.tags or {})
