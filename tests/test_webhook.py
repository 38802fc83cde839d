"""The webhook receiver over real HTTP: signed calls become markers, nothing else does."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

import httpx
import pytest

from sora_dagster.generation.protocol import layout
from sora_dagster.generation.protocol.ledger import Ledger
from sora_dagster.generation.protocol.markers import (
    ADDRESS_VALID_SECONDS,
    WebhookUrl,
    markers_of,
    sign_identity,
    tasks_with_markers,
    write_marker,
)
from sora_dagster.generation.protocol.records import OutcomeRecord, OutcomeState, ReopenedRecord
from sora_dagster.generation.protocol.root_binding import root_identity
from sora_dagster.storage import StorageError, StorageRoot
from sora_dagster.web import webhook
from sora_dagster.web.counters import ReceiverCounters
from sora_dagster.web.readiness import CHECK_SECONDS, Readiness
from sora_dagster.web.webhook import MAX_MARKERS_PER_TASK, create_app
from tests.generation.large_roots import CountingRoot
from tests.s3_server import make_bucket
from tests.serving import serving

SECRET = "a secret of more than thirty-two characters"
DATASET = "trailers"
OTHER_TASK = "00000000-0000-4000-8000-000000000000"


@dataclass
class Receiver:
    url: str
    root: StorageRoot
    task_uuid: str

    @property
    def address(self) -> str:
        return WebhookUrl(f"{self.url}/runware", SECRET).for_task(DATASET, self.task_uuid)

    def markers(self, dataset: str = DATASET) -> list[str]:
        return [marker.task_uuid for marker in tasks_with_markers(self.root, dataset)]


def settle(ledger: Ledger, task_uuid: str, state: OutcomeState, *, reopening: int = 0) -> None:
    outcome = OutcomeRecord(state=state, cost_usd=1, at=ledger.clock(), nonce=ledger.new_nonce())
    ledger.settle(task_uuid, outcome, reopening=reopening)


@pytest.fixture
def receiver(ledger: Ledger) -> Iterator[Receiver]:
    task_uuid = ledger.task_uuid("clips", "fox", 1, 1)
    ledger.take_right_to_send(task_uuid)
    with serving(create_app(ledger.root, SECRET, max_body_bytes=60_000)) as url:
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


@pytest.mark.parametrize("change", ["signature=0", "signature=", "task=x", "dataset=clips"])
def test_a_call_that_is_not_signed_is_refused(receiver: Receiver, change: str) -> None:
    name = change.partition("=")[0]
    url = httpx.URL(receiver.address).copy_set_param(name, change.partition("=")[2])
    assert httpx.post(url, json={}).status_code == 403
    assert receiver.markers() == []


def test_the_signature_of_one_task_is_not_valid_for_another(receiver: Receiver) -> None:
    url = httpx.URL(receiver.address).copy_set_param("task", OTHER_TASK)
    assert httpx.post(url, json={}).status_code == 403


def test_a_task_that_was_never_sent_is_refused(receiver: Receiver) -> None:
    url = WebhookUrl(f"{receiver.url}/runware", SECRET).for_task(DATASET, OTHER_TASK)
    assert httpx.post(url, json={}).status_code == 404
    assert receiver.markers() == []


@pytest.mark.parametrize("state", ["done", "partial"])
def test_a_call_about_a_task_that_has_a_video_is_accepted_without_a_marker(
    receiver: Receiver, ledger: Ledger, state: OutcomeState
) -> None:
    settle(ledger, receiver.task_uuid, state)
    assert httpx.post(receiver.address, json={}).status_code == 204
    assert receiver.markers() == []


@pytest.mark.parametrize("state", ["failed", "lost", "unsure"])
def test_the_marker_of_a_task_that_ended_without_a_video_is_written(
    receiver: Receiver, ledger: Ledger, state: OutcomeState
) -> None:
    settle(ledger, receiver.task_uuid, state)
    assert httpx.post(receiver.address, json={}).status_code == 204
    assert receiver.markers() == [receiver.task_uuid]


def test_a_reopened_task_takes_markers_until_it_has_a_video(
    receiver: Receiver, ledger: Ledger
) -> None:
    settle(ledger, receiver.task_uuid, "lost")
    key = layout.task_key(receiver.task_uuid, "reopened-1")
    ledger.root.create(key, ReopenedRecord(at=ledger.clock(), nonce="1").to_json())
    assert httpx.post(receiver.address, json={"first": 1}).status_code == 204
    assert len(receiver.markers()) == 1
    settle(ledger, receiver.task_uuid, "done", reopening=1)
    assert httpx.post(receiver.address, json={"second": 2}).status_code == 204
    assert len(receiver.markers()) == 1


def test_a_damaged_outcome_does_not_prevent_a_marker(receiver: Receiver) -> None:
    receiver.root.write(layout.task_key(receiver.task_uuid, "outcome-0"), b"{")
    assert httpx.post(receiver.address, json={}).status_code == 204
    assert receiver.markers() == [receiver.task_uuid]


def test_a_dataset_sees_no_markers_of_another(receiver: Receiver) -> None:
    assert httpx.post(receiver.address, json={}).status_code == 204
    write_marker(receiver.root, "Trailers", OTHER_TASK, b"{}")
    assert receiver.markers("trailers") == [receiver.task_uuid]
    assert receiver.markers("Trailers") == [OTHER_TASK]
    assert receiver.markers("trailer") == []


def test_a_call_lists_the_markers_of_its_task_only(tmp_path: Path) -> None:
    root = CountingRoot(str(tmp_path))
    tasks = [str(UUID(int=number, version=4)) for number in range(20)]
    for task_uuid in tasks:
        write_marker(root, DATASET, task_uuid, b"{}")
    Ledger(root).take_right_to_send(tasks[7])
    root.counts.clear()
    with serving(create_app(root, SECRET)) as url:
        address = WebhookUrl(f"{url}/runware", SECRET).for_task(DATASET, tasks[7])
        assert httpx.post(address, json={"n": 2}).status_code == 204
    assert root.counts["list"] == root.counts["listed"] == 1
    assert len(markers_of(root, DATASET, tasks[7])) == 2


def test_a_body_that_is_too_long_is_refused(receiver: Receiver) -> None:
    assert httpx.post(receiver.address, content=b'"' + b"x" * 60_000 + b'"').status_code == 413
    assert receiver.markers() == []


@pytest.mark.parametrize("body", [b"<xml>", b"", b"\xff", b'{"n": ' + b"9" * 5000 + b"}"])
def test_a_body_that_is_not_json_is_refused(receiver: Receiver, body: bytes) -> None:
    assert httpx.post(receiver.address, content=body).status_code == 400
    assert receiver.markers() == []


def test_a_body_that_is_nested_too_deep_is_refused(receiver: Receiver) -> None:
    body = b"[" * 30_000 + b"]" * 30_000
    assert httpx.post(receiver.address, content=body).status_code == 400
    assert receiver.markers() == []


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


def test_a_receiver_without_a_proper_secret_is_refused(root: StorageRoot) -> None:
    for secret in ("", "15 characters.."):
        with pytest.raises(ValueError, match=r"SORA_WEBHOOK_SECRET.*openssl rand -hex 32"):
            create_app(root, secret)
        with pytest.raises(ValueError, match=r"SORA_WEBHOOK_SECRET.*openssl rand -hex 32"):
            WebhookUrl("https://hooks.example.com/runware", secret)


def test_the_receiver_counts_what_it_accepts_and_refuses(ledger: Ledger) -> None:
    counters = ReceiverCounters()
    task_uuid = ledger.task_uuid("clips", "fox", 1, 1)
    ledger.take_right_to_send(task_uuid)
    with serving(create_app(ledger.root, SECRET, counters=counters)) as url:
        address = WebhookUrl(f"{url}/runware", SECRET)
        for number in (1, 1, 2):
            httpx.post(address.for_task(DATASET, task_uuid), json=number)
        httpx.post(address.for_task(DATASET, task_uuid), content=b"<xml>")
        httpx.post(address.for_task(DATASET, OTHER_TASK), json={})
        httpx.post(f"{url}/runware", json={})
        settle(ledger, task_uuid, "done")
        httpx.post(address.for_task(DATASET, task_uuid), json=3)
    counts = counters.counts()
    assert (counts.accepted, counts.markers_written) == (4, 2)
    assert (counts.duplicates, counts.already_stored) == (1, 1)
    refused = {reason: number for reason, number in counts.refused.items() if number}
    assert refused == {"not_json": 1, "unknown_task": 1, "signature": 1}


def test_a_refused_signature_is_logged_without_its_value_and_seldom(
    receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    forged = WebhookUrl(f"{receiver.url}/runware", "the secret of another team")
    for _ in range(3):
        httpx.post(forged.for_task(DATASET, receiver.task_uuid), json={})
    [warning] = [record for record in caplog.records if record.name == webhook.__name__]
    assert "SORA_WEBHOOK_SECRET differs" in warning.getMessage()
    signature = httpx.URL(forged.for_task(DATASET, receiver.task_uuid)).params["signature"]
    assert signature not in caplog.text


def test_an_address_ends_with_the_life_of_its_task(ledger: Ledger) -> None:
    task_uuid = ledger.task_uuid("clips", "fox", 1, 1)
    ledger.take_right_to_send(task_uuid)
    now = time.time()
    with serving(create_app(ledger.root, SECRET, clock=lambda: now)) as url:

        def answer(age_seconds: float) -> httpx.Response:
            address = WebhookUrl(f"{url}/runware", SECRET, clock=lambda: now - age_seconds)
            return httpx.post(address.for_task(DATASET, task_uuid), json=age_seconds)

        assert answer(ADDRESS_VALID_SECONDS - 60).status_code == 204
        assert answer(ADDRESS_VALID_SECONDS + 60).status_code == 403
        longer = httpx.URL(
            WebhookUrl(
                f"{url}/runware", SECRET, clock=lambda: now - ADDRESS_VALID_SECONDS - 60
            ).for_task(DATASET, task_uuid)
        ).copy_set_param("expires", str(int(now) + 60))
        assert httpx.post(longer, json={}).status_code == 403


def test_a_trailing_slash_in_the_public_address_works(receiver: Receiver) -> None:
    address = WebhookUrl(f"{receiver.url}/runware/", SECRET)
    url = address.for_task(DATASET, receiver.task_uuid)
    assert httpx.post(url, json={}).status_code == 204
    assert receiver.markers() == [receiver.task_uuid]


# Health


def test_liveness_does_not_touch_the_store(tmp_path: Path) -> None:
    root = CountingRoot(str(tmp_path))
    with serving(create_app(root, SECRET)) as url:
        assert httpx.get(f"{url}/livez").status_code == 200
    assert not root.counts


def test_readiness_reads_the_store_every_30_seconds_and_writes_nothing(tmp_path: Path) -> None:
    root = CountingRoot(str(tmp_path))
    now = 1000.0
    with serving(create_app(root, SECRET, monotonic=lambda: now)) as url:
        for _ in range(5):
            assert httpx.get(f"{url}/readyz").status_code == 200
        first = root.counts.total()
        now += CHECK_SECONDS - 1
        httpx.get(f"{url}/readyz")
        assert root.counts.total() == first
        now += 1
        httpx.get(f"{url}/readyz")
        assert root.counts.total() == 2 * first
    assert first == 1
    assert list(tmp_path.rglob("*")) == []


def test_a_check_that_hangs_holds_one_call_and_ages_the_last_result(root: StorageRoot) -> None:
    now = 1000.0
    readiness = Readiness(root, clock=lambda: now)
    assert readiness.is_ready()
    started, release = threading.Event(), threading.Event()

    def hanging(prefix: str) -> list[str]:
        started.set()
        release.wait(20)
        return []

    with pytest.MonkeyPatch.context() as patch, ThreadPoolExecutor(1) as pool:
        patch.setattr(root, "folders", hanging)
        now += CHECK_SECONDS
        check = pool.submit(readiness.is_ready)
        assert started.wait(20)
        assert readiness.is_ready()
        now += CHECK_SECONDS
        assert not readiness.is_ready()
        release.set()
        assert check.result(20)
    assert readiness.is_ready()


def test_a_bucket_that_is_made_later_is_waited_for(s3_endpoint: str, s3_url: str) -> None:
    assert s3_url.startswith("s3://")
    root = StorageRoot("s3://made-later/some/prefix")
    now = 1000.0
    with serving(create_app(root, SECRET, monotonic=lambda: now)) as url:
        address = WebhookUrl(f"{url}/runware", SECRET)
        response = httpx.get(f"{url}/readyz")
        assert response.status_code == 503
        assert "made-later" not in response.text
        assert httpx.post(address.for_task(DATASET, OTHER_TASK), json={}).status_code == 503
        make_bucket(s3_endpoint, "made-later")
        now += CHECK_SECONDS
        assert httpx.get(f"{url}/readyz").status_code == 200
        assert httpx.post(address.for_task(DATASET, OTHER_TASK), json={}).status_code == 404


def test_the_storage_root_is_named_to_holders_of_the_secret_only(receiver: Receiver) -> None:
    Ledger(receiver.root).bind(api_base_url="https://api.example.com/v1", account=None)
    assert httpx.get(f"{receiver.url}/identity").status_code == 403
    signed = {"signature": sign_identity(SECRET)}
    answer = httpx.get(f"{receiver.url}/identity", params=signed)
    assert answer.json() == {"storage_root": root_identity(Ledger(receiver.root))}


@pytest.mark.parametrize("url", ["hooks.example.com", "ftp://hooks.example.com/x", "https://"])
def test_an_address_that_runware_cannot_call_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="SORA_WEBHOOK_URL"):
        WebhookUrl(url, SECRET)


def test_the_secret_does_not_show() -> None:
    assert SECRET not in repr(WebhookUrl("https://hooks.example.com/x", SECRET))


def test_dataset_and_task_are_signed_separately() -> None:
    address = WebhookUrl("https://hooks.example.com/x", SECRET)
    signatures = {
        httpx.URL(address.for_task(dataset, OTHER_TASK)).params["signature"]
        for dataset in ("", "a", "A", "a\0", "a b", "ä")
    }
    assert len(signatures) == 6
