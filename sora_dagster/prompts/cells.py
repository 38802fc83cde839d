"""The cells of one row as the types that its columns have; what does not fit is noted."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from decimal import Decimal

from sora_dagster.prompts.files import Cell, Row
from sora_dagster.prompts.problems import ProblemList
from sora_dagster.runware.redaction import shown

_NUMBER_PATTERN = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")


class RowCells:
    """Typed access to a row; a blank value is an absent one in every format.

    Arguments:
        row: the row as the file has it.
        problems: where values that do not fit are noted.
    """

    def __init__(self, row: Row, problems: ProblemList) -> None:
        self._row = row
        self._problems = problems

    @property
    def line(self) -> int:
        """Where the row starts."""
        return self._row.line

    def complain(self, column: str | None, message: str, *, cell: Cell | None = None) -> None:
        """Note a problem of a column: at its cell, or where it has none, at the row."""
        cell = cell or self._row.cells.get(column or "")
        self._problems.add(
            message,
            line=self.line if cell is None else cell.line,
            column=column,
            value=None if cell is None else _value_of(cell),
        )

    def is_absent(self, column: str) -> bool:
        """Whether the row says nothing in a column."""
        cell = self._row.cells.get(column)
        return cell is None or _is_blank(cell)

    def text(
        self, column: str, *, allowed: str = "a text", whole_numbers: bool = False
    ) -> str | None:
        """A text without blanks around it.

        Arguments:
            column: its column.
            allowed: what the column takes, for the message.
            whole_numbers: whether a whole number counts as the text it is written as.
        """
        if self.is_absent(column):
            return None
        return self._text_of(self._row.cells[column], column, allowed, whole_numbers)

    def texts(self, column: str) -> tuple[tuple[str, Cell], ...]:
        """The texts of a list, or of one text with ``;`` between them, each with its cell."""
        if self.is_absent(column):
            return ()
        cell = self._row.cells[column]
        if not isinstance(cell.value, tuple):
            joined = self._text_of(cell, column, "a list of texts, or texts with ';' between", True)
            items = [] if joined is None else [item.strip() for item in joined.split(";")]
            return tuple((item, cell) for item in items if item)
        texts = []
        for item in cell.value:
            if not _is_blank(item):
                text = self._text_of(item, column, "a list of texts", True)
                if text is not None:
                    texts.append((text, item))
        return tuple(texts)

    def number(self, column: str, *, allowed: str) -> float | None:
        """A finite number.

        Arguments:
            column: its column.
            allowed: what the column takes, for the message.
        """
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
        self.complain(column, f"{shown(_value_of(cell))} is not a number; allowed: {allowed}")
        return None

    def whole_number(
        self, column: str, *, least: int, most: int | None = None, suffix: str = ""
    ) -> int | None:
        """A whole number within limits.

        Arguments:
            column: its column.
            least: the least that is allowed.
            most: the most that is allowed; None for no limit.
            suffix: more about what is allowed, for the message.
        """
        allowed = f"a whole number {least} to {most}" if most else f"a whole number from {least} on"
        allowed += suffix
        number = self.number(column, allowed=allowed)
        if number is None:
            return None
        if not number.is_integer() or number < least or (most is not None and number > most):
            self.complain(column, f"{self.shown(column)} is out of range; allowed: {allowed}")
            return None
        return int(number)

    def choice(self, column: str, choices: Sequence[str], *, suffix: str = "") -> str | None:
        """One of some words, in upper or lower case.

        Arguments:
            column: its column.
            choices: the words.
            suffix: more about what is allowed, for the message.
        """
        allowed = ", ".join(choices) + suffix
        text = self.text(column, allowed=allowed)
        if text is None:
            return None
        for choice in choices:
            if choice.casefold() == text.casefold():
                return choice
        self.complain(column, f"{self.shown(column)} is not one of these; allowed: {allowed}")
        return None

    def shown(self, column: str) -> str:
        """The value of a column as it is shown to people."""
        return shown(_value_of(self._row.cells[column]))

    def _text_of(self, cell: Cell, column: str, allowed: str, whole_numbers: bool) -> str | None:
        value = cell.value if cell.text is None else cell.text
        if whole_numbers and isinstance(value, int) and not isinstance(value, bool):
            value = str(value)
        if not isinstance(value, str):
            self.complain(
                column, f"{shown(_value_of(cell))} is not a text; allowed: {allowed}", cell=cell
            )
            return None
        try:
            value.encode("utf-8")
        except UnicodeEncodeError as error:
            self.complain(
                column,
                f"character {error.start + 1} is half of a surrogate pair (\\u"
                f"{ord(value[error.start]):04x}); write the whole character",
                cell=cell,
            )
            return None
        return value.strip()


def _is_blank(cell: Cell) -> bool:
    return cell.value is None or (isinstance(cell.value, str) and not cell.value.strip())


def _value_of(cell: Cell) -> object:
    """The value as people wrote it."""
    if isinstance(cell.value, tuple):
        return [_value_of(item) for item in cell.value]
    return cell.value if cell.text is None else cell.text
