"""The spending limits: the expected cost of tasks is reserved in two logs before they are sent.

Each root run has a log, and so has each day of the store's clock. The run's entry is written first,
then the day's. If the day refuses a task, its reservation in the run's log is released. The limit
of a dataset for a day is checked against those entries of the day that name the dataset.

A task whose price is unknown is refused under any limit. Without one it is reserved at an unknown
price: it uses nothing of a limit until it is settled, then its cost. So a limit that another run
sets on the same day counts it from the moment when its cost is known.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import date, datetime, timedelta
from typing import NamedTuple

from sora_dagster.generation.protocol import layout
from sora_dagster.generation.protocol.ledger import Ledger
from sora_dagster.generation.protocol.spending_limits import LimitUse, SpendingLimits, fit
from sora_dagster.generation.protocol.spending_log import (
    BudgetEntry,
    BudgetLogError,
    Spending,
    SpendingLog,
    require_amounts,
)
from sora_dagster.prompts.clips import DEFAULT_DATASET


class BudgetDecision(NamedTuple):
    """Which tasks fit in the limits.

    Arguments:
        granted: UUIDs of the tasks that may be sent, in the order requested.
        refused: those that would exceed a limit, with a sentence that names the limit.
    """

    granted: tuple[str, ...]
    refused: dict[str, str]


class Budget:
    """Reserves money for tasks before they are sent; safe to share between threads.

    Arguments:
        ledger: the ledger in whose root the logs are kept.
        store_time: the store's clock. It decides which day a task counts towards, and is read with
            each reservation, so pass one that does not read the store each time.
    """

    def __init__(self, ledger: Ledger, *, store_time: Callable[[], datetime]) -> None:
        self._ledger = ledger
        self._store_time = store_time
        self._logs: dict[str, SpendingLog] = {}
        # Clips are stored by several threads, each of which settles.
        self._lock = threading.Lock()

    def check(
        self,
        estimates_usd: Mapping[str, float | None],
        *,
        root_run: str,
        limits: SpendingLimits,
        dataset: str = DEFAULT_DATASET,
    ) -> BudgetDecision:
        """Decide which tasks would fit in the limits now. Writes nothing, reserves nothing.

        Arguments:
            estimates_usd: expected cost of each task in USD, by task UUID. None: unknown.
            root_run: the run that the run's limit belongs to.
            limits: the limits.
            dataset: the dataset of the tasks. Default: ``default``.

        Raises:
            BudgetLogError: if a log is damaged.
        """
        return self._decide(estimates_usd, root_run, limits, dataset, is_reserving=False)

    def reserve(
        self,
        estimates_usd: Mapping[str, float | None],
        *,
        root_run: str,
        limits: SpendingLimits,
        dataset: str = DEFAULT_DATASET,
    ) -> BudgetDecision:
        """Reserve for as many tasks as fit in the limits, in their order.

        A task that is reserved already counts once, even if it was reserved before midnight, or a
        process was killed in between.

        Arguments:
            estimates_usd: expected cost of each task in USD, by task UUID. None: unknown.
            root_run: the run that the run's limit belongs to.
            limits: the limits.
            dataset: the dataset of the tasks. Default: ``default``.

        Raises:
            BudgetLogError: if a log is damaged.
        """
        return self._decide(estimates_usd, root_run, limits, dataset, is_reserving=True)

    def _decide(
        self,
        estimates_usd: Mapping[str, float | None],
        root_run: str,
        limits: SpendingLimits,
        dataset: str,
        *,
        is_reserving: bool,
    ) -> BudgetDecision:
        require_amounts(estimates_usd)
        refused: dict[str, str] = {}
        with self._lock:
            by_day = self._by_day(estimates_usd, root_run)
            run_use = self._run_use(root_run, limits)
            for day, tasks in by_day.items():
                if is_reserving:
                    refused |= self._reserve(
                        tasks, limits, root_run=root_run, day=day, dataset=dataset
                    )
                else:
                    refused |= fit(tasks, [run_use, *self._day_uses(day, limits, dataset)])[1]
        return BudgetDecision(
            tuple(task for task in estimates_usd if task not in refused),
            {task: refused[task] for task in estimates_usd if task in refused},
        )

    def settle(self, costs_usd: Mapping[str, float], *, root_run: str) -> None:
        """Replace the reservations of tasks by their costs. May be repeated.

        Arguments:
            costs_usd: cost of each task in USD, by task UUID; 0 for one that was never accepted. A
                task that is not reserved is ignored.
            root_run: the run that reserved them.

        Raises:
            BudgetLogError: if a log is damaged; the costs are then in the other logs.
        """
        self.settle_many([(root_run, costs_usd)])

    def settle_many(self, settlements: Iterable[tuple[str, Mapping[str, float]]]) -> None:
        """Settle tasks of several runs, with one entry in each log; see :meth:`settle`.

        Arguments:
            settlements: root runs, each with the costs of its tasks.
        """
        costs_usd: dict[str, float] = {}
        by_run: dict[str, set[str]] = {}
        for root_run, costs in settlements:
            require_amounts(costs)
            costs_usd |= costs
            by_run.setdefault(root_run, set()).update(costs)
        damaged: list[BudgetLogError] = []
        with self._lock:
            usual_days = _usual_days(self._today())
            by_day: dict[date, set[str]] = {}
            for root_run, tasks in by_run.items():
                run = Spending.none()
                with _collected(damaged):
                    run = self._run(root_run).read()
                for task in tasks:
                    # The run's log may be damaged, and a task may be reserved by another run.
                    for day in run.days_of(task) or usual_days:
                        by_day.setdefault(day, set()).add(task)
            for day, tasks in by_day.items():
                with _collected(damaged):
                    spending = self._settle_in(self._day(day), _only(costs_usd, tasks))
                    # Other runs that reserved the same task need its cost, too.
                    for task in tasks:
                        for root_run in spending.runs_of(task):
                            by_run.setdefault(root_run, set()).add(task)
            for root_run, tasks in by_run.items():
                with _collected(damaged):
                    self._settle_in(self._run(root_run), _only(costs_usd, tasks))
        if damaged:
            raise BudgetLogError(" ".join(dict.fromkeys(map(str, damaged))))

    def spent_usd(self, day: date | None = None) -> float:
        """The amount reserved or spent for the tasks of a day, in USD.

        Arguments:
            day: the day (UTC). Default: today, by the store's clock.

        Raises:
            BudgetLogError: if the day's log is damaged.
        """
        with self._lock:
            return self._day(day or self._today()).read().total_usd

    def dataset_spent_usd(self, dataset: str) -> float:
        """The amount reserved or spent today for the tasks of a dataset, in USD.

        Raises:
            BudgetLogError: if the day's log is damaged.
        """
        with self._lock:
            return self._day(self._today()).read().dataset_usd(dataset)

    def run_spent_usd(self, root_run: str) -> float:
        """The amount reserved or spent for the tasks of a root run, on any day, in USD.

        Raises:
            BudgetLogError: if the run's log is damaged.
        """
        with self._lock:
            return self._run(root_run).read().total_usd

    def _today(self) -> date:
        return self._store_time().date()

    def _day(self, day: date) -> SpendingLog:
        return self._logged(layout.day_log(day))

    def _run(self, root_run: str) -> SpendingLog:
        return self._logged(layout.run_log(root_run))

    def _logged(self, name: str) -> SpendingLog:
        if name not in self._logs:
            self._logs[name] = SpendingLog(self._ledger, name)
        return self._logs[name]

    def _run_use(self, root_run: str, limits: SpendingLimits) -> LimitUse:
        spending = self._run(root_run).known()
        return LimitUse(
            "the run's",
            limits.run_usd,
            "max_usd in the run config or of the schedule, max_usd_per_run of RunwareResource, "
            "--max-usd or SORA_MAX_USD",
            "unlimited in the run config or of RunwareResource, or SORA_MAX_USD=unlimited",
            spending,
            used_usd=spending.total_usd,
        )

    def _day_uses(self, day: date, limits: SpendingLimits, dataset: str) -> list[LimitUse]:
        """The use of a day's limit, and of the dataset's limit for that day."""
        spending = self._day(day).known()
        uses = [
            LimitUse(
                "the daily",
                limits.day_usd,
                "max_usd_per_day of RunwareResource or SORA_MAX_USD_PER_DAY",
                "unlimited_per_day of RunwareResource, or SORA_MAX_USD_PER_DAY=unlimited",
                spending,
                used_usd=spending.total_usd,
            )
        ]
        if dataset in limits.dataset_day_usd:
            uses.append(
                LimitUse(
                    f"dataset {dataset}'s daily",
                    limits.dataset_day_usd[dataset],
                    "max_usd_per_day of the dataset",
                    "max_usd_per_day=None of the dataset",
                    spending,
                    used_usd=spending.dataset_usd(dataset),
                )
            )
        return uses

    def _by_day(
        self, estimates_usd: Mapping[str, float | None], root_run: str
    ) -> dict[date, dict[str, float | None]]:
        """Tasks by the day that they count towards: where they are reserved, otherwise today.

        Earlier days come first: what is reserved there stays, and the rest has to fit around it.
        """
        run = self._run(root_run).read()
        today = self._today()
        days = sorted(_usual_days(today).union(*(run.days_of(task) for task in estimates_usd)))
        logged = {day: self._day(day).read() for day in days}
        grouped: dict[date, dict[str, float | None]] = {day: {} for day in days}
        for task, estimate in estimates_usd.items():
            day = next((day for day in days if logged[day].holds(task)), today)
            grouped[day][task] = estimate
        return {day: tasks for day, tasks in grouped.items() if tasks}

    def _reserve(
        self,
        estimates_usd: Mapping[str, float | None],
        limits: SpendingLimits,
        *,
        root_run: str,
        day: date,
        dataset: str,
    ) -> dict[str, str]:
        """Reserve in the run's log, then in a day's; gives the refused tasks with the reasons."""
        run_log, day_log = self._run(root_run), self._day(day)
        number = None
        while number is None:
            uses = [self._run_use(root_run, limits), *self._day_uses(day, limits, dataset)]
            in_run, refused = fit(estimates_usd, uses)
            if not in_run:
                return refused
            number = run_log.append(self._reservation_entry(in_run, root_run, day, dataset))
        while True:
            # Others may have spent on this day meanwhile.
            day_log.read()
            in_day, refused_late = fit(in_run, self._day_uses(day, limits, dataset))
            entry = self._reservation_entry(in_day, root_run, day, dataset)
            if not in_day or day_log.append(entry) is not None:
                break
        if refused_late:
            # Only the reservation of this call: another process may hold one of the same task, and
            # send it. One that a killed process left ends when its task is settled as void.
            release = BudgetEntry(
                releases=number, released=tuple(refused_late), nonce=self._ledger.new_nonce()
            )
            while run_log.append(release) is None:
                run_log.read()
        # A process that settled a task before this run reserved it could not know of this run.
        self._settle_in(run_log, _only(day_log.known().costs_usd, in_day))
        return refused | refused_late

    def _settle_in(self, log: SpendingLog, costs_usd: Mapping[str, float]) -> Spending:
        """Add the costs of the tasks that are reserved in a log; gives the sums of the log."""
        while True:
            spending = log.read()
            new = {
                task: cost
                for task, cost in costs_usd.items()
                if spending.holds(task) and spending.costs_usd.get(task) != cost
            }
            entry = BudgetEntry(costs_usd=new, nonce=self._ledger.new_nonce())
            if not new or log.append(entry) is not None:
                return spending

    def _reservation_entry(
        self,
        estimates_usd: Mapping[str, float | None],
        root_run: str,
        day: date,
        dataset: str,
    ) -> BudgetEntry:
        return BudgetEntry(
            root_run=root_run,
            day=day,
            dataset=dataset,
            estimates_usd=dict(estimates_usd),
            nonce=self._ledger.new_nonce(),
        )


def _usual_days(today: date) -> set[date]:
    """The days on which an outstanding task is usually reserved: today and yesterday."""
    return {today, today - timedelta(days=1)}


def _only(amounts_usd: Mapping[str, float], task_uuids: Iterable[str]) -> dict[str, float]:
    return {task: amounts_usd[task] for task in task_uuids if task in amounts_usd}


@contextmanager
def _collected(damaged: list[BudgetLogError]) -> Iterator[None]:
    """Collect the error of a damaged log, so that the other logs still get the costs."""
    try:
        yield
    except BudgetLogError as error:
        damaged.append(error)
