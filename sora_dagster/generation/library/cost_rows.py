"""What every task cost: one row a task, and the sums that people ask for."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import Literal

from sora_dagster.generation.protocol.records import (
    AttemptRecord,
    ClipManifest,
    OutcomeRecord,
    OutcomeState,
)

Waste = Literal["", "failed", "superseded"]


@dataclass(frozen=True)
class CostRow:
    """One task, and what it cost.

    Arguments:
        dataset: what the clip belongs to: a prompt dataset or a storyboard.
        asset: asset key of the clip.
        partition: its partition key; the shot's name for a storyboard.
        width: width of the video in pixels; 0 where it is not known.
        seconds: length of the video asked for, or of the stored one; 0 where it is not known.
        results: how many videos were asked for.
        cost_usd: what it cost; the estimate while it is not settled.
        is_settled: whether it is over and its cost stands.
        cost_is_estimate: whether the cost is our estimate, the API not having told it.
        outcome: how it ended; ``outstanding`` where it is not over.
        wasted: why its cost brought no video that is used: it failed, or a later take took its
            place; empty where it did.
        requested_at: when it was asked for.
        finished_at: when its end was recorded.
        run_id: the run, or the backfill, that asked for it.
    """

    task_uuid: str
    dataset: str
    asset: str
    partition: str
    take: int
    attempt: int
    model: str
    width: int
    height: int
    seconds: float
    results: int
    estimate_usd: float
    cost_usd: float
    is_settled: bool
    cost_is_estimate: bool
    outcome: OutcomeState | Literal["outstanding"]
    wasted: Waste
    requested_at: datetime
    finished_at: datetime | None
    run_id: str
    tags: tuple[str, ...]

    @property
    def day(self) -> date:
        """The day (UTC) it was asked for."""
        return self.requested_at.date()


def cost_row(
    attempt: AttemptRecord,
    outcome: OutcomeRecord | None,
    manifest: ClipManifest | None,
    *,
    dataset: str,
    is_newest_take: bool,
    requested_at: datetime,
) -> CostRow:
    """The row of a task.

    Arguments:
        attempt: what was asked.
        outcome: how it ended; None where it is not over.
        manifest: the stored clip, where this task brought it.
        dataset: what the clip belongs to.
        is_newest_take: whether no later take of the clip is stored.
        requested_at: when it was sent.
    """
    spec, parent = attempt.request.spec, attempt.request.parent
    size = attempt.request.expected_size
    seconds = spec.duration_seconds or (parent.duration_seconds if parent is not None else 0.0)
    if manifest is not None:
        first = manifest.videos[0]
        width, height, seconds = first.width, first.height, first.duration_seconds
    else:
        width, height = (size.width, size.height) if size is not None else (0, 0)
    cost_usd = attempt.estimate_usd if outcome is None else outcome.cost_usd
    wasted: Waste = ""
    if outcome is not None and cost_usd > 0:
        if not outcome.has_videos:
            wasted = "failed"
        elif not is_newest_take:
            wasted = "superseded"
    return CostRow(
        task_uuid=attempt.task_uuid,
        dataset=dataset,
        asset=attempt.asset,
        partition=attempt.clip,
        take=attempt.take,
        attempt=attempt.attempt,
        model=spec.model,
        width=width,
        height=height,
        seconds=seconds,
        results=spec.number_results,
        estimate_usd=attempt.estimate_usd,
        cost_usd=cost_usd,
        is_settled=outcome is not None,
        cost_is_estimate=True if outcome is None else outcome.cost_is_estimate,
        outcome="outstanding" if outcome is None else outcome.state,
        wasted=wasted,
        requested_at=requested_at,
        finished_at=None if outcome is None else outcome.at,
        run_id=attempt.root_run,
        tags=spec.tags,
    )


@dataclass(frozen=True)
class CostLine:
    """A sum over some tasks.

    Arguments:
        name: the day, model, dataset or tag.
        tasks: how many tasks.
        used_usd: what the videos that are used cost.
        wasted_usd: what failed or superseded ones cost.
        outstanding_usd: what those that are not over are expected to cost.
    """

    name: str
    tasks: int
    used_usd: float
    wasted_usd: float
    outstanding_usd: float

    @property
    def total_usd(self) -> float:
        """What is spent, without what is outstanding."""
        return round(self.used_usd + self.wasted_usd, 6)


def cost_line(name: str, rows: Collection[CostRow]) -> CostLine:
    """The sum over some tasks."""

    def sum_of(wanted: Callable[[CostRow], bool]) -> float:
        return round(sum(row.cost_usd for row in rows if wanted(row)), 6)

    return CostLine(
        name=name,
        tasks=len(rows),
        used_usd=sum_of(lambda row: row.is_settled and not row.wasted),
        wasted_usd=sum_of(lambda row: row.is_settled and bool(row.wasted)),
        outstanding_usd=sum_of(lambda row: not row.is_settled),
    )


def cost_lines(
    rows: Iterable[CostRow], names_of: Callable[[CostRow], Sequence[str]]
) -> list[CostLine]:
    """Sums by day, model, dataset or tag, by name.

    Arguments:
        rows: the tasks.
        names_of: the names that a task counts under; with several, as tags, it counts under each.
    """
    groups: dict[str, list[CostRow]] = {}
    for row in rows:
        for name in names_of(row):
            groups.setdefault(name, []).append(row)
    return [cost_line(name, groups[name]) for name in sorted(groups)]
