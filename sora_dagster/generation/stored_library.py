"""What there is to show: the newest take of every clip, and every clip that failed since."""

from __future__ import annotations

import math
from dataclasses import dataclass

from sora_dagster.generation.ledger import Ledger
from sora_dagster.generation.records import AttemptRecord, ClipManifest, OutcomeRecord
from sora_dagster.generation.walking import attempt_histories, stored_manifests


@dataclass(frozen=True)
class FailedTake:
    """A take that brought no video, and that no later one took the place of."""

    attempt: AttemptRecord
    outcome: OutcomeRecord


@dataclass(frozen=True)
class Library:
    """The clips of a storage root.

    Arguments:
        clips: the newest stored take of each clip, the newest clip first.
        failed: clips whose last take failed; an earlier one may be stored.
        wasted_usd: what was paid for tasks that are neither: superseded, or failed before another
            try.
    """

    clips: tuple[ClipManifest, ...]
    failed: tuple[FailedTake, ...]
    wasted_usd: float


def read_library(ledger: Ledger) -> Library:
    """Walk over everything stored."""
    newest: dict[tuple[str, str], ClipManifest] = {}
    for manifest in stored_manifests(ledger.root):
        clip = (manifest.asset, manifest.clip)
        if clip not in newest or newest[clip].take < manifest.take:
            newest[clip] = manifest
    last: dict[tuple[str, str], tuple[AttemptRecord, OutcomeRecord | None]] = {}
    paid: dict[str, float] = {}
    for history in attempt_histories(ledger):
        attempt, outcome = history.attempt, history.outcome
        clip = (attempt.asset, attempt.clip)
        if outcome is not None:
            paid[attempt.task_uuid] = outcome.cost_usd
            if outcome.state == "void":
                continue
        if clip not in last or _order(last[clip][0]) < _order(attempt):
            last[clip] = (attempt, outcome)
    failed = [
        FailedTake(attempt, outcome)
        for attempt, outcome in last.values()
        if outcome is not None and not outcome.has_videos
    ]
    shown = {manifest.task_uuid for manifest in newest.values()}
    shown |= {take.attempt.task_uuid for take in failed}
    return Library(
        clips=tuple(sorted(newest.values(), key=lambda clip: clip.stored_at, reverse=True)),
        failed=tuple(sorted(failed, key=lambda take: take.outcome.at, reverse=True)),
        wasted_usd=round(math.fsum(usd for uuid, usd in paid.items() if uuid not in shown), 6),
    )


def _order(attempt: AttemptRecord) -> tuple[int, int]:
    return attempt.take, attempt.attempt
