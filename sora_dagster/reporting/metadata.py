"""Metadata of requests and stored clips for the Dagster UI."""

from __future__ import annotations

import base64
import math
from collections.abc import Iterable, Mapping
from typing import Any

import dagster as dg

from sora_dagster.dataset import asset_key_of
from sora_dagster.generation.protocol.records import ClipManifest, StoredVideo
from sora_dagster.generation.requesting.results import RequestResult
from sora_dagster.prompts.clips import ClipSpec, ParentVideo
from sora_dagster.runware.pricing import Price, costs_text
from sora_dagster.storage import StorageRoot

# Dagster keeps each event twice and loads all events of a run, so pictures must be small.
_MAX_THUMBNAIL_BYTES = 4500


def request_metadata(requested: RequestResult) -> dict[str, Any]:
    """Metadata of a submission."""
    request = requested.request
    metadata: dict[str, Any] = {
        "state": requested.state.value,
        "detail": requested.detail,
        **price_metadata(requested.price),
        "model": request.spec.model,
        "prompt": request.spec.prompt,
        "take": requested.take,
        "attempt": requested.attempt,
        **options_metadata(request.spec),
    }
    if (price := requested.new_take_price) is not None:
        metadata["new_take_price"] = price.text
        if price.usd is not None:
            metadata["new_take_usd"] = price.usd
    if requested.task_uuid is not None:
        metadata["task_uuid"] = requested.task_uuid
    if request.parent is not None:
        metadata |= _parent_ids(request.parent)
        metadata["parent_take"] = request.parent.take
    if requested.error is not None:
        metadata |= error_metadata(requested.error.model_dump(exclude_none=True))
    return metadata


def _parent_ids(parent: ParentVideo) -> dict[str, Any]:
    """Runware's ids of the video that a remix is made from."""
    ids = {"parent_video_uuid": parent.video_uuid}
    return ids if parent.video_id is None else {**ids, "parent_video_id": parent.video_id}


def spec_metadata(spec: ClipSpec) -> dict[str, Any]:
    """Metadata of what a row sets besides its prompt and model. Its images are not shown."""
    metadata: dict[str, Any] = {}
    if spec.mode is not None:
        metadata["remix_mode"] = spec.mode
    if spec.size is not None:
        metadata["size"] = str(spec.size)
    if spec.duration_seconds is not None:
        metadata["duration_seconds"] = spec.duration_seconds
    return metadata | options_metadata(spec)


def options_metadata(spec: ClipSpec) -> dict[str, Any]:
    """Metadata of the options that a row sets. None of them, and there is none."""
    options = spec.options
    return {"options": dg.MetadataValue.json(options)} if options else {}


def price_metadata(price: Price | None) -> dict[str, Any]:
    """Metadata of an expected price. The amount is a number, so that the UI plots it.

    Arguments:
        price: the price. None: nothing is bought.
    """
    if price is None:
        return {"estimate_usd": 0.0}
    metadata: dict[str, Any] = {} if price.usd is None else {"estimate_usd": price.usd}
    return metadata | {
        "price": price.text,
        "price_certainty": price.certainty,
        "priced_by": price.priced_by,
    }


def costs_metadata(costs_usd: Iterable[float | None]) -> dict[str, Any]:
    """Metadata of a sum of costs.

    Arguments:
        costs_usd: the costs. None: unknown.
    """
    costs = list(costs_usd)
    known = [usd for usd in costs if usd is not None]
    metadata: dict[str, Any] = {"cost_usd": round(math.fsum(known), 6)}
    if len(known) < len(costs):
        metadata["cost"] = costs_text(costs)
    return metadata


def error_metadata(error: dict[str, Any]) -> dict[str, Any]:
    """Metadata of a failure: class, raw code, parameter, and the API's page about it."""
    metadata: dict[str, Any] = {
        f"error_{name}": error[name]
        for name in ("kind", "message", "code", "parameter")
        if error.get(name)
    }
    if documentation := error.get("documentation"):
        metadata["error_documentation"] = dg.MetadataValue.url(documentation)
    return metadata


def clip_metadata(manifest: ClipManifest, root: StorageRoot) -> dict[str, Any]:
    """Metadata of a stored clip. Figures are numbers, so that the UI plots them over time."""
    spec, first = manifest.request.spec, manifest.videos[0]
    metadata: dict[str, Any] = {}
    if picture := _thumbnail(manifest, root):
        metadata["thumbnail"] = picture
    metadata |= {"play": link_metadata(root, first.key), "prompt": spec.prompt}
    parent = manifest.request.parent
    if parent is not None:
        metadata["parent"] = dg.MetadataValue.asset(asset_key_of(parent.asset))
        if manifest.request.partition is not None:
            metadata["parent_partition"] = parent.clip
    metadata |= {
        **({} if manifest.cost_usd is None else {"cost_usd": manifest.cost_usd}),
        "generation_seconds": manifest.generation_seconds,
        "duration_seconds": first.duration_seconds,
        "size": f"{first.width}x{first.height}",
        "model": spec.model,
        "take": manifest.take,
    }
    metadata |= options_metadata(spec)
    if spec.tags:
        metadata["tags"] = ", ".join(spec.tags)
    if first.seed is not None:
        # As text: a number would be plotted, which is useless for seeds.
        metadata["seed"] = str(first.seed)
    if manifest.cost_usd is None:
        metadata["cost"] = "unknown"
    elif manifest.cost_is_estimate:
        metadata["cost_is_estimate"] = True
    if first.nsfw is not None:
        metadata["nsfw"] = any(video.nsfw for video in manifest.videos)
    if parent is not None:
        metadata["parent_take"] = parent.take
        metadata |= _parent_ids(parent)
        metadata["remix_mode"] = spec.mode or "remix"
    if len(manifest.videos) > 1:
        metadata["videos"] = _videos_table(manifest, root)
    if manifest.errors:
        metadata["missing_videos"] = len(manifest.errors)
        metadata |= error_metadata(manifest.errors[0].model_dump(exclude_none=True))
    metadata["poster"] = link_metadata(root, manifest.poster_key)
    if manifest.sheet_key is not None:
        metadata["contact_sheet"] = link_metadata(root, manifest.sheet_key)
    metadata |= {
        "request": dg.MetadataValue.json(manifest.wire),
        "response": dg.MetadataValue.json(
            {
                "taskUUID": manifest.task_uuid,
                "cost": manifest.cost_usd,
                "videos": [_response(video) for video in manifest.videos],
            }
        ),
        "task_uuid": manifest.task_uuid,
        "video_uuid": first.video_uuid,
        "size_bytes": sum(video.size_bytes for video in manifest.videos),
        "sha256": manifest.content_hash,
        "delivery": manifest.delivery,
        "dagster/uri": root.uri(first.key),
    }
    if first.video_id is not None:
        metadata["video_id"] = first.video_id
    return metadata


def table_metadata(
    rows: Iterable[Mapping[str, str | int | float]], **types: str
) -> dg.TableMetadataValue:
    """A table for the UI.

    Arguments:
        rows: the rows, all with the same columns.
        types: types of columns that are not ``string``; of all columns if there may be no rows.
    """
    records = [dg.TableRecord(dict(row)) for row in rows]
    names = records[0].data if records else types
    columns = [dg.TableColumn(name, types.get(name, "string")) for name in names]
    return dg.MetadataValue.table(records, schema=dg.TableSchema(columns=columns))


def link_metadata(root: StorageRoot, key: str) -> dg.MetadataValue[Any]:
    """A link to an object: in the viewer if there is one, else its file or its URL in the store.

    It is not a presigned URL, which would be a secret and would expire.
    """
    if link := root.link(key):
        return dg.MetadataValue.url(link)
    path = root.local_path(key)
    return dg.MetadataValue.path(path) if path else dg.MetadataValue.text(root.uri(key))


def _thumbnail(manifest: ClipManifest, root: StorageRoot) -> dg.MetadataValue[Any] | None:
    """The first, middle and last frame as an inline picture, if it is small enough."""
    body = root.read_if_present(manifest.thumbnail_key) if manifest.thumbnail_key else None
    if body is None or len(body) > _MAX_THUMBNAIL_BYTES:
        return None
    data = base64.b64encode(body).decode()
    return dg.MetadataValue.md(f"![first, middle and last frame](data:image/jpeg;base64,{data})")


def _response(video: StoredVideo) -> dict[str, Any]:
    """The API's response for a video, with its field names and without the URL, which expires."""
    response: dict[str, Any] = {"videoUUID": video.video_uuid, "seed": video.seed}
    if video.cost_usd is not None:
        response["cost"] = video.cost_usd
    if video.video_id is not None:
        response["outputs"] = {"videoId": video.video_id}
    if video.nsfw is not None:
        response["NSFWContent"] = video.nsfw
    return response


def _videos_table(manifest: ClipManifest, root: StorageRoot) -> dg.TableMetadataValue:
    return table_metadata(
        (
            {
                "video_uuid": video.video_uuid,
                "video_id": video.video_id or "",
                "seed": -1 if video.seed is None else video.seed,
                "cost_usd": -1.0 if video.cost_usd is None else video.cost_usd,
                "size_bytes": video.size_bytes,
                "sha256": video.sha256,
                "uri": root.uri(video.key),
            }
            for video in manifest.videos
        ),
        seed="int",
        cost_usd="float",
        size_bytes="int",
    )
