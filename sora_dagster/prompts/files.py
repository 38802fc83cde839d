"""Rows of a dataset file, each value with its line; those of JSON Lines."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sora_dagster.runware.redaction import shown
from sora_dagster.user_files.problems import FileProblemsError, ProblemList, did_you_mean

COLUMNS = (
    "id",
    "prompt",
    "model",
    "size",
    "resolution",
    "duration",
    "fps",
    "seed",
    "negative_prompt",
    "audio",
    "number_results",
    "output_format",
    "output_quality",
    "first_frame",
    "last_frame",
    "reference_images",
    "settings",
    "safety",
    "take",
    "recipes",
    "tags",
)
REQUIRED_COLUMNS = ("id", "prompt")

# Other common names, too different for a suggestion by spelling.
_OTHER_NAMES = {
    "clip_id": "id",
    "name": "id",
    "text": "prompt",
    "width": "size",
    "height": "size",
    "seconds": "duration",
    "image": "first_frame",
    "sound": "audio",
    "generate_audio": "audio",
    "references": "reference_images",
    "provider_settings": "settings",
}

# pandas' name of an index that is not a column.
PANDAS_INDEX_PREFIX = "__index_level_"

# Of values in lists and mappings.
MAX_DEPTH = 8
MAX_VALUES = 10_000


class DatasetError(FileProblemsError):
    """A prompt dataset or a storyboard has problems, so none of its rows was used."""


class NoRowsYetError(DatasetError):
    """There are no rows to read yet, and nothing is wrong."""


@dataclass(frozen=True)
class Cell:
    """One value of a file.

    Arguments:
        value: None, a bool, a number, a text, a tuple of cells for a list, a dict of cells for a
            mapping, or a value of a type that no column allows.
        line: its line (in Parquet: row).
        text: its text in the file, if the format reads another value from it (``no`` in YAML).
    """

    value: object
    line: int
    text: str | None = None


@dataclass(frozen=True)
class Row:
    """The cells of one clip by column, and the line where the row starts."""

    line: int
    cells: Mapping[str, Cell]


@dataclass(frozen=True)
class RecipeEntry:
    """A recipe in a file: its name with its line, and its fields."""

    name: str
    line: int
    cells: Mapping[str, Cell]


@dataclass(frozen=True)
class DatasetTable:
    """The content of a dataset file.

    Arguments:
        rows: one for each clip.
        missing_columns: required columns that the file lacks, reported already.
        recipes: the recipes inside the file. None: the file has no place for them.
    """

    rows: Sequence[Row] = ()
    missing_columns: frozenset[str] = frozenset()
    recipes: Sequence[RecipeEntry] | None = None


def read_jsonl(text: str, problems: ProblemList) -> DatasetTable:
    """The rows of a JSON Lines text."""
    rows = []
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        pairs = _json_object(line, number, problems)
        if pairs is None:
            continue
        cells: dict[str, Cell] = {}
        for name, value in pairs:
            if name in cells:
                problems.add("the column is given twice", line=number, column=name, value=value)
            try:
                cells[name] = _json_cell(value, number)
            except ValueError as error:
                problems.add(str(error), line=number, column=name, value=None)
        rows.append(Row(number, cells))
    return DatasetTable(known_columns_only(rows, problems))


class _JsonPairs(list[tuple[str, Any]]):
    """A JSON object with repeated names kept."""


def _json_object(line: str, number: int, problems: ProblemList) -> _JsonPairs | None:
    try:
        parsed = json.loads(line, object_pairs_hook=_JsonPairs, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        problem = f"this is not JSON: {error.msg} at character {error.colno}"
    except RecursionError:
        problem = "it is nested too deeply"
    except ValueError as error:
        problem = f"this is not JSON: {error}"
    else:
        if isinstance(parsed, _JsonPairs):
            return parsed
        problem = f"{shown(line.strip())} is not a JSON object"
    problems.add(
        f"{problem}; each line holds one object, such as "
        '{"id": "dawn", "prompt": "Mist over a lake"}',
        line=number,
        value=line,
    )
    return None


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is not a JSON value")


def parse_json(text: str, line: int) -> Cell:
    """A JSON text inside of a cell.

    Raises:
        ValueError: if it is not JSON.
    """
    try:
        parsed = json.loads(text, object_pairs_hook=_JsonPairs, parse_constant=_refuse_constant)
    except json.JSONDecodeError as error:
        raise ValueError(f"this is not JSON: {error.msg} at character {error.colno}") from error
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    return _json_cell(parsed, line)


def _json_cell(value: Any, line: int, depth: int = 0) -> Cell:
    if depth > MAX_DEPTH:
        raise ValueError("it is nested too deeply")
    if isinstance(value, _JsonPairs):
        cells: dict[str, Cell] = {}
        for name, item in value:
            if name in cells:
                raise ValueError(f"{name!r} is given twice")
            cells[name] = _json_cell(item, line, depth + 1)
        return Cell(cells, line)
    if isinstance(value, list):
        return Cell(tuple(_json_cell(item, line, depth + 1) for item in value), line)
    return Cell(value, line)


def check_header(
    header: Sequence[str], problems: ProblemList, *, line: int | None
) -> frozenset[str]:
    """Report problems of the columns of a table, and return the required ones that are missing."""
    for name in filter(None, dict.fromkeys(header)):
        if header.count(name) > 1:
            problems.add("the column is given twice", line=line, column=name, value=name)
        if name not in COLUMNS:
            _report_unknown(name, problems, line=line, row_count=1)
    return missing_columns(header, problems, line=line)


def missing_columns(
    names: Collection[str], problems: ProblemList, *, line: int | None = None
) -> frozenset[str]:
    """Report the required columns that are missing, and return them.

    Arguments:
        names: the columns.
        problems: where problems are reported.
        line: line of the header. None: the rows have none.
    """
    missing = frozenset(REQUIRED_COLUMNS).difference(names)
    for name in sorted(missing):
        problems.add("the column is missing", line=line, column=name, value=None)
    return missing


def known_columns_only(
    rows: Sequence[Row], problems: ProblemList, *, columns: Sequence[str] = COLUMNS
) -> list[Row]:
    """The rows without unknown columns; each unknown column is reported once."""
    first_lines: dict[str, int] = {}
    counts: dict[str, int] = {}
    for row in rows:
        for name, cell in row.cells.items():
            if name not in columns:
                first_lines.setdefault(name, cell.line)
                counts[name] = counts.get(name, 0) + 1
    for name, line in first_lines.items():
        _report_unknown(name, problems, line=line, row_count=counts[name], columns=columns)
    return [
        Row(row.line, {name: cell for name, cell in row.cells.items() if name in columns})
        for row in rows
    ]


def _report_unknown(
    name: str,
    problems: ProblemList,
    *,
    line: int | None,
    row_count: int,
    columns: Sequence[str] = COLUMNS,
) -> None:
    other = _OTHER_NAMES.get(name.casefold())
    suggestion = f" (did you mean {other!r}?)" if other else did_you_mean(name, columns)
    rows = f"; {row_count} rows have it" if row_count > 1 else ""
    problems.add(
        f"there is no such column{suggestion}{rows}; allowed: {', '.join(columns)}",
        line=line,
        column=name,
        value=name,
    )
