"""The cells of one row as the types of its columns; values of another type are reported."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping, Sequence
from decimal import Decimal

from pydantic import JsonValue

from sora_dagster.input_files.problems import ProblemList
from sora_dagster.prompts.files import Cell, Row
from sora_dagster.runware.redaction import shown

_NUMBER_PATTERN = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")


class RowCells:
    """Typed access to a row. In every format, a blank value counts as absent.

    Arguments:
        row: the row as read from the file.
        problems: where values of a wrong type are reported.
    """

    def __init__(self, row: Row, problems: ProblemList) -> None:
        self._row = row
        self._problems = problems
        self._wrong: set[str | None] = set()

    @property
    def line(self) -> int:
        """The line where the row starts."""
        return self._row.line

    def report(self, column: str | None, message: str, *, cell: Cell | None = None) -> None:
        """Report a problem of a column, at its cell or, if it has none, at the row."""
        cell = cell or self._row.cells.get(column or "")
        self._wrong.add(column)
        self._problems.add(
            message,
            line=self.line if cell is None else cell.line,
            column=column,
            value=None if cell is None else _raw_value(cell),
        )

    def is_absent(self, column: str) -> bool:
        """Whether the row has no value in a column."""
        cell = self._row.cells.get(column)
        return cell is None or _is_blank(cell)

    def is_reported(self, column: str) -> bool:
        """Whether a problem of a column was reported."""
        return column in self._wrong

    def text(
        self, column: str, *, allowed: str = "text", whole_numbers: bool = False
    ) -> str | None:
        """A text, stripped.

        Arguments:
            column: its column.
            allowed: what the column allows, for the message.
            whole_numbers: whether a whole number counts as text. Default: false.
        """
        if self.is_absent(column):
            return None
        return self._text_of(self._row.cells[column], column, allowed, whole_numbers)

    def texts(self, column: str) -> tuple[tuple[str, Cell], ...]:
        """The texts of a list, or of one text separated by ``;``, each with its cell."""
        if self.is_absent(column):
            return ()
        cell = self._row.cells[column]
        if not isinstance(cell.value, tuple):
            joined = self._text_of(cell, column, "a list of texts, or texts separated by ';'", True)
            items = [] if joined is None else [item.strip() for item in joined.split(";")]
            return tuple((item, cell) for item in items if item)
        texts = []
        for item in cell.value:
            if not _is_blank(item):
                text = self._text_of(item, column, "a list of texts", True)
                if text is not None:
                    texts.append((text, item))
        return tuple(texts)

    def mapping(self, column: str) -> Mapping[str, JsonValue] | None:
        """A mapping of names to JSON values."""
        if self.is_absent(column):
            return None
        value = self._row.cells[column].value
        try:
            is_json = isinstance(value, dict) and all(isinstance(name, str) for name in value)
            json.dumps(value, allow_nan=False)
        except (TypeError, ValueError):
            is_json = False
        if is_json:
            return value  # type: ignore[return-value]
        self.report(column, f"{shown(value)} is not a mapping of names to JSON values")
        return None

    def number(self, column: str, *, allowed: str) -> float | None:
        """A finite number; `allowed` says what the column allows, for the message."""
        if self.is_absent(column):
            return None
        cell = self._row.cells[column]
        value = cell.value
        number = math.nan
        if isinstance(value, str) and _NUMBER_PATTERN.fullmatch(value.strip()):
            number = float(value)
        elif isinstance(value, (int, float, Decimal)) and not isinstance(value, bool):
            try:
                number = float(value)
            except OverflowError:
                number = math.inf
        if math.isfinite(number):
            return number
        self.report(column, f"{shown(_raw_value(cell))} is not a number; allowed: {allowed}")
        return None

    def whole_number(self, column: str, *, allowed: str) -> int | None:
        """A whole number; `allowed` says what the column allows, for the message."""
        number = self.number(column, allowed=allowed)
        if number is None or number.is_integer():
            return None if number is None else int(number)
        self.report(column, f"{number:g} is not a whole number; allowed: {allowed}")
        return None

    def word(self, column: str, words: Sequence[str]) -> str | None:
        """A text; if it is one of some words but for its case, that word."""
        text = self.text(column, allowed=", ".join(words))
        return {word.casefold(): word for word in words}.get((text or "").casefold(), text)

    def _text_of(self, cell: Cell, column: str, allowed: str, whole_numbers: bool) -> str | None:
        value = cell.value if cell.text is None else cell.text
        if whole_numbers and isinstance(value, int) and not isinstance(value, bool):
            value = str(value)
        if not isinstance(value, str):
            message = f"{shown(_raw_value(cell))} is not a text; allowed: {allowed}"
            self.report(column, message, cell=cell)
            return None
        try:
            value.encode("utf-8")
        except UnicodeEncodeError as error:
            self.report(
                column,
                f"character {error.start + 1} is half of a surrogate pair "
                f"({value[error.start]!a}); write the whole character",
                cell=cell,
            )
            return None
        return value.strip()


def _is_blank(cell: Cell) -> bool:
    return cell.value is None or (isinstance(cell.value, str) and not cell.value.strip())


def _raw_value(cell: Cell) -> object:
    if isinstance(cell.value, tuple):
        return [_raw_value(item) for item in cell.value]
    return cell.value if cell.text is None else cell.text
