"""What the cost assets show: sums, tables and a plot."""

import base64
from collections.abc import Sequence
from typing import Any

import dagster as dg

from sora_dagster.assets.cost_plot import plot_costs
from sora_dagster.generation.library.costs import (
    CostSum,
    cost_rows,
    read_cost_table,
    sum_costs,
    sum_costs_by,
    write_cost_table,
)
from sora_dagster.generation.library.library_scan import LibraryScan
from sora_dagster.reporting.metadata import link_metadata, table_metadata
from sora_dagster.runware.catalogue import Catalogue
from sora_dagster.storage import StorageRoot

_MOST_LINES = 100


def write_costs(
    root: StorageRoot, table_key: str, scan: LibraryScan
) -> tuple[CostSum, dict[str, Any]]:
    """Write the table of costs; gives their sum, and the metadata of the asset.

    Arguments:
        root: the storage root.
        table_key: key of the table.
        scan: the tasks of the dataset.
    """
    rows = cost_rows(scan)
    write_cost_table(root, table_key, rows)
    total = sum_costs("all", rows)
    return total, {
        "dagster/uri": root.uri(table_key),
        "dagster/row_count": len(rows),
        **_sums(total),
    }


def write_cost_report(
    root: StorageRoot, table_key: str, plot_key: str, catalogue: Catalogue
) -> dict[str, Any]:
    """Write the plot of the costs; gives the metadata of the asset.

    Arguments:
        root: the storage root.
        table_key: key of the table of costs.
        plot_key: key of the plot.
        catalogue: the models, for their names.
    """
    rows = read_cost_table(root, table_key)
    by_day = sum_costs_by(rows, lambda row: [row.day.isoformat()])
    by_model = sum_costs_by(rows, lambda row: [catalogue.name_of(row.model)])
    root.write(plot_key, plot_costs(by_day, by_model))
    small = plot_costs(by_day, by_model, width_inches=8, height_inches=3, dots_per_inch=60)
    picture = f"![spending](data:image/png;base64,{base64.b64encode(small).decode()})"
    by_dataset = sum_costs_by(rows, lambda row: [row.dataset])
    by_tag = sum_costs_by(rows, lambda row: row.tags or ["(none)"])
    return {
        "plot": dg.MetadataValue.md(picture),
        **_sums(sum_costs("all", rows)),
        "by_day": _table("day", by_day[::-1]),
        "by_model": _table("model", _most_expensive_first(by_model)),
        "by_dataset": _table("dataset", _most_expensive_first(by_dataset)),
        "by_tag": _table("tag", _most_expensive_first(by_tag)),
        "plot_picture": link_metadata(root, plot_key),
    }


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
