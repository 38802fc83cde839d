"""Restoring a stored video: only the bytes that were stored get to the key of a manifest."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest
import stamina

from sora_dagster.generation.fetching.download import Downloader
from sora_dagster.generation.fetching.restore import ClipRestorer, StoredClipError
from sora_dagster.generation.protocol.ledger import Ledger
from sora_dagster.generation.protocol.records import ClipManifest
from sora_dagster.runware.client import RunwareClient
from sora_dagster.storage import StorageRoot
from tests.generation.stored_takes import VIDEO, keys, stored_take

URL = "https://vm.runware.ai/video.mp4"
OTHER = b"another"  # as long as VIDEO


@pytest.fixture(autouse=True)
def without_waits() -> Iterator[None]:
    with stamina.set_testing(True, attempts=2):
        yield


@pytest.fixture(params=["file", "s3"])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Ledger:
    url = request.getfixturevalue("s3_url") if request.param == "s3" else tmp_path / "storage"
    ledger = Ledger(StorageRoot(url))
    ledger.bind(api_base_url="https://api.runware.ai/v1", account=None)
    return ledger


@pytest.fixture
def manifest(ledger: Ledger) -> ClipManifest:
    return stored_take(ledger, "fox")


Restore = Callable[..., tuple[object, ...]]


@pytest.fixture
def restore(ledger: Ledger, manifest: ClipManifest) -> Iterator[Restore]:
    """Restores the clip while Runware hosts some bytes as its video; None for no longer."""
    clients: list[RunwareClient] = []

    def act(hosted: bytes | None, status: int = 200) -> tuple[object, ...]:
        def answer(request: httpx.Request) -> httpx.Response:
            video = {
                "taskType": "videoInference",
                "taskUUID": manifest.task_uuid,
                "status": "success",
                "videoUUID": manifest.videos[0].video_uuid,
                "videoURL": URL,
            }
            return httpx.Response(200, json={"data": [] if hosted is None else [video]})

        client = RunwareClient("key", transport=httpx.MockTransport(answer))
        clients.append(client)
        downloader = Downloader(
            api_base_url=client.base_url,
            resolve=lambda _: ["8.8.8.8"],
            sleep=lambda _: None,
            transport=httpx.MockTransport(
                lambda _: httpx.Response(status, stream=httpx.ByteStream(hosted or b""))
            ),
        )
        return ClipRestorer(client, ledger, downloader).restore(manifest)

    yield act
    for client in clients:
        client.close()


def test_a_missing_video_is_restored(
    ledger: Ledger, manifest: ClipManifest, restore: Restore
) -> None:
    before = keys(ledger)
    [video] = manifest.videos
    ledger.root.delete(video.key)
    assert restore(VIDEO) == (video,)
    assert ledger.root.read(video.key) == VIDEO
    assert keys(ledger) == before


def test_a_damaged_video_is_replaced(
    ledger: Ledger, manifest: ClipManifest, restore: Restore
) -> None:
    [video] = manifest.videos
    ledger.root.write(video.key, VIDEO[:-1])
    assert restore(VIDEO) == (video,)
    assert ledger.root.read(video.key) == VIDEO


def test_a_restored_video_has_its_content_type_and_metadata(
    ledger: Ledger, manifest: ClipManifest, restore: Restore
) -> None:
    [video] = manifest.videos
    ledger.root.delete(video.key)
    restore(VIDEO)
    if ledger.root.local_path(video.key) is None:
        attributes = ledger.root.attributes(video.key)
        assert attributes["Content-Type"] == "video/mp4"
        assert attributes["clip"] == "fox"


def test_other_bytes_never_get_to_the_key_of_a_manifest(
    ledger: Ledger, manifest: ClipManifest, restore: Restore
) -> None:
    [video] = manifest.videos
    ledger.root.write(video.key, VIDEO[:-1])
    before = keys(ledger)
    with pytest.raises(StoredClipError, match="not what was stored"):
        restore(OTHER)
    assert ledger.root.read(video.key) == VIDEO[:-1]
    assert keys(ledger) == before


def test_a_failed_download_leaves_nothing_behind(
    ledger: Ledger, manifest: ClipManifest, restore: Restore
) -> None:
    ledger.root.delete(manifest.videos[0].key)
    before = keys(ledger)
    with pytest.raises(StoredClipError, match="cannot be fetched again"):
        restore(VIDEO, status=404)
    assert keys(ledger) == before


def test_a_video_that_runware_no_longer_hosts_is_reported_with_what_to_do(
    ledger: Ledger, manifest: ClipManifest, restore: Restore
) -> None:
    ledger.root.delete(manifest.videos[0].key)
    with pytest.raises(StoredClipError, match=r"no longer hosts it\. Restore it from a backup"):
        restore(None)


def test_a_whole_clip_is_left_alone(
    ledger: Ledger, manifest: ClipManifest, restore: Restore
) -> None:
    assert restore(OTHER) == ()
    assert ledger.root.read(manifest.videos[0].key) == VIDEO
