"""The rows of a dataset whose cells are separated by commas or tabs: CSV and TSV."""

from __future__ import annotations

import csv
import io
import re
from collections.abc import Sequence

from sora_dagster.prompts.files import COLUMNS, Cell, DatasetTable, Row, check_header
from sora_dagster.runware.redaction import shown
from sora_dagster.user_files.problems import ProblemList

# An image may be a data URI in a cell.
_LONGEST_CSV_CELL = 64_000_000

_SEPARATORS = {",": "','", ";": "';'", "\t": "a tab", "|": "'|'"}
# Excel reads the separator from such a line, before the header, and so do we.
_SEPARATOR_LINE = re.compile(r'"?sep=(?P<separator>.)"?[,;\t|]*(?:\r\n|\r|\n|\Z)', re.IGNORECASE)
# The name of a column without a name, after pandas has read and written it.
_UNNAMED = re.compile(r"|Unnamed: 0(\.\d+)?")
_ROW_NUMBER = re.compile(r"\s*\d+\s*")

_Records = list[tuple[int, list[str]]]


def _read(text: str, problems: ProblemList, *, separator: str) -> DatasetTable:
    # The limit is global to the process; it is only raised, so that threads agree.
    csv.field_size_limit(max(csv.field_size_limit(), _LONGEST_CSV_CELL))
    first_line = 1
    if (named := _SEPARATOR_LINE.match(text)) is not None:
        separator = named["separator"]
        if separator not in _SEPARATORS:
            allowed = ", ".join(_SEPARATORS.values())
            problems.add(
                f"{separator!r} cannot separate cells; allowed: {allowed}",
                line=1,
                value=separator,
            )
            return DatasetTable()
        text = text[named.end() :]
        first_line = 2
    records = _records(text, problems, separator=separator, first_line=first_line)
    if not records:
        return DatasetTable()
    (header_line, header), *records = records
    header = [name.strip() for name in header]
    if len(header) == 1 and (other := next((s for s in _SEPARATORS if s in header[0]), None)):
        or_else = "rename the file to .tsv" if other == "\t" else f"write sep={other} as line 1"
        problems.add(
            f"cells are separated by {_SEPARATORS[other]}; separate them by "
            f"{_SEPARATORS[separator]}, or {or_else}",
            line=header_line,
            value=header[0],
        )
        return DatasetTable()
    if _is_index(header, records):
        header = header[1:]
        records = [(line, record[1:]) for line, record in records]
    missing = check_header(header, problems, line=header_line)
    _report_unnamed(header, records, problems, line=header_line)
    rows = []
    for line, record in records:
        # Spreadsheets write empty cells outside the table: without a name, or after all names.
        beyond = [cell for cell in record[len(header) :] if cell.strip()]
        if beyond:
            problems.add(
                f"{shown(beyond[0])} is not in a column: the header has "
                f"{sum(map(bool, header))} names, the row has {len(record)} cells; put quotes "
                f"around a cell that contains {_SEPARATORS[separator]}",
                line=line,
                value=beyond[0],
            )
        cells = {
            name: Cell(value, line)
            for name, value in zip(header, record, strict=False)
            if name in COLUMNS
        }
        rows.append(Row(line, cells))
    return DatasetTable(rows, missing)


def read_csv(text: str, problems: ProblemList) -> DatasetTable:
    """The rows of a CSV text: a header line, then cells separated by commas.

    Another separator can be named in a first line such as ``sep=;``, as Excel writes it. The index
    that pandas writes as a first column without a name is not a column.
    """
    return _read(text, problems, separator=",")


def read_tsv(text: str, problems: ProblemList) -> DatasetTable:
    """The rows of a text like CSV (see `read_csv`), but with cells separated by tabs."""
    return _read(text, problems, separator="\t")


def _records(text: str, problems: ProblemList, *, separator: str, first_line: int) -> _Records:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True, delimiter=separator)
    records: _Records = []
    while True:
        line = reader.line_num + first_line
        try:
            record = next(reader)
        except StopIteration:
            return records
        except csv.Error as error:
            problems.add(
                f"the quotes of this row do not match ({error}); write a quote inside quotes twice",
                line=line,
                value=None,
            )
            continue
        if any(cell.strip() for cell in record):
            records.append((line, record))


def _is_index(header: Sequence[str], records: _Records) -> bool:
    """Whether the first column is only the number of each row, as pandas and R write it."""
    return (
        bool(records)
        and bool(_UNNAMED.fullmatch(header[0]))
        and all(_ROW_NUMBER.fullmatch(record[0]) for _, record in records)
    )


def _report_unnamed(
    header: Sequence[str], records: _Records, problems: ProblemList, *, line: int
) -> None:
    """Report each column that has values but no name."""
    for index, name in enumerate(header):
        if name:
            continue
        values = (record[index] for _, record in records if len(record) > index)
        value = next((value for value in values if value.strip()), None)
        if value is not None:
            problems.add(
                f"column {index + 1} has no name, and its first value is {shown(value)}; name it, "
                f"or remove it (an index of pandas: write the file with index=False)",
                line=line,
                value=value,
            )
