"""The spending limits: a log of reservations that every process appends to before it sends.

The log's entries are numbered without gaps and created only once, so two processes that reserve at
the same time cannot both take the last dollar: the slower one reads again.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from typing import NamedTuple

from sora_dagster.generation.ledger import Ledger
from sora_dagster.generation.spending_log import BudgetEntry, DaySpending, SpendingLog

DEFAULT_RUN_LIMIT_USD = 25.0
_ROUNDING_USD = 1e-6


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
        self._log = SpendingLog(ledger)
        # Clips are stored by several threads, each of which settles.
        self._lock = threading.Lock()

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
            with self._lock:
                days = [self._log.read(today - timedelta(days=1)), self._log.read(today)]
                next_number = days[1].entries + 1
                by_run = _spent(days, tasks=_tasks_of_run(days, root_run))
                by_day = _spent(days, tasks=days[1].estimates_usd)
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
            if self._log.append(today, next_number, entry):
                return reservation

    def settle(self, costs_usd: Mapping[str, float], *, root_run: str) -> None:
        """Replace what was set aside for tasks by what they cost; may be repeated."""
        while costs_usd:
            today = self._ledger.clock().date()
            with self._lock:
                next_number = self._log.read(today).entries + 1
            entry = BudgetEntry(
                root_run=root_run, costs_usd=dict(costs_usd), nonce=self._ledger.new_nonce()
            )
            if self._log.append(today, next_number, entry):
                return

    def spent_usd(self, *, day: date | None = None) -> float:
        """What is reserved or spent for the tasks that were reserved on a day (UTC), in USD."""
        day = day or self._ledger.clock().date()
        with self._lock:
            days = [self._log.read(day), self._log.read(day + timedelta(days=1))]
            return sum(_spent(days, tasks=days[0].estimates_usd).values())


def _tasks_of_run(days: Iterable[DaySpending], root_run: str) -> set[str]:
    return {task for day in days for task in day.tasks_by_run.get(root_run, ())}


def _spent(days: Iterable[DaySpending], *, tasks: Iterable[str]) -> dict[str, float]:
    """What each of some tasks takes: its final cost where it is known, else its estimate."""
    estimates: dict[str, float] = {}
    costs: dict[str, float] = {}
    for day in days:
        estimates.update(day.estimates_usd)
        costs.update(day.costs_usd)
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
