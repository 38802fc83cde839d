"""What is wrong with a prompt dataset, and where: all of it in one error."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Literal

MOST_PROBLEMS_LISTED = 50


@dataclass(frozen=True)
class DatasetProblem:
    """One thing that is wrong in a dataset file or its recipes file.

    Arguments:
        line: where, counted from 1: a physical line, or a row of a Parquet file; None for the
            file as a whole.
        column: the column it is in; None for the whole line.
        value: the value that is wrong.
        message: what is wrong, what is allowed, what to do.
        file: the file's name.
        counts: whether `line` counts lines or rows.
    """

    line: int | None
    column: str | None
    value: object
    message: str
    file: str = ""
    counts: Literal["lines", "rows"] = "lines"

    def __str__(self) -> str:
        where = self.file
        if self.line is not None:
            where += f":{self.line}" if self.counts == "lines" else f": row {self.line}"
        if self.column is not None:
            where += f": column {self.column!r}"
        return f"{where}: {self.message}"


class DatasetError(ValueError):
    """A prompt dataset cannot be used, and none of its rows was.

    Arguments:
        path: the dataset file; None if none is set.
        problems: everything that is wrong with it and with its recipes file.
    """

    def __init__(self, path: Path | None, problems: Sequence[DatasetProblem]) -> None:
        self.path = path
        self.problems = tuple(problems)
        super().__init__(path, self.problems)

    def __str__(self) -> str:
        if self.path is None:
            return "\n".join(problem.message for problem in self.problems)
        count = len(self.problems)
        listed = [f"\n  {problem}" for problem in self.problems[:MOST_PROBLEMS_LISTED]]
        if count > MOST_PROBLEMS_LISTED:
            listed.append(f"\n  and {count - MOST_PROBLEMS_LISTED} more")
        return (
            f"{self.path} has {count} {'problem' if count == 1 else 'problems'}:{''.join(listed)}"
        )


class ProblemList:
    """The problems of one file, as they are found.

    Arguments:
        file: the file's name.
        counts: whether its places are lines or rows.
    """

    def __init__(self, file: str, counts: Literal["lines", "rows"] = "lines") -> None:
        self._file = file
        self._counts = counts
        self._problems: list[DatasetProblem] = []

    def add(
        self, message: str, *, line: int | None = None, column: str | None = None, value: object
    ) -> None:
        """Note a problem."""
        self._problems.append(
            DatasetProblem(line, column, value, message, file=self._file, counts=self._counts)
        )

    def place(self, line: int) -> str:
        """A place in the file, for messages: ``line 3`` or ``row 3``."""
        return f"{self._counts.removesuffix('s')} {line}"

    def __len__(self) -> int:
        return len(self._problems)

    def __iter__(self) -> Iterator[DatasetProblem]:
        """The problems in the order of their lines; those of the whole file come first."""
        return iter(sorted(self._problems, key=lambda problem: problem.line or 0))


def did_you_mean(name: str, known: Sequence[str]) -> str:
    """`` (did you mean 'night'?)`` where a known name is near, otherwise nothing."""
    plain = {known_name.casefold(): known_name for known_name in known}
    near = get_close_matches(name.casefold().replace("-", "_"), plain, n=1)
    return f" (did you mean {plain[near[0]]!r}?)" if near else ""
