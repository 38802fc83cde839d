"""Assets of costs: a row for each task as Parquet, and a report with sums and a plot."""

import base64
from collections.abc import Sequence
from typing import Any

import dagster as dg

from sora_dagster.assets.cost_plot import plot_costs
from sora_dagster.dataset import CODE_VERSION, VideoDataset
from sora_dagster.generation.library.costs import (
    CostSum,
    cost_rows,
    cost_table_key,
    read_cost_table,
    sum_costs,
    sum_costs_by,
    write_cost_table,
)
from sora_dagster.generation.library.library_scan import scan_library
from sora_dagster.reporting.metadata import link_metadata, table_metadata
from sora_dagster.resources import ClipStorageResource, resource_of
from sora_dagster.resources.run_settings import settings_tag

_MOST_LINES = 100


def build_cost_assets(
    dataset: VideoDataset,
    *,
    boards: Sequence[str] = (),
    also_refresh_on: Sequence[dg.AssetKey] = (),
    cron_schedule: str = "*/10 * * * *",
) -> list[dg.AssetsDefinition]:
    """The assets `generation_costs` and `cost_report` of a dataset.

    Arguments:
        dataset: the dataset.
        boards: names of the storyboards to include. Other datasets in the same storage root have
            separate reports.
        also_refresh_on: further assets whose updates refresh the report, such as the shots of a
            storyboard. They are not dependencies, so that the lineage of a storyboard is only its
            own.
        cron_schedule: the shortest interval between refreshes.

    The assets need the resource `clip_storage`.

    Example:
        >>> [asset.key.to_user_string() for asset in build_cost_assets(VideoDataset("p.yaml"))]
        ['generation_costs', 'cost_report']
    """
    storage_key = dataset.resource_keys.clip_storage
    table_key = cost_table_key(dataset.definition_name("generation_costs"))
    plot_key = f"reports/{dataset.definition_name('cost_report')}.png"

    @dg.asset(
        key=dataset.asset_key("generation_costs"),
        deps=[dataset.clips, dataset.remixes],
        **dataset.labels,
        code_version=CODE_VERSION,
        required_resource_keys={storage_key},
        op_tags=settings_tag(),
        kinds={"parquet"},
        automation_condition=at_most_every(cron_schedule, also_refresh_on=also_refresh_on),
        description="Cost of every task: one row per task, with its clip, take, model, estimate, "
        "cost, outcome and run.",
    )
    def generation_costs(context: dg.AssetExecutionContext) -> dg.MaterializeResult[Any]:
        root = resource_of(context, storage_key, ClipStorageResource).root()
        rows = cost_rows(scan_library(root, dataset.name, boards=boards))
        write_cost_table(root, table_key, rows)
        total = sum_costs("all", rows)
        unknown = f", and {total.unknown} of unknown cost" if total.unknown else ""
        context.log.info(f"{total.tasks} tasks, {total.total_usd:.2f} USD{unknown}")
        return dg.MaterializeResult(
            metadata={
                "dagster/uri": root.uri(table_key),
                "dagster/row_count": len(rows),
                **_sums(total),
            }
        )

    @dg.asset(
        key=dataset.asset_key("cost_report"),
        deps=[generation_costs],
        **dataset.labels,
        code_version=CODE_VERSION,
        required_resource_keys={storage_key},
        op_tags=settings_tag(),
        kinds={"report"},
        automation_condition=dg.AutomationCondition.eager(),
        description="Spending by day, model, dataset and tag, and what was wasted.",
    )
    def cost_report(context: dg.AssetExecutionContext) -> dg.MaterializeResult[Any]:
        root = resource_of(context, storage_key, ClipStorageResource).root()
        rows = read_cost_table(root, table_key)
        by_day = sum_costs_by(rows, lambda row: [row.day.isoformat()])
        by_model = sum_costs_by(rows, lambda row: [dataset.catalogue.name_of(row.model)])
        root.write(plot_key, plot_costs(by_day, by_model))
        small = plot_costs(by_day, by_model, width_inches=8, height_inches=3, dots_per_inch=60)
        return dg.MaterializeResult(
            metadata={
                "plot": dg.MetadataValue.md(
                    f"![spending](data:image/png;base64,{base64.b64encode(small).decode()})"
                ),
                **_sums(sum_costs("all", rows)),
                "by_day": _table("day", by_day[::-1]),
                "by_model": _table("model", _most_expensive_first(by_model)),
                "by_dataset": _table(
                    "dataset", _most_expensive_first(sum_costs_by(rows, lambda row: [row.dataset]))
                ),
                "by_tag": _table(
                    "tag",
                    _most_expensive_first(sum_costs_by(rows, lambda row: row.tags or ["(none)"])),
                ),
                "plot_picture": link_metadata(root, plot_key),
            }
        )

    return [generation_costs, cost_report]


def at_most_every(
    cron_schedule: str, *, also_refresh_on: Sequence[dg.AssetKey] = ()
) -> dg.AutomationCondition[Any]:
    """Refresh a report at the next tick of a cron schedule after its inputs changed.

    Arguments:
        cron_schedule: the shortest interval.
        also_refresh_on: unpartitioned assets that the report shows and does not depend on.
    """
    condition = dg.AutomationCondition
    changed: dg.AutomationCondition[Any] = condition.any_deps_updated()
    for key in also_refresh_on:
        changed = changed | condition.asset_matches(key, condition.newly_updated())
    ticked: dg.AutomationCondition[Any] = condition.cron_tick_passed(cron_schedule)
    return (
        changed.since_last_handled() & ticked.since_last_handled() & ~condition.in_progress()
    ).with_label(f"inputs changed, at most at {cron_schedule}")


def _sums(total: CostSum) -> dict[str, Any]:
    return {
        "total_usd": total.total_usd,
        "used_usd": total.used_usd,
        "wasted_usd": total.wasted_usd,
        "outstanding_usd": total.outstanding_usd,
        "tasks": total.tasks,
        "tasks_of_unknown_cost": total.unknown,
    }


def _most_expensive_first(lines: Sequence[CostSum]) -> list[CostSum]:
    return sorted(lines, key=lambda line: -line.total_usd)


def _table(name: str, lines: Sequence[CostSum]) -> dg.TableMetadataValue:
    money = ["total_usd", "used_usd", "wasted_usd", "outstanding_usd"]
    return table_metadata(
        (
            {
                name: line.name,
                "tasks": line.tasks,
                **{key: getattr(line, key) for key in money},
                "unknown": line.unknown,
            }
            for line in lines[:_MOST_LINES]
        ),
        **{name: "string", "tasks": "int", **dict.fromkeys(money, "float"), "unknown": "int"},
    )
