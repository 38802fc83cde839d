"""Direct delivery: Runware puts videos into the bucket, and nothing of that can be lost or leak."""

from __future__ import annotations

import dataclasses
import json
import logging
import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from sora_dagster.generation.collecting.collection import Collection
from sora_dagster.generation.collecting.settings import CollectionLimits, Deadlines
from sora_dagster.generation.collecting.tracked import FinishedTask, ReadyTask
from sora_dagster.generation.fetching.download import DownloadError
from sora_dagster.generation.generator import GenerationSettings, Generator
from sora_dagster.generation.housekeeping.incoming import old_uploads
from sora_dagster.generation.protocol import layout
from sora_dagster.generation.protocol.claims import ClaimSettings
from sora_dagster.generation.protocol.clocks import running_seconds
from sora_dagster.generation.protocol.records import AttemptRecord, ClipManifest, OutcomeRecord
from sora_dagster.generation.requesting.direct_delivery import (
    URL_MARGIN_SECONDS,
    URL_SECONDS,
    DirectDelivery,
    DirectDeliveryError,
)
from sora_dagster.generation.requesting.results import RequestState
from sora_dagster.local.processes import wait_until
from sora_dagster.prompts.clips import DEFAULT_DATASET, ClipRequest
from sora_dagster.runware.client import RunwareClient
from sora_dagster.runware.delivery import parse_delivery
from sora_dagster.runware.errors import error_from_payload
from sora_dagster.runware.pricing import Price
from sora_dagster.runware.results import TaskStatus, VideoResult
from sora_dagster.storage import AzureSettings, StorageRoot
from tests.generation.large_roots import CountingRoot
from tests.generation.ready_tasks import outstanding_attempt, ready_task
from tests.generation.requesting import QUICK, clip, collect, request_clips
from tests.sandbox_server import KEY, Sandbox

SECRETS = ("X-Amz-Signature", "X-Amz-Credential", "Signature=")
FAR_API = "https://api.runware.ai/v1"


@pytest.fixture
def bucket(s3_url: str) -> StorageRoot:
    return StorageRoot(s3_url)


def direct_delivery(
    root: StorageRoot, setting: str, *, api: str = "http://127.0.0.1:1/v1", hours: float = 0.5
) -> DirectDelivery:
    return DirectDelivery(
        root,
        setting=parse_delivery(setting),
        api_base_url=api,
        generation_seconds=hours * 3600,
    )


def stored(generator: Generator, request: ClipRequest | None = None) -> ClipManifest:
    """Ask for a clip and collect it."""
    request_clips(generator, request or clip())
    [finished] = collect(generator)
    assert finished.manifest is not None
    return finished.manifest


def put_by_runware(generator: Generator) -> AttemptRecord:
    """Ask for a clip, and wait until Runware has put it into the bucket."""
    request_clips(generator, clip())
    attempt = outstanding_attempt(generator)
    root, key = generator.ledger.root, layout.incoming_key(attempt.task_uuid)
    assert wait_until(lambda: root.exists(key), timeout_seconds=30)
    return attempt


def everything(root: StorageRoot) -> Iterator[tuple[str, bytes]]:
    """All records of a root; not the videos and pictures."""
    for info in root.list(""):
        if info.key.endswith(".json") or info.key.startswith(("pending/", "inbox/")):
            yield info.key, root.read(info.key)


def test_runware_puts_a_video_into_the_bucket_and_it_is_stored_from_there(
    generate: Callable[..., Generator], bucket: StorageRoot, sandbox: Sandbox
) -> None:
    generator = generate(bucket, delivery="direct")
    manifest = stored(generator)
    [video] = manifest.videos
    assert manifest.delivery == "direct"
    [url] = [
        result.video_url
        for result in generator.client.poll([manifest.task_uuid])[manifest.task_uuid].results
    ]
    assert url is not None
    assert bucket.read(video.key) == httpx.get(url).content
    assert [list(bucket.list(folder)) for folder in ("incoming", "pending", "inbox")] == [[]] * 3
    assert sandbox.charged() >= {manifest.task_uuid}


def test_pictures_and_measures_are_stored_with_the_video(
    generate: Callable[..., Generator], bucket: StorageRoot
) -> None:
    manifest = stored(generate(bucket))
    for key in (manifest.poster_key, manifest.sheet_key, manifest.thumbnail_key):
        assert key is not None
        assert bucket.read(key).startswith(b"\xff\xd8")
        assert bucket.attributes(key)["Content-Type"] == "image/jpeg"
    measures = manifest.videos[0].measures
    assert measures is not None
    assert 0 < measures.brightness < 1


@pytest.mark.parametrize("delivery", ["direct", "download"])
def test_the_bucket_says_what_a_video_is(
    generate: Callable[..., Generator], bucket: StorageRoot, delivery: str
) -> None:
    manifest = stored(generate(bucket, delivery=delivery))
    [video] = manifest.videos
    assert manifest.delivery == delivery
    assert bucket.attributes(video.key) == {
        "Content-Type": "video/mp4",
        "asset": "clips",
        "clip": "fox",
        "take": "1",
        "task-uuid": manifest.task_uuid,
        "video-uuid": video.video_uuid,
        "fingerprint": manifest.fingerprint,
        "cost-usd": "1.2",
        "seed": str(video.seed),
    }


def test_what_is_fetched_again_has_its_attributes(
    generate: Callable[..., Generator], bucket: StorageRoot
) -> None:
    generator = generate(bucket, delivery="direct")
    [video] = stored(generator).videos
    attributes = bucket.attributes(video.key)
    bucket.write(video.key, b"damaged")
    [again] = request_clips(generator, clip())
    assert "fetched again" in again.detail
    assert bucket.attributes(video.key) == attributes


def test_the_signature_of_the_address_is_kept_nowhere(
    generate: Callable[..., Generator], bucket: StorageRoot, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    generator = generate(bucket, delivery="direct")
    attempt = put_by_runware(generator)
    assert attempt.delivery == "direct"
    shown = str(attempt.wire["uploadEndpoint"])
    assert shown.endswith(f"/{layout.incoming_key(attempt.task_uuid)}")
    before = list(everything(bucket))
    collect(generator)
    ours = [record.getMessage() for record in caplog.records if "sora" in record.name]
    texts = [*(body.decode() for _, body in (*before, *everything(bucket))), *ours]
    assert len(before) > 4
    assert not [text for text in texts if any(secret in text for secret in SECRETS)]


class EchoingApi(httpx.BaseTransport):
    """The API, but it refuses every task in words that repeat the upload URL."""

    def __init__(self) -> None:
        self._network = httpx.HTTPTransport()

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        [*_, task] = json.loads(request.read())
        if task["taskType"] != "videoInference":
            return self._network.handle_request(request)
        url = task["uploadEndpoint"]
        message = f"cannot put to {url} nor {url.partition('?')[2]} nor {json.dumps(url)}"
        error = {"code": "invalidUploadEndpoint", "message": message, "taskUUID": task["taskUUID"]}
        return httpx.Response(400, json={"errors": [error]})


def test_an_api_that_repeats_the_address_does_not_spread_it(
    sandbox: Sandbox, bucket: StorageRoot, caplog: pytest.LogCaptureFixture
) -> None:
    client = RunwareClient(KEY, base_url=sandbox.base_url, transport=EchoingApi())
    with Generator(client, bucket, GenerationSettings(polls=QUICK, delivery="direct")) as generator:
        [requested] = request_clips(generator, clip())
    assert requested.state is RequestState.REFUSED
    assert "cannot put to http://" in requested.detail
    shown = [requested.detail, repr(requested), caplog.text]
    shown += [body.decode() for _, body in everything(bucket)]
    assert not [text for text in shown if re.search("Signature(=|%3D)[0-9a-f]", text)]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [({}, "direct"), ({"number_results": 2}, "download")],
)
def test_auto_is_direct_where_one_address_is_enough(
    generate: Callable[..., Generator],
    bucket: StorageRoot,
    fields: dict[str, Any],
    expected: str,
) -> None:
    generator = generate(bucket)
    manifest = stored(generator, clip(**fields))
    assert manifest.delivery == expected
    assert ("uploadEndpoint" in manifest.wire) == (expected == "direct")


def test_auto_downloads_where_the_store_cannot_sign(generate: Callable[..., Generator]) -> None:
    assert stored(generate()).delivery == "download"


def test_auto_downloads_where_runware_cannot_reach_the_store(bucket: StorageRoot) -> None:
    assert direct_delivery(bucket, "auto", api=FAR_API).begin(clip(), "uuid", attempt=1) is None
    assert direct_delivery(bucket, "auto").begin(clip(), "uuid", attempt=1) is not None


def test_auto_downloads_a_further_attempt(bucket: StorageRoot) -> None:
    assert direct_delivery(bucket, "auto").begin(clip(), "uuid", attempt=2) is None
    assert direct_delivery(bucket, "direct").begin(clip(), "uuid", attempt=2) is not None


def test_auto_downloads_where_the_credentials_end_before_the_address(
    bucket: StorageRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    delivery = direct_delivery(bucket, "auto")
    monkeypatch.setattr(bucket, "signing_seconds_left", lambda: delivery.url_seconds - 1)
    assert delivery.begin(clip(), "uuid", attempt=1) is None
    monkeypatch.setattr(bucket, "signing_seconds_left", lambda: delivery.url_seconds)
    assert delivery.begin(clip(), "uuid", attempt=1) is not None


@pytest.mark.parametrize(
    ("fields", "options", "message"),
    [
        ({"number_results": 2}, {}, "takes one video, and 2 are requested"),
        ({}, {"api": FAR_API}, "cannot reach the store"),
        ({}, {"hours": 24 * 7}, "grants at most 7"),
    ],
)
def test_direct_says_why_it_is_not_possible(
    bucket: StorageRoot, fields: dict[str, Any], options: dict[str, Any], message: str
) -> None:
    with pytest.raises(DirectDeliveryError, match=message) as caught:
        direct_delivery(bucket, "direct", **options).begin(clip(**fields), "uuid", attempt=1)
    assert "SORA_DELIVERY" in str(caught.value)


def test_direct_to_azure_is_not_possible() -> None:
    settings = AzureSettings(account_name="account", account_key="a2V5")
    root = StorageRoot("az://container/clips", azure=settings)
    with pytest.raises(DirectDeliveryError, match="x-ms-blob-type"):
        direct_delivery(root, "direct", api=FAR_API).begin(clip(), "uuid", attempt=1)


def test_direct_on_a_folder_is_refused_before_anything_is_sent(
    generate: Callable[..., Generator], sandbox: Sandbox
) -> None:
    before = sandbox.ledger()
    generator = generate(delivery="direct")
    [requested] = request_clips(generator, clip())
    assert requested.state is RequestState.REFUSED
    assert "cannot make upload URLs" in requested.detail
    assert "nothing paid" in requested.detail
    assert sandbox.ledger()["posts"]["submissions"] == before["posts"]["submissions"]
    assert generator.ledger.takes("clips", "fox") == ()
    assert list(generator.ledger.root.list("pending")) == []


@pytest.mark.parametrize(
    ("hours", "expected"),
    [(0.5, URL_SECONDS), (3.0, 3 * 3600 + URL_MARGIN_SECONDS)],
)
def test_the_address_outlives_a_slow_generation_and_is_of_one_key(
    bucket: StorageRoot, hours: float, expected: float
) -> None:
    url = direct_delivery(bucket, "direct", hours=hours).begin(clip(), "the-uuid", attempt=1)
    assert url is not None
    assert urlsplit(url).path.endswith("/some/prefix/incoming/the-uuid")
    [expires] = parse_qs(urlsplit(url).query)["X-Amz-Expires"]
    assert int(expires) == expected


def test_a_task_that_is_sent_again_has_a_fresh_address_for_the_same_key(
    generate: Callable[..., Generator], bucket: StorageRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = generate(bucket, delivery="direct")
    request_clips(first, clip())
    attempt = outstanding_attempt(first)
    task_uuid = attempt.task_uuid
    # Another process, whose own clips would be downloaded or direct by its own choice.
    other = StorageRoot(bucket.url)
    signed: list[tuple[str, str]] = []

    def presign(method: str, key: str, expires_seconds: float) -> str:
        signed.append((method, key))
        return f"https://bucket.example/{key}?X-Amz-Signature=fresh"

    monkeypatch.setattr(other, "presign", presign)
    inference = generate(other)._requester.rebuild(attempt)
    assert signed == [("PUT", layout.incoming_key(task_uuid))]
    assert inference.upload_endpoint == (
        f"https://bucket.example/{layout.incoming_key(task_uuid)}?X-Amz-Signature=fresh"
    )
    assert "fresh" not in repr(inference)
    assert generate(other, delivery="download")._requester.rebuild(attempt).upload_endpoint is None


class JumpingClock:
    """The clock that runs through a suspended machine, which can be moved on."""

    def __init__(self) -> None:
        self.jumped = 0.0

    def __call__(self) -> float:
        return running_seconds() + self.jumped


@contextmanager
def collecting(generator: Generator) -> Iterator[Collection]:
    """A collection of the default dataset."""
    limits = CollectionLimits(max_wait_seconds=86_400)
    with generator.collection(limits, holder="a test", datasets=[DEFAULT_DATASET]) as collection:
        yield collection


def have_uploads_awaited(generator: Generator, number: int) -> None:
    """Ask for clips, wait until Runware has all of them, and lose what it put into the bucket."""
    request_clips(generator, *[clip(f"clip {index}") for index in range(number)])
    root = generator.ledger.root
    for uuid, entry in generator.ledger.pending.tasks(DEFAULT_DATASET).items():
        attempt = generator.ledger.pending.attempt(entry)
        assert attempt is not None
        ready_task(generator, attempt)
        key = layout.incoming_key(uuid)
        assert wait_until(partial(root.exists, key), timeout_seconds=30)
        root.delete(key)


def look_until_uploads_are_awaited(collection: Collection, root: CountingRoot) -> None:
    """Look until the tasks were found over, and the store was asked for their videos."""
    root.forget()
    assert wait_until(
        lambda: collection.wait() == [] and root.listed_folders[layout.INCOMING_FOLDER] > 0,
        timeout_seconds=30,
    )
    assert collection.wait() == []


def finished_by(collection: Collection) -> list[FinishedTask]:
    """What ends next."""
    finished: list[FinishedTask] = []

    def wait() -> bool:
        finished.extend(collection.wait())
        return bool(finished)

    assert wait_until(wait, timeout_seconds=30)
    return finished


def test_a_video_that_comes_later_than_its_result_is_waited_for(
    generate: Callable[..., Generator], bucket: StorageRoot
) -> None:
    root = CountingRoot(bucket.url)
    generator = generate(root, delivery="direct")
    attempt = put_by_runware(generator)
    key = layout.incoming_key(attempt.task_uuid)
    video = root.read(key)
    root.delete(key)
    ready_task(generator)
    with collecting(generator) as collection:
        look_until_uploads_are_awaited(collection, root)
        polls = generator.client.posts.polls
        for _ in range(3):
            assert collection.wait() == []
        root.write(key, video)
        [finished] = finished_by(collection)
        # Looking for the video asks the store, not the API.
        assert generator.client.posts.polls == polls
    assert finished.manifest is not None
    assert finished.manifest.delivery == "direct"


def test_a_late_video_is_waited_for_as_long_as_the_grace(
    sandbox: Sandbox, bucket: StorageRoot
) -> None:
    root, clock = CountingRoot(bucket.url), JumpingClock()
    client = RunwareClient(KEY, base_url=sandbox.base_url)
    settings = GenerationSettings(
        polls=QUICK, delivery="direct", deadlines=Deadlines(upload_seconds=400)
    )
    with Generator(client, root, settings, elapsed=clock) as generator:
        have_uploads_awaited(generator, 1)
        with collecting(generator) as collection:
            look_until_uploads_are_awaited(collection, root)
            clock.jumped += 200
            for _ in range(3):
                assert collection.wait() == []
            clock.jumped += 200
            [finished] = finished_by(collection)
    assert finished.manifest is not None
    assert finished.manifest.delivery == "download"


def test_waiting_for_uploads_costs_no_request_for_each_clip(
    generate: Callable[..., Generator], bucket: StorageRoot
) -> None:
    costs = []
    for number in (1, 6):
        root = CountingRoot(f"{bucket.url}/{number}")
        generator = generate(
            root,
            delivery="direct",
            deadlines=Deadlines(upload_seconds=3600),
            claims=ClaimSettings(beat_seconds=3600),
        )
        have_uploads_awaited(generator, number)
        with collecting(generator) as collection:
            look_until_uploads_are_awaited(collection, root)
            root.forget()
            for _ in range(10):
                assert collection.wait() == []
            costs.append(dict(root.counts))
            assert root.listed_folders[layout.INCOMING_FOLDER] <= 10
    one, six = costs
    assert set(one) == set(six) == {"list", "listed"}
    # The index, the inbox, and what Runware has put into the store.
    assert max(one["list"], six["list"]) <= 3 * 10


def test_a_video_that_is_not_hosted_is_stored_from_the_bucket(
    generate: Callable[..., Generator], bucket: StorageRoot
) -> None:
    generator = generate(bucket, delivery="direct")
    attempt = put_by_runware(generator)
    result = VideoResult(task_uuid=attempt.task_uuid, video_uuid="only-put", video_url=None)
    status = TaskStatus(attempt.task_uuid, results=(result,))
    ready = ReadyTask(attempt, status, generator.store_time())
    manifest = generator.archive.store(ready).manifest
    assert manifest is not None
    assert manifest.delivery == "direct"


def test_what_is_put_while_it_is_copied_is_noticed_and_copied_again(
    generate: Callable[..., Generator], bucket: StorageRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = generate(bucket, delivery="direct")
    attempt = put_by_runware(generator)
    key = layout.incoming_key(attempt.task_uuid)
    copy = bucket.copy
    copies: list[str] = []

    def copy_after_another_put(source: str, target: str, **options: Any) -> None:
        if not copies:
            bucket.write(source, bucket.read(source) + b"\x00\x00\x00\x08free")
        copies.append(target)
        copy(source, target, **options)

    monkeypatch.setattr(bucket, "copy", copy_after_another_put)
    ready = ready_task(generator)
    with pytest.raises(DownloadError, match="is not what was analyzed") as caught:
        generator.archive.store(ready)
    assert caught.value.retryable
    manifest = generator.archive.store(ready).manifest
    assert manifest is not None
    assert len(copies) == 2
    assert bucket.read(manifest.videos[0].key) == bucket.read(key)


def test_a_store_whose_etags_differ_between_copies_is_checked_by_hash(
    generate: Callable[..., Generator], bucket: StorageRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    info = bucket.info

    def info_with_another_etag(key: str) -> Any:
        found = info(key)
        return found and dataclasses.replace(found, etag=f'"{key}"')

    monkeypatch.setattr(bucket, "info", info_with_another_etag)
    manifest = stored(generate(bucket, delivery="direct"))
    assert manifest.delivery == "direct"


def test_a_late_upload_never_touches_what_is_stored(
    generate: Callable[..., Generator], bucket: StorageRoot
) -> None:
    generator = generate(bucket, delivery="direct")
    attempt = put_by_runware(generator)
    ready = ready_task(generator)
    finished = generator.archive.store(ready)
    assert finished.manifest is not None
    [video] = finished.manifest.videos
    whole = bucket.read(video.key)
    bucket.write(layout.incoming_key(attempt.task_uuid), b"something else, put late")
    # A process that had found it ready before.
    assert generator.archive.store(ready).manifest == finished.manifest
    [closed] = collect(generator)
    assert closed.manifest == finished.manifest
    assert bucket.read(video.key) == whole
    assert list(bucket.list("incoming")) == []


@pytest.mark.parametrize(("delivery", "is_retryable"), [("direct", False), ("download", True)])
def test_a_failed_upload_is_not_paid_for_again_by_itself(
    generate: Callable[..., Generator], delivery: str, is_retryable: bool
) -> None:
    generator = generate()
    generator.bind()
    attempt = an_attempt("task-of-a-failed-upload").model_copy(update={"delivery": delivery})
    error = error_from_payload({"code": "uploadFailed", "message": "HTTP 403 from the store"})
    status = TaskStatus(attempt.task_uuid, errors=(error,))
    outcome = generator.archive.store(ReadyTask(attempt, status, generator.store_time())).outcome
    assert outcome.state == "failed"
    [record] = outcome.errors
    assert record.retryable == is_retryable
    assert ("SORA_DELIVERY" in record.message) != is_retryable


# The sweep


def an_attempt(task_uuid: str, clip_id: str = "fox") -> AttemptRecord:
    request = clip(clip_id)
    return AttemptRecord(
        request=request,
        take=1,
        attempt=1,
        fingerprint=request.spec.fingerprint,
        task_uuid=task_uuid,
        wire={},
        estimate=Price(usd=1.2, certainty="published"),
        root_run="run",
        run_limit_usd=None,
        delivery="direct",
        created_at=datetime(2026, 11, 24, tzinfo=UTC),
        nonce=task_uuid,
    )


@pytest.mark.parametrize(
    ("state", "is_swept"),
    [
        *((state, True) for state in ("done", "partial", "failed", "void")),
        *((state, False) for state in ("lost", "unsure", None)),
    ],
)
def test_uploads_of_tasks_that_are_done_with_are_swept(
    ledger: Any, state: str | None, is_swept: bool
) -> None:
    if state is not None:
        ledger.settle(
            "the-task",
            OutcomeRecord.model_validate(
                {"state": state, "cost_usd": 0, "at": ledger.clock(), "nonce": "n"}
            ),
        )
    ledger.root.write("incoming/the-task", b"put late")
    now = ledger.root.store_time()
    assert list(old_uploads(ledger, now=now + timedelta(days=6))) == []
    [(upload, reason)] = old_uploads(ledger, now=now + timedelta(days=8))
    assert upload.key == "incoming/the-task"
    assert (reason is None) == is_swept


def test_what_belongs_to_an_outstanding_task_is_never_swept(ledger: Any) -> None:
    attempt = an_attempt("the-task")
    ledger.claim_attempt(attempt)
    ledger.settle(
        "the-task",
        OutcomeRecord(state="done", cost_usd=0, at=ledger.clock(), nonce="n"),
    )
    ledger.root.write("incoming/the-task", b"not collected to the end yet")
    later = ledger.root.store_time() + timedelta(days=365)
    [(_, reason)] = old_uploads(ledger, now=later)
    assert reason is not None
    ledger.pending.remove(attempt.dataset, "the-task")
    [(_, reason)] = old_uploads(ledger, now=later)
    assert reason is None


def test_a_poll_that_finds_many_tasks_over_lists_what_was_put_once(
    generate: Callable[..., Generator], bucket: StorageRoot
) -> None:
    root = CountingRoot(bucket.url)
    generator = generate(
        root, delivery="direct", deadlines=Deadlines(upload_seconds=3600), claims=ClaimSettings()
    )
    have_uploads_awaited(generator, 6)
    with collecting(generator) as collection:
        root.forget()
        looks = 0
        while not root.listed_folders[layout.INCOMING_FOLDER]:
            assert collection.wait() == []
            looks += 1
        assert root.listed_folders[layout.INCOMING_FOLDER] <= looks + 1
