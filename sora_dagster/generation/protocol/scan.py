"""Scans of a storage root: each folder is listed once, and records are read in parallel."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

from sora_dagster.generation.protocol import layout
from sora_dagster.generation.protocol.record_store import RecordStore, UnreadableRecordError
from sora_dagster.generation.protocol.records import ClipManifest
from sora_dagster.storage import StorageRoot

_log = logging.getLogger(__name__)

PARALLEL_READS = 16

Item = TypeVar("Item")
Result = TypeVar("Result")

OnUnreadable = Callable[[str, UnreadableRecordError], None]


def in_parallel(
    items: Iterable[Item], work: Callable[[Item], Result], *, parallel: int = PARALLEL_READS
) -> Iterator[Result]:
    """The results of work on items, in the items' order, done by a few threads.

    Arguments:
        items: taken from their iterator only as fast as results are taken from this one.
        work: done in another thread.
        parallel: how many items are worked on at once; twice as many results are held.
    """
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(parallel, "scan") as pool:
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) >= 2 * parallel:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def log_unreadable(key: str, error: UnreadableRecordError) -> None:
    """Log that a record was skipped."""
    _log.warning("%s cannot be read and is skipped: %s", key, error)


def stored_manifests(
    root: StorageRoot,
    *,
    asset: str | None = None,
    on_unreadable: OnUnreadable = log_unreadable,
) -> Iterator[ClipManifest]:
    """The manifests of all complete takes, older takes included, in any order.

    Arguments:
        root: the storage root.
        asset: asset key of the clips; None for all.
        on_unreadable: called with the key of a manifest that cannot be read, and why.
    """
    folder = layout.CLIPS_FOLDER if asset is None else layout.asset_folder(asset)
    keys = (info.key for info in root.list(folder) if layout.MANIFEST_KEY.fullmatch(info.key))
    for _, manifest in read_manifests(root, keys, on_unreadable=on_unreadable):
        yield manifest


def read_manifests(
    root: StorageRoot, keys: Iterable[str], *, on_unreadable: OnUnreadable = log_unreadable
) -> Iterator[tuple[str, ClipManifest]]:
    """Manifests by their keys, in the keys' order; those that were removed are left out."""

    records = RecordStore(root)

    def read(key: str) -> tuple[str, ClipManifest | UnreadableRecordError | None]:
        try:
            return key, records.read(key, ClipManifest)
        except UnreadableRecordError as error:
            return key, error

    for key, manifest in in_parallel(keys, read):
        if isinstance(manifest, UnreadableRecordError):
            on_unreadable(key, manifest)
        elif manifest is not None:
            yield key, manifest
