"""Faults of generations, and what the ledger says about them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.sandbox.api import SandboxApi, until, video_task


@pytest.fixture
def api(start: Callable[..., SandboxApi]) -> SandboxApi:
    """A sandbox for one test, which can check its ledger."""
    return start()


def outcome(api: SandboxApi, index: int = 0) -> str | None:
    """How a charged task ended; none while it runs."""
    outcome: str = api.ledger()["charges"][index]["outcome"]
    return None if outcome == "running" else outcome


def ended(api: SandboxApi, **fields: Any) -> dict[str, Any]:
    """A new task, once it is over."""
    task = video_task(**fields)
    assert api.post(task).status_code == 200
    until(lambda: outcome(api, -1), what="the end of the task")
    return task


@pytest.mark.parametrize(
    ("error", "code"),
    [
        ("provider", "inferenceError"),
        ("safety", "contentPolicyViolation"),
        ("timeout", "timeoutProvider"),
    ],
)
def test_a_generation_fails_with_an_error_of_its_kind(
    api: SandboxApi, error: str, code: str
) -> None:
    api.set_faults({"fault": "fail", "error": error})
    task = ended(api)
    answer = api.poll(task["taskUUID"])
    assert answer.status_code == 200
    (reported,) = answer.json()["errors"]
    assert (reported["code"], reported["taskUUID"]) == (code, task["taskUUID"])
    assert "data" not in answer.json()


def test_a_failure_can_be_reported_as_a_row(api: SandboxApi) -> None:
    api.set_faults({"fault": "fail", "reported_in": "data", "message": "no"})
    task = ended(api)
    body = api.poll(task["taskUUID"]).json()
    assert "errors" not in body
    (row,) = body["data"]
    assert (row["status"], row["error"]["message"]) == ("error", "no")


def test_a_failing_generation_is_running_until_it_is_due(start: Callable[..., SandboxApi]) -> None:
    api = start(latency_seconds=1000)
    api.set_faults({"fault": "fail"})
    task = video_task()
    api.post(task)
    assert api.rows(task["taskUUID"])[0]["status"] == "processing"


def test_some_of_the_results_of_a_task_fail(api: SandboxApi) -> None:
    api.set_faults({"fault": "fail", "results": [0, 2]})
    task = ended(api, numberResults=3)
    body = api.poll(task["taskUUID"]).json()
    assert (len(body["data"]), len(body["errors"])) == (1, 2)
    charge = api.ledger()["charges"][0]
    assert charge["outcome"] == "partial"
    assert [video["state"] for video in charge["videos"]] == ["error", "success", "error"]


def test_generations_are_counted_in_the_order_of_their_acceptance(api: SandboxApi) -> None:
    api.set_faults({"fault": "fail", "nth": [2, 3]})
    ended(api, numberResults=2)
    ended(api, numberResults=2)
    states = [[video["state"] for video in charge["videos"]] for charge in api.ledger()["charges"]]
    assert states == [["success", "error"], ["error", "success"]]


def test_a_generation_that_never_ends_stays_in_processing(api: SandboxApi) -> None:
    api.set_faults({"fault": "never_ends", "results": [0]})
    task = video_task(numberResults=2)
    api.post(task)
    api.results(task["taskUUID"])
    rows = api.rows(task["taskUUID"])
    assert [row["status"] for row in rows] == ["processing", "success"]
    assert api.ledger()["charges"][0]["outcome"] == "running"


def test_a_late_result_keeps_its_task_running(api: SandboxApi) -> None:
    api.set_faults({"fault": "late_result", "delay_seconds": 1000, "times": 1})
    late, other = video_task(), video_task()
    api.post(late, other)
    api.results(other["taskUUID"])
    assert api.rows(late["taskUUID"])[0]["status"] == "processing"


def test_a_late_result_comes_in_the_end(api: SandboxApi) -> None:
    api.set_faults({"fault": "late_result", "delay_seconds": 0.2})
    assert api.video()["videoURL"]
    assert api.struck() == [1]


def test_a_result_is_reported_as_not_safe_for_work(api: SandboxApi) -> None:
    api.set_faults({"fault": "nsfw", "nth": 1})
    assert api.video()["NSFWContent"] is True
    assert "NSFWContent" not in api.video()


def test_a_cost_is_missing_though_it_was_requested_and_charged(api: SandboxApi) -> None:
    api.set_faults({"fault": "wrong_cost"})
    assert "cost" not in api.video(includeCost=True)
    assert api.ledger()["total_usd"] == 1.2


def test_a_cost_is_reported_as_zero_though_it_was_charged(api: SandboxApi) -> None:
    api.set_faults({"fault": "wrong_cost", "reported": "zero"})
    assert api.video(includeCost=True)["cost"] == 0
    assert api.ledger()["total_usd"] == 1.2


def test_faults_that_do_not_exclude_each_other_come_together(api: SandboxApi) -> None:
    api.set_faults({"fault": "nsfw"}, {"fault": "wrong_cost", "reported": "zero"})
    row = api.video(includeCost=True)
    assert (row["NSFWContent"], row["cost"]) == (True, 0)


def test_failed_results_are_charged_all_the_same(api: SandboxApi) -> None:
    api.set_faults({"fault": "fail", "results": [0]})
    ended(api, numberResults=2)
    ledger = api.ledger()
    assert ledger["total_usd"] == 2.4
    assert [video["cost"] for video in ledger["charges"][0]["videos"]] == [1.2, 1.2]


def test_failed_results_can_be_given_back(api: SandboxApi) -> None:
    api.set_faults({"fault": "fail", "results": [0]}, failed_are_charged=False)
    ended(api, numberResults=2)
    ledger = api.ledger()
    assert (ledger["total_usd"], ledger["balance_usd"]) == (1.2, 998.8)
    (charge,) = ledger["charges"]
    assert charge["cost"] == 1.2
    assert [video["cost"] for video in charge["videos"]] == [0, 1.2]


def test_the_ledger_has_the_outcome_of_each_attempt(start: Callable[..., SandboxApi]) -> None:
    api = start()
    ended(api)
    api.set_faults(
        {"fault": "fail", "prompt_contains": "fails"},
        {"fault": "never_ends", "prompt_contains": "stays"},
    )
    ended(api, positivePrompt="fails")
    api.post(video_task(positivePrompt="stays"))
    charges = api.ledger()["charges"]
    assert [charge["outcome"] for charge in charges] == ["done", "failed", "running"]


def test_the_ledger_names_the_video_that_polls_report(api: SandboxApi) -> None:
    row = api.video()
    (video,) = api.ledger()["charges"][0]["videos"]
    assert video == {"videoUUID": row["videoUUID"], "state": "success", "cost": 1.2}
