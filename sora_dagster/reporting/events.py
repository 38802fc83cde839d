"""Asset events as Dagster would write them if each clip were a separate step.

One run requests or collects any set of clips, so it logs one materialization for each, with the
data version and the provenance tags of Dagster's own events. Without them a clip would show as
stale after a request that changed nothing.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg

from sora_dagster.dataset import CODE_VERSION, VideoDataset, asset_key_of, split_remix_partition
from sora_dagster.generation.collecting.tracked import FinishedTask
from sora_dagster.generation.protocol.ledger import Ledger
from sora_dagster.generation.protocol.records import (
    UNDECIDED_STATES,
    AttemptRecord,
    ClipManifest,
)
from sora_dagster.generation.requesting.options import retry_advice
from sora_dagster.generation.requesting.results import RequestResult, RequestState
from sora_dagster.prompts.clips import ClipRequest
from sora_dagster.prompts.table_sources import AssetPrompts
from sora_dagster.reporting.event_log import (
    DATA_VERSION_TAG,
    NO_EVENT,
    InputEvents,
    InputVersion,
    data_version_of,
    newest_materializations,
)
from sora_dagster.reporting.metadata import error_metadata, request_metadata
from sora_dagster.runware.errors import ErrorRecord

_USER_PROVIDED_TAG = "dagster/data_version_is_user_provided"
_CODE_VERSION_TAG = "dagster/code_version"
# State and data version of a remix that no row lists.
_NOT_REQUESTED = "not requested"
# Data version of the input of rows, whatever it is.
PROMPT_ROWS_VERSION = "rows"
# Older than every event of an asset: any event of the input makes the asset stale.
_FIRST_EVENT = 1


def data_version_tags(data_version: str) -> dict[str, str]:
    """Tags that set the data version of a materialization."""
    return {DATA_VERSION_TAG: data_version, _USER_PROVIDED_TAG: "true"}


def prompt_event(
    key: dg.AssetKey,
    partition: str,
    *,
    data_version: str,
    metadata: Mapping[str, Any],
    tags: Mapping[str, str] = {},
) -> dg.AssetMaterialization:
    """The materialization of a row."""
    return dg.AssetMaterialization(
        asset_key=key,
        partition=partition,
        metadata=metadata,
        tags={
            _CODE_VERSION_TAG: CODE_VERSION,
            **data_version_tags(data_version),
            **_dimension_tags(partition),
            **tags,
        },
    )


def row_input_tags(dataset: VideoDataset, key: dg.AssetKey) -> dict[str, str]:
    """Tags of a row's event that keep it from being stale whenever its source was read again.

    Which rows and remixes changed is in their own data versions.

    Arguments:
        dataset: the dataset.
        key: `prompts` or `remix_prompts` of the dataset.
    """
    upstream = dataset.prompts
    if key == dataset.prompts:
        if not isinstance(dataset.prompt_source, AssetPrompts):
            return {}
        upstream = dataset.prompt_rows
    name = upstream.to_user_string()
    return {
        f"dagster/input_data_version/{name}": PROMPT_ROWS_VERSION,
        f"dagster/input_event_pointer/{name}": str(NO_EVENT),
    }


def row_data_version(fingerprint: str, take: int) -> str:
    """Data version of a row: changes exactly when the row describes another video."""
    return fingerprint if take == 1 else f"{fingerprint}-take-{take}"


def request_events(
    inputs: InputEvents, ledger: Ledger, dataset: VideoDataset, requested: Sequence[RequestResult]
) -> list[dg.AssetMaterialization]:
    """The materializations of submissions, in their order.

    If a row changed and the clip's take is kept, the event refers to the row that the take was made
    from, so that Dagster still shows it as stale.

    Arguments:
        inputs: finds the events of their inputs.
        ledger: the ledger, for kept takes.
        dataset: the dataset.
        requested: results of the requests.
    """
    used = [_inputs_of_request(ledger, dataset, item) for item in requested]
    inputs.load(version for versions in used for version in versions)
    return [
        dg.AssetMaterialization(
            asset_key=dataset.request_key(item.request.asset),
            partition=item.request.clip,
            metadata=request_metadata(item),
            tags={
                **_tags(inputs, request_data_version(item), versions, code_version=CODE_VERSION),
                **_dimension_tags(item.request.clip),
            },
        )
        for item, versions in zip(requested, used, strict=True)
    ]


def not_requested_events(
    instance: dg.DagsterInstance,
    dataset: VideoDataset,
    key: dg.AssetKey,
    details: Mapping[str, str],
) -> list[dg.AssetMaterialization]:
    """The materializations of cells of the remix grid that no row lists.

    Nothing is requested, paid or stored for them. Dagster counts a cell without an event as failed
    in a backfill. Such a cell becomes stale once a row lists it.

    Arguments:
        instance: the Dagster instance.
        dataset: the dataset.
        key: `remix_prompts`, `remix_requests` or `remixes` of the dataset.
        details: why they are not requested, by partition key.
    """
    if not details:
        return []
    upstream = {
        dataset.remix_prompts: (),
        dataset.remix_requests: (dataset.remix_prompts,),
        dataset.remixes: (dataset.remix_prompts, dataset.remix_requests),
    }[key]
    newest = {name: newest_materializations(instance, name, list(details)) for name in upstream}
    events = []
    for partition, detail in details.items():
        pointers = {
            name.to_user_string(): _FIRST_EVENT if record is None else record.storage_id
            for name in upstream
            for record in [newest[name].get(partition)]
        }
        other = dataset.prompts if key == dataset.remix_prompts else dataset.clips
        pointers[other.to_user_string()] = NO_EVENT
        tags = {_CODE_VERSION_TAG: CODE_VERSION, **data_version_tags(_NOT_REQUESTED)}
        for name, storage_id in pointers.items():
            tags[f"dagster/input_data_version/{name}"] = _NOT_REQUESTED
            tags[f"dagster/input_event_pointer/{name}"] = str(storage_id)
        events.append(
            dg.AssetMaterialization(
                asset_key=key,
                partition=partition,
                metadata={"state": _NOT_REQUESTED, "detail": detail},
                tags=tags | _dimension_tags(partition),
            )
        )
    return events


def is_not_requested(event: dg.AssetMaterialization) -> bool:
    """Whether an event says that no row lists a remix."""
    return data_version_of(event) == _NOT_REQUESTED


def changed_event(dataset: VideoDataset, requested: RequestResult) -> dg.AssetObservation:
    """The observation of a changed row, with the cost of a new take."""
    return dg.AssetObservation(
        asset_key=dataset.request_key(requested.request.asset),
        partition=requested.request.clip,
        metadata=request_metadata(requested),
    )


def has_request_asset(dataset: VideoDataset, request: ClipRequest) -> bool:
    """Whether the submission of a clip is an asset; for shots of storyboards it is not."""
    return request.asset in (dataset.clips.to_user_string(), dataset.remixes.to_user_string())


def clip_inputs(dataset: VideoDataset | None, attempt: AttemptRecord) -> list[InputVersion]:
    """The inputs of a clip, in the versions that were used.

    These are the versions at the time of the request, not the newest: if the row changed during
    generation, the clip is stale.
    """
    request = attempt.request
    if dataset is None or not has_request_asset(dataset, request):
        parent = request.parent
        if parent is None:
            return []
        return [InputVersion(asset_key_of(parent.asset), None, parent.content_hash)]
    submission = InputVersion(dataset.request_key(request.asset), attempt.clip, attempt.task_uuid)
    return [submission, *_row_and_parent(dataset, request, attempt.fingerprint)]


def clip_event(
    inputs: InputEvents,
    dataset: VideoDataset | None,
    attempt: AttemptRecord,
    manifest: ClipManifest,
    metadata: Mapping[str, Any],
) -> dg.AssetMaterialization:
    """The materialization of a stored clip, remix, or shot of a storyboard.

    A shot's code version is that of its spec.

    Arguments:
        inputs: the events of its inputs, already loaded.
        dataset: the dataset; None if only shots of storyboards are stored.
        attempt: the attempt that it came from.
        manifest: the stored clip.
        metadata: metadata for the UI.
    """
    request = manifest.request
    is_shot = request.board is not None
    return dg.AssetMaterialization(
        asset_key=asset_key_of(manifest.asset),
        partition=request.partition,
        metadata=metadata,
        tags={
            **_tags(
                inputs,
                manifest.content_hash,
                clip_inputs(dataset, attempt),
                code_version=manifest_row_version(manifest) if is_shot else CODE_VERSION,
            ),
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
    """The observation that a clip is not stored, with the reason and what to do.

    Arguments:
        key: the asset.
        partition: its partition key; None for an asset without partitions.
        sentence: what failed and why.
        finished: the task that ended without the clip or a part of it; None if there is none, such
            as for a clip that was not finished in time.
        error: why the clip was refused, if no task ended.
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
            **({} if outcome.cost_usd is None else {"cost_usd": outcome.cost_usd}),
            "prompt": attempt.request.spec.prompt,
        }
        if outcome.cost_usd is None:
            metadata["cost"] = "unknown"
        error = error or next(iter(outcome.errors), None)
    if error is not None:
        metadata |= error_metadata(error.model_dump(exclude_none=True))
    return dg.AssetObservation(asset_key=key, partition=partition, metadata=metadata)


def _what_to_do(finished: FinishedTask) -> str:
    state = finished.outcome.state
    if state == "done":
        return (
            "Request it again: while Runware hosts the video, it is fetched again, free of charge."
        )
    if state == "partial":
        return (
            "The videos that arrived are stored. Raise the clip's take to generate all of them "
            "again, which costs money again."
        )
    clip, asset = finished.attempt.clip, finished.attempt.asset
    if state in UNDECIDED_STATES:
        return (
            f"It may have been charged, so the decision is yours. Run: sora-dagster resolve "
            f"{clip!r} --asset {asset} --resend, or with --give-up."
        )
    if state == "void":
        return "Nothing was sent and nothing was paid; request it again."
    return f"Change its prompt or settings. To try it again unchanged, {retry_advice(asset, clip)}."


def manifest_row_version(manifest: ClipManifest) -> str:
    """Data version of the row that a stored clip was made from."""
    return row_data_version(manifest.fingerprint, manifest.request.spec.take)


def is_event_of(record: dg.EventLogRecord | None, manifest: ClipManifest) -> bool:
    """Whether an event is the materialization of this manifest."""
    event = None if record is None else record.asset_materialization
    task_uuid = None if event is None else event.metadata.get("task_uuid")
    return task_uuid is not None and task_uuid.value == manifest.task_uuid


def request_data_version(requested: RequestResult) -> str:
    """Data version of a submission: its task, so that requesting it again changes nothing."""
    return requested.task_uuid or f"take-{requested.take}"


def _inputs_of_request(
    ledger: Ledger, dataset: VideoDataset, requested: RequestResult
) -> list[InputVersion]:
    """The inputs of a submission; of a changed clip, those of its kept take."""
    request, fingerprint = requested.request, requested.request.spec.fingerprint
    if requested.state is RequestState.CHANGED:
        for take in ledger.takes(request.asset, request.clip):
            if take.number == requested.take:
                request, fingerprint = take.latest.request, take.latest.fingerprint
    return _row_and_parent(dataset, request, fingerprint)


def _row_and_parent(
    dataset: VideoDataset, request: ClipRequest, fingerprint: str
) -> list[InputVersion]:
    row = row_data_version(fingerprint, request.spec.take)
    inputs = [InputVersion(dataset.row_key(request.asset), request.clip, row)]
    if request.parent is not None:
        parent = request.parent
        inputs.append(InputVersion(dataset.clips, parent.clip, parent.content_hash))
    return inputs


def _tags(
    inputs: InputEvents,
    data_version: str,
    used: Sequence[InputVersion],
    *,
    code_version: str,
) -> dict[str, str]:
    tags: dict[str, str] = {_CODE_VERSION_TAG: code_version, **data_version_tags(data_version)}
    for version in used:
        name = version.key.to_user_string()
        tags[f"dagster/input_data_version/{name}"] = version.data_version
        # Dagster considers an input without this tag a new dependency, and one whose event is not
        # the newest of its version a changed one.
        tags[f"dagster/input_event_pointer/{name}"] = str(inputs.storage_id(version))
    return tags


def _dimension_tags(partition_key: str) -> dict[str, str]:
    """Tags by which Dagster finds the partition in each dimension."""
    clip_id, recipe = split_remix_partition(partition_key)
    if not recipe:
        return {}
    return {"dagster/partition/clip": clip_id, "dagster/partition/recipe": recipe}
