"""The spending limits: what fits is granted, whoever else is spending, on whatever day."""

from __future__ import annotations

import itertools
import json
import multiprocessing
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from datetime import UTC, datetime
from multiprocessing.synchronize import Barrier
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sora_dagster.generation.protocol.budget import Budget
from sora_dagster.generation.protocol.ledger import Ledger
from sora_dagster.generation.protocol.spending_limits import SpendingLimits
from sora_dagster.generation.protocol.spending_log import BudgetLogError
from sora_dagster.storage import ObjectAttributes, ObjectInfo, StorageRoot
from tests.conftest import ManualClock
from tests.protocol.budget_logs import read_logs
from tests.protocol.ending_early import CrashError, crashing_at

NOON = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
TODAY = NOON.date()
DAY_SECONDS = 24 * 3600.0
RUN_OF_5 = SpendingLimits(run_usd=5.0)
DAY_OF_5 = SpendingLimits(day_usd=5.0)
NO_LIMITS = SpendingLimits()


def budget_of(root: StorageRoot, store_time: Callable[[], datetime] = lambda: NOON) -> Budget:
    """The budget of a process that starts now."""
    return Budget(Ledger(root), store_time=store_time)


@pytest.fixture
def budget(root: StorageRoot, clock: ManualClock) -> Budget:
    return budget_of(root, clock)


def keys(root: StorageRoot, folder: str = "budget") -> list[str]:
    return sorted(info.key for info in root.list(folder))


def test_what_fits_is_granted_in_the_order_requested(budget: Budget) -> None:
    reservation = budget.reserve(
        {"a": 2.0, "b": 2.0, "c": 2.0, "d": 0.5}, root_run="run", limits=RUN_OF_5
    )
    assert reservation.granted == ("a", "b", "d")
    assert list(reservation.refused) == ["c"]


def test_what_was_reserved_before_counts(root: StorageRoot) -> None:
    budget_of(root).reserve({"a": 4.0}, root_run="run", limits=RUN_OF_5)
    reservation = budget_of(root).reserve({"b": 2.0}, root_run="run", limits=RUN_OF_5)
    assert (
        "4.00 USD of the run's spending limit of 5.00 USD is already used"
        in reservation.refused["b"]
    )


def test_a_task_that_is_reserved_again_counts_once(budget: Budget) -> None:
    for _ in range(2):
        assert budget.reserve({"a": 4.0}, root_run="run", limits=RUN_OF_5).granted == ("a",)
    assert (budget.run_spent_usd("run"), budget.spent_usd(TODAY)) == (4.0, 4.0)


def test_a_task_counts_at_the_larger_of_two_estimates(budget: Budget) -> None:
    for estimate in (3.0, 4.0, 2.0):
        assert budget.reserve({"a": estimate}, root_run="run", limits=RUN_OF_5).granted == ("a",)
    assert (budget.run_spent_usd("run"), budget.spent_usd(TODAY)) == (4.0, 4.0)
    assert budget.reserve({"a": 6.0}, root_run="run", limits=RUN_OF_5).granted == ()
    assert budget.run_spent_usd("run") == 4.0


def test_another_run_has_a_limit_of_its_own(budget: Budget) -> None:
    budget.reserve({"a": 4.0}, root_run="run", limits=RUN_OF_5)
    assert budget.reserve({"b": 4.0}, root_run="other", limits=RUN_OF_5).granted == ("b",)
    assert budget.run_spent_usd("run") == 4.0
    assert budget.spent_usd(TODAY) == 8.0


def test_the_daily_limit_of_a_dataset_counts_only_its_own_tasks(root: StorageRoot) -> None:
    limits = SpendingLimits(dataset_day_usd={"ads": 5.0})
    before = budget_of(root)
    before.reserve({"a": 4.0}, root_run="run", limits=NO_LIMITS, dataset="ads")
    before.reserve({"b": 9.0}, root_run="run", limits=limits, dataset="trailers")
    later = budget_of(root)
    for decide in (later.check, later.reserve):
        decision = decide({"c": 2.0, "d": 1.0}, root_run="other", limits=limits, dataset="ads")
        assert decision.granted == ("d",)
        assert (
            "4.00 USD of dataset ads's daily spending limit of 5.00 USD is already used. Raise the "
            "limit (max_usd_per_day of the dataset)" in decision.refused["c"]
        )
    assert (later.dataset_spent_usd("ads"), later.dataset_spent_usd("trailers")) == (5.0, 9.0)
    assert later.spent_usd() == 14.0


def test_a_settled_cost_frees_the_daily_limit_of_its_dataset(root: StorageRoot) -> None:
    limits = SpendingLimits(dataset_day_usd={"ads": 5.0})
    budget_of(root).reserve({"a": 4.0}, root_run="run", limits=limits, dataset="ads")
    budget_of(root).settle({"a": 1.0}, root_run="run")
    later = budget_of(root)
    assert later.reserve({"b": 4.0}, root_run="x", limits=limits, dataset="ads").granted == ("b",)
    assert later.dataset_spent_usd("ads") == 5.0


def test_the_daily_limit_of_a_dataset_begins_again_each_day(
    budget: Budget, clock: ManualClock
) -> None:
    limits = SpendingLimits(dataset_day_usd={"ads": 5.0})
    assert budget.reserve({"a": 5.0}, root_run="run", limits=limits, dataset="ads").granted
    assert not budget.reserve({"b": 1.0}, root_run="run", limits=limits, dataset="ads").granted
    clock.move(DAY_SECONDS)
    assert budget.reserve({"b": 1.0}, root_run="run", limits=limits, dataset="ads").granted
    assert budget.dataset_spent_usd("ads") == 1.0


def test_the_spending_of_a_dataset_is_kept_in_a_summary(root: StorageRoot, budget: Budget) -> None:
    for number in range(120):
        budget.reserve({str(number): 1.0}, root_run="run", limits=NO_LIMITS, dataset="ads")
    assert keys(root, "budget-summaries")
    assert budget_of(root).dataset_spent_usd("ads") == 120.0


def test_runs_whose_ids_would_make_the_same_folder_name_stay_apart(budget: Budget) -> None:
    for root_run in ("a/b", "a b", "../a-b", "A-b", ""):
        assert budget.reserve({root_run: 5.0}, root_run=root_run, limits=RUN_OF_5).granted
    assert budget.spent_usd(TODAY) == 25.0


@pytest.mark.parametrize("limits", [RUN_OF_5, DAY_OF_5])
def test_a_task_of_unknown_price_does_not_fit_in_any_limit(
    root: StorageRoot, budget: Budget, limits: SpendingLimits
) -> None:
    before = keys(root, "")
    reservation = budget.reserve({"a": None}, root_run="run", limits=limits)
    assert reservation.granted == ()
    assert "its price is unknown" in reservation.refused["a"]
    assert " spending limit of 5.00 USD" in reservation.refused["a"]
    assert keys(root, "") == before


def test_a_task_of_unknown_price_uses_a_limit_from_its_settlement_on(
    root: StorageRoot, budget: Budget
) -> None:
    assert budget.reserve({"a": None}, root_run="run", limits=NO_LIMITS).granted == ("a",)
    assert (budget.run_spent_usd("run"), budget.spent_usd(TODAY)) == (0.0, 0.0)
    budget.settle({"a": 4.0}, root_run="run")
    later = budget_of(root)
    assert (later.run_spent_usd("run"), later.spent_usd(TODAY)) == (4.0, 4.0)
    assert later.reserve({"b": 2.0}, root_run="run", limits=RUN_OF_5).granted == ()
    # Its cost is known now.
    assert later.reserve({"a": None}, root_run="run", limits=RUN_OF_5).granted == ("a",)


def test_a_task_that_a_process_had_a_price_for_is_known_to_others(budget: Budget) -> None:
    budget.reserve({"a": 4.0}, root_run="run", limits=RUN_OF_5)
    assert budget.reserve({"a": None}, root_run="run", limits=RUN_OF_5).granted == ("a",)
    assert budget.run_spent_usd("run") == 4.0


def test_an_unknown_price_is_kept_in_a_summary(root: StorageRoot, budget: Budget) -> None:
    budget.reserve({"a": None}, root_run="run", limits=NO_LIMITS)
    for number in range(120):
        budget.reserve({str(number): 1.0}, root_run="run", limits=NO_LIMITS)
    assert keys(root, "budget-summaries")
    later = budget_of(root)
    assert later.run_spent_usd("run") == 120.0
    later.settle({"a": 3.0}, root_run="run")
    assert budget_of(root).run_spent_usd("run") == 123.0


def test_without_a_limit_everything_is_granted(budget: Budget) -> None:
    assert budget.reserve({"a": 1e6}, root_run="run", limits=NO_LIMITS).granted == ("a",)


def test_a_check_says_what_a_reservation_would_and_writes_nothing(
    root: StorageRoot, budget: Budget
) -> None:
    budget.reserve({"a": 2.0}, root_run="run", limits=RUN_OF_5)
    before = keys(root, "")
    estimates = {"b": 2.0, "c": 2.0, "a": 2.0, "d": 1.0}
    limits = SpendingLimits(run_usd=5.0, day_usd=4.5)
    checked = budget_of(root).check(estimates, root_run="run", limits=limits)
    assert keys(root, "") == before
    assert checked.granted == ("b", "a")
    assert "the run's" in checked.refused["c"]
    assert "the daily" in checked.refused["d"]
    assert budget.reserve(estimates, root_run="run", limits=limits) == checked


def test_what_is_over_a_limit_leaves_no_trace(root: StorageRoot, budget: Budget) -> None:
    for limits in (RUN_OF_5, DAY_OF_5):
        assert budget.reserve({"a": 6.0}, root_run="run", limits=limits).refused
    assert keys(root, "") == []


@given(st.lists(st.floats(0.01, 20), max_size=12), st.floats(0, 60))
def test_the_limit_is_never_exceeded(prices: list[float], limit: float) -> None:
    estimates = {str(number): price for number, price in enumerate(prices)}
    reservation = budget_of(StorageRoot("memory://")).reserve(
        estimates, root_run="run", limits=SpendingLimits(run_usd=limit)
    )
    assert sum(estimates[task] for task in reservation.granted) <= limit + 0.001
    assert set(reservation.granted) | set(reservation.refused) == set(estimates)


@pytest.mark.parametrize("amount", [float("nan"), float("inf"), -1.0])
def test_an_amount_that_is_none_is_refused_and_not_logged(
    root: StorageRoot, budget: Budget, amount: float
) -> None:
    with pytest.raises(ValueError, match=r"USD is not an amount .* task a "):
        budget.reserve({"a": amount}, root_run="run", limits=NO_LIMITS)
    with pytest.raises(ValueError, match=r"USD is not an amount .* task a "):
        budget.check({"a": amount}, root_run="run", limits=NO_LIMITS)
    with pytest.raises(ValueError, match=r"USD is not an amount .* task a "):
        budget.settle({"a": amount}, root_run="run")
    assert keys(root) == []


# Days


def test_a_run_of_several_days_has_one_limit(root: StorageRoot, clock: ManualClock) -> None:
    granted: list[str] = []
    for day in range(4):
        reservation = budget_of(root, clock).reserve(
            {f"task-{day}": 20.0}, root_run="one backfill", limits=SpendingLimits(run_usd=25.0)
        )
        granted += reservation.granted
        clock.move(DAY_SECONDS)
    assert granted == ["task-0"]


def test_a_day_has_one_limit_over_all_runs(root: StorageRoot, clock: ManualClock) -> None:
    budget_of(root, clock).reserve({"a": 4.0}, root_run="run", limits=DAY_OF_5)
    refused = budget_of(root, clock).reserve({"b": 2.0}, root_run="other", limits=DAY_OF_5).refused
    assert "SORA_MAX_USD_PER_DAY" in refused["b"]
    clock.move(DAY_SECONDS)
    assert budget_of(root, clock).reserve(
        {"b": 2.0}, root_run="other", limits=DAY_OF_5
    ).granted == ("b",)


def test_the_day_is_that_of_the_store(root: StorageRoot, clock: ManualClock) -> None:
    wrong = Ledger(root, clock=lambda: datetime(2031, 1, 1, tzinfo=UTC))
    Budget(wrong, store_time=clock).reserve({"a": 4.0}, root_run="run", limits=NO_LIMITS)
    assert budget_of(root).spent_usd(TODAY) == 4.0


@pytest.mark.parametrize("root_run", ["run", "other"])
def test_a_task_that_is_reserved_again_after_midnight_counts_on_one_day(
    root: StorageRoot, clock: ManualClock, root_run: str
) -> None:
    budget_of(root, clock).reserve({"a": 4.0}, root_run="run", limits=NO_LIMITS)
    clock.move(DAY_SECONDS)
    budget = budget_of(root, clock)
    assert budget.reserve({"a": 4.0}, root_run=root_run, limits=DAY_OF_5).granted == ("a",)
    assert (budget.spent_usd(TODAY), budget.spent_usd()) == (4.0, 0.0)
    assert budget.run_spent_usd(root_run) == 4.0


@pytest.mark.parametrize("days", [1, 2, 9])
def test_a_task_is_settled_on_the_day_on_which_it_was_reserved(
    root: StorageRoot, clock: ManualClock, days: int
) -> None:
    budget_of(root, clock).reserve({"a": 4.0}, root_run="run", limits=NO_LIMITS)
    clock.move(days * DAY_SECONDS)
    budget = budget_of(root, clock)
    budget.settle({"a": 1.0}, root_run="run")
    assert (budget.spent_usd(TODAY), budget.spent_usd()) == (1.0, 0.0)
    assert budget.run_spent_usd("run") == 1.0


def test_a_task_whose_run_is_not_known_is_settled_by_its_day(
    root: StorageRoot, clock: ManualClock
) -> None:
    budget_of(root, clock).reserve({"a": 4.0, "b": 4.0}, root_run="run", limits=NO_LIMITS)
    clock.move(DAY_SECONDS)
    budget = budget_of(root, clock)
    budget.settle({"a": 1.0}, root_run="another")
    assert (budget.spent_usd(TODAY), budget.run_spent_usd("run")) == (5.0, 5.0)


# Settlements


def test_the_cost_of_a_task_replaces_what_was_reserved(budget: Budget) -> None:
    budget.reserve({"a": 4.0}, root_run="run", limits=RUN_OF_5)
    budget.settle({"a": 1.0}, root_run="run")
    assert budget.reserve({"b": 4.0}, root_run="run", limits=RUN_OF_5).granted == ("b",)
    assert (budget.run_spent_usd("run"), budget.spent_usd()) == (5.0, 5.0)


def test_a_task_that_was_never_accepted_is_free(budget: Budget) -> None:
    budget.reserve({"a": 4.0}, root_run="run", limits=RUN_OF_5)
    budget.settle({"a": 0.0}, root_run="run")
    assert (budget.run_spent_usd("run"), budget.spent_usd()) == (0.0, 0.0)
    # Whoever reserves it once more cannot send it.
    budget.reserve({"a": 4.0}, root_run="run", limits=RUN_OF_5)
    assert (budget.run_spent_usd("run"), budget.spent_usd()) == (0.0, 0.0)


def test_a_settlement_that_is_repeated_writes_nothing(root: StorageRoot, budget: Budget) -> None:
    budget.reserve({"a": 4.0}, root_run="run", limits=NO_LIMITS)
    budget.settle({"a": 1.0}, root_run="run")
    before = keys(root)
    budget.settle({"a": 1.0}, root_run="run")
    budget_of(root).settle({"a": 1.0}, root_run="run")
    assert keys(root) == before
    assert budget.spent_usd() == 1.0


def test_a_task_that_was_never_reserved_is_ignored(root: StorageRoot, budget: Budget) -> None:
    budget.reserve({"a": 4.0}, root_run="run", limits=NO_LIMITS)
    before = keys(root)
    budget.settle({"x": 3.0}, root_run="run")
    budget.settle({"x": 3.0}, root_run="other")
    assert keys(root) == before
    assert (budget.run_spent_usd("run"), budget.spent_usd()) == (4.0, 4.0)


def test_the_settlements_of_a_round_are_one_entry_in_each_log(
    root: StorageRoot, budget: Budget
) -> None:
    for root_run in ("one", "two"):
        tasks = {f"{root_run} {number}": 2.0 for number in range(3)}
        budget.reserve(tasks, root_run=root_run, limits=NO_LIMITS)
    before = keys(root)
    budget.settle_many(
        (root_run, {f"{root_run} {number}": 1.0})
        for root_run in ("one", "two")
        for number in range(3)
    )
    assert len(keys(root)) == len(before) + 3
    assert budget.spent_usd() == 6.0
    assert budget.run_spent_usd("one") == budget.run_spent_usd("two") == 3.0


def test_runs_that_reserved_the_same_task_both_get_its_cost(
    root: StorageRoot, budget: Budget
) -> None:
    for root_run in ("one", "two"):
        budget_of(root).reserve({"a": 4.0}, root_run=root_run, limits=NO_LIMITS)
    assert budget.spent_usd() == 4.0
    budget.settle({"a": 1.0}, root_run="one")
    budget_of(root).reserve({"a": 4.0}, root_run="late", limits=NO_LIMITS)
    assert budget.spent_usd() == 1.0
    assert [budget.run_spent_usd(root_run) for root_run in ("one", "two", "late")] == [1.0] * 3


# Several processes


class BetweenTheLogs(StorageRoot):
    """A storage root where something happens once, right after an entry of a run's log."""

    happens: Callable[[], object] | None = None

    def create(self, key: str, body: bytes, *, attributes: ObjectAttributes | None = None) -> bool:
        created = super().create(key, body, attributes=attributes)
        if key.startswith("budget/runs/") and self.happens is not None:
            happens, self.happens = self.happens, None
            happens()
        return created


def raced(root: BetweenTheLogs) -> BetweenTheLogs:
    """Let another run take 2 USD of the day as soon as a run's log has the first reservation."""
    other = budget_of(root)
    root.happens = lambda: other.reserve({"x": 2.0}, root_run="other", limits=NO_LIMITS)
    return root


def test_what_the_day_refuses_is_released_in_the_log_of_the_run() -> None:
    root = raced(BetweenTheLogs("memory://"))
    budget = budget_of(root)
    reservation = budget.reserve({"a": 2.0, "b": 2.0}, root_run="run", limits=DAY_OF_5)
    assert reservation.granted == ("a",)
    assert "SORA_MAX_USD_PER_DAY" in reservation.refused["b"]
    for process in (budget, budget_of(root)):
        assert process.run_spent_usd("run") == 2.0
        assert process.spent_usd() == 4.0


def test_a_release_leaves_what_another_process_of_the_run_reserved() -> None:
    root = BetweenTheLogs("memory://")

    def happens() -> None:
        # The same task, by another process of the same run, and what fills the day.
        assert budget_of(root).reserve({"a": 2.0}, root_run="run", limits=NO_LIMITS).granted
        assert budget_of(root).reserve({"x": 9.0}, root_run="other", limits=NO_LIMITS).granted

    root.happens = happens
    budget = budget_of(root)
    assert budget.reserve({"a": 2.0}, root_run="run", limits=DAY_OF_5).granted == ()
    assert budget.run_spent_usd("run") == 2.0


def test_runs_that_reserve_at_once_never_exceed_a_limit_together(root: StorageRoot) -> None:
    start = threading.Barrier(6)

    def reserve(number: int) -> int:
        budget = budget_of(root)
        start.wait()
        limits = SpendingLimits(run_usd=5.0, day_usd=8.0)
        return sum(
            len(
                budget.reserve(
                    {f"{number}-{i}": 1.0}, root_run=f"run {number % 2}", limits=limits
                ).granted
            )
            for i in range(4)
        )

    with ThreadPoolExecutor(6) as pool:
        assert sum(pool.map(reserve, range(6))) == 8
    budget = budget_of(root)
    assert budget.spent_usd() == 8.0
    assert budget.run_spent_usd("run 0") + budget.run_spent_usd("run 1") == 8.0
    assert max(budget.run_spent_usd("run 0"), budget.run_spent_usd("run 1")) <= 5.0


_start: Barrier


def _share_start(start: Barrier) -> None:
    global _start
    _start = start


def _reserve_one_by_one(url: str, name: str) -> list[str]:
    budget = budget_of(StorageRoot(url))
    _start.wait()
    granted: list[str] = []
    for number in range(15):
        task = f"{name} {number}"
        granted += budget.reserve(
            {task: 1.0}, root_run="run", limits=SpendingLimits(run_usd=10.0)
        ).granted
        budget.settle({task: 0.5}, root_run="run")
    return granted


def test_two_processes_never_take_the_last_dollar_both(root: StorageRoot) -> None:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(
        2, mp_context=context, initializer=_share_start, initargs=(context.Barrier(2),)
    ) as pool:
        both = [pool.submit(_reserve_one_by_one, root.url, name) for name in ("fox", "owl")]
        granted = [task for one in both for task in one.result()]
    # The last but one may leave half a dollar, in which none fits.
    assert 18 <= len(granted) <= 20
    assert budget_of(root).run_spent_usd("run") == budget_of(root).spent_usd()
    [run] = [log for log in read_logs(root) if log.is_of_run]
    assert max(run.totals_usd) <= 10.0
    assert run.reserved_usd.keys() == set(granted)


def test_threads_that_settle_through_one_budget_lose_nothing(root: StorageRoot) -> None:
    budget = budget_of(root)
    budget.reserve({str(number): 2.0 for number in range(150)}, root_run="run", limits=NO_LIMITS)
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: budget.settle({str(number): 1.0}, root_run="run"), range(150)))
    for process in (budget, budget_of(root)):
        assert process.spent_usd() == process.run_spent_usd("run") == 150.0


# Processes that are killed


def crashes(
    root: Callable[[], StorageRoot], act: Callable[[Budget], object]
) -> Iterator[StorageRoot]:
    """Roots in which a process was killed at each of its writes, just before and just after it."""
    for step in itertools.count():
        crashed = root()
        with crashing_at(crashed, step):
            try:
                act(budget_of(crashed))
            except CrashError:
                pass
            else:
                assert step > 2, "nothing was written"
                return
        yield crashed


def test_a_reservation_that_is_repeated_after_a_crash_counts_each_task_once() -> None:
    limits = SpendingLimits(run_usd=5.0, day_usd=5.0)

    def reserve(budget: Budget) -> tuple[str, ...]:
        return budget.reserve({"a": 2.0, "b": 2.0}, root_run="run", limits=limits).granted

    for root in crashes(lambda: StorageRoot("memory://"), reserve):
        budget = budget_of(root)
        assert reserve(budget) == ("a", "b")
        assert (budget.run_spent_usd("run"), budget.spent_usd()) == (4.0, 4.0)
        assert budget.reserve({"c": 2.0}, root_run="run", limits=limits).granted == ()


def test_a_crash_between_the_logs_at_midnight_counts_each_task_once() -> None:
    for root in crashes(
        lambda: StorageRoot("memory://"),
        lambda budget: budget.reserve({"a": 4.0}, root_run="run", limits=DAY_OF_5),
    ):
        clock = ManualClock()
        clock.move(DAY_SECONDS)
        budget = budget_of(root, clock)
        assert budget.reserve({"a": 4.0}, root_run="run", limits=DAY_OF_5).granted == ("a",)
        assert budget.spent_usd(TODAY) + budget.spent_usd() == 4.0
        assert budget.run_spent_usd("run") == 4.0
        budget.settle({"a": 1.0}, root_run="run")
        assert budget.spent_usd(TODAY) + budget.spent_usd() == 1.0


def test_what_a_process_leaves_that_is_killed_at_a_release_ends_when_it_is_voided() -> None:
    for root in crashes(
        lambda: raced(BetweenTheLogs("memory://")),
        lambda budget: budget.reserve({"a": 2.0, "b": 2.0}, root_run="run", limits=DAY_OF_5),
    ):
        budget = budget_of(root)
        # The process was killed before the other run came in, or after it.
        budget.reserve({"x": 2.0}, root_run="other", limits=NO_LIMITS)
        reservation = budget.reserve({"a": 2.0, "b": 2.0}, root_run="run", limits=DAY_OF_5)
        assert len(reservation.granted) == 1
        assert budget.spent_usd() == 4.0
        assert budget.run_spent_usd("run") in (2.0, 4.0)
        budget.settle(dict.fromkeys(reservation.refused, 0.0), root_run="run")
        assert budget.run_spent_usd("run") == 2.0


def test_a_settlement_that_is_repeated_after_a_crash_is_in_every_log() -> None:
    def reserved() -> StorageRoot:
        root = StorageRoot("memory://")
        for root_run in ("run", "other"):
            budget_of(root).reserve({"a": 4.0, "b": 1.0}, root_run=root_run, limits=NO_LIMITS)
        return root

    def settle(budget: Budget) -> None:
        budget.settle({"a": 1.0, "b": 0.0}, root_run="run")

    for root in crashes(reserved, settle):
        settle(budget_of(root))
        budget = budget_of(root)
        assert budget.spent_usd() == 1.0
        assert budget.run_spent_usd("run") == budget.run_spent_usd("other") == 1.0


# Damaged logs


def damage(root: StorageRoot, folder: str, *, removed: bool) -> str:
    """Damage the first of two entries of a log."""
    first = keys(root, folder)[0]
    if removed:
        root.delete(first)
    else:
        root.write(first, b"{")
    return first


@pytest.fixture
def two_runs(root: StorageRoot) -> StorageRoot:
    """A storage root where two runs have two entries each."""
    for number in range(2):
        for root_run in ("run", "other"):
            budget_of(root).reserve(
                {f"{root_run}-{number}": 2.0}, root_run=root_run, limits=NO_LIMITS
            )
    return root


@pytest.mark.parametrize("removed", [True, False], ids=["removed", "unreadable"])
@pytest.mark.parametrize("folder", ["budget/runs/run", f"budget/{TODAY}"])
def test_a_damaged_log_stops_buying_and_says_what_to_do(
    two_runs: StorageRoot, folder: str, removed: bool
) -> None:
    broken = damage(two_runs, folder, removed=removed)
    before = keys(two_runs)
    budget = budget_of(two_runs)
    for act in (budget.reserve, budget.check):
        with pytest.raises(BudgetLogError) as error:
            act({"new": 1.0}, root_run="run", limits=NO_LIMITS)
        assert broken in str(error.value)
        assert "Restore the object from a backup" in str(error.value)
    with pytest.raises(BudgetLogError, match="gap" if removed else "cannot be read"):
        budget.run_spent_usd("run") if "runs" in folder else budget.spent_usd()
    assert keys(two_runs) == before


def test_a_damaged_log_of_a_run_leaves_other_runs_alone(two_runs: StorageRoot) -> None:
    damage(two_runs, "budget/runs/run", removed=False)
    budget = budget_of(two_runs)
    assert budget.reserve({"new": 1.0}, root_run="other", limits=RUN_OF_5).granted == ("new",)


@pytest.mark.parametrize("removed", [True, False], ids=["removed", "unreadable"])
def test_a_settlement_reaches_the_logs_that_are_not_damaged(
    two_runs: StorageRoot, removed: bool
) -> None:
    damage(two_runs, "budget/runs/run", removed=removed)
    before = keys(two_runs, "budget/runs/run")
    budget = budget_of(two_runs)
    with pytest.raises(BudgetLogError, match="budget/runs/run/"):
        budget.settle_many([("run", {"run-0": 0.5}), ("other", {"other-0": 0.5})])
    assert keys(two_runs, "budget/runs/run") == before
    assert budget.spent_usd() == 5.0
    assert budget.run_spent_usd("other") == 2.5


@pytest.mark.parametrize("body", [{"nonce": "n", "costs_usd": {"a": -9.0}}, {"nonce": 1}, {}])
def test_an_entry_that_no_process_writes_is_unreadable(
    root: StorageRoot, budget: Budget, body: dict[str, object]
) -> None:
    root.write(f"budget/{TODAY}/00000001.json", json.dumps(body).encode())
    with pytest.raises(BudgetLogError, match="00000001"):
        budget.reserve({"b": 1.0}, root_run="run", limits=NO_LIMITS)


def test_a_log_that_was_deleted_begins_again(root: StorageRoot, budget: Budget) -> None:
    for number in range(101):
        budget.reserve({str(number): 1.0}, root_run="run", limits=NO_LIMITS)
    for key in keys(root, "budget/runs"):
        root.delete(key)
    assert keys(root, "budget-summaries/runs") != []
    budget = budget_of(root)
    assert budget.reserve({"new": 1.0}, root_run="run", limits=RUN_OF_5).granted == ("new",)
    assert budget_of(root).run_spent_usd("run") == 1.0


def test_other_files_in_the_folder_of_a_log_are_ignored(root: StorageRoot, budget: Budget) -> None:
    budget.reserve({"a": 1.0}, root_run="run", limits=NO_LIMITS)
    for name in (".DS_Store", "notes.txt", "1.json"):
        root.write(f"budget/{TODAY}/{name}", b"")
    assert budget_of(root).spent_usd() == 1.0


class LateListing(StorageRoot):
    """A storage root whose listings lack an entry that was created while they ran."""

    def list(self, prefix: str, *, after: str | None = None) -> Iterator[ObjectInfo]:
        return (
            info
            for info in super().list(prefix, after=after)
            if not info.key.endswith("00000002.json")
        )


def test_an_entry_that_a_listing_lacks_is_no_gap(root: StorageRoot, budget: Budget) -> None:
    for task in ("a", "b", "c"):
        budget.reserve({task: 1.0}, root_run="run", limits=NO_LIMITS)
    assert budget_of(LateListing(root.url)).spent_usd() == 3.0


# Long logs


class CountingReads(StorageRoot):
    """A storage root that counts the objects of the spending logs that are read and listed."""

    reads = 0
    listed = 0

    def read(self, key: str) -> bytes:
        self.reads += key.startswith("budget")
        return super().read(key)

    def list(self, prefix: str, *, after: str | None = None) -> Iterator[ObjectInfo]:
        for info in super().list(prefix, after=after):
            self.listed += prefix.startswith("budget")
            yield info


@pytest.fixture
def busy_url(tmp_path: Path) -> str:
    """A storage root where 250 entries were logged today: 130 USD reserved, 60 of it settled."""
    url = str(tmp_path / "busy")
    budget = budget_of(StorageRoot(url))
    for number in range(130):
        budget.reserve({str(number): 1.0}, root_run="run", limits=NO_LIMITS)
    for number in range(120):
        budget.settle({str(number): 0.5}, root_run="run")
    return url


@pytest.mark.parametrize("of_run", [True, False], ids=["run", "day"])
def test_a_process_that_comes_later_reads_the_summary_of_a_long_log(
    busy_url: str, of_run: bool
) -> None:
    root = CountingReads(busy_url)
    budget = budget_of(root)
    assert (budget.run_spent_usd("run") if of_run else budget.spent_usd()) == 70.0
    # The summary, the last entry that it has, and the entries after it.
    assert root.reads <= 52


def test_a_process_reads_each_entry_once(busy_url: str) -> None:
    root = CountingReads(busy_url)
    budget = budget_of(root)
    limits = SpendingLimits(run_usd=70.5)
    refused = budget.reserve({"new": 1.0}, root_run="run", limits=limits).refused["new"]
    assert "70.00 USD of" in refused
    root.reads = root.listed = 0
    limits = SpendingLimits(run_usd=71.0)
    assert budget.reserve({"new": 1.0}, root_run="run", limits=limits).granted == ("new",)
    budget.settle({"new": 0.25}, root_run="run")
    assert (root.reads, root.listed) == (0, 0)
    assert budget_of(root).spent_usd() == 70.25


@pytest.mark.parametrize("broken", [b"{", b"[]", b"{}", None])
def test_a_summary_that_cannot_be_read_is_ignored(
    root: StorageRoot, budget: Budget, broken: bytes | None
) -> None:
    for number in range(120):
        budget.reserve({str(number): 1.0}, root_run="run", limits=NO_LIMITS)
    summaries = keys(root, "budget-summaries")
    assert len(summaries) == 2
    for key in summaries:
        root.delete(key) if broken is None else root.write(key, broken)
    later = budget_of(root)
    assert (later.spent_usd(), later.run_spent_usd("run")) == (120.0, 120.0)


def test_few_summaries_are_kept(root: StorageRoot, budget: Budget) -> None:
    for number in range(450):
        budget.reserve({str(number): 1.0}, root_run="run", limits=NO_LIMITS)
    assert len(keys(root, f"budget-summaries/{TODAY}")) == 2
    assert len(keys(root, "budget-summaries/runs")) == 2
