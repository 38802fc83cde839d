"""What every task cost: one row a task, their sums, and the table as a Parquet file."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from typing import TYPE_CHECKING, Any, Literal, get_args, get_type_hints

from sora_dagster.extras import require_extras
from sora_dagster.generation.library.library_scan import LibraryScan, ScannedTask
from sora_dagster.generation.protocol.records import ClipManifest, OutcomeState
from sora_dagster.storage import StorageRoot

if TYPE_CHECKING:
    import pyarrow as pa

Waste = Literal["", "failed", "superseded"]


@dataclass(frozen=True)
class CostRow:
    """One task and its cost.

    Arguments:
        dataset: name of the prompt dataset or storyboard.
        asset: asset key of the clip.
        partition: its partition key; for a storyboard, the shot's name.
        width: width of the video in pixels; 0 if unknown.
        height: height of the video in pixels; 0 if unknown.
        seconds: length of the stored video, or the requested length; 0 if unknown.
        results: number of videos requested.
        estimate_usd: its expected cost. None: its price was unknown.
        cost_usd: its cost; the estimate while it is outstanding. None: unknown.
        is_settled: whether it has ended and its cost is final.
        cost_is_estimate: whether the cost is our estimate because the API did not report one.
        outcome: how it ended; ``outstanding`` if it has not.
        wasted: why its cost bought no video that is in use: it failed, or a later take replaced
            it. Empty otherwise.
        requested_at: when it was requested.
        finished_at: when its outcome was recorded.
        run_id: the run or backfill that requested it.
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
    estimate_usd: float | None
    cost_usd: float | None
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
        """The day (UTC) of the request."""
        return self.requested_at.date()


def cost_rows(scan: LibraryScan) -> list[CostRow]:
    """One row for each task that was sent, oldest first.

    A task that was never sent, or that Runware did not accept, cost nothing and has no row.
    """
    stored = {manifest.task_uuid: manifest for manifest in scan.manifests}
    newest: dict[tuple[str, str], int] = {}
    for manifest in scan.manifests:
        clip = (manifest.asset, manifest.clip)
        newest[clip] = max(newest.get(clip, 0), manifest.take)
    rows = [
        _cost_row(
            task,
            stored.get(task.attempt.task_uuid),
            newest_take=newest.get((task.attempt.asset, task.attempt.clip), 0),
        )
        for task in scan.tasks
        if task.outcome is None or (task.outcome.state != "void" and task.outcome.was_accepted)
    ]
    return sorted(rows, key=lambda row: (row.requested_at, row.task_uuid))


def _cost_row(task: ScannedTask, manifest: ClipManifest | None, *, newest_take: int) -> CostRow:
    attempt, outcome = task.attempt, task.outcome
    spec, parent = attempt.request.spec, attempt.request.parent
    if manifest is not None:
        first = manifest.videos[0]
        width, height, seconds = first.width, first.height, first.duration_seconds
    else:
        size = attempt.request.expected_size
        width, height = (size.width, size.height) if size is not None else (0, 0)
        seconds = spec.seconds or (parent.duration_seconds if parent is not None else 0.0)
    cost_usd = attempt.estimate.usd if outcome is None else outcome.cost_usd
    wasted: Waste = ""
    if outcome is not None and cost_usd != 0:
        if not outcome.has_videos:
            wasted = "failed"
        elif newest_take > attempt.take:
            wasted = "superseded"
    return CostRow(
        task_uuid=attempt.task_uuid,
        dataset=attempt.dataset,
        asset=attempt.asset,
        partition=attempt.clip,
        take=attempt.take,
        attempt=attempt.attempt,
        model=spec.model,
        width=width,
        height=height,
        seconds=seconds,
        results=spec.number_results,
        estimate_usd=attempt.estimate.usd,
        cost_usd=cost_usd,
        is_settled=outcome is not None,
        cost_is_estimate=True if outcome is None else outcome.cost_is_estimate,
        outcome="outstanding" if outcome is None else outcome.state,
        wasted=wasted,
        requested_at=min(task.sent_times, default=attempt.created_at),
        finished_at=None if outcome is None else outcome.at,
        run_id=attempt.root_run,
        tags=spec.tags,
    )


@dataclass(frozen=True)
class CostSum:
    """The summed costs of some tasks.

    Arguments:
        name: the day, model, dataset or tag.
        tasks: number of tasks.
        used_usd: cost of the videos that are in use.
        wasted_usd: cost of failed and superseded videos.
        outstanding_usd: expected cost of the tasks that have not ended.
        unknown: number of tasks whose cost is unknown, which is in none of the sums.
    """

    name: str
    tasks: int
    used_usd: float
    wasted_usd: float
    outstanding_usd: float
    unknown: int = 0

    @property
    def total_usd(self) -> float:
        """Money spent, without outstanding tasks."""
        return round(self.used_usd + self.wasted_usd, 6)


def sum_costs(name: str, rows: Collection[CostRow]) -> CostSum:
    """The sum over some tasks."""

    def sum_of(condition: Callable[[CostRow], bool]) -> float:
        costs = [row.cost_usd for row in rows if condition(row)]
        return round(sum(cost for cost in costs if cost is not None), 6)

    return CostSum(
        name=name,
        tasks=len(rows),
        used_usd=sum_of(lambda row: row.is_settled and not row.wasted),
        wasted_usd=sum_of(lambda row: row.is_settled and bool(row.wasted)),
        outstanding_usd=sum_of(lambda row: not row.is_settled),
        unknown=sum(row.cost_usd is None for row in rows),
    )


def sum_costs_by(
    rows: Iterable[CostRow], names_of: Callable[[CostRow], Sequence[str]]
) -> list[CostSum]:
    """Sums by day, model, dataset or tag, ordered by name.

    Arguments:
        rows: the tasks.
        names_of: the names that a task counts under; a task with several tags counts under each.
    """
    groups: dict[str, list[CostRow]] = {}
    for row in rows:
        for name in names_of(row):
            groups.setdefault(name, []).append(row)
    return [sum_costs(name, groups[name]) for name in sorted(groups)]


def cost_table_key(name: str) -> str:
    """Key of the cost table in the storage root."""
    return f"reports/{name}.parquet"


def write_cost_table(root: StorageRoot, key: str, rows: Sequence[CostRow]) -> None:
    """Write the table as Parquet; replaces an earlier one.

    Raises:
        StorageError: if it cannot be written.
    """
    require_extras("The table of costs", "reports")
    import pyarrow as pa
    import pyarrow.parquet

    table = pa.Table.from_pylist([dataclasses.asdict(row) for row in rows], schema=_table_schema())
    body = io.BytesIO()
    pyarrow.parquet.write_table(table, body)
    root.write(key, body.getvalue())


def read_cost_table(root: StorageRoot, key: str) -> list[CostRow]:
    """The rows of the table.

    Raises:
        ObjectMissingError: if there is no table yet.
    """
    require_extras("The cost report", "reports")
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(io.BytesIO(root.read(key)))
    return [CostRow(**{**row, "tags": tuple(row["tags"])}) for row in table.to_pylist()]


def _table_schema() -> pa.Schema:
    """Column names and types: money in USD, lengths in seconds, times in UTC."""
    import pyarrow as pa

    time = pa.timestamp("us", tz="UTC")
    types: dict[Any, pa.DataType] = {
        str: pa.string(),
        int: pa.int32(),
        float: pa.float64(),
        float | None: pa.float64(),
        bool: pa.bool_(),
        datetime: time,
        datetime | None: time,
        tuple[str, ...]: pa.list_(pa.string()),
    }
    return pa.schema(
        [
            # The other types are literals of strings.
            pa.field(name, types.get(hint, pa.string()), nullable=type(None) in get_args(hint))
            for name, hint in get_type_hints(CostRow).items()
        ]
    )
