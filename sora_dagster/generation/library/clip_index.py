"""What the gallery shows: the newest take of each clip, and the clips whose last take failed."""

from __future__ import annotations

import math
from dataclasses import dataclass

from sora_dagster.generation.library.library_scan import LibraryScan
from sora_dagster.generation.protocol.records import AttemptRecord, ClipManifest, OutcomeRecord


@dataclass(frozen=True)
class FailedTake:
    """A take without a video that no later take has replaced."""

    attempt: AttemptRecord
    outcome: OutcomeRecord


@dataclass(frozen=True)
class ClipIndex:
    """The clips of a dataset.

    Arguments:
        clips: the newest stored take of each clip, the newest clip first.
        failed: clips whose last take failed; an earlier take may be stored.
        wasted_usd: known cost of all other tasks: superseded, or failed before another attempt.
    """

    clips: tuple[ClipManifest, ...]
    failed: tuple[FailedTake, ...]
    wasted_usd: float


def build_clip_index(scan: LibraryScan) -> ClipIndex:
    """The clips of a scan."""
    newest: dict[tuple[str, str], ClipManifest] = {}
    for manifest in scan.manifests:
        clip = (manifest.asset, manifest.clip)
        if clip not in newest or newest[clip].take < manifest.take:
            newest[clip] = manifest
    last: dict[tuple[str, str], tuple[AttemptRecord, OutcomeRecord | None]] = {}
    paid: dict[str, float] = {}
    for task in scan.tasks:
        attempt, outcome = task.attempt, task.outcome
        clip = (attempt.asset, attempt.clip)
        if outcome is not None:
            if outcome.cost_usd is not None:
                paid[attempt.task_uuid] = outcome.cost_usd
            if outcome.state == "void":
                continue
        if clip not in last or _order(last[clip][0]) < _order(attempt):
            last[clip] = (attempt, outcome)
    failed = [
        FailedTake(attempt, outcome)
        for clip, (attempt, outcome) in last.items()
        if outcome is not None
        and not outcome.has_videos
        # A manifest outranks any outcome.
        and (clip not in newest or newest[clip].take < attempt.take)
    ]
    shown = {manifest.task_uuid for manifest in newest.values()}
    shown |= {take.attempt.task_uuid for take in failed}
    return ClipIndex(
        clips=tuple(sorted(newest.values(), key=lambda clip: clip.stored_at, reverse=True)),
        failed=tuple(sorted(failed, key=lambda take: take.outcome.at, reverse=True)),
        wasted_usd=round(math.fsum(usd for uuid, usd in paid.items() if uuid not in shown), 6),
    )


def _order(attempt: AttemptRecord) -> tuple[int, int]:
    return attempt.take, attempt.attempt
