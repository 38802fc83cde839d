"""Removing older takes, files that no manifest names, and unfinished uploads.

Records of requests and payments (`root.json`, `slots/`, `tasks/`, `budget/`) are never removed, so
nothing that was removed is paid for again. Ages are measured by the store's own clock.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from itertools import chain
from typing import Literal, NamedTuple

from sora_dagster.generation.housekeeping.incoming import old_uploads
from sora_dagster.generation.library.take_folders import (
    PRUNED_NAME,
    TakeFolder,
    list_take_folders,
    named_objects,
)
from sora_dagster.generation.protocol import layout
from sora_dagster.generation.protocol.ledger import Ledger
from sora_dagster.generation.protocol.record_store import UnreadableRecordError
from sora_dagster.generation.protocol.records import (
    AttemptRecord,
    ClipManifest,
    PendingRecord,
    StuckRecord,
)
from sora_dagster.generation.protocol.scan import in_parallel, read_manifests
from sora_dagster.prompts.counts import counted
from sora_dagster.storage import ObjectInfo

RemovedKind = Literal["older take", "leftover", "incoming", "unfinished upload"]

_DAY = timedelta(days=1)
# Storing a clip takes minutes; younger files may belong to a process that is storing one.
_MIN_AGE = _DAY


class RemovedObject(NamedTuple):
    """An object that was removed, or would be.

    Arguments:
        kind: ``older take``: of an older take, its entry in the index included; ``leftover``:
            next to a manifest that does not name it; ``incoming``: an upload that no task waits
            for, or what a restore left; ``unfinished upload``: an upload that never ended.
        key: its key.
        size_bytes: its length; 0 if the store does not say.
    """

    kind: RemovedKind
    key: str
    size_bytes: int


@dataclass(frozen=True)
class PruneReport:
    """What was removed, or would be, and what was kept.

    Arguments:
        is_dry_run: whether nothing was removed.
        objects: number of objects, by kind.
        size_bytes: their total length, by kind.
        kept: number of takes or objects that were kept, by reason.
    """

    is_dry_run: bool
    objects: Mapping[RemovedKind, int]
    size_bytes: Mapping[RemovedKind, int]
    kept: Mapping[str, int]

    @property
    def sentences(self) -> tuple[str, ...]:
        """Human-readable summary, in lines."""
        verb = "would be removed" if self.is_dry_run else "removed"
        removed = [
            f"{kind}: {counted(count, 'object', 'objects')}, {self.size_bytes[kind] / 1e6:.1f} MB "
            f"{verb}"
            for kind, count in self.objects.items()
        ]
        kept = [f"kept: {count} {reason}" for reason, count in self.kept.items()]
        return (*(removed or [f"nothing {verb}"]), *kept)


def prune(
    ledger: Ledger,
    *,
    keep_takes: int | None = None,
    keep_parents: bool = True,
    upload_days: float = 2.0,
    dry_run: bool = True,
    on_removed: Callable[[RemovedObject], None] = lambda _: None,
) -> PruneReport:
    """Remove what is no longer needed; may be stopped at any point and run again.

    Arguments:
        ledger: the ledger of the storage root.
        keep_takes: number of newest takes of each clip that are kept; default: all. Of an older
            take only its record is kept (`pruned.json`).
        keep_parents: whether to keep an older take if a stored or outstanding remix was made from
            it; default: True. The remix does not need it, but its lineage leads there.
        upload_days: age from which unfinished uploads are removed; default: 2 days.
        dry_run: whether to only report what would be removed; default: True.
        on_removed: called for each object that was removed, or would be.

    Raises:
        ValueError: if a number is out of range.
        StorageError: if it is not a storage root of this program, or fails.
    """
    if keep_takes is not None and keep_takes < 1:
        raise ValueError(
            f"keep_takes is {keep_takes}; it must be 1 or more, since the newest take of a clip is "
            f"always kept. Leave it unset to keep all takes"
        )
    if upload_days < 1:
        raise ValueError(
            f"upload_days is {upload_days}; it must be 1 or more, since a younger upload may "
            f"still be running"
        )
    # A folder that is not ours has no namespace, and is left alone.
    _ = ledger.namespace
    pruner = _Pruner(ledger, dry_run=dry_run, on_removed=on_removed)
    pruner.prune_older_takes(keep_takes, keep_parents=keep_parents)
    pruner.prune_leftovers()
    pruner.prune_incoming()
    pruner.prune_uploads(upload_days)
    return pruner.report()


class _Pruner:
    def __init__(
        self, ledger: Ledger, *, dry_run: bool, on_removed: Callable[[RemovedObject], None]
    ) -> None:
        self._ledger = ledger
        self._root = ledger.root
        self._dry_run = dry_run
        self._on_removed = on_removed
        self._now = ledger.root.store_time()
        self._objects: Counter[RemovedKind] = Counter()
        self._size_bytes: Counter[RemovedKind] = Counter()
        self._kept: Counter[str] = Counter()
        self._clips = list_take_folders(self._root)
        self._takes = [take for takes in self._clips.values() for take in takes.values()]
        self._pending = ledger.pending.task_uuids()

    def report(self) -> PruneReport:
        kept = {reason: count for reason, count in sorted(self._kept.items()) if count}
        return PruneReport(self._dry_run, dict(self._objects), dict(self._size_bytes), kept)

    def prune_older_takes(self, keep_takes: int | None, *, keep_parents: bool) -> None:
        """Remove all but the newest complete takes of each clip."""
        older: dict[str, TakeFolder] = {}
        newest: list[str] = []
        for takes in self._clips.values():
            whole = [takes[number] for number in sorted(takes) if takes[number].has_manifest]
            kept = len(whole) if keep_takes is None else keep_takes
            newest.extend(take.path for take in whole[-kept:])
            older.update((take.path, take) for take in whole[:-kept])
        self._kept["complete takes"] += len(newest)
        if older:
            for path in self._needed(older, newest, keep_parents=keep_parents):
                del older[path]
        for reason, objects in in_parallel(older.values(), self._remove_take):
            self._keep(reason)
            self._note("older take", objects)
        interrupted = (
            take
            for take in self._takes
            if take.is_pruned and not take.has_manifest and take.objects
        )
        for objects in in_parallel(interrupted, self._remove_rest):
            self._note("older take", objects)

    def prune_leftovers(self) -> None:
        """Remove files that a manifest does not name: another writer stored the clip first.

        Without a manifest nothing is removed: a paused process may still write the one that names
        the files.
        """
        shared = (take for take in self._takes if take.has_manifest and take.has_several_writers)
        for reason, objects in in_parallel(shared, self._remove_unnamed):
            self._keep(reason)
            self._note("leftover", objects)
        without = (take for take in self._takes if not take.has_manifest and not take.is_pruned)
        for reason in in_parallel(without, self._why_incomplete):
            self._keep(reason)

    def prune_incoming(self) -> None:
        """Remove uploads that no task waits for, and what restores left."""
        for upload, reason in old_uploads(self._ledger, now=self._now):
            if reason is not None:
                self._keep(f"old uploads: {reason}")
            else:
                self._note("incoming", self._delete([upload]))

    def prune_uploads(self, days: float) -> None:
        """Remove unfinished uploads."""
        for upload in self._root.stale_uploads(days * _DAY.total_seconds()):
            if not self._dry_run:
                self._root.abort_upload(upload)
            self._note_one("unfinished upload", upload.key, 0)

    def _note(self, kind: RemovedKind, objects: Iterable[ObjectInfo]) -> None:
        for info in objects:
            self._note_one(kind, info.key, info.size_bytes)

    def _note_one(self, kind: RemovedKind, key: str, size_bytes: int) -> None:
        self._objects[kind] += 1
        self._size_bytes[kind] += size_bytes
        self._on_removed(RemovedObject(kind, key, size_bytes))

    def _keep(self, reason: str | None) -> None:
        if reason is not None:
            self._kept[reason] += 1

    def _needed(
        self, older: Mapping[str, TakeFolder], newest: Collection[str], *, keep_parents: bool
    ) -> Collection[str]:
        """Older takes that are outstanding, or parents of takes that are kept."""
        found = self._outstanding()
        if found is None:
            self._kept["older takes, since a record of an outstanding task cannot be read"] += len(
                older
            )
            return list(older)
        outstanding, their_parents = found
        needed = outstanding & older.keys()
        self._kept["older takes that are being stored"] += len(needed)
        if keep_parents:
            parents = self._parents(older, [*newest, *outstanding], their_parents) - needed
            self._kept["older takes that remixes were made from"] += len(parents)
            needed |= parents
        return needed

    def _outstanding(self) -> tuple[set[str], set[str]] | None:
        """Folders of the takes that are outstanding or stuck, and of their parents.

        None if one of the records cannot be read.
        """
        takes: set[str] = set()
        parents: set[str] = set()
        entries = chain.from_iterable(
            self._root.list(folder) for folder in (layout.PENDING_FOLDER, layout.STUCK_FOLDER)
        )
        try:
            for attempt in in_parallel(entries, self._attempt_of):
                if attempt is not None:
                    takes.add(layout.take_folder(attempt.asset, attempt.clip, attempt.take))
                    parents |= _parent_folder(attempt)
        except UnreadableRecordError:
            return None
        return takes, parents

    def _attempt_of(self, entry: ObjectInfo) -> AttemptRecord | None:
        """The attempt of an outstanding or stuck task; None if it was never claimed."""
        pending: PendingRecord | None
        if entry.key.startswith(f"{layout.STUCK_FOLDER}/"):
            stuck = self._ledger.read(entry.key, StuckRecord)
            pending = None if stuck is None else stuck.pending
            if stuck is not None and pending is None:
                raise UnreadableRecordError(f"{self._root.uri(entry.key)} does not name its clip")
        else:
            pending = self._ledger.read(entry.key, PendingRecord)
        if pending is None:
            return None
        key = layout.attempt_key(pending.asset, pending.clip, pending.take, pending.attempt)
        return self._ledger.read(key, AttemptRecord)

    def _parents(
        self, older: Mapping[str, TakeFolder], kept: Iterable[str], their_parents: set[str]
    ) -> set[str]:
        """Which older takes are parents of takes that are kept, or parents of those, and so on."""
        unreadable: list[str] = []
        parents_of: dict[str, set[str]] = {}
        for _, manifest in read_manifests(
            self._root,
            (take.manifest_key for take in self._takes if take.has_manifest),
            on_unreadable=lambda key, _error: unreadable.append(key),
        ):
            if found := _parent_folder(manifest):
                parents_of[layout.take_folder(manifest.asset, manifest.clip, manifest.take)] = found
        if unreadable:
            # Any older take may be the parent of a clip whose record cannot be read.
            return set(older)
        parents: set[str] = set()
        waiting = [*their_parents, *chain.from_iterable(parents_of.get(path, ()) for path in kept)]
        while waiting:
            path = waiting.pop()
            if path in older and path not in parents:
                parents.add(path)
                waiting.extend(parents_of.get(path, ()))
        return parents

    def _remove_take(self, take: TakeFolder) -> tuple[str | None, list[ObjectInfo]]:
        """Remove a take: first its record is kept, then its manifest goes, then the rest.

        So a manifest never names an object that is gone, and a removed take never looks lost.
        """
        manifest = self._manifest(take)
        if not isinstance(manifest, ClipManifest):
            return None if manifest is None else f"older takes {manifest}", []
        objects = sorted(self._files(take), key=lambda info: info.key != take.manifest_key)
        if not self._dry_run:
            self._ledger.mark_pruned(manifest, pruned_at=self._now)
        # The index goes first: while the manifest exists, a killed run is repeated.
        return None, self._delete([*self._index_entries(manifest), *objects])

    def _remove_rest(self, take: TakeFolder) -> list[ObjectInfo]:
        """Remove what a killed run left of a take that it was removing."""
        return self._delete([info for info in self._files(take) if self._is_old(info)])

    def _remove_unnamed(self, take: TakeFolder) -> tuple[str | None, list[ObjectInfo]]:
        """Remove the files in a complete take's folder that its manifest does not name."""
        manifest = self._manifest(take)
        if not isinstance(manifest, ClipManifest):
            return None if manifest is None else f"takes {manifest}", []
        named = {take.manifest_key, *named_objects(manifest)}
        unnamed = [info for info in self._files(take) if info.key not in named]
        old = [info for info in unnamed if self._is_old(info)]
        reason = "takes with other files that are younger than a day"
        return (reason if len(old) < len(unnamed) else None), self._delete(old)

    def _manifest(self, take: TakeFolder) -> ClipManifest | str | None:
        """A take's manifest, or why it cannot be relied on; None if it is gone."""
        try:
            manifest = self._ledger.read(take.manifest_key, ClipManifest)
        except UnreadableRecordError:
            return "whose record cannot be read; verify them"
        if manifest is None:
            return None
        if layout.take_folder(manifest.asset, manifest.clip, manifest.take) != take.path:
            return "whose record belongs to another clip; verify them"
        return manifest

    def _index_entries(self, manifest: ClipManifest) -> list[ObjectInfo]:
        folder = layout.stored_clip_folder(manifest.request.dataset, manifest.clip)
        prefix = f"{folder}/{manifest.take}."
        return [info for info in self._root.list(folder) if info.key.startswith(prefix)]

    def _why_incomplete(self, take: TakeFolder) -> str:
        """Why a take has files and no manifest."""
        has_attempts = False
        try:
            for info in self._root.list(take.slot_path):
                attempt = self._ledger.read(info.key, AttemptRecord)
                if attempt is None:
                    continue
                has_attempts = True
                outcome = self._ledger.outcome(attempt.task_uuid)
                if outcome is None or attempt.task_uuid in self._pending:
                    return "takes that are outstanding"
                if outcome.has_videos:
                    return "takes whose manifest is missing; verify them"
        except UnreadableRecordError:
            return "takes whose records cannot be read; verify them"
        if not has_attempts:
            return "folders that no request names; check them"
        return "takes without a video, whose files may be all that is left of it"

    def _files(self, take: TakeFolder) -> list[ObjectInfo]:
        record = f"{take.path}/{PRUNED_NAME}"
        return [info for info in self._root.list(take.path) if info.key != record]

    def _is_old(self, info: ObjectInfo) -> bool:
        return self._now - info.last_modified >= _MIN_AGE

    def _delete(self, objects: list[ObjectInfo]) -> list[ObjectInfo]:
        if not self._dry_run:
            for info in objects:
                self._root.delete(info.key)
        return objects


def _parent_folder(record: AttemptRecord | ClipManifest) -> set[str]:
    parent = record.request.parent
    return set() if parent is None else {layout.take_folder(parent.asset, parent.clip, parent.take)}
