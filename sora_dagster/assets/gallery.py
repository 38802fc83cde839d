"""The gallery: a page in the storage root that shows the clips of a dataset."""

import json
from dataclasses import replace
from datetime import datetime
from typing import Any

from sora_dagster.dataset import VideoDataset
from sora_dagster.gallery.page import (
    GalleryEntry,
    GalleryVideo,
    entry_id,
    relative_href,
    render_gallery,
)
from sora_dagster.generation.library.clip_index import FailedTake, build_clip_index
from sora_dagster.generation.library.library_scan import LibraryScan
from sora_dagster.generation.library.removed_rows import RemovedRows
from sora_dagster.generation.protocol.layout import gallery_key
from sora_dagster.generation.protocol.records import AttemptRecord, ClipManifest
from sora_dagster.prompts.clips import ClipRequest, ClipSpec
from sora_dagster.reporting.metadata import costs_metadata, link_metadata
from sora_dagster.storage import ObjectAttributes, StorageRoot


def write_gallery(
    root: StorageRoot,
    dataset: VideoDataset,
    scan: LibraryScan,
    *,
    title: str,
    generated_at: datetime,
) -> dict[str, Any]:
    """Write the page; gives the metadata of the asset.

    Arguments:
        root: the storage root.
        dataset: the dataset.
        scan: its tasks.
        title: heading of the page.
        generated_at: the time to show.
    """
    library = build_clip_index(scan)
    marks = RemovedRows(root)
    removed = {
        key.to_user_string(): marks.of_asset(key.to_user_string())
        for key in (dataset.clips, dataset.remixes)
    }
    entries = [
        replace(entry, removed=entry.clip in removed.get(entry.asset, ()))
        for entry in (
            *(_stored_entry(manifest, dataset) for manifest in library.clips),
            *(_failed_entry(take, dataset) for take in library.failed),
        )
    ]
    page = render_gallery(
        entries, title=title, generated_at=generated_at, wasted_usd=library.wasted_usd
    ).encode()
    page_key = gallery_key(dataset.name)
    root.write(page_key, page, attributes=ObjectAttributes("text/html; charset=utf-8", {}))
    return {
        "page": link_metadata(root, page_key),
        "clips": len(library.clips),
        "failed": len(library.failed),
        "removed": sum(entry.removed for entry in entries),
        **costs_metadata(clip.cost_usd for clip in library.clips),
        "size_bytes": len(page),
        "dagster/uri": root.uri(page_key),
    }


def _stored_entry(manifest: ClipManifest, dataset: VideoDataset) -> GalleryEntry:
    first = manifest.videos[0]
    return GalleryEntry(
        **_common(manifest, dataset),
        created_at=manifest.stored_at,
        state="partial" if manifest.state == "partial" else "stored",
        cost_usd=manifest.cost_usd,
        duration_seconds=first.duration_seconds,
        width=first.width,
        height=first.height,
        generation_seconds=manifest.generation_seconds,
        videos=tuple(
            GalleryVideo(
                href=relative_href(video.key),
                content_type=video.content_type,
                seed=video.seed,
                cost_usd=video.cost_usd,
                width=video.width,
                height=video.height,
                duration_seconds=video.duration_seconds,
            )
            for video in manifest.videos
        ),
        poster_href=relative_href(manifest.poster_key),
        cost_is_estimate=manifest.cost_is_estimate,
        failure=" ".join(error.sentence for error in manifest.errors) or None,
        checks_failed=_failed_checks(dataset, manifest),
    )


def _failed_checks(dataset: VideoDataset, manifest: ClipManifest) -> tuple[str, ...]:
    results = dataset.checks.evaluate(manifest, dataset.catalogue)
    return tuple(result.name for result in results if result.failed)


def _failed_entry(take: FailedTake, dataset: VideoDataset) -> GalleryEntry:
    outcome, request = take.outcome, take.attempt.request
    size = request.expected_size
    return GalleryEntry(
        **_common(take.attempt, dataset),
        created_at=outcome.at,
        state="failed",
        cost_usd=outcome.cost_usd,
        duration_seconds=request.spec.seconds,
        width=None if size is None else size.width,
        height=None if size is None else size.height,
        cost_is_estimate=outcome.cost_is_estimate,
        failure=" ".join(error.sentence for error in outcome.errors) or outcome.state,
    )


def _common(record: ClipManifest | AttemptRecord, dataset: VideoDataset) -> dict[str, Any]:
    """Fields that stored and failed takes have in common."""
    request, parent = record.request, record.request.parent
    return {
        "asset": record.asset,
        "clip": record.clip,
        "partition": request.partition,
        "title": _title(request),
        "prompt": request.spec.prompt,
        "model": dataset.catalogue.name_of(request.spec.model),
        "model_id": request.spec.model,
        "options": _options(request.spec),
        "tags": request.spec.tags,
        "take": record.take,
        "estimate_usd": record.estimate.usd,
        "parent": None if parent is None else entry_id(parent.asset, parent.clip, parent.take),
    }


def _options(spec: ClipSpec) -> str | None:
    """The options of a clip as text, such as ``fps: 24, audio: false``."""
    texts = (
        f"{name}: {value if isinstance(value, str) else json.dumps(value)}"
        for name, value in spec.options.items()
    )
    return ", ".join(texts) or None


def _title(request: ClipRequest) -> str:
    """A clip's id as words: ``paper-boat|night`` becomes ``paper boat · night``."""
    clip, _, recipe = request.clip.partition("|")
    words = clip.replace("-", " ").replace("_", " ")
    return f"{words} · {recipe.replace('-', ' ').replace('_', ' ')}" if recipe else words
