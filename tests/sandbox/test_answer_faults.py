"""Faults of the answer to a whole POST, as a client meets them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import uuid4

import httpx
import pytest

from tests.sandbox.api import SandboxApi, until, video_task


@pytest.fixture
def api(start: Callable[..., SandboxApi]) -> SandboxApi:
    """A sandbox for one test, which can check its ledger."""
    return start()


@pytest.mark.parametrize(
    ("fault", "error"),
    [("lose_answer", httpx.RemoteProtocolError), ("reset", httpx.ReadError)],
)
def test_an_answer_is_lost_after_everything_was_accepted(
    api: SandboxApi, fault: str, error: type[Exception]
) -> None:
    api.set_faults({"fault": fault, "nth": 1})
    tasks = [video_task(), video_task()]
    with pytest.raises(error):
        api.post(*tasks)
    assert api.charged() == [task["taskUUID"] for task in tasks]
    assert api.results(tasks[0]["taskUUID"])


@pytest.mark.parametrize(
    ("fault", "error"),
    [("lose_answer", httpx.RemoteProtocolError), ("reset", httpx.ReadError)],
)
def test_a_connection_is_lost_before_anything_is_accepted(
    api: SandboxApi, fault: str, error: type[Exception]
) -> None:
    api.set_faults({"fault": fault, "moment": "before", "nth": 1})
    task = video_task()
    with pytest.raises(error):
        api.post(task)
    assert api.charged() == []
    assert api.post(task).status_code == 200


def test_an_answer_can_be_waited_for_in_vain(api: SandboxApi) -> None:
    api.set_faults({"fault": "no_answer"})
    task = video_task()
    give_up_soon(api, task)
    until(lambda: api.charged() == [task["taskUUID"]], what="the acceptance")


def test_garbage_is_answered_after_everything_was_accepted(api: SandboxApi) -> None:
    api.set_faults({"fault": "garbage", "body": "<oops>"})
    task = video_task()
    response = api.post(task)
    assert (response.status_code, response.text) == (200, "<oops>")
    assert api.charged() == [task["taskUUID"]]


def test_empty_data_is_answered_after_everything_was_accepted(api: SandboxApi) -> None:
    api.set_faults({"fault": "empty_data"})
    task = video_task()
    response = api.post(task)
    assert (response.status_code, response.json()) == (200, {"data": []})
    assert api.charged() == [task["taskUUID"]]


@pytest.mark.parametrize("status", [500, 503, 504])
@pytest.mark.parametrize(("moment", "charges"), [("before", 0), ("after", 1)])
def test_an_error_status_comes_before_or_after_the_acceptance(
    api: SandboxApi, status: int, moment: str, charges: int
) -> None:
    api.set_faults({"fault": "status", "status": status, "moment": moment})
    assert api.post(video_task()).status_code == status
    assert len(api.charged()) == charges


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (401, "invalidApiKey"),
        (402, "insufficientCredits"),
        (413, "payloadTooLarge"),
        (429, "rateLimitExceeded"),
    ],
)
def test_a_refusing_status_comes_before_the_acceptance_with_a_code_that_suits_it(
    api: SandboxApi, status: int, code: str
) -> None:
    api.set_faults({"fault": "status", "status": status})
    response = api.post(video_task())
    assert response.status_code == status
    (error,) = response.json()["errors"]
    assert error["code"] == code
    assert api.charged() == []


def test_too_many_requests_say_when_to_retry(api: SandboxApi) -> None:
    api.set_faults({"fault": "status", "status": 429, "retry_after_seconds": 7, "nth": 1})
    assert api.post(video_task()).headers["Retry-After"] == "7"
    assert api.post(video_task()).status_code == 200


def test_an_error_status_can_come_as_a_page(api: SandboxApi) -> None:
    api.set_faults({"fault": "status", "status": 503, "body": "html"})
    response = api.post(video_task())
    assert response.headers["Content-Type"].startswith("text/html")
    assert "503" in response.text


def give_up_soon(api: SandboxApi, task: dict[str, Any]) -> None:
    """Submit a task that is not answered in time."""
    with pytest.raises(httpx.ReadTimeout):
        api.http.post(api.base_url, json=[task], timeout=0.2)


def test_a_task_is_accepted_though_its_answer_is_slow(api: SandboxApi) -> None:
    api.set_faults({"fault": "slow", "delay_seconds": 1000})
    give_up_soon(api, video_task())
    until(lambda: len(api.charged()) == 1, what="the acceptance")


def test_the_acceptance_can_be_slow_too(api: SandboxApi) -> None:
    api.set_faults({"fault": "slow", "delay_seconds": 1000, "moment": "before"})
    give_up_soon(api, video_task())
    assert api.charged() == []


@pytest.mark.parametrize("moment", ["before", "after"])
def test_a_slow_answer_is_correct(api: SandboxApi, moment: str) -> None:
    api.set_faults({"fault": "slow", "delay_seconds": 0.1, "moment": moment})
    task = video_task()
    assert api.post(task).json()["data"][0]["taskUUID"] == task["taskUUID"]
    assert api.struck() == [1]


def test_faults_of_submissions_leave_polls_alone(api: SandboxApi) -> None:
    api.set_faults({"fault": "empty_data"})
    task = video_task()
    api.post(task)
    assert api.results(task["taskUUID"])


@pytest.mark.parametrize("status", [429, 500, 503, 504])
def test_polls_are_refused_for_a_while(api: SandboxApi, status: int) -> None:
    task = video_task()
    api.post(task)
    rule = {"fault": "status", "event": "poll", "status": status, "retry_after_seconds": 1}
    api.set_faults({**rule, "times": 2})
    answers = [api.poll(task["taskUUID"]) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [status, status, 200]
    assert answers[0].headers["Retry-After"] == "1"


@pytest.mark.parametrize(
    ("fault", "error"),
    [("lose_answer", httpx.RemoteProtocolError), ("reset", httpx.ReadError)],
)
def test_the_connection_of_a_poll_is_dropped(
    api: SandboxApi, fault: str, error: type[Exception]
) -> None:
    task = video_task()
    api.post(task)
    api.set_faults({"fault": fault, "event": "poll", "nth": 1})
    with pytest.raises(error):
        api.poll(task["taskUUID"])
    assert api.results(task["taskUUID"])


def test_a_poll_is_answered_with_garbage(api: SandboxApi) -> None:
    api.set_faults({"fault": "garbage", "event": "poll"})
    with pytest.raises(ValueError, match="Expecting value"):
        api.poll(str(uuid4())).json()


def test_batched_polls_are_refused_and_single_ones_answered(api: SandboxApi) -> None:
    tasks = [video_task(), video_task()]
    api.post(*tasks)
    api.set_faults({"fault": "refuse_batch"})
    polls = [{"taskType": "getResponse", "taskUUID": task["taskUUID"]} for task in tasks]
    assert api.post(*polls).status_code == 400
    assert api.post(polls[0]).status_code == 200
    assert api.struck() == [1]


def test_faults_strike_polls_of_tasks_by_their_prompt(api: SandboxApi) -> None:
    boat, tree = video_task(positivePrompt="a boat"), video_task(positivePrompt="a tree")
    api.post(boat, tree)
    api.set_faults({"fault": "status", "status": 500, "event": "poll", "prompt_contains": "boat"})
    assert api.poll(boat["taskUUID"]).status_code == 500
    assert api.poll(tree["taskUUID"]).status_code == 200


OTHER_POSTS: dict[str, dict[str, Any]] = {
    "details": {"taskType": "getTaskDetails", "taskUUID": str(uuid4())},
    "account": {
        "taskType": "accountManagement",
        "taskUUID": str(uuid4()),
        "operation": "getDetails",
    },
    "other": {"taskType": "ping"},
}


@pytest.mark.parametrize("kind", list(OTHER_POSTS))
def test_other_posts_can_be_struck_too(api: SandboxApi, kind: str) -> None:
    api.set_faults({"fault": "status", "status": 500, "event": kind})
    statuses = {name: api.post(task).status_code for name, task in OTHER_POSTS.items()}
    assert [name for name, status in statuses.items() if status == 500] == [kind]


def test_a_dry_run_is_no_submission_to_the_plan(api: SandboxApi) -> None:
    headers = {"X-Runware-Dry-Run": "1"}
    api.set_faults({"fault": "status", "status": 500})
    assert api.post(video_task(), headers=headers).status_code == 200
    api.set_faults({"fault": "status", "status": 500, "event": "dry_run"})
    assert api.post(video_task(), headers=headers).status_code == 500


def test_a_wrong_key_is_refused_before_any_fault(api: SandboxApi) -> None:
    api.set_faults({"fault": "reset"})
    assert SandboxApi(api.base_url, key="wrong").post(video_task()).status_code == 401
    assert api.struck() == [0]


def test_a_connection_behind_a_proxy_can_be_cut(api: SandboxApi) -> None:
    api.set_faults({"fault": "lose_answer"})
    with pytest.raises(httpx.RemoteProtocolError):
        api.post(video_task(), headers={"X-Forwarded-For": "10.1.2.3"})
