"""Walking over everything that is stored: each folder is listed once, records are read in parallel.

What is held at once does not grow with the storage root, but for a few bytes a task.
"""

from __future__ import annotations

import logging
import re
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from sora_dagster.generation.protocol import layout
from sora_dagster.generation.protocol.record_format import UnreadableRecordError, parse_record
from sora_dagster.generation.protocol.records import ClipManifest, Record
from sora_dagster.storage import StorageRoot

_log = logging.getLogger(__name__)

PARALLEL_READS = 16

_MANIFEST_KEY = re.compile(r"clips/[^/]+/[^/]+/take-\d+/clip\.json")
_TASK_KEY = re.compile(r"tasks/([^/]+)/(sent|outcome|reopened)-(\d+)\.json")

Item = TypeVar("Item")
Result = TypeVar("Result")
AnyRecord = TypeVar("AnyRecord", bound=Record)

OnUnreadable = Callable[[str, UnreadableRecordError], None]


def in_parallel(
    items: Iterable[Item], work: Callable[[Item], Result], *, parallel: int = PARALLEL_READS
) -> Iterator[Result]:
    """What some work gives for each item, in the items' order, done by a few threads.

    Arguments:
        items: taken from their iterator only as fast as results are taken from this one.
        work: done in another thread.
        parallel: how many are worked on at once; twice as many results are held.
    """
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(parallel, "walking") as pool:
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
    """Say in the log that a record was left out."""
    _log.warning("%s is left out: %s", key, error)


def stored_manifests(
    root: StorageRoot,
    *,
    asset: str | None = None,
    on_unreadable: OnUnreadable = log_unreadable,
) -> Iterator[ClipManifest]:
    """The manifests of all whole takes, older ones included, in no promised order.

    Arguments:
        root: the storage root.
        asset: asset key of the clips; None for all.
        on_unreadable: called with the key of a manifest that cannot be read, and why.

    A manifest that is removed meanwhile is passed over.
    """
    keys = _listed(root, _folder(layout.CLIPS_FOLDER, asset), _MANIFEST_KEY)
    for _, manifest in read_manifests(root, keys, on_unreadable=on_unreadable):
        yield manifest


def read_manifests(
    root: StorageRoot, keys: Iterable[str], *, on_unreadable: OnUnreadable = log_unreadable
) -> Iterator[tuple[str, ClipManifest]]:
    """Manifests by their keys, in the keys' order; one that is not there is passed over."""
    return _records(root, keys, ClipManifest, on_unreadable)


@dataclass(frozen=True, slots=True)
class TaskFacts:
    """What a listing shows of a task.

    Arguments:
        sent_times: when each right to send it was taken, by the store's clock, in their order.
        reopening: number of its newest reopening; 0 for none.
        has_outcome: whether that reopening, or the task itself if there is none, has ended.
    """

    sent_times: tuple[datetime, ...] = ()
    reopening: int = 0
    has_outcome: bool = False


def list_tasks(root: StorageRoot) -> dict[str, TaskFacts]:
    """All tasks by UUID; costs one listing, and memory for each task."""
    sent: dict[str, dict[int, datetime]] = {}
    reopened: dict[str, int] = {}
    ended: dict[str, set[int]] = {}
    for info in root.list(layout.TASKS_FOLDER):
        if not (match := _TASK_KEY.fullmatch(info.key)):
            continue
        uuid, name, number = match[1], match[2], int(match[3])
        if name == "sent":
            sent.setdefault(uuid, {})[number] = info.last_modified
        elif name == "outcome":
            ended.setdefault(uuid, set()).add(number)
        else:
            reopened[uuid] = max(number, reopened.get(uuid, 0))
    return {
        uuid: TaskFacts(
            sent_times=tuple(time for _, time in sorted(sent.get(uuid, {}).items())),
            reopening=reopened.get(uuid, 0),
            has_outcome=reopened.get(uuid, 0) in ended.get(uuid, ()),
        )
        for uuid in sent.keys() | ended.keys() | reopened.keys()
    }


def _folder(folder: str, asset: str | None) -> str:
    return folder if asset is None else f"{folder}/{layout.segment(asset)}"


def _listed(root: StorageRoot, folder: str, wanted: re.Pattern[str]) -> Iterator[str]:
    return (info.key for info in root.list(folder) if wanted.fullmatch(info.key))


def _records(
    root: StorageRoot,
    keys: Iterable[str],
    model: type[AnyRecord],
    on_unreadable: OnUnreadable,
) -> Iterator[tuple[str, AnyRecord]]:
    def read(key: str) -> tuple[str, AnyRecord | UnreadableRecordError | None]:
        body = root.read_if_present(key)
        try:
            return key, None if body is None else parse_record(body, model, uri=root.uri(key))
        except UnreadableRecordError as error:
            return key, error

    for key, record in in_parallel(keys, read):
        if isinstance(record, UnreadableRecordError):
            on_unreadable(key, record)
        elif record is not None:
            yield key, record
