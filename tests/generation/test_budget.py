"""The spending log: what fits is granted, whoever else is spending."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sora_dagster.generation.budget import Budget, SpendingLimits, parse_limit
from sora_dagster.generation.ledger import Ledger
from sora_dagster.storage import ObjectInfo, StorageError, StorageRoot
from tests.conftest import ManualClock


def test_what_fits_is_granted_in_the_order_asked(ledger: Ledger) -> None:
    reservation = Budget(ledger).reserve(
        {"a": 2.0, "b": 2.0, "c": 2.0, "d": 0.5}, root_run="run", limits=SpendingLimits(run_usd=5.0)
    )
    assert reservation.granted == ("a", "b", "d")
    assert list(reservation.refused) == ["c"]


def test_what_was_reserved_before_counts(ledger: Ledger) -> None:
    Budget(ledger).reserve({"a": 4.0}, root_run="run", limits=SpendingLimits(run_usd=5.0))
    reservation = Budget(Ledger(ledger.root)).reserve(
        {"b": 2.0}, root_run="run", limits=SpendingLimits(run_usd=5.0)
    )
    assert "4.00 are taken" in reservation.refused["b"]


def test_a_task_that_is_reserved_again_counts_once(ledger: Ledger) -> None:
    budget = Budget(ledger)
    budget.reserve({"a": 4.0}, root_run="run", limits=SpendingLimits(run_usd=5.0))
    assert budget.reserve(
        {"a": 4.0}, root_run="run", limits=SpendingLimits(run_usd=5.0)
    ).granted == ("a",)


def test_another_run_has_a_limit_of_its_own(ledger: Ledger) -> None:
    budget = Budget(ledger)
    budget.reserve({"a": 4.0}, root_run="run", limits=SpendingLimits(run_usd=5.0))
    assert budget.reserve(
        {"b": 4.0}, root_run="other", limits=SpendingLimits(run_usd=5.0)
    ).granted == ("b",)


def test_a_run_over_midnight_has_one_limit(root: StorageRoot, clock: ManualClock) -> None:
    ledger = Ledger(root, clock=clock)
    Budget(ledger).reserve({"a": 4.0}, root_run="run", limits=SpendingLimits(run_usd=5.0))
    clock.move(13 * 3600)
    assert Budget(ledger).reserve(
        {"b": 4.0}, root_run="run", limits=SpendingLimits(run_usd=5.0)
    ).refused.keys() == {"b"}


def test_without_a_limit_everything_is_granted(ledger: Ledger) -> None:
    assert Budget(ledger).reserve(
        {"a": 1e6}, root_run="r", limits=SpendingLimits(run_usd=None)
    ).granted == ("a",)


def test_runs_that_reserve_at_once_never_pass_the_limit_together(root: StorageRoot) -> None:
    start = threading.Barrier(6)

    def reserve(number: int) -> int:
        budget = Budget(Ledger(root))
        start.wait()
        return sum(
            len(
                budget.reserve(
                    {f"{number}-{i}": 1.0}, root_run="run", limits=SpendingLimits(run_usd=5.0)
                ).granted
            )
            for i in range(3)
        )

    with ThreadPoolExecutor(6) as pool:
        assert sum(pool.map(reserve, range(6))) == 5


def test_a_log_with_a_gap_is_not_trusted(ledger: Ledger) -> None:
    for task in ("a", "b"):
        Budget(ledger).reserve({task: 1.0}, root_run="run", limits=SpendingLimits(run_usd=None))
    first = min(info.key for info in ledger.root.list("budget"))
    ledger.root.delete(first)
    with pytest.raises(StorageError, match="gap"):
        Budget(ledger).reserve({"c": 1.0}, root_run="run", limits=SpendingLimits(run_usd=5.0))


@given(st.lists(st.floats(0.01, 20), max_size=12), st.floats(0, 60))
def test_the_limit_is_never_passed(prices: list[float], limit: float) -> None:
    estimates = {str(number): price for number, price in enumerate(prices)}
    reservation = Budget(Ledger(StorageRoot("memory://"))).reserve(
        estimates, root_run="run", limits=SpendingLimits(run_usd=limit)
    )
    assert sum(estimates[task] for task in reservation.granted) <= limit + 0.001
    assert set(reservation.granted) | set(reservation.refused) == set(estimates)


@pytest.mark.parametrize(
    ("text", "limit"),
    [(None, 25.0), ("", 25.0), ("7.50", 7.5), ("unlimited", None), ("Unlimited ", None)],
)
def test_limits_are_read(text: str | None, limit: float | None) -> None:
    assert parse_limit(text) == limit


@pytest.mark.parametrize("text", ["none", "-1", "1e400", "nan", "5 USD"])
def test_what_is_no_limit_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="unlimited"):
        parse_limit(text)


def test_what_a_task_cost_in_the_end_replaces_what_was_set_aside(ledger: Ledger) -> None:
    budget = Budget(ledger)
    limits = SpendingLimits(run_usd=5.0)
    budget.reserve({"a": 4.0}, root_run="run", limits=limits)
    budget.settle({"a": 1.0}, root_run="run")
    assert budget.reserve({"b": 4.0}, root_run="run", limits=limits).granted == ("b",)
    assert budget.spent_usd() == 5.0


def test_a_day_has_one_limit_over_all_runs(root: StorageRoot, clock: ManualClock) -> None:
    ledger = Ledger(root, clock=clock)
    limits = SpendingLimits(day_usd=5.0)
    Budget(ledger).reserve({"a": 4.0}, root_run="run", limits=limits)
    refused = Budget(ledger).reserve({"b": 2.0}, root_run="other", limits=limits).refused
    assert "SORA_MAX_USD_PER_DAY" in refused["b"]
    clock.move(13 * 3600)
    assert Budget(ledger).reserve({"b": 2.0}, root_run="other", limits=limits).granted == ("b",)


class CountingReads(StorageRoot):
    """A storage root that counts the objects of the spending log that are read and listed."""

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
    """A storage root where 250 entries were logged today: 130 USD set aside, 60 of it settled."""
    url = str(tmp_path / "busy")
    ledger = Ledger(StorageRoot(url))
    budget = Budget(ledger)
    for number in range(130):
        budget.reserve({str(number): 1.0}, root_run=f"run-{number % 2}", limits=SpendingLimits())
    for number in range(120):
        budget.settle({str(number): 0.5}, root_run=f"run-{number % 2}")
    return url


def test_a_process_that_comes_later_reads_the_sum_of_a_long_log(busy_url: str) -> None:
    root = CountingReads(busy_url)
    budget = Budget(Ledger(root))
    assert budget.spent_usd() == 70.0
    assert root.reads <= 51
    refused = budget.reserve(
        {"new": 1.0}, root_run="run-0", limits=SpendingLimits(run_usd=35.5)
    ).refused["new"]
    assert "35.00 are taken" in refused
    root.reads = root.listed = 0
    assert budget.reserve(
        {"new": 1.0}, root_run="run-0", limits=SpendingLimits(run_usd=36.0)
    ).granted == ("new",)
    budget.settle({"new": 0.25}, root_run="run-0")
    assert (root.reads, root.listed) == (1, 1)
    assert Budget(Ledger(root)).spent_usd() == 70.25


@pytest.mark.parametrize("broken", [b"{", b"[]", None])
def test_a_sum_that_cannot_be_read_is_made_again_from_the_log(
    tmp_path: Path, broken: bytes | None
) -> None:
    root = StorageRoot(tmp_path)
    budget = Budget(Ledger(root))
    for number in range(120):
        budget.reserve({str(number): 1.0}, root_run="run", limits=SpendingLimits())
    sums = [info.key for info in root.list("budget-summaries")]
    assert sums
    for key in sums:
        root.delete(key) if broken is None else root.write(key, broken)
    assert Budget(Ledger(root)).spent_usd() == 120.0


def test_few_sums_are_kept(tmp_path: Path) -> None:
    root = StorageRoot(tmp_path)
    budget = Budget(Ledger(root))
    for number in range(450):
        budget.settle({str(number): 1.0}, root_run="run")
    assert len(list(root.list("budget-summaries"))) == 2


def test_threads_that_settle_through_one_budget_lose_nothing(tmp_path: Path) -> None:
    budget = Budget(Ledger(StorageRoot(tmp_path)))
    budget.reserve(
        {str(number): 2.0 for number in range(150)}, root_run="run", limits=SpendingLimits()
    )
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda number: budget.settle({str(number): 1.0}, root_run="run"), range(150)))
    assert budget.spent_usd() == 150.0
    assert Budget(Ledger(StorageRoot(tmp_path))).spent_usd() == 150.0
