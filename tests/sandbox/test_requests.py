"""The body of a POST as a whole, and the tasks that generate nothing."""

from __future__ import annotations

from collections.abc import Callable
from uuid import uuid4

import pytest

from tests.sandbox.api import SandboxApi, video_task


@pytest.mark.parametrize(
    "body",
    [b"", b"not json", b"{}", b'{"taskType": "ping"}', b"[1]", b"[NaN]", b'["\\ud800"]', b"[]"],
)
def test_a_body_that_is_no_array_of_tasks_is_refused_whole(api: SandboxApi, body: bytes) -> None:
    response = api.http.post(api.base_url, content=body)
    assert response.status_code == 400
    (error,) = response.json()["errors"]
    assert "taskUUID" not in error


def test_half_a_surrogate_pair_in_a_prompt_is_refused(api: SandboxApi) -> None:
    body = b'[{"taskType": "videoInference", "positivePrompt": "a \\ud83d boat"}]'
    assert api.http.post(api.base_url, content=body).status_code == 400


def test_a_whole_surrogate_pair_in_a_prompt_is_text(api: SandboxApi) -> None:
    response = api.post(video_task(positivePrompt="a \N{SAILBOAT}\N{WATER WAVE} boat"))
    assert response.status_code == 200


def test_an_unknown_task_type_is_an_error_of_its_task(api: SandboxApi) -> None:
    task = {"taskType": "imageInference", "taskUUID": str(uuid4())}
    error = api.refusal(task)
    assert error["code"] == "unsupportedTaskType"
    assert error["taskUUID"] == task["taskUUID"]


def test_more_tasks_than_are_allowed_are_refused_whole(start: Callable[..., SandboxApi]) -> None:
    api = start(max_tasks_per_request=2)
    response = api.post(*[{"taskType": "ping"} for _ in range(3)])
    assert response.status_code == 400
    assert response.json()["errors"][0]["code"] == "arrayTooLarge"
    assert api.post(*[{"taskType": "ping"} for _ in range(2)]).status_code == 200


def test_batched_polls_can_be_refused(start: Callable[..., SandboxApi]) -> None:
    api = start(max_polls_per_request=1)
    task = video_task()
    api.post(task)
    poll = {"taskType": "getResponse", "taskUUID": task["taskUUID"]}
    assert api.post(poll, poll).status_code == 400
    assert api.post(poll).status_code == 200


def test_a_mixed_request_is_answered_with_both_data_and_errors(api: SandboxApi) -> None:
    good, bad = video_task(), video_task(duration=5)
    response = api.post(bad, good)
    assert response.status_code == 200
    body = response.json()
    assert [row["taskUUID"] for row in body["data"]] == [good["taskUUID"]]
    assert [error["taskUUID"] for error in body["errors"]] == [bad["taskUUID"]]


def test_the_account_reports_its_balance_and_usage(start: Callable[..., SandboxApi]) -> None:
    api = start(balance_usd=10)
    api.post(video_task(duration=8))
    task = {
        "taskType": "accountManagement",
        "taskUUID": str(uuid4()),
        "operation": "getDetails",
    }
    (row,) = api.post(task).json()["data"]
    assert row["taskUUID"] == task["taskUUID"]
    assert row["balance"] == {"amount": 7.6, "currency": "USD"}
    assert row["usage"]["total"]["credits"] == 2.4


def test_another_account_operation_is_refused(api: SandboxApi) -> None:
    task = {"taskType": "accountManagement", "taskUUID": str(uuid4()), "operation": "delete"}
    assert api.refusal(task)["code"] == "invalidOperation"


def test_the_health_check_counts_running_tasks(start: Callable[..., SandboxApi]) -> None:
    api = start(latency_seconds=1000)
    api.post(video_task())
    health = api.http.get(api.base_url.replace("/v1", "/sandbox/health")).json()
    assert health == {"status": "ok", "tasks_running": 1}
