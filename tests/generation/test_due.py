"""What is due to be collected, by the index, the inbox and the claims alone."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from sora_dagster.generation.collecting.due import DueReader, DueWork, uncollected_folders
from sora_dagster.generation.protocol.claims import Claims
from sora_dagster.generation.protocol.ledger import Ledger
from sora_dagster.generation.protocol.markers import marker_key, write_marker
from sora_dagster.generation.protocol.records import AttemptRecord
from tests.generation.large_roots import CountingRoot
from tests.generation.stored_takes import claim

POLL_AFTER = 10.0


def look(ledger: Ledger, *, seconds_later: float = 0.0, next_read: int = 0) -> DueWork:
    """What is due some time from now."""

    def store_time() -> datetime:
        return ledger.root.store_time() + timedelta(seconds=seconds_later)

    reader = DueReader(ledger, ["default", "glade"], POLL_AFTER, store_time)
    return reader.read(next_read)


def left(ledger: Ledger, attempt: AttemptRecord, times: int) -> None:
    """Have runs leave a slow task to later ones."""
    for _ in range(times):
        ledger.pending.leave(ledger.pending.tasks("default")[attempt.task_uuid])


def test_nothing_outstanding_is_idle(ledger: Ledger) -> None:
    assert look(ledger).is_idle


def test_an_idle_look_costs_two_listings_for_each_dataset() -> None:
    root = CountingRoot("memory://")
    look(Ledger(root))
    assert dict(root.counts) == {"list": 4}


@pytest.mark.parametrize(("seconds", "is_due"), [(9, False), (11, True)])
def test_a_task_is_due_when_it_is_as_old_as_polls_wait(
    ledger: Ledger, seconds: float, is_due: bool
) -> None:
    claim(ledger)
    assert look(ledger, seconds_later=seconds).is_due is is_due


@pytest.mark.parametrize(
    ("times", "minutes"), [(1, 5), (2, 10), (3, 20), (4, 30), (5, 30), (400, 30)]
)
def test_a_task_that_runs_left_is_due_after_five_minutes_and_then_ever_later(
    ledger: Ledger, times: int, minutes: float
) -> None:
    attempt = claim(ledger)
    entry = ledger.pending.tasks("default")[attempt.task_uuid]
    record = ledger.pending.record(entry)
    assert record is not None
    ledger.root.write(entry.key, record.model_copy(update={"times_left": times}).to_json())
    assert not look(ledger, seconds_later=minutes * 60 - 20).is_due
    assert look(ledger, seconds_later=minutes * 60 + 20).is_due


def test_a_task_that_was_never_left_is_found_among_many_that_were(ledger: Ledger) -> None:
    for number in range(12):
        left(ledger, claim(ledger, f"slow-{number}"), 1)
    claim(ledger, "fox")
    next_read, looks = 0, []
    for _ in range(3):
        work = look(ledger, seconds_later=60, next_read=next_read)
        next_read = work.next_read
        looks.append(work.is_due)
    assert any(looks)


def test_a_look_reads_no_more_than_a_few_records_of_many() -> None:
    root = CountingRoot("memory://")
    ledger = Ledger(root)
    ledger.bind(api_base_url="https://api.example.com/v1", account=None)
    for number in range(50):
        left(ledger, claim(ledger, f"slow-{number}"), 1)
    root.counts.clear()
    look(ledger, seconds_later=60)
    assert 0 < root.counts["read"] <= 5


def test_a_marker_is_due_at_once(ledger: Ledger) -> None:
    attempt = claim(ledger)
    write_marker(ledger.root, "default", attempt.task_uuid, b"{}")
    assert look(ledger).markers == 1


def test_a_marker_that_a_run_has_seen_and_left_does_not_start_another(ledger: Ledger) -> None:
    attempt = claim(ledger)
    key = marker_key("default", attempt.task_uuid, b"{}")
    write_marker(ledger.root, "default", attempt.task_uuid, b"{}")
    received = ledger.root.info(key)
    assert received is not None
    entry = ledger.pending.tasks("default")[attempt.task_uuid]
    while ledger.pending.tasks("default")[attempt.task_uuid].since <= received.last_modified:
        ledger.pending.leave(entry)
    assert not look(ledger).is_due


def test_a_marker_of_a_task_that_ended_is_due(ledger: Ledger) -> None:
    write_marker(ledger.root, "glade", "00000000-0000-4000-8000-000000000000", b"{}")
    assert look(ledger).is_due


def test_remixes_that_no_run_asked_for_are_due_at_once(ledger: Ledger) -> None:
    attempt = claim(ledger)
    ledger.pending.remove("default", attempt.task_uuid)
    ledger.remixes.mark_due(attempt)
    assert look(ledger).remixes == 1


def test_what_a_live_run_collects_is_not_due(ledger: Ledger) -> None:
    attempt = claim(ledger)
    write_marker(ledger.root, "default", attempt.task_uuid, b"{}")
    claims = Claims(ledger, "default", holder="a run", store_time=ledger.root.store_time)
    claims.claim_rest()
    work = look(ledger, seconds_later=60)
    assert (work.is_due, work.collected) == (False, ("default",))
    claims.release()
    assert look(ledger, seconds_later=60).is_due


def test_tasks_that_a_live_run_has_claimed_for_itself_are_not_due_and_others_are(
    ledger: Ledger,
) -> None:
    attempt = claim(ledger)
    write_marker(ledger.root, "default", attempt.task_uuid, b"{}")
    claims = Claims(ledger, "default", holder="a run", store_time=ledger.root.store_time)
    claims.claim([attempt.task_uuid])
    assert not look(ledger, seconds_later=60).is_due
    claim(ledger, "owl")
    assert look(ledger, seconds_later=60).due == 1
    claims.release()


def test_a_task_whose_entry_cannot_be_read_is_due(ledger: Ledger) -> None:
    attempt = claim(ledger)
    entry = ledger.pending.tasks("default")[attempt.task_uuid]
    ledger.root.write(entry.key, b"{")
    assert look(ledger, seconds_later=60).is_due


def test_old_tasks_of_datasets_that_no_one_collects_are_found(ledger: Ledger) -> None:
    claim(ledger, dataset="default")
    claim(ledger, "owl", dataset="Trailers!")
    datasets, hour = ["default", "glade"], timedelta(hours=1)

    def an_hour_later() -> datetime:
        return ledger.root.store_time() + hour

    assert uncollected_folders(ledger, datasets, age=hour, store_time=ledger.root.store_time) == ()
    [folder] = uncollected_folders(ledger, datasets, age=hour / 2, store_time=an_hour_later)
    assert folder.startswith("pending/Trailers-")
    assert not uncollected_folders(
        ledger, [*datasets, "Trailers!"], age=hour / 2, store_time=an_hour_later
    )
