"""The collection: each clip is handed over once, as soon as it is stored."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from sora_dagster.generation.collecting.collection import Collection
from sora_dagster.generation.collecting.settings import CollectionLimits, Deadlines
from sora_dagster.generation.collecting.tracked import FinishedTask, ReadyTask
from sora_dagster.generation.generator import Generator
from sora_dagster.generation.protocol import layout
from sora_dagster.generation.protocol.claims import ClaimSettings
from sora_dagster.generation.protocol.markers import marker_key, write_marker
from sora_dagster.generation.protocol.records import AttemptRecord
from sora_dagster.generation.protocol.root_binding import RootMismatchError
from sora_dagster.generation.requesting.results import RequestState
from sora_dagster.generation.resolve import ResolutionError, resend, retry_stuck
from sora_dagster.local.processes import wait_until
from sora_dagster.prompts.clips import DEFAULT_DATASET
from sora_dagster.runware.errors import ErrorRecord
from sora_dagster.storage import AccessDeniedError, StorageRoot
from tests.protocol.faulty_sandbox import FaultySandbox, faulty_sandbox, quick_requests
from tests.protocol.scenario import HASTY, QUICK, Scenario, clip

# A process whose loop makes no step seems dead to others at once.
MORTAL = ClaimSettings(beat_seconds=0.05, dead_seconds=0.3, stall_seconds=0.1, gap_seconds=0.2)


@pytest.fixture(scope="module")
def _api() -> Iterator[FaultySandbox]:
    with quick_requests(), faulty_sandbox() as sandbox:
        yield sandbox


@pytest.fixture
def api(_api: FaultySandbox) -> Iterator[FaultySandbox]:
    _api.clear_faults()
    yield _api
    _api.clear_faults()


@pytest.fixture
def scenario(api: FaultySandbox, tmp_path: Path) -> Iterator[Scenario]:
    scenario = Scenario(api, str(tmp_path / "storage"))
    yield scenario
    scenario.close()


def chosen(
    generator: Generator, *attempts: AttemptRecord, max_wait_seconds: float = 30.0
) -> Collection:
    """A run that waits for clips of its own."""
    limits = CollectionLimits(max_wait_seconds=max_wait_seconds, parallel_clips=2)
    collection = generator.collection(limits, holder="a run of the asset")
    collection.add(*attempts)
    return collection


def wait_for_one(collection: Collection) -> FinishedTask:
    found: list[FinishedTask] = []

    def has_ended() -> bool:
        found.extend(collection.wait())
        return bool(found)

    assert wait_until(has_ended, timeout_seconds=30)
    [finished] = found
    return finished


def to_the_end(collection: Collection) -> list[FinishedTask]:
    ended: list[FinishedTask] = []
    while not collection.is_done:
        for finished in collection.wait():
            ended.append(finished)
            collection.close(finished)
    return ended


def outcome_states(scenario: Scenario) -> dict[str, str | None]:
    ledger = scenario.ledger()
    outcomes = {it.clip: ledger.outcome(it.task_uuid) for it in scenario.attempts()}
    return {name: None if it is None else it.state for name, it in outcomes.items()}


def count_stores(generator: Generator, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The clips that a process fetches and stores, as it does."""
    stored: list[str] = []
    store = generator.archive.store

    def counting(ready: ReadyTask, *more: Any, **options: Any) -> FinishedTask:
        stored.append(ready.attempt.clip)
        return store(ready, *more, **options)

    monkeypatch.setattr(generator.archive, "store", counting)
    return stored


# Each clip once


def test_a_clip_that_is_not_closed_is_reported_by_the_next_process(scenario: Scenario) -> None:
    scenario.request(scenario.generator(), clip())
    with scenario.collection(scenario.generator()) as first:
        assert wait_for_one(first).ended == "now"
    with scenario.collection(scenario.generator()) as second:
        finished = wait_for_one(second)
        assert finished.ended == "interrupted"
        assert finished.manifest is not None
        second.close(finished)
        assert second.is_done
    assert scenario.ledger().pending.tasks(DEFAULT_DATASET) == {}


def test_a_run_of_the_asset_and_a_collecting_run_fetch_and_report_each_clip_once(
    scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = ["fox", "owl", "crab", "newt"]
    scenario.request(scenario.generator(), *map(clip, names))
    scenario.sandbox.set_faults(rules=[])
    by_hand, collecting = scenario.generator(), scenario.generator()
    stored_by_hand = count_stores(by_hand, monkeypatch)
    stored_by_run = count_stores(collecting, monkeypatch)
    with chosen(by_hand, *scenario.attempts()) as waiting:
        # It claims them before the collecting run begins.
        ended = list(waiting.wait())
        with scenario.collection(collecting) as rest:
            assert to_the_end(rest) == []
        for finished in ended:
            waiting.close(finished)
        ended += to_the_end(waiting)
    assert sorted(stored_by_hand) == sorted(names)
    assert stored_by_run == []
    assert sorted(it.attempt.clip for it in ended) == sorted(names)


def test_a_run_of_the_asset_leaves_its_clips_to_a_collecting_run_and_hears_of_them(
    scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    scenario.request(scenario.generator(), clip("fox"), clip("owl"))
    by_hand, collecting = scenario.generator(), scenario.generator()
    stored_by_hand = count_stores(by_hand, monkeypatch)
    with scenario.collection(collecting) as rest, chosen(by_hand, *scenario.attempts()) as waiting:
        assert waiting.wait() == []
        reported = to_the_end(rest)
        heard = to_the_end(waiting)
    assert {it.ended for it in reported} == {"now"}
    assert {(it.attempt.clip, it.ended) for it in heard} == {
        ("fox", "elsewhere"),
        ("owl", "elsewhere"),
    }
    assert all(it.manifest is not None for it in heard)
    assert stored_by_hand == []


def test_what_was_stored_before_a_run_began_to_wait_is_marked_as_such(scenario: Scenario) -> None:
    scenario.request(scenario.generator(), clip())
    scenario.run_until_quiet()
    with chosen(scenario.generator(), *scenario.attempts()) as waiting:
        [finished] = to_the_end(waiting)
    assert finished.ended == "earlier"
    assert finished.manifest is not None


def test_a_second_collecting_run_has_nothing_to_do(scenario: Scenario) -> None:
    scenario.request(scenario.generator(), clip())
    with scenario.collection(scenario.generator()), scenario.collection(scenario.generator()) as it:
        assert it.report.is_elsewhere
        assert it.is_done


def test_a_dead_collecting_runs_clips_are_taken_over_by_who_waits_for_them(
    scenario: Scenario,
) -> None:
    scenario.settings = replace(QUICK, claims=MORTAL)
    scenario.request(scenario.generator(), clip())
    with scenario.collection(scenario.generator()) as dead:
        # It makes no step any more. Whoever waits takes over.
        with chosen(scenario.generator(), *scenario.attempts()) as waiting:
            [finished] = to_the_end(waiting)
        assert finished.ended == "now"
        assert dead.wait() == []
        assert dead.report.is_taken_over
        assert dead.is_done


def test_each_clip_is_handed_over_while_others_are_still_stored(
    scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    scenario.request(scenario.generator(), *(clip(f"c{number}") for number in range(5)))
    generator = scenario.generator()
    first_is_reported, store = threading.Event(), generator.archive.store
    begun: list[str] = []

    def slow(ready: ReadyTask, *more: Any, **options: Any) -> FinishedTask:
        begun.append(ready.attempt.clip)
        if len(begun) > 1:
            assert first_is_reported.wait(timeout=30)
        return store(ready, *more, **options)

    monkeypatch.setattr(generator.archive, "store", slow)
    with scenario.collection(generator) as collection:
        finished = wait_for_one(collection)
        first_is_reported.set()
        collection.close(finished)
        assert len(to_the_end(collection)) == 4


def test_a_clip_that_cannot_be_fetched_is_left_to_any_other_process(scenario: Scenario) -> None:
    scenario.settings = replace(QUICK, deadlines=replace(QUICK.deadlines, fetch_seconds=0.3))
    scenario.request(scenario.generator(), clip("fox"), clip("owl"))
    scenario.sandbox.set_faults(
        rules=[
            {"fault": "status", "status": 503, "event": "download", "prompt_contains": "fox"},
            {"fault": "status", "status": 503, "event": "download", "prompt_contains": "owl"},
        ]
    )
    with chosen(scenario.generator(), *scenario.attempts()) as holder:
        assert to_the_end(holder) == []
        scenario.sandbox.clear_faults()
        with scenario.collection(scenario.generator()) as other:
            assert {it.attempt.clip for it in to_the_end(other)} == {"fox", "owl"}
    assert outcome_states(scenario) == {"fox": "done", "owl": "done"}


def test_a_dataset_is_collected_by_its_own_run_alone(scenario: Scenario) -> None:
    other = clip("owl").model_copy(update={"dataset": "trailers", "asset": "trailers"})
    scenario.request(scenario.generator(), clip("fox"), other)
    write_marker(scenario.root(), "trailers", scenario.attempts_of("owl")[0].task_uuid, b"{}")
    with scenario.collection(scenario.generator()) as collection:
        assert [it.attempt.clip for it in to_the_end(collection)] == ["fox"]
    ledger = scenario.ledger()
    assert len(ledger.pending.tasks("trailers")) == 1
    assert len(scenario.keys("inbox")) == 1
    assert [it for it in scenario.keys("claims") if "/trailers/" in it] == []


# How long it lasts


def test_a_collection_of_a_new_root_writes_nothing(scenario: Scenario) -> None:
    with scenario.collection(scenario.generator()) as collection:
        assert collection.is_done
    assert scenario.keys("") == []
    scenario.request(scenario.generator(), clip())


def test_a_collection_ends_in_time_and_says_what_it_leaves(scenario: Scenario) -> None:
    scenario.sandbox.set_faults(rules=[{"fault": "never_ends"}])
    scenario.request(scenario.generator(), clip())
    [attempt] = scenario.attempts()
    with chosen(scenario.generator(), attempt, max_wait_seconds=0.2) as collection:
        assert to_the_end(collection) == []
    assert set(collection.report.left) == {attempt.task_uuid}
    assert outcome_states(scenario) == {"fox": None}


def test_a_slow_generation_holds_no_run_and_is_reported(scenario: Scenario) -> None:
    scenario.settings = HASTY
    scenario.sandbox.set_faults(rules=[{"fault": "never_ends", "prompt_contains": "fox"}])
    scenario.request(scenario.generator(), clip("fox"), clip("owl"))
    warned: list[str] = []
    limits = CollectionLimits(max_wait_seconds=30.0)
    with scenario.generator().collection(
        limits, holder="a run", datasets=[DEFAULT_DATASET], on_warning=warned.append
    ) as collection:
        assert [it.attempt.clip for it in to_the_end(collection)] == ["owl"]
    [left] = collection.report.left.values()
    assert "still generating" in left
    assert any("fox" in sentence and "still generating" in sentence for sentence in warned)
    [entry] = scenario.ledger().pending.tasks(DEFAULT_DATASET).values()
    record = scenario.ledger().pending.record(entry)
    assert record is not None
    assert record.times_left == 1


# What was paid for is kept


def test_a_task_that_is_resolved_while_it_runs_is_stored_when_it_ends(scenario: Scenario) -> None:
    scenario.settings = replace(HASTY, deadlines=replace(HASTY.deadlines, running_seconds=0.7))
    scenario.sandbox.set_faults(rules=[{"fault": "late_result", "delay_seconds": 3.0}])
    scenario.request(scenario.generator(), clip())
    scenario.collect_until(lambda: outcome_states(scenario) == {"fox": "lost"})
    scenario.settings = HASTY
    again = resend(scenario.generator(), "clips", "fox", run_limit_usd=10.0)
    assert again.state is RequestState.OUTSTANDING
    with pytest.raises(ResolutionError, match="still generating"):
        resend(scenario.generator(), "clips", "fox", run_limit_usd=10.0)
    scenario.run_until_quiet()
    assert outcome_states(scenario) == {"fox": "done"}
    assert scenario.charges_of("fox") == 1


def test_a_video_that_our_decoder_refuses_is_kept_after_two_equal_fetches(
    scenario: Scenario,
) -> None:
    scenario.sandbox.set_faults(rules=[{"fault": "download_corrupt", "part": "middle"}])
    scenario.request(scenario.generator(), clip())
    scenario.run_until_quiet()
    manifest = scenario.ledger().latest_manifest("clips", "fox")
    assert manifest is not None
    [video] = manifest.videos
    assert video.decode_error
    assert scenario.root().exists(video.key)
    assert [key for key in scenario.keys("clips") if key.endswith(".mp4")] == [video.key]


def test_a_second_process_whose_fetch_breaks_leaves_the_stored_clip_alone(
    scenario: Scenario,
) -> None:
    scenario.request(scenario.generator(), clip())
    [attempt] = scenario.attempts()
    first, second = scenario.generator(), scenario.generator()
    ready = ready_task(first, attempt)

    def store_first() -> None:
        first.archive.store(ready)
        break_downloads(scenario.sandbox)

    store_while(second, ready, store_first)
    manifest = scenario.ledger().latest_manifest("clips", "fox")
    assert manifest is not None
    assert scenario.root().exists(manifest.videos[0].key)


def ready_task(generator: Generator, attempt: AttemptRecord) -> ReadyTask:
    status = generator.client.poll([attempt.task_uuid])[attempt.task_uuid]
    assert status.results
    return ReadyTask(attempt, status, generator.store_time())


def break_downloads(api: FaultySandbox) -> None:
    api.set_faults(rules=[{"fault": "download_corrupt", "part": "all"}])


def store_while(generator: Generator, ready: ReadyTask, meanwhile: Callable[[], object]) -> None:
    """Store a clip, and have something happen after it was found not to be stored."""
    read = generator.ledger.manifest

    def manifest(asset: str, clip_id: str, take: int) -> Any:
        found = read(asset, clip_id, take)
        generator.ledger.manifest = read  # type: ignore[method-assign]
        meanwhile()
        return found

    generator.ledger.manifest = manifest  # type: ignore[method-assign, assignment]
    with pytest.raises(Exception, match="cannot be decoded"):
        generator.archive.store(ready)


def test_a_stored_clip_outranks_an_outcome_that_was_recorded_before(scenario: Scenario) -> None:
    scenario.request(scenario.generator(), clip())
    [attempt] = scenario.attempts()
    generator = scenario.generator()
    ready = ready_task(generator, attempt)
    lost = ErrorRecord(kind="lost", message="Runware no longer knows it")
    scenario.generator().archive.give_up(attempt, "lost", lost)
    finished = generator.archive.store(ready)
    assert finished.outcome.state == "done"
    assert outcome_states(scenario) == {"fox": "done"}


def test_an_outcome_that_is_recorded_after_the_manifest_gives_way_to_it(
    scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    scenario.request(scenario.generator(), clip())
    [attempt] = scenario.attempts()
    storing, judging = scenario.generator(), scenario.generator()
    ready = ready_task(storing, attempt)
    settle = judging.ledger.settle

    def late(*arguments: Any, **options: Any) -> Any:
        # The video is stored between the read of the manifest and the outcome.
        monkeypatch.setattr(judging.ledger, "settle", settle)
        standing = settle(*arguments, **options)
        monkeypatch.setattr(storing.ledger, "settle", killed)
        with pytest.raises(KeyboardInterrupt):
            storing.archive.store(ready)
        return standing

    def killed(*_: Any, **__: Any) -> Any:
        raise KeyboardInterrupt

    monkeypatch.setattr(judging.ledger, "settle", late)
    lost = ErrorRecord(kind="lost", message="Runware no longer knows it")
    assert judging.archive.give_up(attempt, "lost", lost).outcome.state == "done"
    assert outcome_states(scenario) == {"fox": "done"}


def test_a_webhook_for_a_task_that_ended_without_a_video_brings_it_back(
    scenario: Scenario,
) -> None:
    scenario.settings = HASTY
    scenario.sandbox.set_faults(rules=[{"fault": "unknown"}])
    scenario.request(scenario.generator(), clip())
    scenario.run_until_quiet()
    assert outcome_states(scenario) == {"fox": "lost"}
    scenario.sandbox.clear_faults()
    [attempt] = scenario.attempts()
    write_marker(scenario.root(), DEFAULT_DATASET, attempt.task_uuid, b"{}")
    scenario.run_until_quiet()
    assert outcome_states(scenario) == {"fox": "done"}
    assert scenario.charges_of("fox") == 1


def test_many_webhooks_for_a_task_that_ended_cause_one_poll(scenario: Scenario) -> None:
    scenario.sandbox.set_faults(rules=[{"fault": "fail", "error": "safety"}])
    scenario.request(scenario.generator(), clip())
    scenario.run_until_quiet()
    [attempt] = scenario.attempts()
    for number in range(4):
        write_marker(scenario.root(), DEFAULT_DATASET, attempt.task_uuid, b"%d" % number)
    generator = scenario.generator()
    scenario.run_until_quiet(generator)
    assert generator.client.posts.polls == 1
    assert scenario.keys("inbox") == []


def test_a_webhook_whose_task_cannot_be_polled_is_kept_and_reported(scenario: Scenario) -> None:
    scenario.sandbox.set_faults(rules=[{"fault": "fail", "error": "safety"}])
    scenario.request(scenario.generator(), clip())
    scenario.run_until_quiet()
    [attempt] = scenario.attempts()
    write_marker(scenario.root(), DEFAULT_DATASET, attempt.task_uuid, b"{}")
    scenario.sandbox.set_faults(rules=[{"fault": "status", "status": 503, "event": "poll"}])
    with scenario.collection(scenario.generator()) as collection:
        assert to_the_end(collection) == []
    assert collection.report.unpolled.keys() == {attempt.task_uuid}
    assert len(scenario.keys("inbox")) == 1


def test_a_webhook_for_a_task_that_another_process_collects_is_left_to_it(
    scenario: Scenario,
) -> None:
    scenario.sandbox.set_faults(rules=[{"fault": "never_ends"}])
    scenario.request(scenario.generator(), clip())
    [attempt] = scenario.attempts()
    with chosen(scenario.generator(), attempt) as waiting:
        assert waiting.wait() == []
        key = marker_key(DEFAULT_DATASET, attempt.task_uuid, b"{}")
        write_marker(scenario.root(), DEFAULT_DATASET, attempt.task_uuid, b"{}")
        scenario.collect(scenario.generator(), rounds=2)
        assert scenario.root().exists(key)


def test_a_step_of_the_wall_clock_ends_nothing(scenario: Scenario) -> None:
    deadlines = replace(QUICK.deadlines, generation_seconds=Deadlines().generation_seconds)
    scenario.settings = replace(QUICK, deadlines=deadlines)
    scenario.sandbox.set_faults(rules=[{"fault": "late_result", "delay_seconds": 1.0}])
    scenario.request(scenario.generator(), clip())
    generator = scenario.generator()
    right = generator.ledger.clock
    with scenario.collection(generator) as collection:
        assert collection.wait() == []
        generator.ledger.clock = lambda: right() + timedelta(minutes=31)
        [finished] = to_the_end(collection)
    assert finished.outcome.state == "done"
    assert scenario.charges_of("fox") == 1


def test_a_deleted_record_of_a_clip_is_fetched_again_free(scenario: Scenario) -> None:
    scenario.request(scenario.generator(), clip())
    scenario.run_until_quiet()
    for key in scenario.keys("clips"):
        scenario.root().delete(key)
    [again] = scenario.request(scenario.generator(), clip())
    assert again.state is RequestState.OUTSTANDING
    scenario.run_until_quiet()
    assert scenario.ledger().latest_manifest("clips", "fox") is not None
    assert scenario.charges_of("fox") == 1


# One bad record stops its own clip

RECORDS = {
    "slot": lambda it: layout.attempt_key(it.asset, it.clip, it.take, it.attempt),
    "index entry": lambda it: layout.pending_key(it.dataset, it.task_uuid),
    "token": lambda it: layout.task_key(it.task_uuid, "sent-1"),
    "outcome": lambda it: layout.task_key(it.task_uuid, "outcome-0"),
    "manifest": lambda it: layout.manifest_key(it.asset, it.clip, it.take),
}


@pytest.mark.parametrize("name", RECORDS)
def test_a_damaged_record_stops_its_own_clip_until_it_is_restored(
    scenario: Scenario, name: str
) -> None:
    scenario.request(scenario.generator(), clip("fox"), clip("owl"))
    [fox] = scenario.attempts_of("fox")
    root, key = scenario.root(), RECORDS[name](fox)
    body = root.read_if_present(key)
    root.write(key, b"{ damaged")
    with scenario.collection(scenario.generator()) as collection:
        assert [it.attempt.clip for it in to_the_end(collection)] == ["owl"]
    [reason] = collection.report.stuck.values()
    assert root.uri(key) in reason
    assert scenario.ledger().pending.tasks(DEFAULT_DATASET) == {}
    if body is None:
        root.delete(key)
    else:
        root.write(key, body)
    retry_stuck(scenario.ledger(), "clips", "fox")
    scenario.run_until_quiet()
    assert outcome_states(scenario) == {"fox": "done", "owl": "done"}
    assert scenario.charges_of("fox") == 1


def test_a_run_that_waits_for_a_clip_hears_that_another_run_set_it_aside(
    scenario: Scenario,
) -> None:
    scenario.request(scenario.generator(), clip())
    [attempt] = scenario.attempts()
    scenario.root().write(RECORDS["slot"](attempt), b"{ damaged")
    with scenario.collection(scenario.generator()) as collection:
        to_the_end(collection)
        # The other run is still there, and would set it aside again.
        with chosen(scenario.generator(), attempt, max_wait_seconds=3) as waiting:
            assert to_the_end(waiting) == []
    assert waiting.report.stuck == collection.report.stuck
    assert waiting.report.left == {}
    assert scenario.ledger().pending.tasks(DEFAULT_DATASET) == {}


def test_a_run_that_waits_for_an_ended_clip_reports_a_record_that_cannot_be_read(
    scenario: Scenario,
) -> None:
    scenario.request(scenario.generator(), clip("fox"))
    scenario.run_until_quiet()
    [attempt] = scenario.attempts_of("fox")
    scenario.root().write(layout.task_key(attempt.task_uuid, "outcome-0"), b"{damaged")
    with chosen(scenario.generator(), attempt, max_wait_seconds=3) as waiting:
        assert to_the_end(waiting) == []
    [reason] = waiting.report.stuck.values()
    assert "outcome-0.json cannot be read" in reason
    # It is in no index, so there is nothing that `resolve` could put back.
    assert "--retry" not in reason


@pytest.mark.parametrize("name", ["slot", "token", "manifest"])
def test_a_record_that_may_not_be_read_stops_its_own_clip(
    scenario: Scenario, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    scenario.request(scenario.generator(), clip("fox"), clip("owl"))
    key = RECORDS[name](scenario.attempts_of("fox")[0])
    root = scenario.root()
    read = root.read_if_present

    def refusing(wanted: str) -> bytes | None:
        if wanted == key:
            raise AccessDeniedError(f"{root.uri(wanted)}: the store refuses to read it")
        return read(wanted)

    monkeypatch.setattr(root, "read_if_present", refusing)
    with scenario.collection(scenario.generator(root)) as collection:
        assert [it.attempt.clip for it in to_the_end(collection)] == ["owl"]
    [reason] = collection.report.stuck.values()
    assert "refuses to read it" in reason


def test_an_object_that_may_not_be_written_stops_its_own_clip(
    scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    scenario.request(scenario.generator(), clip("fox"), clip("owl"))
    key = RECORDS["manifest"](scenario.attempts_of("fox")[0])
    root = scenario.root()
    create = root.create

    def refusing(wanted: str, body: bytes, **options: Any) -> bool:
        if wanted == key:
            raise AccessDeniedError(f"{wanted}: the store refuses to write it", action="write")
        return create(wanted, body, **options)

    with monkeypatch.context() as patch:
        patch.setattr(root, "create", refusing)
        with scenario.collection(scenario.generator(root)) as collection:
            assert [it.attempt.clip for it in to_the_end(collection)] == ["owl"]
    assert "the store refuses to write it" in collection.report.stuck["fox"]
    scenario.run_until_quiet()
    assert outcome_states(scenario) == {"fox": "done", "owl": "done"}
    assert scenario.charges_of("fox") == 1


def test_a_missing_slot_of_a_task_that_was_sent_is_reported(scenario: Scenario) -> None:
    scenario.settings = replace(QUICK, deadlines=replace(QUICK.deadlines, unsent_seconds=0.05))
    scenario.request(scenario.generator(), clip())
    [attempt] = scenario.attempts()
    scenario.root().delete(RECORDS["slot"](attempt))
    stuck: dict[str, str] = {}

    def is_reported() -> bool:
        with scenario.collection(scenario.generator()) as collection:
            to_the_end(collection)
            stuck.update(collection.report.stuck)
        return bool(stuck)

    assert wait_until(is_reported, timeout_seconds=30)
    assert "was sent, and the record of its attempt is missing" in str(stuck)


@pytest.mark.parametrize("then", ["collected", "asked for again"])
def test_a_missing_token_of_a_task_that_runware_has_is_not_paid_again(
    scenario: Scenario, then: str
) -> None:
    scenario.settings = replace(QUICK, deadlines=replace(QUICK.deadlines, unsent_seconds=-1.0))
    scenario.request(scenario.generator(), clip())
    [attempt] = scenario.attempts()
    scenario.root().delete(RECORDS["token"](attempt))
    if then == "asked for again":
        [again] = scenario.request(scenario.generator(), clip())
        assert again.state is RequestState.OUTSTANDING
    scenario.run_until_quiet()
    assert outcome_states(scenario) == {"fox": "done"}
    assert scenario.submissions == 1
    assert scenario.charges_of("fox") == 1


def test_a_task_that_runware_has_is_not_paid_again_without_its_token_and_slot(
    scenario: Scenario,
) -> None:
    scenario.settings = replace(QUICK, deadlines=replace(QUICK.deadlines, unsent_seconds=-1.0))
    scenario.request(scenario.generator(), clip())
    [attempt] = scenario.attempts()
    for name in ("slot", "token"):
        scenario.root().delete(RECORDS[name](attempt))
    with scenario.collection(scenario.generator()) as collection:
        assert to_the_end(collection) == []
    assert "was sent, and the record of its attempt is missing" in str(collection.report.stuck)


def test_a_root_without_its_root_record_is_not_taken_for_empty(scenario: Scenario) -> None:
    scenario.request(scenario.generator(), clip())
    scenario.root().delete(layout.ROOT_KEY)
    with (
        pytest.raises(RootMismatchError, match=r"Restore its root\.json"),
        scenario.collection(scenario.generator()),
    ):
        pass


# Requesting again


def test_a_collecting_run_waits_for_the_retries_that_it_makes(scenario: Scenario) -> None:
    scenario.sandbox.set_faults(rules=[{"fault": "fail", "error": "provider", "times": 2}])
    scenario.request(scenario.generator(), clip())
    with scenario.collection(scenario.generator()) as collection:
        [finished] = to_the_end(collection)
    assert (finished.attempt.attempt, finished.outcome.state) == (3, "done")


def test_an_api_that_fails_while_a_retry_is_made_does_not_end_the_collecting(
    scenario: Scenario,
) -> None:
    scenario.sandbox.set_faults(
        rules=[
            {"fault": "fail", "error": "provider", "times": 1},
            {"fault": "late_result", "delay_seconds": 0.5},
        ]
    )
    scenario.request(scenario.generator(), clip("fox"))
    # The collecting process has asked for nothing before, so a retry looks up the account first.
    scenario.sandbox.set_faults(
        rules=[{"fault": "status", "status": 503, "event": "account", "times": 9}]
    )
    with scenario.collection(scenario.generator()) as collection:
        [finished] = to_the_end(collection)
    assert finished.attempt.attempt == 2
    assert [it.state for it in scenario.outcomes_of("fox") if it] == ["failed", "done"]
    assert scenario.sandbox.struck()["status"] == 9


def test_tasks_that_no_answer_came_for_are_sent_again_in_one_submission(
    scenario: Scenario,
) -> None:
    scenario.settings = replace(HASTY, sending=replace(HASTY.sending, replay_window_seconds=0.0))
    scenario.sandbox.set_faults(rules=[{"fault": "lose_answer", "moment": "before", "nth": [1]}])
    names = [f"c{number}" for number in range(6)]
    scenario.request(scenario.generator(), *map(clip, names))
    scenario.run_until_quiet()
    assert set(outcome_states(scenario).values()) == {"done"}
    assert scenario.submissions == 2


def test_a_retry_is_paid_by_the_run_that_sent_the_task(scenario: Scenario) -> None:
    class KilledError(BaseException):
        pass

    class Dying(StorageRoot):
        def create(self, key: str, body: bytes, **options: Any) -> bool:
            if "/sent-1.json" in key:
                raise KilledError
            return super().create(key, body, **options)

    with pytest.raises(KilledError):
        scenario.request(scenario.generator(Dying(scenario.root_url)), clip(), root_run="claims it")
    scenario.sandbox.set_faults(rules=[{"fault": "fail", "error": "provider", "times": 1}])
    scenario.request(scenario.generator(), clip(), root_run="sends it")
    scenario.run_until_quiet()
    assert [it.state for it in scenario.outcomes_of("fox") if it] == ["failed", "done"]
    sent = [scenario.ledger().sent(it.task_uuid) for it in scenario.attempts()]
    assert [it and it.root_run for it in sent] == ["sends it", "sends it"]


def test_a_marker_of_no_use_is_removed(scenario: Scenario) -> None:
    scenario.request(scenario.generator(), clip())
    body = json.dumps({"taskUUID": "x", "errors": [{"code": "contentPolicyViolation"}]}).encode()
    [attempt] = scenario.attempts()
    write_marker(scenario.root(), DEFAULT_DATASET, attempt.task_uuid, body)
    write_marker(scenario.root(), DEFAULT_DATASET, "11111111-2222-4333-8444-555555555555", body)
    scenario.run_until_quiet()
    assert outcome_states(scenario) == {"fox": "done"}
    assert scenario.keys("inbox") == []
