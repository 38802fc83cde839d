"""The spending logs of a root, added up by rules written down once more, apart from the program."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from sora_dagster.generation.protocol.layout import BUDGET_FOLDER
from sora_dagster.generation.protocol.spending_log import BudgetEntry
from sora_dagster.storage import StorageRoot


@dataclass
class BudgetLog:
    """One log.

    Arguments:
        folder: the folder of its entries.
        reserved_usd: what is reserved for each task and not released, by the entry's number.
        costs_usd: what each task is settled at.
        totals_usd: what all tasks together take, after each entry.
    """

    folder: str
    reserved_usd: dict[str, dict[int, float | None]] = field(default_factory=dict)
    costs_usd: dict[str, float] = field(default_factory=dict)
    totals_usd: list[float] = field(default_factory=list)

    @property
    def is_of_run(self) -> bool:
        """Whether it is a run's log, not a day's."""
        return self.folder.startswith(f"{BUDGET_FOLDER}/runs/")

    @property
    def total_usd(self) -> float:
        """What all tasks together take in the end."""
        return self.totals_usd[-1]

    def replay(self, entries: Iterable[BudgetEntry]) -> None:
        """Take all entries into account, in their order."""
        for number, entry in enumerate(entries, start=1):
            for task, estimate in entry.estimates_usd.items():
                self.reserved_usd.setdefault(task, {})[number] = estimate
            for task in entry.released:
                assert entry.releases is not None
                del self.reserved_usd[task][entry.releases]
                if not self.reserved_usd[task]:
                    del self.reserved_usd[task]
            # What a task cost stands, whoever sets money aside for it afterwards.
            self.costs_usd |= entry.costs_usd
            self.totals_usd.append(
                sum(
                    # Without a price, a task takes nothing before its cost is known.
                    self.costs_usd.get(task, max(usd or 0.0 for usd in estimates.values()))
                    for task, estimates in self.reserved_usd.items()
                )
            )


def read_logs(root: StorageRoot) -> list[BudgetLog]:
    """All spending logs of a root, read from their entries alone."""
    keys: dict[str, list[str]] = {}
    for info in root.list(BUDGET_FOLDER):
        keys.setdefault(info.key.rpartition("/")[0], []).append(info.key)
    logs = []
    for folder, those in keys.items():
        log = BudgetLog(folder)
        log.replay(BudgetEntry.model_validate_json(root.read(key)) for key in sorted(those))
        logs.append(log)
    return logs
