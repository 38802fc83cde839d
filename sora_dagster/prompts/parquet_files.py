"""The rows of a Parquet dataset."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, BinaryIO

from sora_dagster.extras import require_extras
from sora_dagster.prompts.files import (
    COLUMNS,
    MAX_DEPTH,
    MAX_VALUES,
    PANDAS_INDEX_PREFIX,
    Cell,
    DatasetTable,
    Row,
    check_header,
)
from sora_dagster.runware.redaction import shown
from sora_dagster.user_files.problems import ProblemList

if TYPE_CHECKING:
    from pyarrow import ChunkedArray, RecordBatch, Scalar

# Few, so that rows with large cells are not all in memory at once.
_ROWS_AT_ONCE = 1_000


class _Unreadable:
    """Stands for a value that no column allows. Messages show its description.

    Arguments:
        description: what the value is.
    """

    def __init__(self, description: str) -> None:
        self._description = description

    def __repr__(self) -> str:
        return f"({self._description})"


def read_parquet(file: BinaryIO, problems: ProblemList) -> DatasetTable:
    """The rows of a Parquet file, numbered from 1. The index of pandas is not a column."""
    require_extras("A dataset in a Parquet file", "parquet")
    import pyarrow
    import pyarrow.parquet

    rows: list[Row] = []
    try:
        with pyarrow.parquet.ParquetFile(file) as table:
            header = [
                name
                for name in table.schema_arrow.names
                if not name.startswith(PANDAS_INDEX_PREFIX)
            ]
            missing = check_header(header, problems, line=None)
            if len(set(header)) < len(header):
                return DatasetTable(missing_columns=missing)
            columns = [name for name in header if name in COLUMNS]
            for batch in table.iter_batches(batch_size=_ROWS_AT_ONCE, columns=columns):
                for record in _records(batch):
                    line = len(rows) + 1
                    cells = {name: _cell(scalar, line) for name, scalar in record.items()}
                    rows.append(Row(line, cells))
    except (pyarrow.ArrowException, OSError, ValueError) as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        problems.add(f"this Parquet file cannot be read: {reason[0]}", value=None)
        return DatasetTable()
    return DatasetTable(rows, missing)


def _records(batch: RecordBatch) -> Iterator[dict[str, Scalar[Any]]]:
    names: list[str] = batch.schema.names
    columns: list[ChunkedArray[Any]] = [batch.column(name) for name in names]
    for values in zip(*columns, strict=True):
        yield dict(zip(names, values, strict=True))


def _cell(scalar: Scalar[Any], line: int) -> Cell:
    """The cell of a value; one that Python cannot hold, or that is too large, is unreadable."""
    try:
        if (count := _values_in(scalar)) > MAX_VALUES:
            return Cell(_Unreadable(f"{count} values; at most {MAX_VALUES} in a cell"), line)
        return _cell_of(scalar.as_py(), line)
    except (ArithmeticError, TypeError, ValueError, ImportError, LookupError) as error:
        # Of bytes that are no text, of times beyond Python's or with an unknown zone.
        reason = str(error).partition("\n")[0].partition(". ")[0]
        return Cell(_Unreadable(f"a value of type {scalar.type}: {reason}"), line)


def _values_in(scalar: Scalar[Any]) -> int:
    """Number of values in a list or a map itself; 1 for any other."""
    import pyarrow

    is_list = isinstance(scalar, (pyarrow.ListScalar, pyarrow.MapScalar))
    return len(scalar) if is_list and scalar.is_valid else 1


def _cell_of(value: Any, line: int, depth: int = 0) -> Cell:
    if depth > MAX_DEPTH:
        return Cell(_Unreadable("it is nested too deeply"), line)
    if isinstance(value, dict):
        # All rows of a column of structs have the same fields; those without a value are null.
        fields = {name: item for name, item in value.items() if item is not None}
        return Cell({name: _cell_of(item, line, depth + 1) for name, item in fields.items()}, line)
    if isinstance(value, list) and value and all(isinstance(item, tuple) for item in value):
        return _cell_of_map(value, line, depth)
    if isinstance(value, list):
        return Cell(tuple(_cell_of(item, line, depth + 1) for item in value), line)
    if isinstance(value, bytes):
        # Some writers do not mark texts, which makes them bytes.
        try:
            return Cell(value.decode("utf-8"), line)
        except UnicodeDecodeError:
            return Cell(value, line)
    return Cell(value, line)


def _cell_of_map(entries: list[tuple[Any, Any]], line: int, depth: int) -> Cell:
    fields: dict[str, Any] = {}
    for name, item in entries:
        key = _cell_of(name, line).value
        if not isinstance(key, str):
            return Cell(
                _Unreadable(f"a map with the key {shown(name)}, which is not a string"), line
            )
        if key in fields:
            return Cell(_Unreadable(f"a map in which the key {shown(key)} is given twice"), line)
        fields[key] = item
    return _cell_of(fields, line, depth)
