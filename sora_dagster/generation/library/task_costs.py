"""The cost of every task of a dataset."""

from __future__ import annotations

from sora_dagster.generation.library.cost_rows import CostRow, cost_row
from sora_dagster.generation.library.library_scan import LibraryScan


def costs_of(scan: LibraryScan) -> list[CostRow]:
    """One row for each task that was ever asked for, the oldest first.

    A task that was never sent, and will not be, cost nothing and has no row.

    Arguments:
        scan: what was asked for and stored.
    """
    stored = {manifest.task_uuid: manifest for manifest in scan.manifests}
    newest: dict[tuple[str, str], int] = {}
    for manifest in scan.manifests:
        clip = (manifest.asset, manifest.clip)
        newest[clip] = max(newest.get(clip, 0), manifest.take)
    rows = []
    for task in scan.tasks:
        attempt, outcome = task.attempt, task.outcome
        if outcome is not None and (outcome.state == "void" or not outcome.was_accepted):
            continue
        rows.append(
            cost_row(
                attempt,
                outcome,
                stored.get(attempt.task_uuid),
                dataset=attempt.dataset,
                is_newest_take=newest.get((attempt.asset, attempt.clip), 0) <= attempt.take,
                requested_at=min(task.sent_times, default=attempt.created_at),
            )
        )
    return sorted(rows, key=lambda row: (row.requested_at, row.task_uuid))
