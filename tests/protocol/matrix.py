"""The fault matrix as a table, for the end of the tests' output."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

import pytest

INVARIANTS = {
    1: "each attempt charged at most once, none made while an earlier one may still succeed",
    2: "every charged and finished video stored whole with its cost, every failure with its reason",
    3: "nothing left in pending, inbox, incoming, stuck and notes, no slot without an outcome, the "
    "index of what is stored is right, the sums of costs agree",
    4: "no spending limit passed",
    5: "no stored object holds a key or a signature, ours or a store's",
}
NO_VIOLATIONS: Mapping[int, Collection[str]] = {number: [] for number in INVARIANTS}


@dataclass
class Matrix:
    """What was found for each fault or crash point.

    Arguments:
        rows: the violations of each invariant, and what the row needs, by the row's name.
        sequences: how many random sequences ran.
        broken_sequences: how many of them broke an invariant.
        sequences_need: what they assume of Runware, or of our settings.
    """

    rows: dict[str, tuple[Mapping[int, Collection[str]], str]] = field(default_factory=dict)
    sequences: int = 0
    broken_sequences: int = 0
    sequences_need: str = ""

    def record(
        self, fault: str, violations: Mapping[int, Collection[str]], *, needs: str = ""
    ) -> None:
        """Add a row.

        Arguments:
            fault: the fault or crash point.
            violations: what was found against each invariant, by its number.
            needs: what the row assumes of Runware, or of our settings.
        """
        self.rows[fault] = (violations, needs)

    def lines(self) -> list[str]:
        """The table, and how many random sequences ran; empty where nothing ran."""
        lines: list[str] = []
        if self.rows:
            width = max(map(len, self.rows))
            marks = "  ".join(str(number).center(6) for number in INVARIANTS)
            lines += [f"{number}: {text}" for number, text in INVARIANTS.items()]
            lines += ["", f"{'fault or crash point'.ljust(width)}  {marks}  needs"]
            for fault, (violations, needs) in self.rows.items():
                cells = "  ".join(
                    ("BROKEN" if violations.get(number) else "ok").center(6)
                    for number in INVARIANTS
                )
                lines.append(f"{fault.ljust(width)}  {cells}  {needs}".rstrip())
        if self.sequences:
            lines += [
                "",
                f"{self.sequences} random sequences of faults and crashes, "
                f"{self.broken_sequences} of them broke an invariant",
                f"(they need: {self.sequences_need})",
            ]
        return lines


MATRIX = pytest.StashKey[Matrix]()
