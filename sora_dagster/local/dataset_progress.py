"""How far the clips and remixes of a dataset are, read from its ledger."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from sora_dagster.dataset import VideoDataset, remix_partition
from sora_dagster.generation.protocol.ledger import Ledger
from sora_dagster.generation.protocol.record_folder import note_folder
from sora_dagster.generation.protocol.record_store import UnreadableRecordError
from sora_dagster.generation.protocol.records import ClipManifest
from sora_dagster.generation.protocol.scan import in_parallel
from sora_dagster.generation.requesting.stored_index import stored_already
from sora_dagster.local.clip_reader import ClipReader, ClipReading, DatasetClip
from sora_dagster.local.progress import ClipProgress, ClipState, Purchase
from sora_dagster.prompts.clips import ClipRequest
from sora_dagster.prompts.dataset import PromptDataset
from sora_dagster.storage import AccessDeniedError

_log = logging.getLogger(__name__)


class DatasetProgress:
    """Reads how far the clips and remixes of a dataset are.

    Each reading costs a few listings, and reads those clips that became outstanding, or ended,
    since the last one.

    Arguments:
        ledger: the ledger of the storage root, which is bound.
        dataset: the dataset.
        prompts: its rows.
    """

    def __init__(self, ledger: Ledger, dataset: VideoDataset, prompts: PromptDataset) -> None:
        self.ledger = ledger
        self._dataset = dataset
        self._prompts = prompts
        self._reader = ClipReader(ledger, dataset, prompts)
        clips, remixes = dataset.clips.to_user_string(), dataset.remixes.to_user_string()
        self._clips = [DatasetClip(clips, clip_id, clip_id) for clip_id in prompts.clip_ids]
        self._remixes = [
            DatasetClip(remixes, remix_partition(clip_id, recipe), clip_id, recipe)
            for clip_id, recipe in prompts.remix_cells
        ]
        self._readings: dict[DatasetClip, ClipReading] = {}
        self._notes = note_folder(ledger, dataset.name)
        self._is_first = True
        self.regenerates_changed = False

    @property
    def outstanding(self) -> frozenset[str]:
        """UUIDs of the tasks that were outstanding at the last reading."""
        return self._reader.pending

    def read(self, *, thorough: bool = True) -> list[ClipProgress]:
        """How far each clip, and then each remix, is; in the order of the dataset.

        Arguments:
            thorough: read everything that is not stored, and not only what the index of
                outstanding tasks shows as changed.

        Raises:
            StorageError: if the storage root fails.
        """
        self._reader.refresh()
        if self._is_first:
            self._find_stored(
                self._clips,
                [self._dataset.clip_request(self._prompts, c.clip) for c in self._clips],
            )
        clips = self._read_changed(self._clips, {}, thorough=thorough)
        parents = {progress.clip: progress for progress in clips}
        if self._is_first:
            self._find_stored_remixes(parents)
            self._is_first = False
        remixes = self._read_changed(self._remixes, parents, thorough=thorough)
        notes = {
            (note.asset, note.clip): note.reason for note in self._notes.read().values() if note
        }
        return [
            self._with_context(clip, progress, parents, notes)
            for clip, progress in zip(
                (*self._clips, *self._remixes), (*clips, *remixes), strict=True
            )
        ]

    def manifests(self, progress: Iterable[ClipProgress]) -> dict[tuple[str, str], ClipManifest]:
        """The records of the stored takes, by asset and partition key."""

        def manifest_of(clip: ClipProgress) -> ClipManifest | None:
            try:
                return self._reader.manifest(clip.asset, clip.clip, clip.take)
            except (UnreadableRecordError, AccessDeniedError) as error:
                # The clip is stored; a table without it is better than none.
                _log.warning(
                    "the record of %s cannot be read, so it is missing from the table: %s",
                    clip.clip,
                    error,
                )
                return None

        stored = [clip for clip in progress if clip.take]
        return {
            (clip.asset, clip.clip): manifest
            for clip, manifest in zip(stored, in_parallel(stored, manifest_of), strict=True)
            if manifest is not None
        }

    def _read_changed(
        self, clips: Sequence[DatasetClip], parents: Mapping[str, ClipProgress], *, thorough: bool
    ) -> list[ClipProgress]:
        to_read = []
        for clip in clips:
            parent = parents.get(clip.clip_id)
            known = self._readings.get(clip)
            if known is None or self._must_read(known, parent, thorough=thorough):
                to_read.append((clip, parent))
            elif known.tasks & self.outstanding and not known.is_open:
                generating = replace(
                    known.progress, state=ClipState.GENERATING, reason="", purchase=None
                )
                self._readings[clip] = replace(known, is_open=True, progress=generating)
        readings = in_parallel(to_read, lambda item: self._reader.read(*item))
        for (clip, _), reading in zip(to_read, readings, strict=True):
            self._readings[clip] = reading
        return [self._readings[clip].progress for clip in clips]

    def _must_read(
        self, known: ClipReading, parent: ClipProgress | None, *, thorough: bool
    ) -> bool:
        if parent is not None and parent.take != known.parent_take:
            return True
        if known.tasks & self.outstanding:
            return False
        return known.is_open or (thorough and known.progress.state is not ClipState.STORED)

    # What is stored, by listings

    def _find_stored(self, clips: Sequence[DatasetClip], requests: Sequence[ClipRequest]) -> None:
        for index, entry in stored_already(self.ledger, requests).items():
            clip, request = clips[index], requests[index]
            task = self.ledger.task_uuid(clip.asset, clip.clip, entry.take, entry.attempt)
            if task not in self.outstanding:
                self._readings[clip] = ClipReading(
                    ClipProgress(clip.asset, clip.clip, ClipState.STORED, entry.take),
                    frozenset({task}),
                    0 if request.parent is None else request.parent.take,
                    is_open=False,
                )

    def _find_stored_remixes(self, parents: Mapping[str, ClipProgress]) -> None:
        def request_of(clip: DatasetClip) -> ClipRequest | None:
            try:
                request, _ = self._reader.remix_request(clip, parents[clip.clip_id])
            except (UnreadableRecordError, AccessDeniedError):
                # Reading the remix meets the same error, and reports it.
                return None
            return request if request.parent is not None else None

        requests = in_parallel(self._remixes, request_of)
        found = [
            (clip, request)
            for clip, request in zip(self._remixes, requests, strict=True)
            if request is not None
        ]
        self._find_stored([clip for clip, _ in found], [request for _, request in found])

    # What follows from other clips

    def _with_context(
        self,
        clip: DatasetClip,
        progress: ClipProgress,
        parents: Mapping[str, ClipProgress],
        notes: Mapping[tuple[str, str], str],
    ) -> ClipProgress:
        """A clip's progress with what follows from its parent, and with the note about it."""
        if clip.recipe is not None:
            progress = self._after_parent(clip, progress, parents[clip.clip_id])
        if progress.state is ClipState.CHANGED and self.regenerates_changed:
            progress = replace(progress, state=ClipState.WAITING)
        if progress.state in (ClipState.WAITING, ClipState.GENERATING):
            note = notes.get((progress.asset, progress.clip), "")
            progress = replace(progress, reason=note or progress.reason)
        return progress

    def _after_parent(
        self, clip: DatasetClip, progress: ClipProgress, parent: ClipProgress
    ) -> ClipProgress:
        gets_new_video = parent.purchase in (Purchase.CHANGED, Purchase.RAISED_TAKE)
        if progress.take and progress.purchase is None and gets_new_video:
            price = self._reader.remix_price(clip)
            return replace(progress, purchase=Purchase.FOLLOWS, price=price)
        if progress.state is not ClipState.WAITING or progress.take:
            return progress
        if parent.state is ClipState.FAILED:
            return replace(
                progress, state=ClipState.FAILED, reason=f"its clip {parent.clip} failed"
            )
        if parent.state is ClipState.CHANGED and progress.purchase is Purchase.NEW:
            return replace(
                progress,
                state=ClipState.CHANGED,
                changes=f"its clip {parent.clip}",
                reason=f"it will be generated from the new take of {parent.clip}",
                purchase=Purchase.FOLLOWS,
            )
        return progress
