"""Asset events that Dagster would write itself if it ran each clip as a step of its own.

One run requests or collects any set of clips, so it logs one materialization for each, with the
data version and the provenance tags that Dagster's own events carry: without them a clip would
show as stale after a request that changed nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import dagster as dg

from sora_dagster.generation.clips import ClipRequest
from sora_dagster.generation.records import ClipManifest
from sora_dagster.generation.requested import Requested
from sora_dagster.graph import CODE_VERSION, VideoGraph, split_remix_partition
from sora_dagster.metadata import clip_metadata, request_metadata
from sora_dagster.storage import StorageRoot

DATA_VERSION_TAG = "dagster/data_version"
_USER_PROVIDED_TAG = "dagster/data_version_is_user_provided"
_CODE_VERSION_TAG = "dagster/code_version"
# Dagster's own word for an input that has no event.
_NO_EVENT = "NULL"
# How far back the event of an input's version is looked for: more changes than these while a clip
# is generated leave it shown as stale.
_EVENTS_SEARCHED = 25


def data_version_tags(data_version: str) -> dict[str, str]:
    """Tags that give a materialization a data version of ours."""
    return {DATA_VERSION_TAG: data_version, _USER_PROVIDED_TAG: "true"}


def data_version_of(event: dg.AssetMaterialization) -> str | None:
    """The data version that a materialization carries."""
    return (event.tags or {}).get(DATA_VERSION_TAG)


def latest_materialization(
    instance: dg.DagsterInstance, key: dg.AssetKey, partition: str
) -> tuple[int, dg.AssetMaterialization] | None:
    """Storage id and content of a partition's newest materialization, if there is one."""
    found = instance.fetch_materializations(
        dg.AssetRecordsFilter(asset_key=key, asset_partitions=[partition]), limit=1
    ).records
    if not found or found[0].asset_materialization is None:
        return None
    return found[0].storage_id, found[0].asset_materialization


def prompt_event(
    key: dg.AssetKey, partition: str, *, data_version: str, metadata: Mapping[str, Any]
) -> dg.AssetMaterialization:
    """The materialization that says what the dataset asks for under a partition."""
    return dg.AssetMaterialization(
        asset_key=key,
        partition=partition,
        metadata=metadata,
        tags={
            _CODE_VERSION_TAG: CODE_VERSION,
            **data_version_tags(data_version),
            **_dimension_tags(partition),
        },
    )


def row_data_version(fingerprint: str, take: int) -> str:
    """Data version of a dataset row: changes exactly when another video is asked for."""
    return fingerprint if take == 1 else f"{fingerprint}-take-{take}"


def request_event(
    instance: dg.DagsterInstance, graph: VideoGraph, requested: Requested
) -> dg.AssetMaterialization:
    """The materialization of a clip's or remix's submission."""
    request = requested.request
    row = row_data_version(request.spec.fingerprint, request.spec.take)
    inputs = _row_and_parent(graph, request, row)
    return dg.AssetMaterialization(
        asset_key=graph.request_key(request.asset),
        partition=request.clip,
        metadata=request_metadata(requested),
        tags={
            **_tags(instance, request_data_version(requested), inputs),
            **_dimension_tags(request.clip),
        },
    )


def clip_event(
    instance: dg.DagsterInstance, graph: VideoGraph, manifest: ClipManifest, root: StorageRoot
) -> dg.AssetMaterialization:
    """The materialization of a stored clip or remix.

    Its inputs are those it was made from, not the newest: a row that changed while the clip was
    generated leaves the clip stale.
    """
    inputs = {
        graph.request_key(manifest.asset): _Input(manifest.clip, manifest.task_uuid),
        **_row_and_parent(graph, manifest.request, manifest_row_version(manifest)),
    }
    return dg.AssetMaterialization(
        asset_key=dg.AssetKey(manifest.asset.split("/")),
        partition=manifest.clip,
        metadata=clip_metadata(manifest, root),
        tags={
            **_tags(instance, manifest.content_hash, inputs),
            **_dimension_tags(manifest.clip),
        },
    )


def manifest_row_version(manifest: ClipManifest) -> str:
    """Data version of the row that a stored clip was made from."""
    return row_data_version(manifest.fingerprint, manifest.request.spec.take)


def is_of_the_current_row(
    instance: dg.DagsterInstance, graph: VideoGraph, manifest: ClipManifest
) -> bool:
    """Whether Dagster's newest version of a clip's row is the one that the clip was made from."""
    key = graph.row_key(manifest.asset)
    latest = latest_materialization(instance, key, manifest.clip)
    return latest is not None and data_version_of(latest[1]) == manifest_row_version(manifest)


def clip_event_is_logged(instance: dg.DagsterInstance, manifest: ClipManifest) -> bool:
    """Whether the newest event of a clip is of this manifest."""
    key = dg.AssetKey(manifest.asset.split("/"))
    latest = latest_materialization(instance, key, manifest.clip)
    if latest is None:
        return False
    task_uuid = latest[1].metadata.get("task_uuid")
    return task_uuid is not None and task_uuid.value == manifest.task_uuid


def request_data_version(requested: Requested) -> str:
    """Data version of a submission: its task, so that asking again changes nothing."""
    return requested.task_uuid or f"take-{requested.take}"


@dataclass(frozen=True)
class _Input:
    """What an asset was made from: a partition of another, in one data version of it.

    Arguments:
        partition: its partition key.
        data_version: the version that was used.
    """

    partition: str
    data_version: str


def _row_and_parent(
    graph: VideoGraph, request: ClipRequest, row_version: str
) -> dict[dg.AssetKey, _Input]:
    inputs = {graph.row_key(request.asset): _Input(request.clip, row_version)}
    if request.parent is not None:
        inputs[graph.clips] = _Input(request.parent.clip, request.parent.content_hash)
    return inputs


def _tags(
    instance: dg.DagsterInstance, data_version: str, inputs: Mapping[dg.AssetKey, _Input]
) -> dict[str, str]:
    tags: dict[str, str] = {_CODE_VERSION_TAG: CODE_VERSION, **data_version_tags(data_version)}
    for key, used in inputs.items():
        storage_id = _event_of(instance, key, used)
        name = key.to_user_string()
        tags[f"dagster/input_data_version/{name}"] = used.data_version
        tags[f"dagster/input_event_pointer/{name}"] = (
            _NO_EVENT if storage_id is None else str(storage_id)
        )
    return tags


def _event_of(instance: dg.DagsterInstance, key: dg.AssetKey, used: _Input) -> int | None:
    """Storage id of the newest event by which an input had the version that was used."""
    found = instance.fetch_materializations(
        dg.AssetRecordsFilter(asset_key=key, asset_partitions=[used.partition]),
        limit=_EVENTS_SEARCHED,
    ).records
    for record in found:
        event = record.asset_materialization
        if event is not None and data_version_of(event) == used.data_version:
            return record.storage_id
    return None


def _dimension_tags(partition_key: str) -> dict[str, str]:
    """The tags by which Dagster finds a cell of the grid along each dimension."""
    clip_id, recipe = split_remix_partition(partition_key)
    if not recipe:
        return {}
    return {"dagster/partition/clip": clip_id, "dagster/partition/recipe": recipe}
