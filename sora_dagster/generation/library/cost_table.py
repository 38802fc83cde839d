"""The table of costs as a Parquet file in the storage root."""

from __future__ import annotations

import dataclasses
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

from sora_dagster.generation.library.cost_rows import CostRow
from sora_dagster.storage import StorageRoot

if TYPE_CHECKING:
    import pyarrow as pa


def costs_key(name: str) -> str:
    """Key of the table below the storage root."""
    return f"reports/{name}.parquet"


def costs_schema() -> pa.Schema:
    """Column names and types; money is in USD, lengths in seconds, times in UTC."""
    import pyarrow as pa

    time = pa.timestamp("us", tz="UTC")
    return pa.schema(
        [
            pa.field("task_uuid", pa.string(), nullable=False),
            pa.field("dataset", pa.string(), nullable=False),
            pa.field("asset", pa.string(), nullable=False),
            pa.field("partition", pa.string(), nullable=False),
            pa.field("take", pa.int32(), nullable=False),
            pa.field("attempt", pa.int32(), nullable=False),
            pa.field("model", pa.string(), nullable=False),
            pa.field("width", pa.int32(), nullable=False),
            pa.field("height", pa.int32(), nullable=False),
            pa.field("seconds", pa.float64(), nullable=False),
            pa.field("results", pa.int32(), nullable=False),
            pa.field("estimate_usd", pa.float64(), nullable=False),
            pa.field("cost_usd", pa.float64(), nullable=False),
            pa.field("is_settled", pa.bool_(), nullable=False),
            pa.field("cost_is_estimate", pa.bool_(), nullable=False),
            pa.field("outcome", pa.string(), nullable=False),
            pa.field("wasted", pa.string(), nullable=False),
            pa.field("requested_at", time, nullable=False),
            pa.field("finished_at", time),
            pa.field("run_id", pa.string(), nullable=False),
            pa.field("tags", pa.list_(pa.string()), nullable=False),
        ]
    )


def write_costs(root: StorageRoot, key: str, rows: Sequence[CostRow]) -> None:
    """Write the table, replacing the one before.

    Raises:
        StorageError: where it cannot be written.
    """
    import pyarrow as pa
    import pyarrow.parquet

    table = pa.Table.from_pylist([dataclasses.asdict(row) for row in rows], schema=costs_schema())
    body = io.BytesIO()
    pyarrow.parquet.write_table(table, body)
    root.write(key, body.getvalue())


def read_costs(root: StorageRoot, key: str) -> list[CostRow]:
    """The rows of the table.

    Raises:
        ObjectMissingError: where there is none yet.
    """
    import pyarrow.parquet

    table = pyarrow.parquet.read_table(io.BytesIO(root.read(key)))
    return [CostRow(**{**row, "tags": tuple(row["tags"])}) for row in table.to_pylist()]
