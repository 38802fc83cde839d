"""Faults of webhooks, as their receiver meets them."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from tests.sandbox.api import SandboxApi, until, video_task
from tests.sandbox.receiver import Receiver


@pytest.fixture
def api(start: Callable[..., SandboxApi]) -> SandboxApi:
    """A sandbox of the test's own."""
    return start()


def bodies(receiver: Receiver, count: int) -> list[dict[str, Any]]:
    """What was received, once there is that much."""
    until(lambda: len(receiver.received) >= count, what=f"{count} webhooks")
    return [json.loads(call.body) for call in receiver.received]


def test_a_lost_webhook_is_never_sent(api: SandboxApi, receiver: Receiver) -> None:
    api.set_faults({"fault": "webhook_lost", "nth": 1})
    lost = api.video(webhookURL=receiver.url)
    sent = api.video(webhookURL=receiver.url)
    assert [body["taskUUID"] for body in bodies(receiver, 1)] == [sent["taskUUID"]]
    assert lost["taskUUID"] != sent["taskUUID"]
    assert api.struck() == [1]


def test_a_late_webhook_is_not_sent_while_others_are(api: SandboxApi, receiver: Receiver) -> None:
    api.set_faults({"fault": "webhook_late", "delay_seconds": 1000, "nth": 1})
    api.video(webhookURL=receiver.url)
    other = api.video(webhookURL=receiver.url)
    assert [body["taskUUID"] for body in bodies(receiver, 1)] == [other["taskUUID"]]


def test_a_late_webhook_is_sent_in_the_end(api: SandboxApi, receiver: Receiver) -> None:
    api.set_faults({"fault": "webhook_late", "delay_seconds": 0.2})
    row = api.video(webhookURL=receiver.url)
    assert bodies(receiver, 1)[0]["taskUUID"] == row["taskUUID"]
    assert api.struck() == [1]


@pytest.mark.parametrize("copies", [2, 3])
def test_a_webhook_is_delivered_several_times(
    api: SandboxApi, receiver: Receiver, copies: int
) -> None:
    api.set_faults({"fault": "webhook_repeated", "copies": copies, "nth": 1})
    repeated = api.video(webhookURL=receiver.url)
    until(lambda: len(receiver.received) == copies, what="the copies")
    last = api.video(webhookURL=receiver.url)
    uuids = [body["taskUUID"] for body in bodies(receiver, copies + 1)]
    assert uuids == [repeated["taskUUID"]] * copies + [last["taskUUID"]]


def test_the_webhooks_of_a_task_come_in_the_wrong_order(
    start: Callable[..., SandboxApi], receiver: Receiver
) -> None:
    api = start(latency_step_seconds=0.2)
    api.set_faults({"fault": "webhook_out_of_order"})
    task = video_task(webhookURL=receiver.url, numberResults=3)
    api.post(task)
    reported = [body["videoUUID"] for body in bodies(receiver, 3)]
    in_order = [row["videoUUID"] for row in api.results(task["taskUUID"], count=3)]
    assert reported == in_order[::-1]


def test_a_malformed_webhook_is_no_json(api: SandboxApi, receiver: Receiver) -> None:
    api.set_faults({"fault": "webhook_malformed"})
    api.post(video_task(webhookURL=receiver.url))
    until(lambda: receiver.received, what="the webhook")
    with pytest.raises(ValueError, match="Expecting value"):
        json.loads(receiver.received[0].body)


def test_a_webhook_can_say_whatever_the_plan_says(api: SandboxApi, receiver: Receiver) -> None:
    api.set_faults({"fault": "webhook_malformed", "body": "[1]"})
    api.post(video_task(webhookURL=receiver.url))
    until(lambda: receiver.received, what="the webhook")
    assert receiver.received[0].body == b"[1]"


@pytest.mark.parametrize("form", ["flat", "error", "errors"])
def test_a_failure_is_reported_in_the_form_that_the_plan_sets(
    api: SandboxApi, receiver: Receiver, form: str
) -> None:
    api.set_faults({"fault": "fail", "error": "safety"}, {"fault": "webhook_failure", "form": form})
    task = video_task(webhookURL=receiver.url)
    api.post(task)
    (body,) = bodies(receiver, 1)
    assert body["taskUUID"] == task["taskUUID"]
    (error,) = body["errors"] if form == "errors" else [body["error"] if form == "error" else body]
    assert error["code"] == "contentPolicyViolation"


def test_a_finished_result_is_reported_correctly_if_only_failures_are_struck(
    api: SandboxApi, receiver: Receiver
) -> None:
    api.set_faults({"fault": "webhook_failure"})
    row = api.video(webhookURL=receiver.url)
    assert bodies(receiver, 1)[0]["videoUUID"] == row["videoUUID"]


def test_a_webhook_can_lie_that_a_finished_result_failed(
    api: SandboxApi, receiver: Receiver
) -> None:
    api.set_faults({"fault": "webhook_failure", "of": "all"})
    row = api.video(webhookURL=receiver.url)
    (body,) = bodies(receiver, 1)
    assert (body["taskUUID"], body["code"]) == (row["taskUUID"], "inferenceError")
