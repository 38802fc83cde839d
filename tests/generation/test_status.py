"""The state of a storage root: from its records alone, and what needs attention."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from sora_dagster.generation.protocol import layout
from sora_dagster.generation.protocol.collection_record import CollectionRecord, write_collection
from sora_dagster.generation.protocol.markers import write_marker
from sora_dagster.generation.protocol.spending_limits import SpendingLimits
from sora_dagster.generation.resolve import give_up, retry_stuck
from sora_dagster.generation.status.problems import AccountAnswer, budget_problems, find_problems
from sora_dagster.generation.status.reader import read_status
from sora_dagster.generation.status.root_status import DatasetStatus, RootStatus
from sora_dagster.prompts.clips import DEFAULT_DATASET
from sora_dagster.runware.account import AccountStatus
from tests.protocol.faulty_sandbox import FaultySandbox, faulty_sandbox, quick_requests
from tests.protocol.scenario import HASTY, Scenario, clip

FINE = AccountAnswer(status=AccountStatus(balance_usd=5.0))


@pytest.fixture(scope="module")
def api() -> Iterator[FaultySandbox]:
    with quick_requests(), faulty_sandbox() as sandbox:
        yield sandbox


@pytest.fixture
def scenario(api: FaultySandbox, tmp_path: Path) -> Iterator[Scenario]:
    scenario = Scenario(api, str(tmp_path / "storage"))
    yield scenario
    api.clear_faults()
    scenario.close()


def status_of(
    scenario: Scenario, *, day_limit_usd: float | None = None, later: timedelta = timedelta()
) -> RootStatus:
    ledger = scenario.ledger()
    return read_status(
        ledger,
        clock=lambda: datetime.now(UTC) + later,
        limits=SpendingLimits(day_usd=day_limit_usd),
    )


def dataset_of(scenario: Scenario) -> DatasetStatus:
    [dataset] = status_of(scenario).datasets
    return dataset


def problems_of(
    scenario: Scenario,
    account: AccountAnswer = FINE,
    *,
    day_limit_usd: float | None = None,
    later: timedelta = timedelta(),
) -> list[tuple[str, str]]:
    status = status_of(scenario, day_limit_usd=day_limit_usd, later=later)
    return [(found.subject, found.severity) for found in find_problems(status, account)]


def states(scenario: Scenario) -> dict[str, int]:
    return {state: number for state, number in dataset_of(scenario).tasks.items() if number}


def test_nothing_needs_attention_in_an_empty_root(scenario: Scenario) -> None:
    assert status_of(scenario).datasets == ()
    assert problems_of(scenario) == []


def test_outstanding_tasks_are_counted_by_state(api: FaultySandbox, scenario: Scenario) -> None:
    api.set_faults(rules=[{"fault": "never_ends"}])
    generator = scenario.generator()
    scenario.request(generator, clip("fox"), clip("owl"))
    assert states(scenario) == {"accepted": 2}
    uuid = scenario.attempts_of("fox")[0].task_uuid
    write_marker(scenario.root(), DEFAULT_DATASET, uuid, b"{}")
    assert states(scenario) == {"accepted": 1, "finished": 1}
    dataset = dataset_of(scenario)
    assert (dataset.markers, dataset.outstanding) == (1, 2)
    assert problems_of(scenario) == []


def test_reading_the_status_writes_nothing(api: FaultySandbox, scenario: Scenario) -> None:
    scenario.request(scenario.generator(), clip("fox"))
    before = {info.key: info.last_modified for info in scenario.root().list("")}
    status_of(scenario)
    assert {info.key: info.last_modified for info in scenario.root().list("")} == before


def test_what_was_spent_is_compared_with_the_limits(scenario: Scenario) -> None:
    scenario.request(scenario.generator(), clip("fox"), limit_usd=10.0)
    spending = status_of(scenario).spending
    assert spending.day_usd is not None
    assert spending.day_usd > 0
    [run] = spending.runs
    assert (run.root_run, run.limit_usd) == ("run", 10.0)
    assert run.used_usd == spending.day_usd
    assert problems_of(scenario, day_limit_usd=spending.day_usd * 2) == []
    assert problems_of(scenario, day_limit_usd=spending.day_usd / 0.9) == [
        ("budget_use", "warning")
    ]
    assert problems_of(scenario, day_limit_usd=spending.day_usd) == [("budget_use", "error")]


def test_the_daily_limit_of_a_dataset_warns_before_it_is_used_up(scenario: Scenario) -> None:
    scenario.request(scenario.generator(), clip("fox"))
    used_usd = status_of(scenario).spending.day_usd
    assert used_usd
    for limit_usd, expected in (
        (used_usd * 2, []),
        (used_usd / 0.9, ["warning"]),
        (used_usd, ["error"]),
    ):
        status = read_status(
            scenario.ledger(),
            clock=lambda: datetime.now(UTC),
            limits=SpendingLimits(dataset_day_usd={"default": limit_usd, "other": limit_usd}),
        )
        assert [item.used_usd for item in status.spending.datasets] == [used_usd, 0.0]
        problems = budget_problems(status.spending)
        assert [problem.severity for problem in problems] == expected
        assert all(
            "dataset default's daily spending limit" in problem.sentence for problem in problems
        )


def test_what_nobody_collects_needs_attention_after_an_hour(scenario: Scenario) -> None:
    scenario.request(scenario.generator(), clip("fox"))
    assert problems_of(scenario, later=timedelta(minutes=50)) == []
    assert problems_of(scenario, later=timedelta(minutes=61)) == [("collecting_works", "error")]


def test_a_stuck_clip_is_named_with_the_command_that_helps(scenario: Scenario) -> None:
    generator = scenario.generator()
    scenario.request(generator, clip("fox"))
    key = scenario.attempts_of("fox")[0].key
    record = scenario.root().read(key)
    scenario.root().write(key, b"{")
    scenario.collect(generator, rounds=2)
    [task] = dataset_of(scenario).notable
    assert (task.clip, task.state) == ("fox", "stuck")
    assert task.command == "sora-dagster resolve fox --asset clips --retry"
    assert ("no_clip_needs_a_decision", "error") in problems_of(scenario)
    scenario.root().write(key, record)
    retry_stuck(scenario.ledger(), "clips", "fox")
    scenario.run_until_quiet(scenario.generator())
    assert dataset_of(scenario).notable == ()
    assert problems_of(scenario) == []


def test_a_clip_that_may_have_been_paid_for_is_named_until_a_person_decides(
    api: FaultySandbox, scenario: Scenario
) -> None:
    api.set_faults(
        rules=[
            {"fault": "status", "event": "submission", "status": 503},
            {"fault": "empty_data", "event": "poll"},
            {"fault": "empty_data", "event": "details"},
        ]
    )
    scenario.settings = HASTY
    generator = scenario.generator()
    scenario.request(generator, clip("fox"))
    scenario.run_until_quiet(generator)
    [task] = dataset_of(scenario).notable
    assert (task.clip, task.state) == ("fox", "undecided")
    assert task.command == "sora-dagster resolve fox --asset clips --resend"
    assert problems_of(scenario) == [("no_clip_needs_a_decision", "error")]
    give_up(scenario.ledger(), "clips", "fox")
    assert problems_of(scenario) == []


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, []),
        ({"failures_in_a_row": 2, "error": "x", "error_kind": "other"}, []),
        (
            {"failures_in_a_row": 3, "error": "x", "error_kind": "other"},
            [("collecting_works", "error")],
        ),
        (
            {"error": "refused", "error_kind": "authentication", "failures_in_a_row": 1},
            [("runware_works", "error")],
        ),
        (
            {"error": "paused", "error_kind": "quota", "failures_in_a_row": 1},
            [("runware_works", "error")],
        ),
        ({"minutes": 3, "error": "x", "error_kind": "server"}, [("runware_works", "warning")]),
        ({"minutes": 10, "error": "x", "error_kind": "server"}, [("runware_works", "error")]),
    ],
)
def test_what_became_of_the_last_collection(
    scenario: Scenario, changes: dict[str, object], expected: list[tuple[str, str]]
) -> None:
    scenario.request(scenario.generator(), clip("fox"))
    now = datetime.now(UTC)
    minutes = changes.pop("minutes", None)
    since = None if minutes is None else now - timedelta(minutes=float(str(minutes)))
    record = CollectionRecord.model_validate(
        {
            "holder": "run-1",
            "started_at": now - timedelta(hours=1),
            "updated_at": now,
            "is_running": False,
            "unreachable_since": since,
            **changes,
        }
    )
    write_collection(scenario.ledger(), DEFAULT_DATASET, record)
    assert problems_of(scenario) == expected


@pytest.mark.parametrize(
    "account",
    [
        AccountAnswer(status=AccountStatus(balance_usd=0.0)),
        AccountAnswer(error="refused", error_kind="authentication"),
        AccountAnswer(error="no connection", error_kind="connection"),
    ],
)
def test_an_account_that_cannot_pay_needs_attention(
    scenario: Scenario, account: AccountAnswer
) -> None:
    assert problems_of(scenario, account) == [("runware_works", "error")]


def test_a_damaged_record_of_the_last_collection_is_as_none(scenario: Scenario) -> None:
    scenario.request(scenario.generator(), clip("fox"))
    scenario.root().write(layout.collection_key(DEFAULT_DATASET), b"{")
    assert dataset_of(scenario).last_collection is None
