"""Rows of a dataset that are Python values: of a query, a function or an asset."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any
from uuid import UUID

from sora_dagster.extras import require_extras
from sora_dagster.prompts.files import (
    MAX_DEPTH,
    MAX_VALUES,
    PANDAS_INDEX_PREFIX,
    Cell,
    DatasetTable,
    RecipeEntry,
    Row,
    known_columns_only,
    missing_columns,
)
from sora_dagster.runware.redaction import shown
from sora_dagster.user_files.problems import ProblemList

_ROWS = (
    "a list of mappings, a pandas or Polars data frame, or a PyArrow table, with the columns of a "
    "prompt dataset"
)
# Kinds of NumPy's dates and lengths of time, whose Python values may be mere numbers.
_TIME_KINDS = ("M", "m")


def records_of(table: Any) -> Iterator[Any]:
    """The rows of a table: an iterable of mappings, a data frame, or a PyArrow table.

    Raises:
        TypeError: if it is none of these.
        ValueError: if two columns have the same name.
    """
    if isinstance(table, (str, bytes, Mapping)) or table is None:
        raise TypeError(f"the rows are a {type(table).__name__}; expected: {_ROWS}")
    _check_columns(table)
    if hasattr(table, "to_pylist"):
        table = table.to_pylist()
    elif hasattr(table, "to_dicts"):
        table = table.to_dicts()
    elif hasattr(table, "to_dict") and hasattr(table, "columns"):
        table = table.to_dict("records")
    elif hasattr(table, "__arrow_c_stream__"):
        require_extras("A table of Arrow's stream interface", "parquet")
        import pyarrow

        try:
            return records_of(pyarrow.table(table))
        except pyarrow.ArrowInvalid:
            # Of one column, such as a series.
            raise TypeError(f"the rows are a {type(table).__name__}; expected: {_ROWS}") from None
    if not isinstance(table, Iterable):
        raise TypeError(f"the rows are a {type(table).__name__}; expected: {_ROWS}")
    return iter(table)


def _check_columns(table: Any) -> None:
    """Refuse a table in which a column is twice: one of the two would be lost."""
    names = getattr(table, "column_names", None)
    if names is None and hasattr(table, "to_dict"):
        names = getattr(table, "columns", None)
    if isinstance(names, Iterable):
        require_distinct(names)


def require_distinct(columns: Iterable[Any]) -> None:
    """Check that no column is given twice.

    Arguments:
        columns: names of the columns.

    Raises:
        ValueError: naming a column that is.
    """
    seen: set[str] = set()
    for name in map(str, columns):
        if name in seen:
            raise ValueError(f"the column {name!r} is given twice; rename or remove one of them")
        seen.add(name)


def read_records(records: Iterable[Any], problems: ProblemList) -> DatasetTable:
    """The rows of a dataset, numbered from 1.

    Arguments:
        records: a mapping of columns for each row.
        problems: where problems are reported.
    """
    rows = []
    for number, record in enumerate(records, start=1):
        if isinstance(record, Mapping):
            cells = {
                str(name): _cell(value, number)
                for name, value in record.items()
                if not str(name).startswith(PANDAS_INDEX_PREFIX)
            }
            if "id" in cells and cells["id"].value is not None:
                problems.name_row(number, shown(cells["id"].value))
            rows.append(Row(number, cells))
        else:
            problems.add(
                f"{shown(record)} is not a mapping of columns, such as "
                f"{{'id': 'dawn', 'prompt': 'Mist over a lake'}}",
                line=number,
                value=record,
            )
    header = {name for row in rows for name in row.cells}
    missing = missing_columns(header, problems) if rows else frozenset()
    return DatasetTable(known_columns_only(rows, problems), missing)


def recipe_entries(
    recipes: Mapping[str, str | Mapping[str, Any]], problems: ProblemList
) -> Sequence[RecipeEntry]:
    """The recipes of a mapping: a prompt, or a mapping of fields, by name.

    Arguments:
        recipes: the recipes, as in a YAML file.
        problems: where problems are reported.
    """
    entries = []
    for number, (key, recipe) in enumerate(recipes.items(), start=1):
        name = str(key)
        if isinstance(recipe, str):
            entries.append(RecipeEntry(name, number, {"prompt": Cell(recipe, number)}))
        elif isinstance(recipe, Mapping):
            cells = {str(field): _cell(value, number) for field, value in recipe.items()}
            entries.append(RecipeEntry(name, number, cells))
        else:
            problems.add(
                f"recipe {name!r}: a prompt is expected, or a mapping such as "
                f"{{'prompt': 'At night', 'model': 'aleph-2.0'}}",
                line=number,
                value=recipe,
            )
    return entries


class _TooLarge:
    """Stands for a value that no column allows. Messages show its description."""

    def __repr__(self) -> str:
        return f"(nested more than {MAX_DEPTH} levels, or more than {MAX_VALUES} values)"


def _cell(value: Any, line: int, depth: int = 0) -> Cell:
    value = _plain(value)
    if isinstance(value, (Mapping, list, tuple, set)) and (
        depth > MAX_DEPTH or len(value) > MAX_VALUES
    ):
        return Cell(_TooLarge(), line)
    if isinstance(value, Mapping):
        # Columns of structs have the same fields in all rows; those without a value are null.
        fields = {str(name): item for name, item in value.items() if _plain(item) is not None}
        return Cell({name: _cell(item, line, depth + 1) for name, item in fields.items()}, line)
    if isinstance(value, (list, tuple)):
        return Cell(tuple(_cell(item, line, depth + 1) for item in value), line)
    return Cell(value, line)


def plain_value(value: Any) -> Any:
    """A value of a checked row, in types that JSON has."""
    value = _plain(value)
    if isinstance(value, Mapping):
        return {str(name): plain_value(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain_value(item) for item in value]
    return value


def _plain(value: Any) -> Any:
    """A value as Python's own: data frames and databases have other types of numbers and nulls."""
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return None
    if isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, (bytes, bytearray, memoryview)):
        # Some tables do not mark texts, which makes them bytes.
        try:
            return bytes(value).decode("utf-8")
        except UnicodeDecodeError:
            return bytes(value)
    if isinstance(value, float):
        return None if math.isnan(value) else value
    if isinstance(value, Decimal):
        if not value.is_finite():
            return None if value.is_nan() else float(value)
        return int(value) if value == value.to_integral_value() else float(value)
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, list) and value and all(map(_is_entry, value)):
        # PyArrow's form of a map.
        return dict(value) if len(dict(value)) == len(value) else value
    if getattr(getattr(value, "dtype", None), "kind", "") in _TIME_KINDS:
        return None if str(value) == "NaT" else value
    if hasattr(value, "tolist"):
        # Scalars and arrays of NumPy.
        return _plain(value.tolist())
    return value


def _is_entry(item: Any) -> bool:
    return isinstance(item, tuple) and len(item) == 2 and isinstance(item[0], str)
