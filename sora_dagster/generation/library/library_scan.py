"""Scanning everything that datasets have stored and paid for; reads only what changed.

A scan keeps the records that it read in the storage root, with size and ETag of each object. The
next scan lists the same folders, and reads only new or changed objects. The gallery and the costs
use the same scan.
"""

from __future__ import annotations

import gzip
import json
import logging
import re
import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TypeVar

from sora_dagster.generation.protocol import layout
from sora_dagster.generation.protocol.ledger import Ledger, TaskFiles
from sora_dagster.generation.protocol.record_store import UnreadableRecordError, parse_record
from sora_dagster.generation.protocol.records import (
    AttemptRecord,
    ClipManifest,
    OutcomeRecord,
    Record,
)
from sora_dagster.generation.protocol.scan import OnUnreadable, in_parallel, log_unreadable
from sora_dagster.storage import ObjectInfo, StorageRoot

_log = logging.getLogger(__name__)

_CACHE_VERSION = 1

AnyRecord = TypeVar("AnyRecord", bound=Record)
OfDataset = TypeVar("OfDataset", AttemptRecord, ClipManifest)


@dataclass(frozen=True)
class ScannedTask:
    """One attempt and its outcome.

    Arguments:
        attempt: the attempt; its `wire` is empty.
        outcome: how it ended; None if it is outstanding.
        sent_times: when each right to send it was taken, by the store's clock; empty if it was
            never sent.
    """

    attempt: AttemptRecord
    outcome: OutcomeRecord | None
    sent_times: tuple[datetime, ...]


@dataclass(frozen=True)
class LibraryScan:
    """Everything that some datasets of a storage root have requested and stored, in no order.

    Arguments:
        manifests: all stored takes, older ones included; their `wire` is empty.
        tasks: all attempts.
    """

    manifests: tuple[ClipManifest, ...]
    tasks: tuple[ScannedTask, ...]


def scan_library(
    root: StorageRoot,
    dataset: str,
    *,
    boards: Collection[str] = (),
    on_unreadable: OnUnreadable = log_unreadable,
) -> LibraryScan:
    """Scan what a dataset, and the storyboards included with it, have requested and stored.

    Costs a listing of the clips, the attempts and the tasks, and a read for each record that has
    changed since the last scan. Without a readable last scan, everything is read.

    Arguments:
        root: the storage root.
        dataset: name of the dataset.
        boards: names of the storyboards that are included; default: none.
        on_unreadable: called with the key of a record that cannot be read, and why; the record is
            left out.
    """
    cache_key = layout.scan_key(dataset)
    included = frozenset([dataset, *boards])
    cached = _read_cache(root, cache_key, included)
    reader = _Reader(root, cached, included, on_unreadable)
    # In this order, a clip that is stored during the scan may appear without its outcome, but never
    # an outcome without its clip.
    files = Ledger(root).all_task_files()
    attempts = list(
        reader.of_datasets(_listed(root, layout.SLOTS_FOLDER, layout.ATTEMPT_KEY), AttemptRecord)
    )
    tasks = list(reader.tasks(attempts, files))
    manifests = list(
        reader.of_datasets(_listed(root, layout.CLIPS_FOLDER, layout.MANIFEST_KEY), ClipManifest)
    )
    if reader.seen != cached:
        root.write(cache_key, _cache_bytes(reader.seen, included))
    return LibraryScan(tuple(manifests), tuple(tasks))


@dataclass(frozen=True, slots=True)
class _Entry:
    """A cached record.

    Arguments:
        stamp: size and ETag, or modification time, of the object.
        text: the record as JSON; None if it belongs to a dataset that is not included.
    """

    stamp: str
    text: str | None


class _Reader:
    """Reads records, or takes them from the cache if their objects have not changed.

    Arguments:
        root: the storage root.
        cached: the records of the last scan, by key.
        included: names of the datasets that are included.
        on_unreadable: called with the key of a record that cannot be read, and why.
    """

    def __init__(
        self,
        root: StorageRoot,
        cached: dict[str, _Entry],
        included: frozenset[str],
        on_unreadable: OnUnreadable,
    ) -> None:
        self._root = root
        self._cached = cached
        self._included = included
        self._on_unreadable = on_unreadable
        self.seen: dict[str, _Entry] = {}

    def of_datasets(
        self, listed: Iterable[ObjectInfo], model: type[OfDataset]
    ) -> Iterator[OfDataset]:
        """The records of the datasets that are included."""
        for info, record in self._records(listed, model):
            if record.request.dataset in self._included:
                yield record
            else:
                self.seen[info.key] = _Entry(_stamp(info), None)

    def tasks(
        self, attempts: Sequence[AttemptRecord], files: Mapping[str, TaskFiles]
    ) -> Iterator[ScannedTask]:
        """The attempts with their outcomes; one whose outcome cannot be read is left out."""
        found = {uuid: files.get(uuid, TaskFiles()) for uuid in (a.task_uuid for a in attempts)}
        outcomes = self._outcomes(task.outcomes.get(0) for task in found.values())
        last = {uuid: _last_outcome(task, outcomes) for uuid, task in found.items()}
        outcomes |= self._outcomes(
            last[uuid] for uuid, task in found.items() if last[uuid] != task.outcomes.get(0)
        )
        for attempt in attempts:
            info = last[attempt.task_uuid]
            if info is None or info.key in outcomes:
                outcome = None if info is None else outcomes[info.key]
                yield ScannedTask(attempt, outcome, found[attempt.task_uuid].sent_times)

    def _outcomes(self, listed: Iterable[ObjectInfo | None]) -> dict[str, OutcomeRecord]:
        present = (info for info in listed if info is not None)
        return {info.key: outcome for info, outcome in self._records(present, OutcomeRecord)}

    def _records(
        self, listed: Iterable[ObjectInfo], model: type[AnyRecord]
    ) -> Iterator[tuple[ObjectInfo, AnyRecord]]:
        """The records of objects, except those that are known to belong to other datasets."""
        changed = []
        for info in listed:
            entry = self._cached.get(info.key)
            if entry is None or entry.stamp != _stamp(info):
                changed.append(info)
            elif entry.text is None:
                self.seen[info.key] = entry
            else:
                try:
                    record = parse_record(entry.text.encode(), model, uri=self._root.uri(info.key))
                except UnreadableRecordError:
                    # The cache is damaged, so the object itself is read.
                    changed.append(info)
                    continue
                self.seen[info.key] = entry
                yield info, record
        for info, body in in_parallel(changed, self._body):
            if body is None:  # it has just been removed
                continue
            uri = self._root.uri(info.key)
            try:
                parse_record(body, model, uri=uri)
                text = _cached_text(body)
                record = parse_record(text.encode(), model, uri=uri)
            except UnreadableRecordError as error:
                self._on_unreadable(info.key, error)
                continue
            self.seen[info.key] = _Entry(_stamp(info), text)
            yield info, record

    def _body(self, info: ObjectInfo) -> tuple[ObjectInfo, bytes | None]:
        return info, self._root.read_if_present(info.key)


def _last_outcome(
    task: TaskFiles, first_outcomes: Mapping[str, OutcomeRecord]
) -> ObjectInfo | None:
    """The object of a task's last outcome; None if it has not ended."""
    first = task.outcomes.get(0)
    outcome = None if first is None else first_outcomes.get(first.key)
    # Only a task that was accepted and ended without a video can have been reopened.
    if outcome is None or outcome.has_videos or not outcome.was_accepted:
        return first
    return task.outcomes.get(task.reopening)


def _cached_text(body: bytes) -> str:
    """A record as it is cached: without the wire form of its request, which no report needs."""
    content = json.loads(body)
    if "wire" in content:
        content["wire"] = {}
    return json.dumps(content, ensure_ascii=False, separators=(",", ":"))


def _stamp(info: ObjectInfo) -> str:
    return f"{info.size_bytes} {info.etag or info.last_modified.isoformat()}"


def _listed(root: StorageRoot, folder: str, wanted: re.Pattern[str]) -> Iterator[ObjectInfo]:
    return (info for info in root.list(folder) if wanted.fullmatch(info.key))


def _read_cache(root: StorageRoot, key: str, included: frozenset[str]) -> dict[str, _Entry]:
    """The records of the last scan; empty if it was of other datasets, or cannot be read."""
    body = root.read_if_present(key)
    if body is None:
        return {}
    try:
        header, *lines = gzip.decompress(body).decode().splitlines()
        if json.loads(header) != _header(included):
            return {}
        return {key: _Entry(stamp, text) for key, stamp, text in map(json.loads, lines)}
    except (OSError, EOFError, zlib.error, ValueError, TypeError) as error:
        # It contains only copies, and this scan writes it again.
        _log.warning("%s cannot be read, so everything is read again: %s", root.uri(key), error)
        return {}


def _cache_bytes(entries: dict[str, _Entry], included: frozenset[str]) -> bytes:
    lines = [json.dumps(_header(included))]
    lines += [json.dumps([key, entry.stamp, entry.text]) for key, entry in entries.items()]
    return gzip.compress("\n".join(lines).encode(), compresslevel=3)


def _header(included: frozenset[str]) -> dict[str, object]:
    return {"version": _CACHE_VERSION, "datasets": sorted(included)}
