"""Claims: each clip is collected by one live process, and a dead one's soon by another."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import timedelta

import pytest
import stamina

from sora_dagster.generation.protocol.claims import Claims, ClaimSettings
from sora_dagster.generation.protocol.ledger import Ledger
from sora_dagster.local.processes import wait_until
from sora_dagster.storage import StorageRoot
from tests.store_faults import FaultyStore, StoreFault

DATASET = "trailers"
FOLDER = f"claims/{DATASET}"
SETTINGS = ClaimSettings()


@dataclass
class Machine:
    """A machine with clocks of its own; its processes are made here.

    Arguments:
        ledger: the ledger of the storage root.
        later: how much later it is for the store than it really is.
        elapsed: seconds on the machine's clock that runs through suspend.
    """

    ledger: Ledger
    later: timedelta = timedelta()
    elapsed: float = 0.0
    looked_at_clock: Iterator[int] = field(default_factory=itertools.count)
    made: list[Claims] = field(default_factory=list)

    def process(self, settings: ClaimSettings = SETTINGS) -> Claims:
        claims = Claims(
            self.ledger,
            DATASET,
            holder="a run",
            store_time=lambda: self.ledger.root.store_time() + self.later,
            settings=settings,
            elapsed=self.read_clock,
        )
        self.made.append(claims)
        return claims

    def read_clock(self) -> float:
        next(self.looked_at_clock)
        return self.elapsed


@pytest.fixture
def machine(ledger: Ledger) -> Iterator[Callable[..., Machine]]:
    machines: list[Machine] = []

    def make(*, later_seconds: float = 0.0) -> Machine:
        machines.append(Machine(ledger, timedelta(seconds=later_seconds)))
        return machines[-1]

    yield make
    for made in machines:
        for claims in made.made:
            claims.release()


NewMachine = Callable[..., Machine]
# By then a process that said nothing since is dead.
LATER = SETTINGS.dead_seconds + 5


def names(ledger: Ledger) -> list[str]:
    return sorted(info.key.removeprefix(f"{FOLDER}/") for info in ledger.root.list(FOLDER))


def test_one_process_collects_the_rest_until_it_releases_it(machine: NewMachine) -> None:
    first, second = machine().process(), machine().process()
    assert first.claim_rest()
    assert not second.claim_rest()
    assert second.view().rest == first.process
    first.release()
    assert second.claim_rest()


def test_of_many_processes_that_claim_the_rest_at_once_one_wins(machine: NewMachine) -> None:
    processes = [machine().process() for _ in range(8)]
    start = threading.Barrier(len(processes))

    def claim(process: Claims) -> bool:
        start.wait()
        return process.claim_rest()

    with ThreadPoolExecutor(len(processes)) as pool:
        assert sum(pool.map(claim, processes)) == 1


def test_a_process_that_was_stopped_while_it_claimed_the_rest_does_not_win_an_old_number(
    machine: NewMachine, ledger: Ledger, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow, quick = machine().process(), machine().process()
    create = ledger.root.create

    def late(key: str, body: bytes) -> bool:
        if "rest-" in key:
            monkeypatch.setattr(ledger.root, "create", create)
            # Meanwhile another process claims, releases and claims again.
            assert quick.claim_rest()
            quick.release()
            assert machine().process().claim_rest()
        return create(key, body)

    monkeypatch.setattr(ledger.root, "create", late)
    assert not slow.claim_rest()
    assert slow.view().rest != slow.process


def test_what_a_process_waits_for_is_its_own_and_not_of_the_rest(machine: NewMachine) -> None:
    waiter, rest = machine().process(), machine().process()
    assert waiter.claim(["fox", "owl"]) == {"fox", "owl"}
    assert rest.claim_rest()
    assert dict(rest.view().tasks) == {"fox": waiter.process, "owl": waiter.process}


def test_two_processes_that_wait_for_the_same_task_share_it_out(machine: NewMachine) -> None:
    first, second = machine().process(), machine().process()
    assert first.claim(["fox"]) == {"fox"}
    assert second.claim(["fox", "owl"]) == {"owl"}


def test_a_waiter_leaves_its_tasks_to_a_live_process_that_has_the_rest(machine: NewMachine) -> None:
    rest, waiter = machine().process(), machine().process()
    assert rest.claim_rest()
    assert waiter.claim(["fox"]) == frozenset()
    rest.release()
    assert waiter.claim(["fox"]) == {"fox"}


def test_a_dead_process_is_taken_over(machine: NewMachine) -> None:
    dead = machine().process()
    assert dead.claim_rest()
    waiter = machine(later_seconds=LATER).process()
    assert waiter.claim(["fox"]) == {"fox"}
    assert machine(later_seconds=LATER).process().claim_rest()


def test_the_tasks_of_a_dead_process_are_free(machine: NewMachine) -> None:
    assert machine().process().claim(["fox"]) == {"fox"}
    other = machine(later_seconds=LATER).process()
    assert other.claim(["fox"]) == {"fox"}


def test_a_stopped_process_that_was_taken_over_finds_out_before_it_reports(
    machine: NewMachine,
) -> None:
    home = machine()
    stopped = home.process()
    assert stopped.claim_rest()
    assert machine(later_seconds=LATER).process().claim_rest()
    home.elapsed += SETTINGS.gap_seconds + 1
    assert not stopped.are_mine()


def test_a_stopped_process_that_no_one_took_over_goes_on(machine: NewMachine) -> None:
    home = machine()
    stopped = home.process()
    assert stopped.claim_rest()
    home.elapsed += 10_000
    assert stopped.are_mine()


def test_a_process_that_is_judged_dead_as_it_goes_on_finds_out_at_its_next_sign_of_life(
    machine: NewMachine,
) -> None:
    process = machine().process(ClaimSettings(beat_seconds=0.01))
    assert process.claim_rest()
    assert machine(later_seconds=LATER).process().claim_rest()
    # Its own clocks show no gap.
    assert wait_until(lambda: not process.are_mine(), timeout_seconds=30)


def test_a_process_never_judges_itself_dead(machine: NewMachine, ledger: Ledger) -> None:
    waiter = machine(later_seconds=LATER).process()
    assert waiter.claim(["fox"]) == {"fox"}
    assert waiter.claim(["fox", "owl"]) == {"fox", "owl"}
    assert [name for name in names(ledger) if name.endswith(".dead")] == []


def test_a_process_whose_loop_hangs_shows_no_sign_of_life(
    machine: NewMachine, ledger: Ledger
) -> None:
    home = machine()
    process = home.process(ClaimSettings(beat_seconds=0.01))
    assert process.claim_rest()
    home.elapsed += SETTINGS.stall_seconds + 1
    root, sign = ledger.root, f"{FOLDER}/{process.process}.alive"
    # A beat that began before may still write it.
    let_the_timer_run(home)
    root.delete(sign)
    let_the_timer_run(home)
    assert not root.exists(sign)
    process.step()
    assert wait_until(lambda: root.exists(sign), timeout_seconds=30)


def let_the_timer_run(home: Machine) -> None:
    before = next(home.looked_at_clock)
    assert wait_until(lambda: next(home.looked_at_clock) > before + 20, timeout_seconds=30)


def test_a_dropped_task_is_free_and_the_others_are_not(machine: NewMachine) -> None:
    holder, other = machine().process(), machine().process()
    assert holder.claim(["fox", "owl"]) == {"fox", "owl"}
    holder.drop(["fox"])
    assert other.claim(["fox", "owl"]) == {"fox"}
    holder.drop(["owl"])
    assert other.claim(["owl"]) == {"owl"}


def test_released_claims_leave_one_object_however_many_runs_there_were(
    machine: NewMachine, ledger: Ledger
) -> None:
    for number in range(20):
        run, waiter = machine().process(), machine().process()
        assert waiter.claim([f"clip-{number}"])
        assert run.claim_rest()
        waiter.release()
        run.release()
    assert names(ledger) == ["rest-40.json"]


def test_what_killed_processes_left_is_removed_after_a_week(
    machine: NewMachine, ledger: Ledger
) -> None:
    for number in range(5):
        # Each is killed, and found dead by the next.
        killed = machine(later_seconds=number * LATER).process()
        assert killed.claim_rest()
        killed.claim([f"clip-{number}"])
    assert len(names(ledger)) > 5
    week = machine(later_seconds=8 * 86_400).process()
    assert week.claim_rest()
    left = names(ledger)
    # The newest claim of the rest, and this process's sign of life and marks of what it buried.
    assert [name for name in left if name.startswith("rest-")] == ["rest-6.json"]
    assert [name for name in left if "-tasks-" in name] == []


def test_a_damaged_claim_counts_for_nothing(machine: NewMachine, ledger: Ledger) -> None:
    first = machine().process()
    assert first.claim(["fox"]) == {"fox"}
    [key] = [name for name in names(ledger) if "-tasks-" in name]
    ledger.root.write(f"{FOLDER}/{key}", b"{ damaged")
    assert machine().process().claim(["fox"]) == {"fox"}


def test_a_process_that_ends_in_an_outage_of_the_store_releases_its_claims_after_it(
    s3_url: str, watched: FaultyStore
) -> None:
    ledger = Ledger(StorageRoot(s3_url))
    ledger.bind(api_base_url="https://api.example.com/v1", account="account-1")
    claims = Machine(ledger).process()
    assert claims.claim_rest()
    # More than the S3 client itself retries.
    watched.faults.append(StoreFault("InternalError", status=500, key="claims/", count=8))
    with stamina.set_testing(True, attempts=4, cap=True):
        claims.release()
    assert Machine(ledger).process().claim_rest()
