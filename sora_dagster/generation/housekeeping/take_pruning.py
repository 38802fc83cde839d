"""Removing stored takes that later ones have replaced, and files that no manifest names."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import chain

from sora_dagster.generation.library.take_folders import PRUNED_NAME, TakeFolder, named_objects
from sora_dagster.generation.protocol import layout
from sora_dagster.generation.protocol.ledger import Ledger
from sora_dagster.generation.protocol.record_format import UnreadableRecordError, parse_record
from sora_dagster.generation.protocol.records import (
    AttemptRecord,
    ClipManifest,
    PendingRecord,
    StuckRecord,
)
from sora_dagster.generation.protocol.scan import in_parallel, read_manifests
from sora_dagster.storage import ObjectInfo

# Storing a clip takes minutes; what is younger than this may belong to a store under way.
_UNDER_WAY = timedelta(days=1)


class TakePruner:
    """Finds and removes what is not needed of stored takes.

    Arguments:
        ledger: the ledger of the storage root.
        clips: the folders of takes, by clip and number.
        now: the time by the store's clock.
        dry: whether nothing is removed.

    Attributes:
        kept: how many takes were kept, by the reason.
    """

    def __init__(
        self,
        ledger: Ledger,
        clips: Mapping[str, Mapping[int, TakeFolder]],
        *,
        now: datetime,
        dry: bool,
    ) -> None:
        self._ledger = ledger
        self._clips = clips
        self._now = now
        self._dry = dry
        self._pending = ledger.pending.task_uuids()
        self.kept: Counter[str] = Counter()

    def older_takes(self, keep_takes: int | None, *, keep_parents: bool) -> Iterator[ObjectInfo]:
        """Remove all but the newest whole takes of each clip.

        Arguments:
            keep_takes: how many stay; None for all.
            keep_parents: whether those stay that remixes were made of.

        Yields:
            Each object that was removed, or would be.
        """
        older: dict[str, TakeFolder] = {}
        newest: list[str] = []
        for takes in self._clips.values():
            whole = [takes[number] for number in sorted(takes) if takes[number].has_manifest]
            kept = len(whole) if keep_takes is None else keep_takes
            newest.extend(take.path for take in whole[-kept:])
            older.update((take.path, take) for take in whole[:-kept])
        self._keep("whole takes", newest)
        if older:
            self._keep_needed(older, newest, keep_parents=keep_parents)
        unfinished = [
            take
            for takes in self._clips.values()
            for take in takes.values()
            if take.is_pruned and not take.has_manifest and take.objects
        ]
        for reason, objects in in_parallel(older.values(), self._prune):
            self._keep_for(reason)
            yield from objects
        yield from chain.from_iterable(in_parallel(unfinished, self._finish_pruning))

    def leftovers(self) -> Iterator[ObjectInfo]:
        """Remove the files of writers that another one preceded.

        Files are removed only beside a manifest that does not name them. Where there is no
        manifest, a stalled process may still write the one that names them.

        Yields:
            Each object that was removed, or would be.
        """
        takes = [take for takes in self._clips.values() for take in takes.values()]
        shared = [take for take in takes if take.has_manifest and take.has_several_writers]
        for reason, objects in in_parallel(shared, self._clear):
            self._keep_for(reason)
            yield from objects
        without = [take for take in takes if not take.has_manifest and not take.is_pruned]
        for reason in in_parallel(without, self._why_incomplete):
            self._keep_for(reason)

    def _keep_for(self, reason: str | None) -> None:
        if reason is not None:
            self.kept[reason] += 1

    def _keep(self, reason: str, paths: Sequence[str] | set[str]) -> None:
        if paths:
            self.kept[reason] += len(paths)

    def _keep_needed(
        self, older: dict[str, TakeFolder], newest: Sequence[str], *, keep_parents: bool
    ) -> None:
        """Take out of the older takes those that are outstanding, or parents of what is kept."""
        found = self._outstanding()
        if found is None:
            self._keep(
                "older takes, since a record of an outstanding task cannot be read", [*older]
            )
            older.clear()
            return
        outstanding, their_parents = found
        self._keep("older takes that are being stored", outstanding & older.keys())
        if keep_parents:
            parents = self._parents(older, [*newest, *outstanding], their_parents)
            self._keep("older takes that remixes were made of", parents - outstanding)
            outstanding |= parents
        for path in outstanding:
            older.pop(path, None)

    def _outstanding(self) -> tuple[set[str], set[str]] | None:
        """Folders of the takes that are outstanding or stuck, and of those they are remixes of.

        None if it cannot be read which these are.
        """
        takes: set[str] = set()
        parents: set[str] = set()
        entries = chain.from_iterable(
            self._ledger.root.list(folder)
            for folder in (layout.PENDING_FOLDER, layout.STUCK_FOLDER)
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
        """The attempt of an outstanding or stuck task; None if the task was never claimed."""
        root = self._ledger.root
        body = root.read_if_present(entry.key)
        if body is None:
            return None
        uri = root.uri(entry.key)
        pending: PendingRecord | None
        if entry.key.startswith(f"{layout.STUCK_FOLDER}/"):
            pending = parse_record(body, StuckRecord, uri=uri).pending
            if pending is None:
                raise UnreadableRecordError(f"{uri} does not say which clip it is about")
        else:
            pending = parse_record(body, PendingRecord, uri=uri)
        key = layout.attempt_key(pending.asset, pending.clip, pending.take, pending.attempt)
        asked = root.read_if_present(key)
        return None if asked is None else parse_record(asked, AttemptRecord, uri=root.uri(key))

    def _parents(
        self, older: Mapping[str, TakeFolder], kept: Sequence[str], their_parents: set[str]
    ) -> set[str]:
        """Which older takes are parents of takes that are kept, or parents of those, and so on."""
        unreadable: list[str] = []
        parents_of: dict[str, set[str]] = {}
        whole = (
            take.manifest_key
            for takes in self._clips.values()
            for take in takes.values()
            if take.has_manifest
        )
        for _, manifest in read_manifests(
            self._ledger.root, whole, on_unreadable=lambda key, _error: unreadable.append(key)
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

    def _prune(self, take: TakeFolder) -> tuple[str | None, list[ObjectInfo]]:
        """Remove a take: first its record is kept, then its manifest goes, then the rest.

        So a manifest never names an object that is gone, and a take that is gone never looks lost.
        """
        manifest = self._manifest(take)
        if not isinstance(manifest, ClipManifest):
            return None if manifest is None else f"older takes {manifest}", []
        objects = sorted(self._objects(take), key=lambda info: info.key != take.manifest_key)
        if not self._dry:
            self._ledger.mark_pruned(manifest, pruned_at=self._now)
        # The index goes first: while the manifest stands, this take is pruned again after a kill.
        return None, self._delete([*self._index_entries(manifest), *objects])

    def _manifest(self, take: TakeFolder) -> ClipManifest | str | None:
        """A take's manifest, or why it cannot be relied on; None if it is gone."""
        root = self._ledger.root
        body = root.read_if_present(take.manifest_key)
        if body is None:
            return None
        try:
            manifest = parse_record(body, ClipManifest, uri=root.uri(take.manifest_key))
        except UnreadableRecordError:
            return "whose record cannot be read; verify them"
        if layout.take_folder(manifest.asset, manifest.clip, manifest.take) != take.path:
            return "whose record is of another clip; verify them"
        return manifest

    def _index_entries(self, manifest: ClipManifest) -> list[ObjectInfo]:
        folder = layout.stored_clip_folder(manifest.request.dataset, manifest.clip)
        prefix = f"{folder}/{manifest.take}."
        return [info for info in self._ledger.root.list(folder) if info.key.startswith(prefix)]

    def _finish_pruning(self, take: TakeFolder) -> list[ObjectInfo]:
        """Remove what a killed run left of a take that it was removing."""
        return self._delete(
            [info for info in self._objects(take) if self._now - info.last_modified >= _UNDER_WAY]
        )

    def _clear(self, take: TakeFolder) -> tuple[str | None, list[ObjectInfo]]:
        """Remove the files in a whole take's folder that its manifest does not name."""
        manifest = self._manifest(take)
        if not isinstance(manifest, ClipManifest):
            return None if manifest is None else f"takes {manifest}", []
        named = {take.manifest_key, *named_objects(manifest)}
        unnamed = [info for info in self._objects(take) if info.key not in named]
        old = [info for info in unnamed if self._now - info.last_modified >= _UNDER_WAY]
        reason = "takes with other files that are younger than a day"
        return (reason if len(old) < len(unnamed) else None), self._delete(old)

    def _why_incomplete(self, take: TakeFolder) -> str:
        """Why a take has files and no manifest."""
        root = self._ledger.root
        attempts = 0
        try:
            for info in root.list(take.slot_path):
                body = root.read_if_present(info.key)
                if body is None:
                    continue
                attempts += 1
                attempt = parse_record(body, AttemptRecord, uri=root.uri(info.key))
                outcome = self._ledger.outcome(attempt.task_uuid)
                if outcome is None or attempt.task_uuid in self._pending:
                    return "takes that are outstanding"
                if outcome.has_videos:
                    return "takes whose manifest is missing; verify them"
        except UnreadableRecordError:
            return "takes whose records cannot be read; verify them"
        if not attempts:
            return "folders that no request names; look at them"
        return "takes without a video, whose files may be all that is left of it"

    def _objects(self, take: TakeFolder) -> list[ObjectInfo]:
        record = f"{take.path}/{PRUNED_NAME}"
        return [info for info in self._ledger.root.list(take.path) if info.key != record]

    def _delete(self, objects: list[ObjectInfo]) -> list[ObjectInfo]:
        if not self._dry:
            for info in objects:
                self._ledger.root.delete(info.key)
        return objects


def _parent_folder(record: AttemptRecord | ClipManifest) -> set[str]:
    parent = record.request.parent
    return set() if parent is None else {layout.take_folder(parent.asset, parent.clip, parent.take)}
