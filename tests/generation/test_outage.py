"""A collection during an outage of Runware: it is recorded and reported, and nothing is lost."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from sora_dagster.generation.collecting.collection import Collection
from sora_dagster.generation.collecting.settings import CollectionLimits
from sora_dagster.generation.generator import Generator
from sora_dagster.generation.protocol.clocks import running_seconds
from sora_dagster.generation.protocol.collection_record import CollectionRecord, read_collection
from sora_dagster.local.processes import wait_until
from sora_dagster.prompts.clips import DEFAULT_DATASET
from sora_dagster.runware.client import RunwareClient
from sora_dagster.runware.errors import AuthenticationError
from tests.protocol.families import CATALOGUE
from tests.protocol.faulty_sandbox import KEY, FaultySandbox, faulty_sandbox, quick_requests
from tests.protocol.scenario import QUICK, Scenario, clip

OUTAGE = {"fault": "status", "event": "poll", "status": 503, "retry_after_seconds": 3600}
NEVER_ENDS = {"fault": "never_ends"}


class Clock:
    """The machine's clock, which a test can put forward."""

    def __init__(self) -> None:
        self.ahead_seconds = 0.0

    def __call__(self) -> float:
        return running_seconds() + self.ahead_seconds


@pytest.fixture(scope="module")
def api() -> Iterator[FaultySandbox]:
    with quick_requests(), faulty_sandbox() as sandbox:
        yield sandbox


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def scenario(api: FaultySandbox, tmp_path: Path) -> Iterator[Scenario]:
    scenario = Scenario(api, str(tmp_path / "storage"))
    yield scenario
    api.clear_faults()
    scenario.close()


@pytest.fixture
def generator(api: FaultySandbox, scenario: Scenario, clock: Clock) -> Iterator[Generator]:
    client = RunwareClient(KEY, base_url=api.base_url, catalogue=CATALOGUE, retry_attempts=1)
    with Generator(client, scenario.root(), QUICK, elapsed=clock) as generator:
        yield generator


def collection_of(generator: Generator, warnings: list[str]) -> Collection:
    limits = CollectionLimits(max_wait_seconds=3600)
    return generator.collection(
        limits, holder="run-1", datasets=[DEFAULT_DATASET], on_warning=warnings.append
    )


def until_a_poll_fails(collection: Collection, warnings: list[str]) -> None:
    def has_failed() -> bool:
        collection.wait()
        return any("a poll failed" in warning for warning in warnings)

    assert wait_until(has_failed, timeout_seconds=30)


def until_end(collection: Collection) -> None:
    while not collection.is_done:
        for finished in collection.wait():
            collection.close(finished)


def has_record(generator: Generator) -> bool:
    return read_collection(generator.ledger, DEFAULT_DATASET) is not None


def record_of(generator: Generator) -> CollectionRecord:
    record = read_collection(generator.ledger, DEFAULT_DATASET)
    assert record is not None
    return record


def test_an_outage_is_reported_at_the_end_and_recorded_while_it_lasts(
    api: FaultySandbox, scenario: Scenario, generator: Generator, clock: Clock
) -> None:
    api.set_faults(rules=[OUTAGE])
    scenario.request(generator, clip("fox"))
    warnings: list[str] = []
    with collection_of(generator, warnings) as collection:
        until_a_poll_fails(collection, warnings)
        clock.ahead_seconds += 700
        assert wait_until(
            lambda: collection.wait() == [] and has_record(generator), timeout_seconds=30
        )
        during = record_of(generator)
        clock.ahead_seconds += 3600
        until_end(collection)
    assert during.is_running
    assert during.error_kind == "server"
    assert during.unreachable_since is not None
    assert (during.updated_at - during.unreachable_since).total_seconds() >= 700
    assert collection.report.outage is not None
    assert collection.report.outage_seconds >= 4300
    assert list(collection.report.left) == [scenario.attempts()[0].task_uuid]
    after = record_of(generator)
    assert (after.is_running, after.failures_in_a_row, after.outstanding) == (False, 1, 1)


def test_an_outage_lasts_from_run_to_run_and_ends_with_the_first_poll_that_succeeds(
    api: FaultySandbox, scenario: Scenario, generator: Generator, clock: Clock
) -> None:
    api.set_faults(rules=[OUTAGE])
    scenario.request(generator, clip("fox"))
    records = []
    for _ in range(2):
        warnings: list[str] = []
        with collection_of(generator, warnings) as collection:
            until_a_poll_fails(collection, warnings)
            clock.ahead_seconds += 4000
            until_end(collection)
        records.append(record_of(generator))
    assert records[0].unreachable_since is not None
    assert records[1].unreachable_since == records[0].unreachable_since
    assert records[1].failed_polls > records[0].failed_polls
    assert records[1].failures_in_a_row == 2
    api.clear_faults()
    with collection_of(generator, []) as collection:
        until_end(collection)
    record = record_of(generator)
    assert (record.error, record.unreachable_since, record.failures_in_a_row) == (None, None, 0)
    assert (record.clips_stored, record.outstanding) == (1, 0)
    assert len(api.books()["charges"]) == scenario._charges_before + 1


def test_a_poll_that_fails_just_before_the_end_is_no_outage(
    api: FaultySandbox, scenario: Scenario, generator: Generator, clock: Clock
) -> None:
    api.set_faults(rules=[NEVER_ENDS])
    scenario.request(generator, clip("fox"))
    warnings: list[str] = []
    with collection_of(generator, warnings) as collection:
        # The first poll is in time before the fault.
        polls = generator.client.posts.polls
        assert wait_until(
            lambda: collection.wait() == [] and generator.client.posts.polls > polls + 1,
            timeout_seconds=30,
        )
        api.set_faults(rules=[OUTAGE])
        until_a_poll_fails(collection, warnings)
    assert collection.report.outage is None
    assert record_of(generator).error is None


def test_a_refused_key_is_recorded_with_its_kind(
    api: FaultySandbox, scenario: Scenario, generator: Generator
) -> None:
    scenario.request(generator, clip("fox"))
    api.set_faults(rules=[{"fault": "status", "event": "poll", "status": 401}])
    with pytest.raises(AuthenticationError), collection_of(generator, []) as collection:
        until_end(collection)
    record = record_of(generator)
    assert (record.error_kind, record.failures_in_a_row) == ("authentication", 1)


def test_failures_are_counted_by_kind(
    api: FaultySandbox, scenario: Scenario, generator: Generator
) -> None:
    api.set_faults(rules=[{"fault": "fail", "error": "safety"}])
    scenario.request(generator, clip("fox"))
    with collection_of(generator, []) as collection:
        until_end(collection)
    assert record_of(generator).clips_failed == {"safety": 1}
