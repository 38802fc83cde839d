"""Keys of several organizations, and the time that the sandbox reports."""

from __future__ import annotations

import time
from collections.abc import Callable
from email.utils import parsedate_to_datetime
from uuid import uuid4

import pytest

from tests.sandbox.api import SandboxApi, video_task

OTHER = "11111111-1111-4111-8111-111111111111"


@pytest.fixture
def apis(start: Callable[..., SandboxApi]) -> tuple[SandboxApi, SandboxApi]:
    """One sandbox, as two organizations see it."""
    api = start(extra_keys={"other-key": OTHER}, balance_usd=10)
    return api, SandboxApi(api.base_url, key="other-key")


def account(api: SandboxApi) -> dict[str, object]:
    task = {"taskType": "accountManagement", "taskUUID": str(uuid4()), "operation": "getDetails"}
    row: dict[str, object] = api.post(task).json()["data"][0]
    return row


def test_another_key_is_of_another_organization(apis: tuple[SandboxApi, SandboxApi]) -> None:
    first, second = apis
    assert account(second)["organizationUUID"] == OTHER
    assert account(first)["organizationUUID"] != OTHER


def test_organizations_know_nothing_of_each_others_tasks(
    apis: tuple[SandboxApi, SandboxApi],
) -> None:
    first, second = apis
    row = first.video()
    assert second.poll(row["taskUUID"]).status_code == 400
    assert second.details(row["taskUUID"]).status_code == 400
    remix = video_task(width=None, height=None, inputs={"videoId": row["outputs"]["videoId"]})
    assert second.refusal(remix)["code"] == "invalidVideoId"


def test_the_same_uuid_is_a_separate_task_in_each_organization(
    apis: tuple[SandboxApi, SandboxApi],
) -> None:
    task = video_task()
    assert [api.post(task).status_code for api in apis] == [200, 200]
    rows = [api.results(task["taskUUID"])[0] for api in apis]
    assert rows[0]["videoUUID"] != rows[1]["videoUUID"]
    charges = apis[0].ledger()["charges"]
    assert [(charge["attempt"], charge["account"] == OTHER) for charge in charges] == [
        (1, False),
        (1, True),
    ]


def test_each_organization_has_its_own_balance(apis: tuple[SandboxApi, SandboxApi]) -> None:
    first, second = apis
    second.post(video_task())
    assert account(first)["balance"] == {"amount": 10, "currency": "USD"}
    assert account(second)["balance"] == {"amount": 8.8, "currency": "USD"}


def test_keys_of_two_organizations_in_one_request_are_refused(
    apis: tuple[SandboxApi, SandboxApi],
) -> None:
    first, _ = apis
    authentication = {"taskType": "authentication", "apiKey": "other-key"}
    assert first.post(authentication, {"taskType": "ping"}).status_code == 401


def test_a_task_of_another_organization_is_restored_to_it(
    start: Callable[..., SandboxApi], tmp_path: object
) -> None:
    keys = {"other-key": OTHER}
    first = start(extra_keys=keys, data_dir=tmp_path)
    task = video_task()
    SandboxApi(first.base_url, key="other-key").post(task)
    again = start(extra_keys=keys, data_dir=tmp_path)
    assert again.poll(task["taskUUID"]).status_code == 400
    assert SandboxApi(again.base_url, key="other-key").poll(task["taskUUID"]).status_code == 200


def test_the_sandbox_reports_the_time_of_its_clock(start: Callable[..., SandboxApi]) -> None:
    reported = parsedate_to_datetime(start().poll(str(uuid4())).headers["Date"]).timestamp()
    assert abs(reported - time.time()) < 60


def test_the_sandbox_reports_a_wrong_time_everywhere(start: Callable[..., SandboxApi]) -> None:
    api = start()
    row = api.video()
    (before,) = api.ledger()["charges"]
    modified = api.http.get(row["videoURL"]).headers["Last-Modified"]
    api.set_faults(clock_shift_seconds=-86_400)
    response = api.http.get(row["videoURL"])
    shifted = parsedate_to_datetime(response.headers["Last-Modified"])
    assert (parsedate_to_datetime(modified) - shifted).total_seconds() == 86_400
    reported = parsedate_to_datetime(response.headers["Date"]).timestamp()
    assert abs(time.time() - reported - 86_400) < 60
    (after,) = api.ledger()["charges"]
    assert after["at"] < before["at"]
