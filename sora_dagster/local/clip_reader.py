"""Reading from its records how far one clip is, and what would be bought."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from sora_dagster.dataset import VideoDataset
from sora_dagster.generation.protocol.ledger import Ledger, Take
from sora_dagster.generation.protocol.record_folder import stuck_folder
from sora_dagster.generation.protocol.record_store import UnreadableRecordError
from sora_dagster.generation.protocol.records import (
    ClipManifest,
    OutcomeRecord,
    OutcomeState,
    StuckRecord,
)
from sora_dagster.generation.requesting.payloads import planned_remix_price, request_price
from sora_dagster.generation.requesting.planner import what_changed
from sora_dagster.local.progress import ClipProgress, ClipState, Purchase
from sora_dagster.prompts.clips import ClipRequest
from sora_dagster.prompts.dataset import PromptDataset
from sora_dagster.runware.pricing import Price
from sora_dagster.storage import AccessDeniedError


@dataclass(frozen=True)
class DatasetClip:
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
class ClipReading:
    """What was read of one clip.

    Arguments:
        progress: how far it was.
        tasks: its newest task, and those that may follow next.
        parent_take: the stored take of the parent that a remix was compared with; 0 for none.
        is_open: whether one of the tasks was outstanding.
    """

    progress: ClipProgress
    tasks: frozenset[str]
    parent_take: int
    is_open: bool


class ClipReader:
    """Reads how far clips are, from their records.

    Arguments:
        ledger: the ledger of the storage root, which is bound.
        dataset: the dataset.
        prompts: its rows.
    """

    def __init__(self, ledger: Ledger, dataset: VideoDataset, prompts: PromptDataset) -> None:
        self.ledger = ledger
        self._dataset = dataset
        self._prompts = prompts
        self._stuck_folder = stuck_folder(ledger, dataset.name)
        self._stuck: dict[str, StuckRecord | None] = {}
        self.pending: frozenset[str] = frozenset()

    def refresh(self) -> None:
        """List what is outstanding, and what is set aside."""
        self.pending = frozenset(self.ledger.pending.tasks(self._dataset.name))
        self._stuck = dict(self._stuck_folder.read())

    def read(self, clip: DatasetClip, parent: ClipProgress | None) -> ClipReading:
        """How far a clip is. A record that cannot be read is the reason why it failed.

        Arguments:
            clip: the clip or remix.
            parent: how far its parent is; None for a clip.
        """
        try:
            return self._read_records(clip, parent)
        except (UnreadableRecordError, AccessDeniedError) as error:
            reason = str(error)
            for stuck in self._stuck.values():
                pending = stuck and stuck.pending
                if pending and (pending.asset, pending.clip) == (clip.asset, clip.clip):
                    reason = _stuck_reason(clip.asset, clip.clip, stuck)
            return self._reading(clip, parent, ClipState.FAILED, reason=reason)

    def _read_records(self, clip: DatasetClip, parent: ClipProgress | None) -> ClipReading:
        if clip.recipe is None:
            request, problem = self._dataset.clip_request(self._prompts, clip.clip), ""
        else:
            request, problem = self.remix_request(clip, parent)
        takes = self.ledger.takes(clip.asset, clip.clip)
        if not takes:
            return self._reading(
                clip,
                parent,
                ClipState.FAILED if problem else ClipState.WAITING,
                {self.ledger.task_uuid(clip.asset, clip.clip, request.spec.take, 1)},
                reason=problem,
                purchase=None if problem else Purchase.NEW,
                price=self._price(request, clip),
            )
        newest = takes[-1]
        tasks = self._tasks_after(request, newest)
        if tasks & self.pending:
            state, take, reason = ClipState.GENERATING, 0, ""
        else:
            state, take, reason = self._take_state(newest)
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
                state, take, reason, purchase = self._earlier_take(takes, reason)
        elif state is ClipState.FAILED:
            match self._ended_as(newest):
                case "void":
                    purchase = Purchase.NEW
                case "failed" | "lost" | "unsure":
                    purchase = Purchase.RETRY
        return self._reading(
            clip,
            parent,
            state,
            tasks,
            take=take,
            reason=reason,
            changes=changes,
            purchase=purchase,
            price=self._price(request, clip),
        )

    def _reading(
        self,
        clip: DatasetClip,
        parent: ClipProgress | None,
        state: ClipState,
        tasks: Iterable[str] = (),
        *,
        take: int = 0,
        reason: str = "",
        changes: str = "",
        purchase: Purchase | None = None,
        price: Price | None = None,
    ) -> ClipReading:
        tasks = frozenset(tasks)
        price = None if purchase is None else price
        progress = ClipProgress(
            clip.asset, clip.clip, state, take, reason, changes, purchase, price
        )
        is_open = bool(tasks & self.pending)
        if is_open:
            progress = replace(progress, state=ClipState.GENERATING, reason="")
        return ClipReading(progress, tasks, parent.take if parent else 0, is_open)

    def _tasks_after(self, request: ClipRequest, newest: Take) -> frozenset[str]:
        """The newest task of a clip, and those that a retry or a new take would have."""
        take, attempt = newest.number, newest.latest.attempt
        places = [(take, attempt), (take, attempt + 1), (max(take + 1, request.spec.take), 1)]
        return frozenset(
            self.ledger.task_uuid(request.asset, request.clip, *place) for place in places
        )

    # Takes

    def _take_state(self, take: Take) -> tuple[ClipState, int, str]:
        """State of a take that is not outstanding, its number if it is stored, and the reason."""
        current = take.latest
        if manifest := self.manifest(current.asset, current.clip, take.number):
            if damage := self._damage(manifest):
                return ClipState.FAILED, 0, damage
            return ClipState.STORED, take.number, ""
        if current.task_uuid in self._stuck:
            stuck = self._stuck[current.task_uuid]
            return ClipState.FAILED, 0, _stuck_reason(current.asset, current.clip, stuck)
        outcome = self.ledger.outcome(current.task_uuid)
        if outcome is None:
            return ClipState.GENERATING, 0, ""
        if outcome.has_videos:
            return ClipState.FAILED, 0, _missing_manifest_reason(take)
        return ClipState.FAILED, 0, _failure_reason(take, outcome)

    def _ended_as(self, take: Take) -> OutcomeState | None:
        outcome = self.ledger.outcome(take.latest.task_uuid)
        return None if outcome is None else outcome.state

    def _earlier_take(
        self, takes: Sequence[Take], reason: str
    ) -> tuple[ClipState, int, str, Purchase | None]:
        """State of a changed clip whose newest take failed."""
        for take in reversed(takes[:-1]):
            state, number, _ = self._take_state(take)
            if state is ClipState.STORED:
                return ClipState.CHANGED, number, "", Purchase.CHANGED
        return ClipState.FAILED, 0, reason, Purchase.NEW

    def manifest(self, asset: str, clip: str, take: int) -> ClipManifest | None:
        """The record of a stored take, even if it was pruned."""
        manifest = self.ledger.manifest(asset, clip, take)
        if manifest is None and (pruned := self.ledger.pruned(asset, clip, take)):
            return pruned.manifest
        return manifest

    def _damage(self, manifest: ClipManifest) -> str:
        """What is wrong with the videos of a stored take; empty if they are intact."""
        for video in manifest.videos:
            info = self.ledger.root.info(video.key)
            if info is not None and info.size_bytes == video.size_bytes:
                continue
            if self.ledger.pruned(manifest.asset, manifest.clip, manifest.take) is not None:
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

    # Remixes and prices

    def remix_request(
        self, clip: DatasetClip, parent: ClipProgress | None
    ) -> tuple[ClipRequest, str]:
        """The dataset's request of a remix, and why it cannot be made; empty if it can."""
        assert clip.recipe is not None
        clips = self._dataset.clips.to_user_string()
        if parent is not None and parent.take:
            manifest = self.manifest(clips, clip.clip_id, parent.take)
        else:
            manifest = self.ledger.latest_manifest(clips, clip.clip_id)
        problem = ""
        if manifest is not None:
            try:
                request = self._dataset.remix_request(
                    self._prompts, clip.clip_id, clip.recipe, manifest, self.ledger.root
                )
                return request, ""
            except ValueError as error:
                problem = str(error)
        request = ClipRequest(
            asset=clip.asset,
            clip=clip.clip,
            spec=self._dataset.remix_spec(self._prompts, clip.clip_id, clip.recipe),
            recipe=clip.recipe,
            dataset=self._dataset.name,
        )
        return request, problem

    def _price(self, request: ClipRequest, clip: DatasetClip) -> Price:
        if request.parent is None and clip.recipe is not None:
            return self.remix_price(clip)
        return request_price(request, self._dataset.catalogue)

    def remix_price(self, remix: DatasetClip) -> Price:
        """Price of a remix whose clip is not generated yet, by the clip's row."""
        row, recipe = self._prompts.clip(remix.clip_id), self._prompts.recipe(remix.recipe or "")
        return planned_remix_price(row, recipe, self._dataset.catalogue)


# Reasons


def _failure_reason(take: Take, outcome: OutcomeRecord) -> str:
    reason = " ".join(error.sentence for error in outcome.errors)
    current = take.latest
    match outcome.state:
        case "lost" | "unsure":
            command = _resolve_command(current.asset, current.clip, "--resend")
            return f"{reason} It may have been paid for. Run: {command}, or with --give-up".strip()
        case "void":
            return reason or "it was never sent. Run the same command again to send it"
    return reason or "the reason is unknown"


def _stuck_reason(asset: str, clip: str, stuck: StuckRecord | None) -> str:
    reason = "One of its records cannot be read." if stuck is None else stuck.reason
    return (
        f"it is set aside, and not paid for again. {reason} Then run: "
        f"{_resolve_command(asset, clip, '--retry')}"
    )


def _missing_manifest_reason(take: Take) -> str:
    return (
        f"its task {take.latest.task_uuid} ended with videos, and the clip's record is missing. "
        f"Restore the take's folder from a backup, or raise the clip's take to generate it again, "
        f"which costs again"
    )


def _resolve_command(asset: str, clip: str, decision: str) -> str:
    default_asset = "remixes" if "|" in clip else "clips"
    options = decision if asset == default_asset else f"--asset {shlex.quote(asset)} {decision}"
    return f"sora-dagster resolve {shlex.quote(clip)} {options}"
