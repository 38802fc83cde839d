"""Looking how far the clips and remixes of a dataset are, on its ledger."""

from __future__ import annotations

import logging
import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from sora_dagster.dataset import VideoDataset, remix_partition
from sora_dagster.generation.protocol.ledger import Ledger, Take
from sora_dagster.generation.protocol.record_folder import note_folder, stuck_folder
from sora_dagster.generation.protocol.record_format import UnreadableRecordError
from sora_dagster.generation.protocol.records import (
    ClipManifest,
    OutcomeRecord,
    OutcomeState,
    StuckRecord,
)
from sora_dagster.generation.protocol.scan import in_parallel
from sora_dagster.generation.requesting.payloads import estimate_usd
from sora_dagster.generation.requesting.planner import what_changed
from sora_dagster.generation.requesting.stored_index import stored_already
from sora_dagster.local.progress import ClipProgress, ClipState, Purchase
from sora_dagster.prompts.clips import ClipRequest, remix_spec
from sora_dagster.prompts.dataset import PromptDataset
from sora_dagster.storage import AccessDeniedError

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Wanted:
    """A clip or remix of the dataset.

    Arguments:
        asset: asset key.
        clip: partition key.
        clip_id: the row.
        recipe: name of the recipe; None for a clip.
    """

    asset: str
    clip: str
    clip_id: str
    recipe: str | None = None


@dataclass(frozen=True)
class _Known:
    """What was read of one clip.

    Arguments:
        progress: how far it was.
        tasks: its newest task, and those that may follow next.
        parent_take: the parent's stored take that a remix was compared with.
        is_open: whether one of the tasks was in the index of what is outstanding.
    """

    progress: ClipProgress
    tasks: frozenset[str]
    parent_take: int
    is_open: bool


class DatasetProgress:
    """Looks how far the clips and remixes of a dataset are.

    A look costs a few listings, and reads those clips whose tasks came into the index of what is
    outstanding, or left it, since the last look.

    Arguments:
        ledger: the ledger of the storage root, which is bound.
        dataset: the dataset.
        prompts: its rows.
    """

    def __init__(self, ledger: Ledger, dataset: VideoDataset, prompts: PromptDataset) -> None:
        self.ledger = ledger
        self._dataset = dataset
        self._prompts = prompts
        clips, remixes = dataset.clips.to_user_string(), dataset.remixes.to_user_string()
        self._clips = [_Wanted(clips, clip_id, clip_id) for clip_id in prompts.clip_ids]
        self._remixes = [
            _Wanted(remixes, remix_partition(clip_id, recipe), clip_id, recipe)
            for clip_id, recipe in prompts.remix_cells
        ]
        self._known: dict[tuple[str, str], _Known] = {}
        self._notes = note_folder(ledger, dataset.name)
        self._stuck_folder = stuck_folder(ledger, dataset.name)
        self._stuck: dict[str, StuckRecord | None] = {}
        self._pending: frozenset[str] = frozenset()
        self._is_first = True
        self.regenerates_changed = False

    @property
    def outstanding(self) -> frozenset[str]:
        """UUIDs of what was outstanding in the dataset at the last look."""
        return self._pending

    def look(self, *, thorough: bool = True) -> list[ClipProgress]:
        """How far each clip, and then each remix, is; in the order of the dataset.

        Arguments:
            thorough: whether all that is not stored is read, and not only what the index of
                outstanding tasks shows to have moved.

        Raises:
            StorageError: if the storage root fails.
        """
        self._pending = frozenset(self.ledger.pending.tasks(self._dataset.name))
        self._stuck = dict(self._stuck_folder.read())
        if self._is_first:
            self._find_stored(
                self._clips,
                [self._dataset.clip_request(self._prompts, w.clip) for w in self._clips],
            )
        clips = self._look_at(self._clips, {}, thorough=thorough)
        parents = {progress.clip: progress for progress in clips}
        if self._is_first:
            self._find_stored_remixes(parents)
            self._is_first = False
        remixes = self._look_at(self._remixes, parents, thorough=thorough)
        notes = {
            (note.asset, note.clip): note.reason for note in self._notes.read().values() if note
        }
        return [
            self._shown(wanted, progress, parents, notes)
            for wanted, progress in zip(
                (*self._clips, *self._remixes), (*clips, *remixes), strict=True
            )
        ]

    def manifests(self, progress: Iterable[ClipProgress]) -> dict[tuple[str, str], ClipManifest]:
        """The records of the stored takes, by asset and partition key."""

        def manifest_of(clip: ClipProgress) -> ClipManifest | None:
            try:
                return self._manifest(clip.asset, clip.clip, clip.take)
            except (UnreadableRecordError, AccessDeniedError) as error:
                # The clip is stored; a table without it is better than none.
                _log.warning("%s is left out of the table: %s", clip.clip, error)
                return None

        stored = [clip for clip in progress if clip.take]
        found = in_parallel(stored, manifest_of)
        return {
            (clip.asset, clip.clip): manifest
            for clip, manifest in zip(stored, found, strict=True)
            if manifest is not None
        }

    def _look_at(
        self, wanted: Sequence[_Wanted], parents: dict[str, ClipProgress], *, thorough: bool
    ) -> list[ClipProgress]:
        to_read = []
        for one in wanted:
            parent = parents.get(one.clip_id)
            known = self._known.get((one.asset, one.clip))
            if known is None or self._must_read(known, parent, thorough=thorough):
                to_read.append((one, parent))
            elif known.tasks & self._pending and not known.is_open:
                self._known[one.asset, one.clip] = replace(
                    known,
                    is_open=True,
                    progress=replace(
                        known.progress, state=ClipState.GENERATING, reason="", purchase=None
                    ),
                )
        for (one, _), known in zip(
            to_read, in_parallel(to_read, lambda item: self._read(*item)), strict=True
        ):
            self._known[one.asset, one.clip] = known
        return [self._known[one.asset, one.clip].progress for one in wanted]

    def _must_read(self, known: _Known, parent: ClipProgress | None, *, thorough: bool) -> bool:
        if parent is not None and parent.take != known.parent_take:
            return True
        if known.tasks & self._pending:
            return False
        return known.is_open or (thorough and known.progress.state is not ClipState.STORED)

    # What is stored, by listings

    def _find_stored(self, wanted: Sequence[_Wanted], requests: Sequence[ClipRequest]) -> None:
        for index, entry in stored_already(self.ledger, requests).items():
            one, request = wanted[index], requests[index]
            task = self.ledger.task_uuid(one.asset, one.clip, entry.take, entry.attempt)
            if task not in self._pending:
                progress = ClipProgress(one.asset, one.clip, ClipState.STORED, entry.take)
                self._known[one.asset, one.clip] = _Known(
                    progress,
                    frozenset({task}),
                    0 if request.parent is None else request.parent.take,
                    is_open=False,
                )

    def _find_stored_remixes(self, parents: dict[str, ClipProgress]) -> None:
        def request_of(one: _Wanted) -> ClipRequest | None:
            try:
                request, _ = self._remix_request(one, parents[one.clip_id])
            except (UnreadableRecordError, AccessDeniedError):
                # Reading the remix meets the same error, and reports it.
                return None
            return request if request.parent is not None else None

        requests = in_parallel(self._remixes, request_of)
        found = [
            (one, request)
            for one, request in zip(self._remixes, requests, strict=True)
            if request is not None
        ]
        self._find_stored([one for one, _ in found], [request for _, request in found])

    # One clip

    def _read(self, wanted: _Wanted, parent: ClipProgress | None) -> _Known:
        try:
            return self._read_records(wanted, parent)
        except (UnreadableRecordError, AccessDeniedError) as error:
            reason = str(error)
            for stuck in self._stuck.values():
                pending = stuck and stuck.pending
                if pending and (pending.asset, pending.clip) == (wanted.asset, wanted.clip):
                    reason = self._stuck_reason(wanted.asset, wanted.clip, stuck)
            return self._as_known(wanted, parent, ClipState.FAILED, reason=reason)

    def _read_records(self, wanted: _Wanted, parent: ClipProgress | None) -> _Known:
        if wanted.recipe is None:
            request, problem = self._dataset.clip_request(self._prompts, wanted.clip), ""
        else:
            request, problem = self._remix_request(wanted, parent)
        price_usd = self._price_usd(request, wanted)
        takes = self.ledger.takes(wanted.asset, wanted.clip)
        if not takes:
            return self._as_known(
                wanted,
                parent,
                ClipState.FAILED if problem else ClipState.WAITING,
                {self.ledger.task_uuid(wanted.asset, wanted.clip, request.spec.take, 1)},
                reason=problem,
                purchase=None if problem else Purchase.NEW,
                price_usd=0.0 if problem else price_usd,
            )
        newest = takes[-1]
        tasks = self._tasks_after(request, newest)
        if tasks & self._pending:
            state, take, reason = ClipState.GENERATING, 0, ""
        else:
            state, take, reason = self._standing(newest)
        changes = what_changed(request, newest)
        purchase = None
        if request.spec.take > newest.number:
            changes, purchase = "", Purchase.RAISED_TAKE
            if state is ClipState.STORED:
                state = ClipState.WAITING
        elif changes:
            purchase = Purchase.CHANGED
            if state is ClipState.STORED:
                state = ClipState.CHANGED
            elif state is ClipState.FAILED and self._ended_as(newest) in ("failed", "void"):
                # An earlier take is kept, or else there is nothing to keep.
                state, take, reason, purchase = self._before(takes, reason)
        elif state is ClipState.FAILED and self._ended_as(newest) == "void":
            purchase = Purchase.NEW
        return self._as_known(
            wanted,
            parent,
            state,
            tasks,
            take=take,
            reason=reason,
            changes=changes,
            purchase=purchase,
            price_usd=0.0 if purchase is None else price_usd,
        )

    def _as_known(
        self,
        wanted: _Wanted,
        parent: ClipProgress | None,
        state: ClipState,
        tasks: Iterable[str] = (),
        *,
        take: int = 0,
        reason: str = "",
        changes: str = "",
        purchase: Purchase | None = None,
        price_usd: float = 0.0,
    ) -> _Known:
        tasks = frozenset(tasks)
        progress = ClipProgress(
            wanted.asset, wanted.clip, state, take, reason, changes, purchase, price_usd
        )
        is_open = bool(tasks & self._pending)
        if is_open:
            progress = replace(progress, state=ClipState.GENERATING, reason="")
        return _Known(progress, tasks, parent.take if parent else 0, is_open)

    def _tasks_after(self, request: ClipRequest, newest: Take) -> frozenset[str]:
        """The newest task of a clip, and those that a retry or a new take would have."""
        take, attempt = newest.number, newest.latest.attempt
        places = [
            (take, attempt),
            (take, attempt + 1),
            (max(take + 1, request.spec.take), 1),
        ]
        return frozenset(
            self.ledger.task_uuid(request.asset, request.clip, *place) for place in places
        )

    def _standing(self, take: Take) -> tuple[ClipState, int, str]:
        """How a take stands that is not outstanding: state, number if it is stored, and why."""
        current = take.latest
        if manifest := self._manifest(current.asset, current.clip, take.number):
            if damage := self._damage(manifest):
                return ClipState.FAILED, 0, damage
            return ClipState.STORED, take.number, ""
        if current.task_uuid in self._stuck:
            stuck = self._stuck[current.task_uuid]
            return ClipState.FAILED, 0, self._stuck_reason(current.asset, current.clip, stuck)
        outcome = self.ledger.outcome(current.task_uuid)
        if outcome is None:
            return ClipState.GENERATING, 0, ""
        if outcome.has_videos:
            return ClipState.FAILED, 0, self._missing_record(take)
        return ClipState.FAILED, 0, _reason(take, outcome)

    def _ended_as(self, take: Take) -> OutcomeState | None:
        outcome = self.ledger.outcome(take.latest.task_uuid)
        return None if outcome is None else outcome.state

    def _before(
        self, takes: Sequence[Take], reason: str
    ) -> tuple[ClipState, int, str, Purchase | None]:
        """How a changed clip stands whose newest take brought nothing."""
        for take in reversed(takes[:-1]):
            state, number, _ = self._standing(take)
            if state is ClipState.STORED:
                return ClipState.CHANGED, number, "", Purchase.CHANGED
        return ClipState.FAILED, 0, reason, Purchase.NEW

    def _manifest(self, asset: str, clip: str, take: int) -> ClipManifest | None:
        manifest = self.ledger.manifest(asset, clip, take)
        if manifest is None and (pruned := self.ledger.pruned(asset, clip, take)):
            return pruned.manifest
        return manifest

    def _damage(self, manifest: ClipManifest) -> str:
        """What is wrong with the videos of a stored take; empty if they are there."""
        place = (manifest.asset, manifest.clip, manifest.take)
        for video in manifest.videos:
            info = self.ledger.root.info(video.key)
            if info is not None and info.size_bytes == video.size_bytes:
                continue
            if self.ledger.pruned(*place) is not None:
                return ""
            what = (
                "is missing"
                if info is None
                else f"has {info.size_bytes} bytes instead of {video.size_bytes}"
            )
            return (
                f"its video {self.ledger.root.uri(video.key)} {what}. Restore it from a backup; "
                f"see sora-dagster verify"
            )
        return ""

    @staticmethod
    def _stuck_reason(asset: str, clip: str, stuck: StuckRecord | None) -> str:
        reason = "One of its records cannot be read." if stuck is None else stuck.reason
        return (
            f"it is set aside, and not paid for again. {reason} Then run: "
            f"{_resolve(asset, clip, '--retry')}"
        )

    @staticmethod
    def _missing_record(take: Take) -> str:
        return (
            f"its task {take.latest.task_uuid} ended with videos, and the clip's record is "
            f"missing. Restore the take's folder from a backup, or raise the clip's take to "
            f"generate it again, which costs again"
        )

    # Remixes

    def _remix_request(
        self, wanted: _Wanted, parent: ClipProgress | None
    ) -> tuple[ClipRequest, str]:
        """What the dataset asks for now under a remix, and why it cannot be made, if it cannot."""
        assert wanted.recipe is not None
        clips = self._dataset.clips.to_user_string()
        if parent is not None and parent.take:
            manifest = self._manifest(clips, wanted.clip_id, parent.take)
        else:
            manifest = self.ledger.latest_manifest(clips, wanted.clip_id)
        problem = ""
        if manifest is not None:
            try:
                return (
                    self._dataset.remix_request(
                        self._prompts, wanted.clip_id, wanted.recipe, manifest, self.ledger.root
                    ),
                    "",
                )
            except ValueError as error:
                problem = str(error)
        spec = remix_spec(
            self._prompts.clip(wanted.clip_id), prompt=self._prompts.recipe(wanted.recipe).prompt
        )
        request = ClipRequest(
            asset=wanted.asset,
            clip=wanted.clip,
            spec=spec,
            recipe=wanted.recipe,
            dataset=self._dataset.name,
        )
        return request, problem

    def _price_usd(self, request: ClipRequest, wanted: _Wanted) -> float:
        if request.parent is None and wanted.recipe is not None:
            return self._price_by_row_usd(wanted)
        return estimate_usd(request, self._dataset.catalogue)

    def _price_by_row_usd(self, remix: _Wanted) -> float:
        """What a remix of a clip costs that is not generated yet, but will be as its row says."""
        row = self._prompts.clip(remix.clip_id)
        return self._dataset.catalogue.get(row.model).price_usd(
            size=row.size, duration_seconds=row.duration_seconds, number_results=1
        )

    def _shown(
        self,
        wanted: _Wanted,
        progress: ClipProgress,
        parents: dict[str, ClipProgress],
        notes: dict[tuple[str, str], str],
    ) -> ClipProgress:
        """A clip's progress with what follows from its parent, and with the note about it."""
        parent = None if wanted.recipe is None else parents[wanted.clip_id]
        if parent is not None:
            progress = self._after_parent(wanted, progress, parent)
        if progress.state is ClipState.CHANGED and self.regenerates_changed:
            progress = replace(progress, state=ClipState.WAITING)
        if progress.state in (ClipState.WAITING, ClipState.GENERATING):
            note = notes.get((progress.asset, progress.clip), "")
            progress = replace(progress, reason=note or progress.reason)
        return progress

    def _after_parent(
        self, wanted: _Wanted, progress: ClipProgress, parent: ClipProgress
    ) -> ClipProgress:
        gets_new_video = parent.purchase in (Purchase.CHANGED, Purchase.RAISED_TAKE)
        if progress.take and progress.purchase is None and gets_new_video:
            price_usd = self._price_by_row_usd(wanted)
            return replace(progress, purchase=Purchase.FOLLOWS, price_usd=price_usd)
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
                reason=f"it will be made from the new take of {parent.clip}",
                purchase=Purchase.FOLLOWS,
            )
        return progress


def _reason(take: Take, outcome: OutcomeRecord) -> str:
    reason = " ".join(error.sentence for error in outcome.errors)
    current = take.latest
    match outcome.state:
        case "lost" | "unsure":
            advice = (
                f"It may have been paid for. Run: "
                f"{_resolve(current.asset, current.clip, '--resend')}, or with --give-up"
            )
            return f"{reason} {advice}".strip()
        case "void":
            return reason or "it was never sent. Run the same command again to send it"
    return reason or "no reason is known"


def _resolve(asset: str, clip: str, decision: str) -> str:
    """The command that decides about a clip."""
    by_default = "remixes" if "|" in clip else "clips"
    options = decision if asset == by_default else f"--asset {shlex.quote(asset)} {decision}"
    return f"sora-dagster resolve {shlex.quote(clip)} {options}"
