"""The cost of every task in the storage root."""

from __future__ import annotations

from collections.abc import Callable

from sora_dagster.generation.clips import ClipRequest
from sora_dagster.generation.cost_rows import CostRow, cost_row
from sora_dagster.generation.ledger import Ledger
from sora_dagster.generation.walking import attempt_histories, stored_manifests


def walk_costs(ledger: Ledger, *, dataset_of: Callable[[ClipRequest], str]) -> list[CostRow]:
    """One row for each task that was ever asked for, the oldest first.

    A task that was never sent, and will not be, cost nothing and has no row.

    Arguments:
        ledger: the ledger.
        dataset_of: says what a clip is counted under.
    """
    stored = {}
    newest: dict[tuple[str, str], int] = {}
    for manifest in stored_manifests(ledger.root):
        stored[manifest.task_uuid] = manifest
        clip = (manifest.asset, manifest.clip)
        newest[clip] = max(newest.get(clip, 0), manifest.take)
    rows = []
    for history in attempt_histories(ledger):
        attempt, outcome = history.attempt, history.outcome
        if outcome is not None and not outcome.was_accepted:
            continue
        rows.append(
            cost_row(
                attempt,
                outcome,
                stored.get(attempt.task_uuid),
                dataset=dataset_of(attempt.request),
                is_newest_take=newest.get((attempt.asset, attempt.clip), 0) <= attempt.take,
                requested_at=min(history.sent_times, default=attempt.created_at),
            )
        )
    return sorted(rows, key=lambda row: (row.requested_at, row.task_uuid))
