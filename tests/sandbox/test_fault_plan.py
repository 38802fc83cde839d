"""A fault plan: how it is read, set, counted and cleared."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from sora_dagster.sandbox.faults.active import ActiveFaults
from sora_dagster.sandbox.faults.plan import (
    FaultPlan,
    FaultPlanError,
    load_fault_plan,
    read_fault_plan,
)
from sora_dagster.sandbox.faults.request_faults import AnswerFault
from sora_dagster.sandbox.faults.rules import Event, EventKind, TaskFacts
from sora_dagster.sandbox.settings import SandboxSettings
from tests.sandbox.api import SandboxApi, video_task

PLAN: dict[str, Any] = {
    "known_uuids": "charged_again",
    "rules": [
        {"fault": "lose_answer", "nth": [1, 3]},
        {"fault": "status", "event": ["poll"], "status": 503, "times": 2},
    ],
}


def problems_of(value: object) -> tuple[str, ...]:
    with pytest.raises(FaultPlanError) as caught:
        read_fault_plan(value)
    return caught.value.problems


def submission(*prompts: str) -> Event:
    facts = [TaskFacts(f"uuid-of-{prompt}", prompt) for prompt in prompts]
    return Event("submission", tuple(facts))


def occasions(rule: dict[str, Any], events: list[Event], *, clock: Any = lambda: 0.0) -> list[bool]:
    """On which of the events a rule strikes."""
    faults = ActiveFaults(read_fault_plan({"rules": [rule]}), clock=clock)
    return [bool(faults.strikes(AnswerFault, event)) for event in events]


def test_nothing_is_a_plan_that_changes_nothing() -> None:
    assert read_fault_plan(None) == FaultPlan()


def test_a_plan_is_frozen() -> None:
    with pytest.raises(ValidationError):
        FaultPlan().known_uuids = "charged_again"  # type: ignore[misc]


def test_a_plan_is_read_from_yaml(tmp_path: Path) -> None:
    path = tmp_path / "faults.yaml"
    path.write_text("rules:\n- {fault: status, event: poll, status: 503, times: 4}\n")
    (rule,) = load_fault_plan(path).rules
    assert (rule.fault, rule.event, rule.times) == ("status", ("poll",), 4)


def test_a_plan_is_read_from_json(tmp_path: Path) -> None:
    path = tmp_path / "faults.json"
    path.write_text('{"rules": [{"fault": "reset", "nth": 2}]}')
    (rule,) = load_fault_plan(path).rules
    assert rule.nth == (2,)


@pytest.mark.parametrize("content", ["rules: [", "- fault: reset", "rules: {fault: reset}"])
def test_a_file_that_is_no_plan_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / "faults.yaml"
    path.write_text(content)
    with pytest.raises(FaultPlanError):
        load_fault_plan(path)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(FaultPlanError, match=r"nowhere\.yaml"):
        load_fault_plan(tmp_path / "nowhere.yaml")


def test_all_problems_of_a_plan_are_named_with_their_places() -> None:
    problems = problems_of(
        {
            "known_uuids": "sometimes",
            "rules": [
                {"fault": "lose_answer", "nth": [0]},
                {"fault": "lose_anser"},
                {"times": 3},
                {"fault": "status", "status": 200},
                {"fault": "fail", "event": "poll"},
                {"fault": "forgotten"},
                {"fault": "reset", "nth": [1], "times": 1},
                {"fault": "reset", "time": 1},
                {"fault": "lose_answer", "per": "result"},
            ],
        }
    )
    places = [problem.partition(": ")[0] for problem in problems]
    assert places == [
        "known_uuids",
        "rules[0].nth[0]",
        "rules[1]",
        "rules[2]",
        "rules[3].status",
        "rules[4].event[0]",
        "rules[5]",
        "rules[6]",
        "rules[7].time",
        "rules[8].per",
    ]


def test_an_unknown_fault_is_answered_with_the_known_ones() -> None:
    (problem,) = problems_of({"rules": [{"fault": "lose_anser"}]})
    assert "'lose_anser'" in problem
    assert "lose_answer" in problem
    assert "download_gone" in problem


def test_a_rule_strikes_always_by_default() -> None:
    assert occasions({"fault": "reset"}, [submission("a")] * 3) == [True] * 3


def test_a_rule_strikes_the_occurrences_that_it_names() -> None:
    rule = {"fault": "reset", "nth": [1, 3]}
    assert occasions(rule, [submission("a")] * 4) == [True, False, True, False]


def test_a_rule_strikes_the_first_times() -> None:
    rule = {"fault": "reset", "times": 2}
    assert occasions(rule, [submission("a")] * 4) == [True, True, False, False]


def test_only_events_that_fit_are_counted() -> None:
    rule = {"fault": "reset", "nth": 2, "prompt_contains": "boat"}
    events = [submission(prompt) for prompt in ("boat", "tree", "tree", "a boat", "boat")]
    assert occasions(rule, events) == [False, False, False, True, False]


def test_a_batch_is_struck_where_one_of_its_tasks_fits() -> None:
    rule = {"fault": "reset", "task_uuids": ["UUID-of-boat"]}
    assert occasions(rule, [submission("tree", "boat"), submission("tree")]) == [True, False]


def test_prompt_and_uuid_must_fit_the_same_task() -> None:
    rule = {"fault": "reset", "task_uuids": "uuid-of-tree", "prompt_contains": "boat"}
    assert occasions(rule, [submission("tree", "boat")]) == [False]


def test_occurrences_can_be_counted_for_each_task() -> None:
    rule = {"fault": "reset", "times": 1, "per": "task"}
    events = [submission(prompt) for prompt in ("a", "b", "a", "b", "c")]
    assert occasions(rule, events) == [True, True, False, False, True]


def test_a_rule_can_end_some_time_after_the_plan_was_set() -> None:
    now = iter([100.0, 100.0, 104.9, 105.0])
    rule = {"fault": "reset", "for_seconds": 5}
    assert occasions(rule, [submission("a")] * 3, clock=lambda: next(now)) == [True, True, False]


def test_other_kinds_of_events_are_not_struck() -> None:
    rule = {"fault": "reset", "event": ["poll", "details"]}
    kinds: list[EventKind] = ["submission", "poll", "details", "account"]
    assert occasions(rule, [Event(kind, ()) for kind in kinds]) == [False, True, True, False]


def test_a_fault_that_decides_is_the_last_to_strike_and_later_rules_only_count() -> None:
    rules = [
        {"fault": "slow", "delay_seconds": 1},
        {"fault": "reset", "nth": 1},
        {"fault": "lose_answer", "nth": [1, 2]},
    ]
    faults = ActiveFaults(read_fault_plan({"rules": rules}), clock=lambda: 0.0)
    struck = [
        [fault.fault for fault in faults.strikes(AnswerFault, submission("a"))]  # type: ignore[attr-defined]
        for _ in range(2)
    ]
    assert struck == [["slow", "reset"], ["slow", "lose_answer"]]
    assert [(rule["matched"], rule["struck"]) for rule in faults.to_json()["rules"]] == [
        (2, 2),
        (2, 1),
        (2, 1),
    ]


def test_settings_take_one_plan_only(tmp_path: Path) -> None:
    with pytest.raises(ValidationError, match="faults or faults_path"):
        SandboxSettings(faults=FaultPlan(), faults_path=tmp_path / "faults.yaml")


def test_a_plan_of_the_settings_is_in_force_from_the_start(
    start: Callable[..., SandboxApi],
) -> None:
    api = start(faults=read_fault_plan({"rules": [{"fault": "empty_data"}]}))
    assert api.post(video_task()).json() == {"data": []}


def test_a_plan_is_set_and_read_over_http_with_its_counts(
    start: Callable[..., SandboxApi],
) -> None:
    api = start()
    assert api.http.put(api.faults_url, json=PLAN).status_code == 200
    api.poll(video_task()["taskUUID"])
    assert api.http.get(api.faults_url).json() == {
        "plan": PLAN,
        "rules": [
            {"fault": "lose_answer", "matched": 0, "struck": 0},
            {"fault": "status", "matched": 1, "struck": 1},
        ],
    }


def test_a_plan_that_is_set_again_counts_from_the_beginning(
    start: Callable[..., SandboxApi],
) -> None:
    api = start()
    for _ in range(2):
        api.set_faults({"fault": "empty_data", "nth": 1})
        assert api.post(video_task()).json() == {"data": []}
        assert api.post(video_task()).json() != {"data": []}


def test_faults_stop_when_the_plan_is_deleted(start: Callable[..., SandboxApi]) -> None:
    api = start()
    api.set_faults({"fault": "empty_data"})
    assert api.http.delete(api.faults_url).json() == {"plan": {}, "rules": []}
    assert api.post(video_task()).json() != {"data": []}


def test_an_invalid_plan_is_refused_over_http_and_the_earlier_one_stays(
    start: Callable[..., SandboxApi],
) -> None:
    api = start()
    api.set_faults({"fault": "empty_data"})
    wrong = {"rules": [{"fault": "reset", "nth": [0]}], "known_uuids": "never"}
    response = api.http.put(api.faults_url, json=wrong)
    assert response.status_code == 400
    assert [problem.partition(":")[0] for problem in response.json()["problems"]] == [
        "known_uuids",
        "rules[0].nth[0]",
    ]
    assert api.post(video_task()).json() == {"data": []}


@pytest.mark.parametrize("body", [b"", b"rules: []", b"null", b"[]", b"\xff"])
def test_a_body_that_is_no_plan_is_refused(api: SandboxApi, body: bytes) -> None:
    response = api.http.put(api.faults_url, content=body)
    assert response.status_code == 400
    assert len(response.json()["problems"]) == 1
