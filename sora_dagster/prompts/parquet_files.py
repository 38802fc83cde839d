"""The rows of a Parquet dataset."""

from __future__ import annotations

from typing import Any, BinaryIO

from sora_dagster.extras import require_extras
from sora_dagster.input_files.problems import ProblemList
from sora_dagster.prompts.files import COLUMNS, Cell, DatasetTable, Row, check_header


def read_parquet(file: BinaryIO, problems: ProblemList) -> DatasetTable:
    """The rows of a Parquet file, numbered from 1."""
    require_extras("A dataset in a Parquet file", "parquet")
    import pyarrow
    import pyarrow.parquet

    rows: list[Row] = []
    try:
        with pyarrow.parquet.ParquetFile(file) as table:
            header = table.schema_arrow.names
            missing = check_header(header, problems, line=None)
            if len(set(header)) < len(header):
                return DatasetTable(missing_columns=missing)
            for batch in table.iter_batches(columns=[name for name in header if name in COLUMNS]):
                for record in batch.to_pylist():
                    line = len(rows) + 1
                    cells = {name: _parquet_cell(value, line) for name, value in record.items()}
                    rows.append(Row(line, cells))
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        problems.add(f"this Parquet file cannot be read: {reason[0]}", value=None)
        return DatasetTable()
    return DatasetTable(rows, missing)


def _parquet_cell(value: Any, line: int) -> Cell:
    if isinstance(value, dict):
        # All rows of a column of structs have the same fields; those without a value are null.
        fields = {name: item for name, item in value.items() if item is not None}
        return Cell({name: _parquet_cell(item, line) for name, item in fields.items()}, line)
    if isinstance(value, list) and value and all(isinstance(item, tuple) for item in value):
        # A column of maps.
        return _parquet_cell(dict(value), line)
    if isinstance(value, list):
        return Cell(tuple(_parquet_cell(item, line) for item in value), line)
    if isinstance(value, bytes):
        # Some writers do not mark texts, which makes them bytes.
        try:
            return Cell(value.decode("utf-8"), line)
        except UnicodeDecodeError:
            return Cell(value, line)
    return Cell(value, line)
