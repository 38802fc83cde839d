"""How far a dataset is: what is requested, generating, stored or failed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from sora_dagster.generation.ledger import Ledger
from sora_dagster.generation.prompts import PromptDataset
from sora_dagster.generation.records import ClipManifest, OutcomeRecord
from sora_dagster.graph import VideoGraph, remix_partition


class ClipState(Enum):
    """How far one clip is."""

    WAITING = "waiting"
    GENERATING = "generating"
    STORED = "stored"
    FAILED = "failed"


@dataclass(frozen=True)
class ClipProgress:
    """How far one clip is.

    Arguments:
        asset: asset key of the clip.
        clip: its partition key.
        state: how far it is.
        manifest: the stored clip.
        reason: why it failed.
    """

    asset: str
    clip: str
    state: ClipState
    manifest: ClipManifest | None = None
    reason: str = ""


class DatasetProgress:
    """Looks how far the clips and remixes of a dataset are; what is stored is looked at once.

    Arguments:
        ledger: the ledger of the storage root.
        graph: names of the assets.
        dataset: the dataset.
    """

    def __init__(self, ledger: Ledger, graph: VideoGraph, dataset: PromptDataset) -> None:
        self._ledger = ledger
        self._wanted = [
            (graph.clips.to_user_string(), spec.clip_id, spec.fingerprint, "")
            for spec in dataset.clips
        ] + [
            (graph.remixes.to_user_string(), remix_partition(clip_id, recipe), None, clip_id)
            for clip_id, recipe in dataset.remix_cells
        ]
        self._settled: dict[tuple[str, str], ClipProgress] = {}
        self._failed_clips: set[str] = set()

    def look(self) -> list[ClipProgress]:
        """How far each clip, and then each remix, is; in the order of the dataset."""
        found = []
        for asset, clip, fingerprint, parent in self._wanted:
            progress = self._settled.get((asset, clip))
            if progress is None:
                progress = self._look_at(asset, clip, fingerprint)
                if parent in self._failed_clips and progress.state is ClipState.WAITING:
                    progress = ClipProgress(
                        asset, clip, ClipState.FAILED, reason=f"its clip {parent} failed"
                    )
                if progress.state is ClipState.STORED:
                    self._settled[asset, clip] = progress
            if progress.state is ClipState.FAILED:
                self._failed_clips.add(clip)
            found.append(progress)
        return found

    def _look_at(self, asset: str, clip: str, fingerprint: str | None) -> ClipProgress:
        takes = self._ledger.takes(asset, clip)
        if not takes or (fingerprint is not None and takes[-1].latest.fingerprint != fingerprint):
            return ClipProgress(asset, clip, ClipState.WAITING)
        current = takes[-1].latest
        outcome = self._ledger.outcome(current.task_uuid)
        if outcome is None:
            return ClipProgress(asset, clip, ClipState.GENERATING)
        if outcome.has_videos:
            manifest = self._ledger.manifest(asset, clip, current.take)
            if manifest is not None:
                return ClipProgress(asset, clip, ClipState.STORED, manifest)
        return ClipProgress(asset, clip, ClipState.FAILED, reason=_reason(outcome))


def _reason(outcome: OutcomeRecord) -> str:
    return "; ".join(error.message for error in outcome.errors) or outcome.state


def count(progress: Iterable[ClipProgress], state: ClipState) -> int:
    """How many clips are so far."""
    return sum(1 for clip in progress if clip.state is state)
