"""The spending log of a day: entries that are only appended, and read once by each process.

A day may have tens of thousands of entries. What the first of them say together is written down
now and then, so that a process that has read none of them need not read each.
"""

from __future__ import annotations

import logging
from datetime import date

from pydantic import ConfigDict, Field

from sora_dagster.generation import layout
from sora_dagster.generation.ledger import Ledger
from sora_dagster.generation.record_format import UnreadableRecordError, parse_record
from sora_dagster.generation.records import Record
from sora_dagster.generation.walking import in_parallel
from sora_dagster.storage import StorageError

_log = logging.getLogger(__name__)

# How many new entries are worth a summary: at least so many, and a share of all, since a summary
# grows with the day.
_LEAST_NEW_ENTRIES = 100
_SHARE_OF_NEW_ENTRIES = 0.02


class BudgetEntry(Record):
    """An entry of the log: money set aside for tasks, or what tasks cost in the end.

    Arguments:
        root_run: the run that asked; a run's limit counts its entries.
        estimates_usd: expected cost of tasks that are about to be sent, by task UUID.
        costs_usd: final cost of tasks, by task UUID; it replaces what was set aside.
    """

    root_run: str
    estimates_usd: dict[str, float] = Field(default_factory=dict)
    costs_usd: dict[str, float] = Field(default_factory=dict)
    nonce: str


class DaySpending(Record):
    """What the entries of a day say together, from the first one on.

    Arguments:
        entries: how many entries it is made of.
        estimates_usd: expected cost of each task that was reserved on the day.
        costs_usd: final cost of each task that was settled on the day.
        tasks_by_run: the tasks that each run reserved.
    """

    model_config = ConfigDict(frozen=False)

    entries: int = 0
    estimates_usd: dict[str, float] = Field(default_factory=dict)
    costs_usd: dict[str, float] = Field(default_factory=dict)
    tasks_by_run: dict[str, dict[str, None]] = Field(default_factory=dict)

    def add(self, entry: BudgetEntry) -> None:
        """Take the next entry into account."""
        self.estimates_usd.update(entry.estimates_usd)
        self.costs_usd.update(entry.costs_usd)
        if entry.estimates_usd:
            tasks = self.tasks_by_run.setdefault(entry.root_run, {})
            tasks.update(dict.fromkeys(entry.estimates_usd))
        self.entries += 1


class SpendingLog:
    """Reads and appends to the log of each day; for one thread at a time.

    Arguments:
        ledger: the ledger in whose root the log is kept.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._days: dict[date, DaySpending] = {}
        self._summarized: dict[date, int] = {}

    def read(self, day: date) -> DaySpending:
        """What the entries of a day say; costs one listing of what is new, and its entries.

        Raises:
            StorageError: where entries are missing.
        """
        root = self._ledger.root
        if day not in self._days:
            self._days[day] = self._summary(day)
        spending = self._days[day]
        folder = f"{layout.BUDGET_FOLDER}/{day.isoformat()}"
        last = layout.budget_key(day, spending.entries) if spending.entries else None
        keys = sorted(info.key for info in root.list(folder, after=last))
        for number, key in enumerate(keys, start=spending.entries + 1):
            if key != layout.budget_key(day, number):
                raise StorageError(
                    f"the spending log {root.uri(folder)} has a gap before {key}; entries were "
                    f"deleted, so spending limits cannot be kept. Restore them."
                )
        for entry in in_parallel(keys, self._entry) if len(keys) > 1 else map(self._entry, keys):
            spending.add(entry)
        new_entries = spending.entries - self._summarized.get(day, 0)
        if new_entries >= max(_LEAST_NEW_ENTRIES, _SHARE_OF_NEW_ENTRIES * spending.entries):
            self._summarize(day, spending)
        return spending

    def append(self, day: date, number: int, entry: BudgetEntry) -> bool:
        """Append an entry; False where its number is taken."""
        key = layout.budget_key(day, number)
        if self._ledger.root.create(key, entry.to_json()):
            return True
        # The put may have been ours, its first answer lost: the nonce tells.
        return self._entry(key).nonce == entry.nonce

    def _entry(self, key: str) -> BudgetEntry:
        root = self._ledger.root
        return parse_record(root.read(key), BudgetEntry, uri=root.uri(key))

    def _summary(self, day: date) -> DaySpending:
        """The newest summary of a day; an empty one where there is none."""
        root = self._ledger.root
        for key in reversed(self._summary_keys(day)):
            body = root.read_if_present(key)
            try:
                if body is not None:
                    spending = parse_record(body, DaySpending, uri=root.uri(key))
                    self._summarized[day] = spending.entries
                    return spending
            except UnreadableRecordError as error:
                # The log itself says the same.
                _log.warning("a summary of the spending log is left out: %s", error)
        return DaySpending()

    def _summarize(self, day: date, spending: DaySpending) -> None:
        root = self._ledger.root
        root.create(layout.budget_summary_key(day, spending.entries), spending.to_json())
        self._summarized[day] = spending.entries
        # The last but one stays for whoever has listed it and not read it yet.
        for key in self._summary_keys(day)[:-2]:
            root.delete(key)

    def _summary_keys(self, day: date) -> list[str]:
        folder = f"{layout.BUDGET_SUMMARIES_FOLDER}/{day.isoformat()}"
        return sorted(info.key for info in self._ledger.root.list(folder))
