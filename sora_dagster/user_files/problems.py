"""The problems of a file and where they are, all in one error."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Literal

MAX_LISTED_PROBLEMS = 50


@dataclass(frozen=True)
class FileProblem:
    """One problem of a file.

    Arguments:
        line: its line, counted from 1 (in Parquet: row). None: the file as a whole.
        column: its column. None: the whole line.
        value: the wrong value.
        message: what is wrong, what is allowed, what to do.
        file: name of the file. Default: none.
        counts: whether `line` counts lines or rows. Default: lines.
        names: whether `column` names a column or a field. Default: a column.
        row_id: id of the row, if its number alone does not identify it. Default: none.
    """

    line: int | None
    column: str | None
    value: object
    message: str
    file: str = ""
    counts: Literal["lines", "rows"] = "lines"
    names: Literal["column", "field"] = "column"
    row_id: str = ""

    def __str__(self) -> str:
        where = self.file
        if self.line is not None:
            where += f":{self.line}" if self.counts == "lines" else f": row {self.line}"
        if self.row_id:
            where += f" (id {self.row_id})"
        if self.column is not None:
            where += f": {self.names} {self.column!r}"
        return f"{where}: {self.message}"


class FileProblemsError(ValueError):
    """A file has problems, so nothing of it was used.

    Arguments:
        path: the file, or a name for other places of rows. None: nothing is set.
        problems: all its problems, and those of the files that belong to it.
    """

    def __init__(self, path: Path | str | None, problems: Sequence[FileProblem]) -> None:
        self.path = path
        self.problems = tuple(problems)
        super().__init__(path, self.problems)

    def __str__(self) -> str:
        if self.path is None:
            return "\n".join(problem.message for problem in self.problems)
        count = len(self.problems)
        listed = [f"\n  {problem}" for problem in self.problems[:MAX_LISTED_PROBLEMS]]
        if count > MAX_LISTED_PROBLEMS:
            listed.append(f"\n  and {count - MAX_LISTED_PROBLEMS} more")
        return (
            f"{self.path} has {count} {'problem' if count == 1 else 'problems'}:{''.join(listed)}"
        )


class ProblemList:
    """Collects the problems of one file.

    Arguments:
        file: name of the file.
        counts: whether its places are lines or rows. Default: lines.
        names: whether its parts are columns or fields. Default: columns.
    """

    def __init__(
        self,
        file: str,
        counts: Literal["lines", "rows"] = "lines",
        *,
        names: Literal["column", "field"] = "column",
    ) -> None:
        self._file = file
        self._names = names
        self._counts = counts
        self._problems: list[FileProblem] = []
        self._row_ids: dict[int, str] = {}

    def name_row(self, line: int, row_id: str) -> None:
        """Add the id of a row to its problems.

        Arguments:
            line: number of the row.
            row_id: its id, as messages show it.
        """
        self._row_ids[line] = row_id

    def add(
        self, message: str, *, line: int | None = None, column: str | None = None, value: object
    ) -> None:
        """Add a problem."""
        self._problems.append(
            FileProblem(
                line,
                column,
                value,
                message,
                self._file,
                self._counts,
                self._names,
                self._row_ids.get(line or 0, ""),
            )
        )

    def place(self, line: int) -> str:
        """A place in the file, for messages: ``line 3`` or ``row 3``."""
        return f"{self._counts.removesuffix('s')} {line}"

    def __len__(self) -> int:
        return len(self._problems)

    def __iter__(self) -> Iterator[FileProblem]:
        """The problems by line; those of the whole file come first."""
        return iter(sorted(self._problems, key=lambda problem: problem.line or 0))


def did_you_mean(name: str, known: Sequence[str]) -> str:
    """`` (did you mean 'night'?)`` if a known name is similar, otherwise nothing."""
    plain = {known_name.casefold(): known_name for known_name in known}
    similar = get_close_matches(name.casefold().replace("-", "_"), plain, n=1)
    return f" (did you mean {plain[similar[0]]!r}?)" if similar else ""
