"""The webhook receiver over real HTTP: signed calls become markers, nothing else does."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import httpx
import pytest

from sora_dagster.generation.ledger import Ledger
from sora_dagster.generation.markers import WebhookAddress, list_markers
from sora_dagster.generation.records import OutcomeRecord
from sora_dagster.storage import StorageError, StorageRoot
from sora_dagster.webhook import MAX_MARKERS_PER_TASK, create_app
from tests.http_server import serving

SECRET = "a secret of more than thirty-two characters"


@dataclass
class Receiver:
    url: str
    root: StorageRoot
    task_uuid: str

    @property
    def address(self) -> str:
        return WebhookAddress(f"{self.url}/runware", SECRET).for_task(self.task_uuid)

    def markers(self) -> list[str]:
        return [marker.task_uuid for marker in list_markers(self.root)]


@pytest.fixture
def receiver(ledger: Ledger) -> Iterator[Receiver]:
    task_uuid = ledger.task_uuid("clips", "fox", 1, 1)
    ledger.take_right_to_send(task_uuid)
    with serving(create_app(ledger.root, SECRET, max_body_bytes=1000)) as url:
        yield Receiver(url, ledger.root, task_uuid)


def test_a_signed_call_becomes_a_marker(receiver: Receiver) -> None:
    response = httpx.post(receiver.address, json={"taskUUID": receiver.task_uuid})
    assert response.status_code == 204
    assert receiver.markers() == [receiver.task_uuid]


def test_the_same_call_again_is_the_same_marker(receiver: Receiver) -> None:
    for _ in range(3):
        assert httpx.post(receiver.address, json={"videoUUID": "v"}).status_code == 204
    assert len(receiver.markers()) == 1


def test_each_result_of_a_task_has_a_marker(receiver: Receiver) -> None:
    for number in range(4):
        httpx.post(receiver.address, json={"videoUUID": str(number)})
    assert len(receiver.markers()) == 4


@pytest.mark.parametrize("change", ["signature=0", "signature=", "task=x"])
def test_a_call_that_is_not_signed_is_refused(receiver: Receiver, change: str) -> None:
    name = change.partition("=")[0]
    url = httpx.URL(receiver.address).copy_set_param(name, change.partition("=")[2])
    assert httpx.post(url, json={}).status_code == 403
    assert receiver.markers() == []


def test_the_signature_of_one_task_is_not_anothers(receiver: Receiver) -> None:
    other = "00000000-0000-4000-8000-000000000000"
    url = httpx.URL(receiver.address).copy_set_param("task", other)
    assert httpx.post(url, json={}).status_code == 403


def test_a_task_that_was_never_sent_is_refused(receiver: Receiver) -> None:
    other = "00000000-0000-4000-8000-000000000000"
    url = WebhookAddress(f"{receiver.url}/runware", SECRET).for_task(other)
    assert httpx.post(url, json={}).status_code == 404
    assert receiver.markers() == []


def test_a_call_about_a_task_that_is_over_is_taken_and_not_kept(
    receiver: Receiver, ledger: Ledger
) -> None:
    ledger.settle(
        receiver.task_uuid,
        OutcomeRecord(state="done", cost_usd=1, at=ledger.clock(), nonce=ledger.new_nonce()),
    )
    assert httpx.post(receiver.address, json={}).status_code == 204
    assert receiver.markers() == []


def test_a_body_that_is_too_long_is_refused(receiver: Receiver) -> None:
    assert httpx.post(receiver.address, content=b'"' + b"x" * 2000 + b'"').status_code == 413
    assert receiver.markers() == []


def test_a_body_that_is_not_json_is_refused(receiver: Receiver) -> None:
    assert httpx.post(receiver.address, content=b"<xml>").status_code == 400


def test_a_task_has_a_bounded_number_of_markers(receiver: Receiver) -> None:
    answers = [
        httpx.post(receiver.address, json={"n": number}).status_code
        for number in range(MAX_MARKERS_PER_TASK + 1)
    ]
    assert answers == [204] * MAX_MARKERS_PER_TASK + [429]


def test_a_marker_that_cannot_be_written_is_not_acknowledged(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(key: str, body: bytes) -> bool:
        raise StorageError("disk full")

    monkeypatch.setattr(receiver.root, "create", broken)
    assert httpx.post(receiver.address, json={}).status_code == 503


def test_health_says_whether_markers_can_be_kept(
    receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert httpx.get(f"{receiver.url}/health").status_code == 200

    def broken() -> None:
        raise StorageError("disk full")

    monkeypatch.setattr(receiver.root, "check_writable", broken)
    assert httpx.get(f"{receiver.url}/health").status_code == 503


def test_a_receiver_without_a_secret_is_not_made(root: StorageRoot) -> None:
    with pytest.raises(ValueError, match="SORA_WEBHOOK_SECRET"):
        create_app(root, "")


@pytest.mark.parametrize("url", ["hooks.example.com", "ftp://hooks.example.com/x", "https://"])
def test_an_address_that_runware_cannot_call_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="SORA_WEBHOOK_URL"):
        WebhookAddress(url, SECRET)


def test_the_secret_does_not_show() -> None:
    assert SECRET not in repr(WebhookAddress("https://hooks.example.com/x", SECRET))
