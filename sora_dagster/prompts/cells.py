"""The cells of one row as the types of its columns; values of another type are reported."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Literal

from pydantic import JsonValue

from sora_dagster.prompts.files import Cell, Row, parse_json
from sora_dagster.runware.redaction import shown
from sora_dagster.user_files.problems import ProblemList

NUMBER_PATTERN = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")
_ITEM_PATTERN = re.compile(r"[^;]+")
# All but tabs and line ends.
_CONTROL_CHARACTER = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
# The header of a data URI has semicolons.
IMAGE_PATTERN = re.compile(r"\s*(?:data:[^,]*,)?[^;]+", re.IGNORECASE)


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
        self._refused: set[str | None] = set()

    def refuse_control_characters(self) -> None:
        """Report each column with a control character. Its other problems are not reported."""
        for column, cell in self._row.cells.items():
            for text in _texts_in(cell):
                if (found := _CONTROL_CHARACTER.search(text)) is not None:
                    self.report(
                        column,
                        f"character {found.start() + 1} of {shown(text)} is the control character "
                        f"U+{ord(found[0]):04X}; remove it (allowed: tabs and line ends)",
                    )
                    self._refused.add(column)
                    break

    @property
    def line(self) -> int:
        """The line where the row starts."""
        return self._row.line

    def report(self, column: str | None, message: str, *, cell: Cell | None = None) -> None:
        """Report a problem of a column, at its cell or, if it has none, at the row."""
        if column in self._refused:
            return
        cell = cell or self._row.cells.get(column or "")
        self._wrong.add(column)
        self._problems.add(
            message,
            line=self.line if cell is None else cell.line,
            column=column,
            value=None if cell is None else raw_value(cell),
        )

    def is_absent(self, column: str) -> bool:
        """Whether the row has no value in a column."""
        cell = self._row.cells.get(column)
        return cell is None or _is_blank(cell)

    @property
    def has_problems(self) -> bool:
        """Whether any problem of the row was reported."""
        return bool(self._wrong)

    def is_reported(self, column: str | None) -> bool:
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

    def texts(
        self, column: str, *, item_pattern: re.Pattern[str] = _ITEM_PATTERN
    ) -> tuple[tuple[str, Cell], ...]:
        """The texts of a list, or of one text separated by ``;``, each with its cell.

        Arguments:
            column: its column.
            item_pattern: what one of the texts in a text is. Default: all up to the next ``;``.
        """
        if self.is_absent(column):
            return ()
        cell = self._row.cells[column]
        if not isinstance(cell.value, tuple):
            joined = self._text_of(
                cell, column, "a list of strings, or strings separated by ';'", True
            )
            items = map(str.strip, item_pattern.findall(joined or ""))
            return tuple((item, cell) for item in items if item)
        texts = []
        for item in cell.value:
            if not _is_blank(item):
                text = self._text_of(item, column, "a list of strings", True)
                if text is not None:
                    texts.append((text, item))
        return tuple(texts)

    def number(self, column: str, *, allowed: str) -> float | None:
        """A finite number; `allowed` says what the column allows, for the message."""
        if self.is_absent(column):
            return None
        cell = self._row.cells[column]
        number = parse_number(cell)
        if math.isfinite(number):
            return number
        self.report(column, f"{shown(raw_value(cell))} is not a number; allowed: {allowed}")
        return None

    def seconds(self, column: str, *, allowed: str) -> float | Literal["auto"] | None:
        """A number of seconds, or ``auto``."""
        cell = self._row.cells.get(column)
        text = cell.value if cell is not None and isinstance(cell.value, str) else ""
        if text.strip().casefold() == "auto":
            return "auto"
        return self.number(column, allowed=allowed)

    def boolean(self, column: str) -> bool | None:
        """True or false; also as a text, as CSV has it."""
        if self.is_absent(column):
            return None
        cell = self._row.cells[column]
        value = parse_boolean(cell)
        if value is None:
            self.report(column, f"{shown(raw_value(cell))} is not a boolean; allowed: true, false")
        return value

    def mapping(self, column: str) -> Mapping[str, Cell]:
        """A mapping by name: as such, as JSON, or as ``name=value; name=value``."""
        if self.is_absent(column):
            return {}
        cell = self._row.cells[column]
        value, problem = cell.value, ""
        if isinstance(value, str) and value.strip().startswith("{"):
            try:
                value = parse_json(value.strip(), cell.line).value
            except ValueError as error:
                problem = f": {error}"
        elif isinstance(value, str):
            pairs = [item.partition("=") for item in value.split(";") if item.strip()]
            names = [name.strip() for name, _, _ in pairs]
            if all(names) and all(equals for _, equals, _ in pairs):
                if len(set(names)) == len(names):
                    return {
                        name: Cell(text.strip(), cell.line)
                        for name, (_, _, text) in zip(names, pairs, strict=True)
                    }
                problem = ": a name is given twice"
        if isinstance(value, dict):
            return value
        self.report(
            column,
            f"{shown(raw_value(cell))} is not a mapping{problem}; allowed: names with values, "
            f'such as {{"name": value}} or name=value; name=value',
        )
        return {}

    def whole_number(self, column: str, *, allowed: str) -> int | None:
        """A whole number; `allowed` says what the column allows, for the message."""
        number = self.number(column, allowed=allowed)
        if number is None or number.is_integer():
            return None if number is None else int(number)
        self.report(column, f"{number:g} is not a whole number; allowed: {allowed}")
        return None

    def word(self, column: str, words: Sequence[str], *, allowed: str | None = None) -> str | None:
        """A text; if it is one of some words but for its case, that word.

        Arguments:
            column: its column.
            words: the words.
            allowed: what the column allows, for the message. Default: the words.
        """
        text = self.text(column, allowed=", ".join(words) if allowed is None else allowed)
        return {word.casefold(): word for word in words}.get((text or "").casefold(), text)

    def _text_of(self, cell: Cell, column: str, allowed: str, whole_numbers: bool) -> str | None:
        value = cell.value if cell.text is None else cell.text
        if whole_numbers and isinstance(value, int) and not isinstance(value, bool):
            value = str(value)
        if not isinstance(value, str):
            message = f"{shown(raw_value(cell))} is not a string; allowed: {allowed}"
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


def _texts_in(cell: Cell) -> Iterator[str]:
    if isinstance(cell.value, str):
        yield cell.value
    elif isinstance(cell.value, tuple):
        for item in cell.value:
            yield from _texts_in(item)
    elif isinstance(cell.value, Mapping):
        for name, item in cell.value.items():
            yield name
            yield from _texts_in(item)


def _is_blank(cell: Cell) -> bool:
    if isinstance(cell.value, str):
        return not cell.value.strip()
    if isinstance(cell.value, tuple):
        return all(map(_is_blank, cell.value))
    return cell.value is None or cell.value == {}


def parse_boolean(cell: Cell) -> bool | None:
    """A boolean, or a text that means one. None: the value is neither."""
    if isinstance(cell.value, bool):
        return cell.value
    text = cell.value.strip().casefold() if isinstance(cell.value, str) else ""
    return {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}.get(
        text
    )


def parse_number(cell: Cell) -> float:
    """A number, or a text that is one. NaN: the value is neither."""
    value = cell.value
    if isinstance(value, str) and NUMBER_PATTERN.fullmatch(value.strip()):
        return float(value)
    if isinstance(value, (int, float, Decimal)) and not isinstance(value, bool):
        try:
            return float(value)
        except OverflowError:
            return math.inf
    return math.nan


def json_value(cell: Cell) -> JsonValue:
    """The value of a cell as JSON; one that JSON does not have, such as a date, stays as it is."""
    if isinstance(cell.value, tuple):
        return [json_value(item) for item in cell.value]
    if isinstance(cell.value, Mapping):
        return {name: json_value(item) for name, item in cell.value.items()}
    return cell.value  # type: ignore[return-value]


def raw_value(cell: Cell) -> object:
    """The value of a cell as it is in the file, with those in it."""
    if isinstance(cell.value, tuple):
        return [raw_value(item) for item in cell.value]
    if isinstance(cell.value, dict):
        return {name: raw_value(item) for name, item in cell.value.items()}
    return cell.value if cell.text is None else cell.text
