"""Asset events that Dagster would write itself if it ran each clip as a step of its own.

One run requests or collects any set of clips, so it logs one materialization for each, with the
data version and the provenance tags that Dagster's own events carry: without them a clip would
show as stale after a request that changed nothing.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import dagster as dg

from sora_dagster.generation.archive import FinishedTask
from sora_dagster.generation.clips import ClipRequest
from sora_dagster.generation.records import ClipManifest
from sora_dagster.generation.requested import Requested
from sora_dagster.graph import CODE_VERSION, VideoGraph, asset_key_of, split_remix_partition
from sora_dagster.metadata import clip_metadata, error_metadata, request_metadata
from sora_dagster.runware.errors import ErrorRecord
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
    instance: dg.DagsterInstance, key: dg.AssetKey, partition: str | None
) -> tuple[int, dg.AssetMaterialization] | None:
    """Storage id and content of the newest materialization, if there is one.

    Arguments:
        instance: the Dagster instance.
        key: the asset.
        partition: its partition key; None for an asset without partitions.
    """
    found = instance.fetch_materializations(_records_of(key, partition), limit=1).records
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
    """The materialization of a clip's or remix's submission.

    Raises:
        LookupError: where it is no asset; see :func:`has_request_asset`.
    """
    request = requested.request
    graph = _graph_of(graph, request.asset) or graph
    row = row_data_version(request.spec.fingerprint, request.spec.take)
    inputs = _row_and_parent(graph, request, row)
    return dg.AssetMaterialization(
        asset_key=graph.request_key(request.asset),
        partition=request.clip,
        metadata=request_metadata(requested),
        tags={
            **_tags(instance, request_data_version(requested), inputs, code_version=CODE_VERSION),
            **_dimension_tags(request.clip),
        },
    )


def has_request_asset(graph: VideoGraph, request: ClipRequest) -> bool:
    """Whether the submission of a clip is an asset: a storyboard's shot has none of its own."""
    return _graph_of(graph, request.asset) is not None


def clip_event(
    instance: dg.DagsterInstance,
    graph: VideoGraph | None,
    manifest: ClipManifest,
    root: StorageRoot,
) -> dg.AssetMaterialization:
    """The materialization of a stored clip, remix, or shot of a storyboard.

    Its inputs are those it was made from, not the newest: a row that changed while the clip was
    generated leaves the clip stale. So does a shot's code version, which is that of its spec.

    Arguments:
        instance: the Dagster instance.
        graph: names of the assets; None where only shots are stored.
        manifest: the stored clip.
        root: the storage root.
    """
    request = manifest.request
    inputs: dict[dg.AssetKey, _Input] = {}
    code_version = CODE_VERSION
    if request.board is not None:
        code_version = manifest_row_version(manifest)
        if request.parent is not None:
            inputs[asset_key_of(request.parent.asset)] = _Input(None, request.parent.content_hash)
    elif (own_graph := _graph_of(graph, manifest.asset)) is not None:
        inputs = {
            own_graph.request_key(manifest.asset): _Input(manifest.clip, manifest.task_uuid),
            **_row_and_parent(own_graph, request, manifest_row_version(manifest)),
        }
    return dg.AssetMaterialization(
        asset_key=asset_key_of(manifest.asset),
        partition=request.partition,
        metadata=clip_metadata(manifest, root),
        tags={
            **_tags(instance, manifest.content_hash, inputs, code_version=code_version),
            **_dimension_tags(request.partition or ""),
        },
    )


def failure_event(
    key: dg.AssetKey,
    partition: str | None,
    sentence: str,
    finished: FinishedTask | None = None,
    error: ErrorRecord | None = None,
) -> dg.AssetObservation:
    """The observation that tells why a clip is not stored, and what can be done about it.

    Arguments:
        key: the asset.
        partition: its partition key; None for an asset without partitions.
        sentence: what failed, and why.
        finished: the task that ended without its clip, or without a part of it; None where there
            is no such task, as for a clip that was not finished in time.
        error: why it was refused, where that is known and no task ended.
    """
    metadata: dict[str, Any] = {"state": "not stored", "failure": sentence}
    if finished is not None:
        attempt, outcome = finished.attempt, finished.outcome
        metadata |= {
            "state": outcome.state,
            "what_to_do": _what_to_do(finished),
            "task_uuid": attempt.task_uuid,
            "take": attempt.take,
            "attempt": attempt.attempt,
            "cost_usd": outcome.cost_usd,
            "prompt": attempt.request.spec.prompt,
        }
        error = error or next(iter(outcome.errors), None)
    if error is not None:
        metadata |= error_metadata(error.model_dump(exclude_none=True))
    return dg.AssetObservation(asset_key=key, partition=partition, metadata=metadata)


def _what_to_do(finished: FinishedTask) -> str:
    state = finished.outcome.state
    if state == "partial":
        return (
            "The videos that came are stored. Raise the clip's take to have all of it made anew, "
            "which is paid for anew."
        )
    if state == "unsure":
        clip, asset = finished.attempt.clip, finished.attempt.asset
        return (
            f"It may have been charged, so a person decides: sora-dagster resolve {clip!r} "
            f"--asset {asset} --resend, or --give-up."
        )
    if state == "void":
        return "Nothing was sent and nothing is paid; ask for it again."
    return "Change its prompt or settings, or ask for it with retry_failed."


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
    key = asset_key_of(manifest.asset)
    latest = latest_materialization(instance, key, manifest.request.partition)
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
        partition: its partition key; None where the other asset has no partitions.
        data_version: the version that was used.
    """

    partition: str | None
    data_version: str


def _row_and_parent(
    graph: VideoGraph, request: ClipRequest, row_version: str
) -> dict[dg.AssetKey, _Input]:
    inputs = {graph.row_key(request.asset): _Input(request.clip, row_version)}
    if request.parent is not None:
        inputs[graph.clips] = _Input(request.parent.clip, request.parent.content_hash)
    return inputs


def _graph_of(graph: VideoGraph | None, asset: str) -> VideoGraph | None:
    """The graph that an asset of videos belongs to, told by its name; None where it is of none.

    Datasets that share a storage root differ in their name prefix, and whoever collects first
    stores the clips of all.
    """
    if graph is None or "/" in asset:
        return None
    for videos in ("clips", "remixes"):
        if asset.endswith(videos):
            return replace(graph, name_prefix=asset.removesuffix(videos))
    return None


def _tags(
    instance: dg.DagsterInstance,
    data_version: str,
    inputs: Mapping[dg.AssetKey, _Input],
    *,
    code_version: str,
) -> dict[str, str]:
    tags: dict[str, str] = {_CODE_VERSION_TAG: code_version, **data_version_tags(data_version)}
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
        _records_of(key, used.partition), limit=_EVENTS_SEARCHED
    ).records
    for record in found:
        event = record.asset_materialization
        if event is not None and data_version_of(event) == used.data_version:
            return record.storage_id
    return None


def _records_of(key: dg.AssetKey, partition: str | None) -> dg.AssetRecordsFilter:
    return dg.AssetRecordsFilter(
        asset_key=key, asset_partitions=None if partition is None else [partition]
    )


def _dimension_tags(partition_key: str) -> dict[str, str]:
    """The tags by which Dagster finds a cell of the grid along each dimension."""
    clip_id, recipe = split_remix_partition(partition_key)
    if not recipe:
        return {}
    return {"dagster/partition/clip": clip_id, "dagster/partition/recipe": recipe}
