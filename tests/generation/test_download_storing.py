"""What is fetched appears whole in a folder and on S3, or leaves nothing there at all."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import stamina

from sora_dagster.generation.fetching.download import Downloader, DownloadError
from sora_dagster.storage import ObjectAttributes, StorageError, StorageRoot
from tests.generation.cutting_host import CuttingHost, hosting
from tests.s3_server import s3_client

Leavings = Callable[[], list[str]]

VIDEO = random.Random(4).randbytes(13_000_000)


@pytest.fixture(autouse=True)
def without_waits() -> Iterator[None]:
    with stamina.set_testing(True, attempts=2):
        yield


@pytest.fixture
def host() -> Iterator[CuttingHost]:
    with hosting(CuttingHost(VIDEO)) as served:
        yield served


@pytest.fixture(params=["file", "s3"])
def storage(request: pytest.FixtureRequest, tmp_path: Path) -> StorageRoot:
    """A storage root whose leavings can be looked at."""
    if request.param == "s3":
        return StorageRoot(request.getfixturevalue("s3_url"))
    return StorageRoot(tmp_path)


@pytest.fixture
def leavings(request: pytest.FixtureRequest, storage: StorageRoot, tmp_path: Path) -> Leavings:
    """Tells all that is there, unfinished uploads included."""

    def found() -> list[str]:
        if storage.url.startswith("file:"):
            return [str(path) for path in tmp_path.rglob("*") if path.is_file()]
        client = s3_client(request.getfixturevalue("s3_endpoint"))
        bucket = urlsplit(storage.url).netloc
        unfinished = client.list_multipart_uploads(Bucket=bucket).get("Uploads", [])
        objects = client.list_objects_v2(Bucket=bucket).get("Contents", [])
        return [entry["Key"] for entry in [*unfinished, *objects]]

    return found


def downloader(host: CuttingHost, **settings: object) -> Downloader:
    return Downloader(api_base_url=host.address, sleep=lambda _: None, **settings)  # type: ignore[arg-type]


def test_a_broken_download_goes_on_in_the_same_upload(
    host: CuttingHost, storage: StorageRoot
) -> None:
    host.cuts = [7_000_001, 3]
    fetched = downloader(host).fetch(f"{host.address}/a.mp4", storage, "a.mp4")
    assert hashlib.sha256(storage.read("a.mp4")).hexdigest() == fetched.sha256
    assert fetched.sha256 == hashlib.sha256(VIDEO).hexdigest()
    assert host.ranges == [None, "bytes=7000001-", "bytes=7000004-"]


def test_a_download_that_is_given_up_leaves_nothing(
    host: CuttingHost, storage: StorageRoot, leavings: Leavings
) -> None:
    host.cuts = [12_000_000, *[0] * 10]
    with pytest.raises(DownloadError, match="nothing more"):
        downloader(host).fetch(f"{host.address}/a.mp4", storage, "a.mp4")
    assert leavings() == []


def test_a_download_that_begins_anew_leaves_one_object(
    host: CuttingHost, storage: StorageRoot, leavings: Leavings
) -> None:
    host.cuts = [12_000_000]
    host.serves_ranges = False
    downloader(host).fetch(f"{host.address}/a.mp4", storage, "a.mp4")
    assert storage.read("a.mp4") == VIDEO
    assert len(leavings()) == 1


def test_what_was_there_stays_when_a_download_fails(
    host: CuttingHost, storage: StorageRoot
) -> None:
    storage.write("a.mp4", b"before")
    host.cuts = [12_000_000, *[0] * 10]
    with pytest.raises(DownloadError):
        downloader(host).fetch(f"{host.address}/a.mp4", storage, "a.mp4")
    assert storage.read("a.mp4") == b"before"


@pytest.mark.parametrize("size", [1000, 13_000_000])
def test_content_type_and_metadata_go_with_the_video(s3_url: str, size: int) -> None:
    root = StorageRoot(s3_url)
    attributes = ObjectAttributes("video/mp4", {"clip": "fox"})
    with hosting(CuttingHost(VIDEO[:size])) as host:
        downloader(host).fetch(f"{host.address}/a.mp4", root, "a.mp4", attributes=attributes)
    kept = root.attributes("a.mp4")
    assert kept["Content-Type"] == "video/mp4"
    assert kept["clip"] == "fox"


def test_a_folder_takes_attributes_and_keeps_none(host: CuttingHost, root: StorageRoot) -> None:
    attributes = ObjectAttributes("video/mp4", {"clip": "fox"})
    fetched = downloader(host).fetch(f"{host.address}/a.mp4", root, "a.mp4", attributes=attributes)
    assert fetched.size_bytes == len(VIDEO)


def test_a_bucket_that_is_not_there_is_the_stores_failure(host: CuttingHost, s3_url: str) -> None:
    root = StorageRoot("s3://no-such-bucket-here/x")
    with pytest.raises(StorageError, match="no-such-bucket-here"):
        downloader(host).fetch(f"{host.address}/a.mp4", root, "a.mp4")
    assert len(host.asked) == 1
