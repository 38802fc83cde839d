"""The collector's lease: one holder at a time, for as long as it is renewed."""

from __future__ import annotations

from datetime import timedelta

from sora_dagster.generation.lease import Lease, is_live
from sora_dagster.generation.ledger import Ledger
from tests.conftest import ManualClock


def test_nobody_collects_at_first(ledger: Ledger) -> None:
    assert not is_live(ledger)


def test_one_holder_keeps_others_out(ledger: Ledger) -> None:
    assert Lease(ledger, "first").take()
    assert is_live(ledger)
    assert not Lease(ledger, "second").take()


def test_a_released_lease_can_be_taken_at_once(ledger: Ledger) -> None:
    first = Lease(ledger, "first")
    first.take()
    first.release()
    assert not is_live(ledger)
    assert Lease(ledger, "second").take()


def test_a_lease_that_is_not_renewed_ends_by_the_stores_clock(ledger: Ledger) -> None:
    Lease(ledger, "killed").take()
    later = ledger.root.store_time() + timedelta(seconds=61)
    assert not is_live(ledger, seconds=60, store_time=lambda: later)


def test_the_holder_that_was_replaced_learns_so(ledger: Ledger, clock: ManualClock) -> None:
    slow = Lease(Ledger(ledger.root, clock=clock), "slow", seconds=60)
    slow.take()
    assert Lease(ledger, "quick", seconds=0).take()
    clock.move(30)
    assert not slow.keep()


def test_renewing_leaves_one_object(ledger: Ledger, clock: ManualClock) -> None:
    lease = Lease(Ledger(ledger.root, clock=clock), "holder", seconds=60)
    lease.take()
    for _ in range(5):
        clock.move(30)
        assert lease.keep()
    assert len(list(ledger.root.list("lease"))) == 1
