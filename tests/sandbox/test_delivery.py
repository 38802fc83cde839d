"""Webhooks and uploads."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import httpx

from sora_dagster.sandbox.delivery import Deliverer
from tests.sandbox.api import SandboxApi, until, video_task
from tests.sandbox.receiver import Receiver


def test_a_webhook_brings_the_flat_result(api: SandboxApi, receiver: Receiver) -> None:
    task = video_task(webhookURL=f"{receiver.url}/hook?token=t", includeCost=True)
    api.post(task)
    (row,) = api.results(task["taskUUID"])
    until(lambda: bool(receiver.received), what="the webhook")
    (call,) = receiver.received
    assert (call.method, call.path) == ("POST", "/hook?token=t")
    del row["status"]
    assert json.loads(call.body) == row


def test_each_result_of_a_task_has_its_own_webhook(api: SandboxApi, receiver: Receiver) -> None:
    task = video_task(webhookURL=receiver.url, numberResults=3)
    api.post(task)
    until(lambda: len(receiver.received) == 3, what="the third webhook")
    bodies = [json.loads(call.body) for call in receiver.received]
    assert {body["taskUUID"] for body in bodies} == {task["taskUUID"]}
    assert len({body["videoUUID"] for body in bodies}) == 3


def test_a_webhook_that_is_answered_with_500_is_sent_again(
    start: Callable[..., SandboxApi], receiver: Receiver
) -> None:
    receiver.answers = [500, 302]
    api = start(webhook_first_delay_seconds=0.01)
    api.post(video_task(webhookURL=receiver.url))
    until(lambda: len(receiver.received) == 3, what="the third attempt")
    assert len({call.body for call in receiver.received}) == 1


def test_a_webhook_whose_receiver_is_too_slow_is_sent_again(
    start: Callable[..., SandboxApi], receiver: Receiver
) -> None:
    receiver.stuck = 1
    api = start(webhook_timeout_seconds=0.3, webhook_first_delay_seconds=0.01)
    api.post(video_task(webhookURL=receiver.url))
    until(lambda: len(receiver.received) == 2, what="the second attempt")


def test_a_webhook_that_never_arrives_keeps_no_result_back(
    start: Callable[..., SandboxApi],
) -> None:
    api = start(webhook_attempts=2, webhook_first_delay_seconds=0)
    assert api.video(webhookURL="http://127.0.0.1:9/nobody")["videoURL"]


def test_the_waits_between_attempts_double_up_to_eight_seconds_with_jitter() -> None:
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    async def deliver() -> bool:
        transport = httpx.MockTransport(lambda _: httpx.Response(503))
        async with httpx.AsyncClient(transport=transport) as client:
            deliverer = Deliverer(
                client,
                timeout_seconds=5,
                attempts=9,
                first_delay_seconds=0.25,
                randomness=random.Random(1),
                sleep=sleep,
            )
            return await deliverer.post_webhook("http://receiver/", {})

    assert asyncio.run(deliver()) is False
    longest = [0.25, 0.5, 1, 2, 4, 8, 8, 8]
    assert all(most / 2 <= wait <= most for wait, most in zip(waits, longest, strict=True))
    assert len({wait / most for wait, most in zip(waits, longest, strict=True)}) == 8


def test_a_finished_video_is_put_to_its_upload_endpoint(
    api: SandboxApi, receiver: Receiver
) -> None:
    task = video_task(uploadEndpoint=f"{receiver.url}/bucket/{uuid4()}?X-Amz-Signature=s")
    api.post(task)
    (row,) = api.results(task["taskUUID"])
    # The upload is done before the result is reported, so there is nothing to wait for.
    (call,) = receiver.received
    assert call.method == "PUT"
    assert call.path.endswith("?X-Amz-Signature=s")
    assert call.headers["Content-Type"] == "video/mp4"
    assert call.body == api.http.get(row["videoURL"]).content


def test_an_upload_that_fails_is_tried_again(tmp_path: Path, receiver: Receiver) -> None:
    file = tmp_path / "video.mp4"
    file.write_bytes(b"moving pictures" * 100_000)
    receiver.answers = [503]

    async def upload() -> bool:
        async with httpx.AsyncClient() as client:
            deliverer = Deliverer(client, timeout_seconds=5, attempts=1, first_delay_seconds=0)
            return await deliverer.upload(receiver.url, file, media_type="video/mp4")

    assert asyncio.run(upload()) is True
    assert [call.body for call in receiver.received] == [file.read_bytes()] * 2


def test_an_upload_that_never_arrives_keeps_no_result_back(
    start: Callable[..., SandboxApi],
) -> None:
    api = start(webhook_first_delay_seconds=0)
    assert api.video(uploadEndpoint="http://127.0.0.1:9/nobody")["videoURL"]
