"""The rows of a CSV dataset."""

from __future__ import annotations

import csv
import io

from sora_dagster.input_files.problems import ProblemList
from sora_dagster.prompts.files import COLUMNS, Cell, DatasetTable, Row, check_header
from sora_dagster.runware.redaction import shown

# An image may be a data URI in a cell.
_LONGEST_CSV_CELL = 64_000_000


def read_csv(text: str, problems: ProblemList) -> DatasetTable:
    """The rows of a CSV text: a header line, then cells separated by commas."""
    # The limit is global to the process; it is only raised, so that threads agree.
    csv.field_size_limit(max(csv.field_size_limit(), _LONGEST_CSV_CELL))
    records = _csv_records(text, problems)
    if not records:
        return DatasetTable()
    (header_line, header), *records = records
    header = [name.strip() for name in header]
    if len(header) == 1 and (separator := next((s for s in ";\t|" if s in header[0]), None)):
        problems.add(
            f"cells are separated by {separator!r}; separate them by ','",
            line=header_line,
            value=header[0],
        )
        return DatasetTable()
    missing = check_header(header, problems, line=header_line)
    rows = []
    for line, record in records:
        # Spreadsheets write empty cells outside the table: without a name, or after all names.
        beyond = [
            cell
            for index, cell in enumerate(record)
            if cell.strip() and (index >= len(header) or not header[index])
        ]
        if beyond:
            problems.add(
                f"{shown(beyond[0])} is not in a column: the header has "
                f"{sum(map(bool, header))} names, the row has {len(record)} cells; put quotes "
                f"around a cell that contains a comma",
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


def _csv_records(text: str, problems: ProblemList) -> list[tuple[int, list[str]]]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    records: list[tuple[int, list[str]]] = []
    while True:
        line = reader.line_num + 1
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
