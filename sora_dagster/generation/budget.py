"""The spending limits: a log of reservations that every process appends to before it sends.

The log's entries are numbered without gaps and created only once, so two processes that reserve at
the same time cannot both take the last dollar: the slower one reads again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import NamedTuple

from pydantic import Field

from sora_dagster.generation import layout
from sora_dagster.generation.ledger import Ledger
from sora_dagster.generation.records import Record
from sora_dagster.storage import StorageError

DEFAULT_RUN_LIMIT_USD = 25.0
_ROUNDING_USD = 1e-6


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


@dataclass(frozen=True)
class SpendingLimits:
    """What may be spent, in USD; None for no limit.

    Arguments:
        run_usd: by one root run: a run with its retries, a backfill, and the remixes of either.
        day_usd: in one day (UTC), by all runs on the storage root.
    """

    run_usd: float | None = None
    day_usd: float | None = None


class Reservation(NamedTuple):
    """Which tasks fit in the limits.

    Arguments:
        granted: UUIDs of the tasks that may be sent, in the order asked.
        refused: those that would pass a limit, with a sentence that says which.
    """

    granted: tuple[str, ...]
    refused: dict[str, str]


class Budget:
    """Sets money aside for tasks before they are sent.

    Arguments:
        ledger: the ledger in whose root the log is kept.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._known: dict[str, BudgetEntry] = {}

    def reserve(
        self, estimates_usd: Mapping[str, float], *, root_run: str, limits: SpendingLimits
    ) -> Reservation:
        """Reserve for as many tasks as fit in the limits, in their order.

        Arguments:
            estimates_usd: expected cost of each task in USD, by task UUID.
            root_run: the run that the run's limit belongs to.
            limits: the limits.

        A task that was reserved before counts once.
        """
        while True:
            today = self._ledger.clock().date()
            entries = self._entries(today)
            recent = [*self._entries(today - timedelta(days=1)), *entries]
            by_run = _spent(recent, tasks=_tasks_of_run(recent, root_run))
            by_day = _spent(recent, tasks=_reserved(entries))
            granted: dict[str, float] = {}
            refused: dict[str, str] = {}
            run_total, day_total = sum(by_run.values()), sum(by_day.values())
            for task_uuid, estimate in estimates_usd.items():
                for_run = 0.0 if task_uuid in by_run else estimate
                for_day = 0.0 if task_uuid in by_day else estimate
                reason = _over(
                    "the run's", limits.run_usd, run_total, for_run, "--max-usd, SORA_MAX_USD"
                ) or _over("the day's", limits.day_usd, day_total, for_day, "SORA_MAX_USD_PER_DAY")
                if reason is not None:
                    refused[task_uuid] = reason
                    continue
                granted[task_uuid] = estimate
                run_total += for_run
                day_total += for_day
            reservation = Reservation(tuple(granted), refused)
            if not granted:
                return reservation
            entry = BudgetEntry(
                root_run=root_run, estimates_usd=granted, nonce=self._ledger.new_nonce()
            )
            if self._append(today, len(entries) + 1, entry):
                return reservation

    def settle(self, costs_usd: Mapping[str, float], *, root_run: str) -> None:
        """Replace what was set aside for tasks by what they cost; may be repeated."""
        while costs_usd:
            today = self._ledger.clock().date()
            entries = self._entries(today)
            entry = BudgetEntry(
                root_run=root_run, costs_usd=dict(costs_usd), nonce=self._ledger.new_nonce()
            )
            if self._append(today, len(entries) + 1, entry):
                return

    def spent_usd(self, *, day: date | None = None) -> float:
        """What is reserved or spent for the tasks that were reserved on a day (UTC), in USD."""
        day = day or self._ledger.clock().date()
        entries = self._entries(day)
        later = self._entries(day + timedelta(days=1))
        return sum(_spent([*entries, *later], tasks=_reserved(entries)).values())

    def _append(self, day: date, number: int, entry: BudgetEntry) -> bool:
        key = layout.budget_key(day, number)
        if self._ledger.root.create(key, entry.to_json()):
            return True
        # The put may have been ours, its first answer lost: the nonce tells.
        standing = BudgetEntry.model_validate_json(self._ledger.root.read(key))
        return standing.nonce == entry.nonce

    def _entries(self, day: date) -> list[BudgetEntry]:
        folder = f"{layout.BUDGET_FOLDER}/{day.isoformat()}"
        keys = sorted(info.key for info in self._ledger.root.list(folder))
        for number, key in enumerate(keys, start=1):
            if key != layout.budget_key(day, number):
                raise StorageError(
                    f"the spending log {self._ledger.root.uri(folder)} has a gap before {key}; "
                    f"entries were deleted, so spending limits cannot be kept. Restore them."
                )
            if key not in self._known:
                self._known[key] = BudgetEntry.model_validate_json(self._ledger.root.read(key))
        return [self._known[key] for key in keys]


def _reserved(entries: Iterable[BudgetEntry]) -> set[str]:
    return {task_uuid for entry in entries for task_uuid in entry.estimates_usd}


def _tasks_of_run(entries: Iterable[BudgetEntry], root_run: str) -> set[str]:
    return _reserved(entry for entry in entries if entry.root_run == root_run)


def _spent(entries: Iterable[BudgetEntry], *, tasks: set[str]) -> dict[str, float]:
    """What each of some tasks takes: its final cost where it is known, else its estimate."""
    estimates: dict[str, float] = {}
    costs: dict[str, float] = {}
    for entry in entries:
        estimates.update(entry.estimates_usd)
        costs.update(entry.costs_usd)
    return {task: costs.get(task, estimates.get(task, 0.0)) for task in tasks}


def _over(whose: str, limit: float | None, spent: float, added: float, setting: str) -> str | None:
    """Why a task does not fit in a limit; None where it does."""
    if limit is None or spent + added <= limit + _ROUNDING_USD:
        return None
    return (
        f"not sent, nothing paid: it would cost {added:.2f} USD, and of {whose} spending limit of "
        f"{limit:.2f} USD {spent:.2f} are taken. Raise the limit ({setting}), or ask for fewer "
        f"clips."
    )


def parse_limit(
    text: str | None, *, default_usd: float | None = DEFAULT_RUN_LIMIT_USD
) -> float | None:
    """A spending limit from a setting: USD, ``unlimited``, or the default where nothing is set.

    Raises:
        ValueError: where the text is neither.
    """
    if text is None or not text.strip():
        return default_usd
    if text.strip().lower() == "unlimited":
        return None
    try:
        limit = float(text)
    except ValueError:
        limit = -1.0
    if not 0 <= limit < float("inf"):
        raise ValueError(
            f"{text!r} is not a spending limit; write USD such as 25 or 7.50, or 'unlimited'"
        )
    return limit
