"""Removing stored takes that later ones have replaced, and what is left of broken stores."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta
from itertools import chain

from sora_dagster.generation import layout
from sora_dagster.generation.ledger import Ledger
from sora_dagster.generation.record_format import UnreadableRecordError, parse_record
from sora_dagster.generation.records import AttemptRecord, ClipManifest
from sora_dagster.generation.take_folders import PRUNED_NAME, TakeFolder
from sora_dagster.generation.walking import in_parallel, read_manifests
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
        self._pending = ledger.pending().keys()
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
            outstanding, their_parents = self._outstanding()
            self._keep("older takes that are being stored", outstanding & older.keys())
            if keep_parents:
                parents = self._parents(older, [*newest, *outstanding], their_parents)
                self._keep("older takes that remixes were made of", parents - outstanding)
                outstanding |= parents
            for path in outstanding:
                older.pop(path, None)
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
        """Remove what stores left that broke half-way and whose tasks brought no clip.

        Yields:
            Each object that was removed, or would be.
        """
        broken = [
            take
            for takes in self._clips.values()
            for take in takes.values()
            if not take.has_manifest and not take.is_pruned
        ]
        for reason, objects in in_parallel(broken, self._clear):
            self._keep_for(reason)
            yield from objects

    def _keep_for(self, reason: str | None) -> None:
        if reason is not None:
            self.kept[reason] += 1

    def _keep(self, reason: str, paths: Sequence[str] | set[str]) -> None:
        if paths:
            self.kept[reason] += len(paths)

    def _outstanding(self) -> tuple[set[str], set[str]]:
        """Folders of the takes that are outstanding, and of those they are remixes of."""
        takes: set[str] = set()
        parents: set[str] = set()
        for attempt in in_parallel(self._pending, self._ledger.pending_attempt):
            if attempt is not None:
                takes.add(layout.take_folder(attempt.asset, attempt.clip, attempt.take))
                parents |= _parent_folder(attempt)
        return takes, parents

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
        root = self._ledger.root
        body = root.read_if_present(take.manifest_key)
        if body is None:
            return None, []
        try:
            manifest = parse_record(body, ClipManifest, uri=root.uri(take.manifest_key))
        except UnreadableRecordError:
            return "older takes whose record cannot be read; verify them", []
        if layout.take_folder(manifest.asset, manifest.clip, manifest.take) != take.path:
            return "older takes whose record is of another clip; verify them", []
        objects = sorted(self._objects(take), key=lambda info: info.key != take.manifest_key)
        if not self._dry:
            self._ledger.mark_pruned(manifest, pruned_at=self._now)
        return None, self._delete(objects)

    def _finish_pruning(self, take: TakeFolder) -> list[ObjectInfo]:
        """Remove what a killed run left of a take that it was removing."""
        return self._delete(
            [info for info in self._objects(take) if self._now - info.last_modified >= _UNDER_WAY]
        )

    def _clear(self, take: TakeFolder) -> tuple[str | None, list[ObjectInfo]]:
        """Remove a folder without a manifest, or say why it stays."""
        if self._now - take.newest < _UNDER_WAY:
            return "takes without a manifest that are younger than a day", []
        attempts = [
            parse_record(body, AttemptRecord, uri=self._ledger.root.uri(info.key))
            for info in self._ledger.root.list(take.slot_path)
            if (body := self._ledger.root.read_if_present(info.key)) is not None
        ]
        if not attempts:
            return "folders that nobody asked for; look at them", []
        for attempt in attempts:
            outcome = self._ledger.outcome(attempt.task_uuid)
            if outcome is None or attempt.task_uuid in self._pending:
                return "takes that are outstanding", []
            if outcome.has_videos:
                return "takes whose manifest is missing; verify them", []
        objects = self._objects(take)
        if any(self._now - info.last_modified < _UNDER_WAY for info in objects):
            return "takes without a manifest that are younger than a day", []
        return None, self._delete(objects)

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
