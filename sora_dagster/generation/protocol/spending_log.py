"""One spending log: numbered, append-only entries and their sums.

Entries are numbered without gaps and each is created only once. The process that creates entry *n*
has counted all entries before it, so two processes cannot both spend the last dollar.

A log may have tens of thousands of entries. A summary of the first ones is written from time to
time, so that a new process does not have to read each entry.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import date
from typing import Annotated

from pydantic import ConfigDict, Field, PrivateAttr

from sora_dagster.generation.protocol import layout
from sora_dagster.generation.protocol.ledger import Ledger
from sora_dagster.generation.protocol.record_store import UnreadableRecordError
from sora_dagster.generation.protocol.records import Record
from sora_dagster.generation.protocol.scan import in_parallel
from sora_dagster.storage import ObjectMissingError, StorageError

_log = logging.getLogger(__name__)

# A summary is written after this many new entries, and after this share of all entries, since a
# summary grows with the log.
_LEAST_NEW_ENTRIES = 100
_SHARE_OF_NEW_ENTRIES = 0.02

AmountUsd = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class BudgetLogError(StorageError):
    """A spending log is damaged, so that no limit can be checked against it."""


class BudgetEntry(Record):
    """An entry of a spending log: a reservation, the release of one, or the costs of tasks.

    Arguments:
        root_run: the run of a reservation; None for other kinds.
        day: the day (UTC) of a reservation; None for other kinds.
        dataset: the dataset of a reservation's tasks; None for other kinds.
        estimates_usd: reservation: expected costs of tasks that are about to be sent, by task UUID.
            None: the price of a task is unknown.
        releases: release: number of the reservation.
        released: release: UUIDs of the released tasks.
        costs_usd: settlement: costs of tasks, by task UUID.
    """

    root_run: str | None = None
    day: date | None = None
    dataset: str | None = None
    estimates_usd: dict[str, AmountUsd | None] = Field(default_factory=dict)
    releases: int | None = None
    released: tuple[str, ...] = ()
    costs_usd: dict[str, AmountUsd] = Field(default_factory=dict)
    nonce: str


class Spending(Record):
    """The sums of the entries of a log.

    No field has a default, so that a summary of another shape is not taken for an empty one.

    Arguments:
        entries: number of entries.
        reserved_usd: the reservations of each task, by the number of their entry. None: one at an
            unknown price.
        costs_usd: cost of each settled task.
        runs: the root run of each reservation, by the number of its entry.
        days: the day of each reservation, by the number of its entry.
        datasets: the dataset of each reservation, by the number of its entry.
        last_nonce: nonce of the last entry; it identifies the log of a summary.
    """

    model_config = ConfigDict(frozen=False)

    entries: int
    reserved_usd: dict[str, dict[int, AmountUsd | None]]
    costs_usd: dict[str, AmountUsd]
    runs: dict[int, str]
    days: dict[int, date]
    datasets: dict[int, str]
    last_nonce: str
    _total_usd: float = PrivateAttr(default=0.0)

    def model_post_init(self, _context: object) -> None:
        """Calculate the total after reading a summary."""
        self._total_usd = sum(map(self.amount_usd, self.reserved_usd))

    @classmethod
    def none(cls) -> Spending:
        """The sums of a log without entries."""
        return cls(
            entries=0,
            reserved_usd={},
            costs_usd={},
            runs={},
            days={},
            datasets={},
            last_nonce="",
        )

    @property
    def total_usd(self) -> float:
        """The amount of a limit that all tasks of the log use."""
        return self._total_usd

    def dataset_usd(self, dataset: str) -> float:
        """The amount of a limit that the tasks of a dataset use."""
        numbers = {number for number, name in self.datasets.items() if name == dataset}
        return sum(
            self.amount_usd(task_uuid)
            for task_uuid, reservations in self.reserved_usd.items()
            if not numbers.isdisjoint(reservations)
        )

    def holds(self, task_uuid: str) -> bool:
        """Whether a task is reserved in the log, settled or not."""
        return task_uuid in self.reserved_usd

    def amount_usd(self, task_uuid: str) -> float:
        """The amount of a limit that a task uses.

        A settled task uses its cost, even if it is reserved again later. Any other uses its largest
        estimate: processes may expect different costs of the same task. A task whose price is
        unknown uses nothing before it is settled; it can be bought only without a limit.
        """
        return self.known_usd(task_uuid) or 0.0

    def known_usd(self, task_uuid: str) -> float | None:
        """The amount of a limit that a task uses. None: it is not reserved, or not priced."""
        reservations = self.reserved_usd.get(task_uuid)
        if reservations is None:
            return None
        if task_uuid in self.costs_usd:
            return self.costs_usd[task_uuid]
        return max((usd for usd in reservations.values() if usd is not None), default=None)

    @property
    def unpriced(self) -> int:
        """Number of tasks whose price is unknown, and whose cost is not known yet."""
        return sum(self.known_usd(task_uuid) is None for task_uuid in self.reserved_usd)

    def added_usd(self, task_uuid: str, estimate_usd: float | None) -> float:
        """The growth of the total if a task is reserved at an estimate. None: unknown."""
        after = self.costs_usd.get(task_uuid, estimate_usd)
        return max(0.0, (after or 0.0) - self.amount_usd(task_uuid))

    def runs_of(self, task_uuid: str) -> set[str]:
        """The root runs that reserved a task."""
        return {self.runs[number] for number in self.reserved_usd.get(task_uuid, ())}

    def days_of(self, task_uuid: str) -> set[date]:
        """The days that a task was reserved for."""
        return {self.days[number] for number in self.reserved_usd.get(task_uuid, ())}

    def add(self, entry: BudgetEntry) -> None:
        """Count the next entry."""
        self.entries += 1
        self.last_nonce = entry.nonce
        tasks = {*entry.estimates_usd, *entry.released, *entry.costs_usd}
        before = sum(map(self.amount_usd, tasks))
        if entry.root_run is not None and entry.day is not None:
            self.runs[self.entries] = entry.root_run
            self.days[self.entries] = entry.day
            if entry.dataset is not None:
                self.datasets[self.entries] = entry.dataset
            for task_uuid, estimate in entry.estimates_usd.items():
                self.reserved_usd.setdefault(task_uuid, {})[self.entries] = estimate
        if entry.releases is not None:
            self._release(entry.releases, entry.released)
        # The cost of a task is final, even if a process reserves it afterwards.
        self.costs_usd.update(
            {task: cost for task, cost in entry.costs_usd.items() if self.holds(task)}
        )
        self._total_usd += sum(map(self.amount_usd, tasks)) - before

    def _release(self, number: int, task_uuids: tuple[str, ...]) -> None:
        for task_uuid in task_uuids:
            reservations = self.reserved_usd.get(task_uuid, {})
            reservations.pop(number, None)
            if not reservations:
                self.reserved_usd.pop(task_uuid, None)


class SpendingLog:
    """Reads one log and appends to it. Not thread-safe.

    Arguments:
        ledger: the ledger in whose root the log is kept.
        name: which log, see :func:`layout.day_log` and :func:`layout.run_log`.
    """

    def __init__(self, ledger: Ledger, name: str) -> None:
        self._ledger = ledger
        self._name = name
        self._spending: Spending | None = None
        self._summarized = 0
        self._is_behind = True

    def read(self) -> Spending:
        """The sums of the log now. Costs one listing of the new entries, and a read of each.

        Raises:
            BudgetLogError: if an entry is missing or cannot be read.
        """
        self._is_behind = True
        if self._spending is None:
            self._spending = self._summary()
        spending = self._spending
        numbers = self._new_numbers(spending.entries)
        read = in_parallel(numbers, self._entry) if len(numbers) > 1 else map(self._entry, numbers)
        for entry in read:
            spending.add(entry)
        new_entries = spending.entries - self._summarized
        if new_entries >= max(_LEAST_NEW_ENTRIES, _SHARE_OF_NEW_ENTRIES * spending.entries):
            self._summarize(spending)
        self._is_behind = False
        return spending

    def known(self) -> Spending:
        """The sums as last read or appended; reads the log only if it is known to have changed."""
        if self._spending is None or self._is_behind:
            return self.read()
        return self._spending

    def append(self, entry: BudgetEntry) -> int | None:
        """Append an entry after all known ones.

        Returns:
            Its number; None if another process appended one first.

        Raises:
            BudgetLogError: if the log is damaged.
        """
        spending = self.known()
        number = spending.entries + 1
        created = self._ledger.root.create(layout.budget_key(self._name, number), entry.to_json())
        # If the store says that the entry exists, it may be ours: the answer to a first put was
        # lost. The nonce shows whether it is.
        if not created and self._entry(number).nonce != entry.nonce:
            self._is_behind = True
            return None
        spending.add(entry)
        return number

    def _new_numbers(self, known: int) -> range:
        """The numbers of the entries after the known ones."""
        root = self._ledger.root
        last = layout.budget_key(self._name, known) if known else None
        listed = {
            layout.budget_number(info.key)
            for info in root.list(layout.budget_folder(self._name), after=last)
        }
        # None is for other files in the folder, such as those of a file manager.
        end = max((number for number in listed if number is not None), default=known)
        for number in range(known + 1, end + 1):
            key = layout.budget_key(self._name, number)
            # A listing is no snapshot: it may lack an entry that was created while it ran, and
            # show a later one.
            if number not in listed and not root.exists(key):
                raise self._damaged(f"has a gap: {key} is missing")
        return range(known + 1, end + 1)

    def _entry(self, number: int) -> BudgetEntry:
        key = layout.budget_key(self._name, number)
        try:
            return self._ledger.require(key, BudgetEntry)
        except (UnreadableRecordError, ObjectMissingError) as error:
            raise self._damaged(f"cannot be read: {error}") from error

    def _damaged(self, problem: str) -> BudgetLogError:
        root = self._ledger.root
        folder = layout.budget_folder(self._name)
        summaries = layout.budget_summary_folder(self._name)
        return BudgetLogError(
            f"the spending log {root.uri(folder)} {problem.rstrip('.')}. Spending limits cannot be "
            f"checked against it, so nothing more is bought; what was bought is still collected. "
            f"Restore the object from a backup. Without a backup, delete {folder}/ and "
            f"{summaries}/ while nothing runs; what they recorded then counts towards no limit."
        )

    def _summary(self) -> Spending:
        """The newest usable summary of the log; an empty one if there is none."""
        root = self._ledger.root
        for key in reversed(self._summary_keys()):
            try:
                spending = self._ledger.read(key, Spending)
                if spending is None:
                    continue
                is_of_this_log = self._entry(spending.entries).nonce == spending.last_nonce
            except (UnreadableRecordError, BudgetLogError) as error:
                # The entries have the same facts, or show what is wrong.
                _log.warning("ignoring a summary of the spending log: %s", error)
                continue
            if is_of_this_log:
                self._summarized = spending.entries
                return spending
            _log.warning("ignoring %s: it belongs to an earlier, deleted log", root.uri(key))
        return Spending.none()

    def _summarize(self, spending: Spending) -> None:
        root = self._ledger.root
        root.create(layout.budget_summary_key(self._name, spending.entries), spending.to_json())
        self._summarized = spending.entries
        # The last but one is kept for a process that has listed it and not read it yet.
        for key in self._summary_keys()[:-2]:
            root.delete(key)

    def _summary_keys(self) -> list[str]:
        folder = layout.budget_summary_folder(self._name)
        return sorted(info.key for info in self._ledger.root.list(folder))


def require_amounts(amounts_usd: Mapping[str, float | None]) -> None:
    """Refuse amounts that would make an entry unreadable. None: an unknown price.

    Raises:
        ValueError: if one is negative, infinite or not a number.
    """
    for task_uuid, amount in amounts_usd.items():
        if amount is not None and not 0 <= amount < float("inf"):
            raise ValueError(
                f"{amount} USD is not an amount that task {task_uuid} can cost; it must be finite, "
                f"and 0 or more"
            )
