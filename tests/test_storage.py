"""The storage root behaves the same on a folder, in memory and on an S3 server."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import boto3
import pytest
from dagster_aws.s3 import S3Resource
from hypothesis import given
from hypothesis import strategies as st
from moto.server import ThreadedMotoServer

from sora_dagster.generation.layout import segment
from sora_dagster.resources import ClipStorageResource
from sora_dagster.storage import ObjectMissingError, StorageError, StorageRoot
from sora_dagster.storage_s3 import S3Settings


@pytest.fixture(scope="module")
def s3_endpoint() -> Iterator[str]:
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3_url(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> str:
    settings = {
        "AWS_ENDPOINT_URL": s3_endpoint,
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": "testing",
        "AWS_SECRET_ACCESS_KEY": "testing",
        "AWS_REGION": "us-east-1",
    }
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    bucket = f"clips-{os.urandom(4).hex()}"
    boto3.client("s3", endpoint_url=s3_endpoint).create_bucket(Bucket=bucket)
    return f"s3://{bucket}/some/prefix"


@pytest.fixture(params=["file", "memory", "s3"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> StorageRoot:
    if request.param == "s3":
        return StorageRoot(request.getfixturevalue("s3_url"))
    return StorageRoot("memory://" if request.param == "memory" else tmp_path / "a folder")


def test_a_created_object_can_be_read(root: StorageRoot) -> None:
    assert root.create("a/b.json", b"1")
    assert root.read("a/b.json") == b"1"


def test_creating_again_changes_nothing_and_says_so(root: StorageRoot) -> None:
    root.create("a/b.json", b"first")
    assert not root.create("a/b.json", b"second")
    assert root.read("a/b.json") == b"first"


def test_of_many_who_create_at_once_one_wins(root: StorageRoot) -> None:
    start = threading.Barrier(8)

    def create(number: int) -> bool:
        start.wait()
        return root.create("claim.json", str(number).encode())

    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(create, range(8)))
    assert won.count(True) == 1
    assert root.read("claim.json") == str(won.index(True)).encode()


def test_writing_replaces(root: StorageRoot) -> None:
    root.write("x", b"1")
    root.write("x", b"2")
    assert root.read("x") == b"2"


def test_a_missing_object_is_an_error_that_names_it(root: StorageRoot) -> None:
    with pytest.raises(ObjectMissingError, match=r"nothing\.json"):
        root.read("nothing.json")
    assert root.read_if_present("nothing.json") is None
    assert root.info("nothing.json") is None


def test_deleting_may_be_repeated(root: StorageRoot) -> None:
    root.write("x", b"1")
    root.delete("x")
    root.delete("x")
    assert not root.exists("x")


def test_listing_is_by_folder(root: StorageRoot) -> None:
    for key in ("in/1", "in/2", "in/deep/3", "inbox/4"):
        root.write(key, b"")
    assert sorted(info.key for info in root.list("in")) == ["in/1", "in/2", "in/deep/3"]
    assert list(root.list("absent")) == []


def test_a_streamed_object_appears_whole(root: StorageRoot) -> None:
    with root.writer("video.mp4") as sink:
        for _ in range(12):
            sink.write(b"x" * (1 << 20))
    info = root.info("video.mp4")
    assert info is not None
    assert info.size_bytes == 12 << 20


def test_a_stream_that_breaks_leaves_nothing(root: StorageRoot) -> None:
    with pytest.raises(RuntimeError), root.writer("video.mp4") as sink:
        sink.write(b"x" * 100)
        raise RuntimeError("the connection broke")
    assert not root.exists("video.mp4")


def test_an_open_object_can_be_sought_in(root: StorageRoot) -> None:
    root.write("x", bytes(range(256)))
    with root.open("x") as file:
        file.seek(100)
        assert file.read(3) == bytes([100, 101, 102])
        assert file.seek(-1, os.SEEK_END) == 255
        assert file.read() == b"\xff"


def test_the_store_has_a_clock_and_leaves_nothing_of_reading_it(root: StorageRoot) -> None:
    root.write("x", b"")
    info = root.info("x")
    assert info is not None
    assert root.store_time() >= info.last_modified
    assert [found.key for found in root.list("")] == ["x"]


def test_a_bucket_that_does_not_exist_is_a_clear_error(s3_url: str) -> None:
    with pytest.raises(StorageError, match="no-such-bucket"):
        StorageRoot("s3://no-such-bucket/x").check_writable()


def test_a_folder_that_cannot_be_made_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="Choose a folder"):
        StorageRoot(tmp_path / "file" / "storage")


@pytest.mark.parametrize("url", ["ftp://host/x", "http://host/x", "", "  "])
def test_an_address_of_no_store_is_refused(url: str) -> None:
    with pytest.raises(StorageError):
        StorageRoot(url)


def test_one_folder_has_one_spelling(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    spellings = ["clips", "./clips", str(tmp_path / "clips"), (tmp_path / "clips").as_uri()]
    assert len({StorageRoot(spelling).url for spelling in spellings}) == 1


names = st.text(min_size=1, max_size=150)


@given(names)
def test_any_name_makes_one_plain_folder(name: str) -> None:
    made = segment(name)
    assert 0 < len(made) <= 80
    assert set(made) <= set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-")
    assert ".." not in made
    assert not made.startswith(".")


@given(names, names)
def test_different_names_make_different_folders_on_any_disk(first: str, second: str) -> None:
    if first != second:
        assert segment(first).lower() != segment(second).lower()


def test_a_store_that_creates_twice_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = StorageRoot(tmp_path)

    def create_always(key: str, body: bytes) -> bool:
        root.write(key, body)
        return True

    monkeypatch.setattr(root, "create", create_always)
    with pytest.raises(StorageError, match="created twice"):
        root.check_writable()


def s3_resource_root(endpoint: str, bucket: str, **settings: object) -> StorageRoot:
    """A root by dagster-aws's resource alone, as a team has it."""
    s3 = S3Resource(
        endpoint_url=endpoint,
        aws_access_key_id="testing",
        aws_secret_access_key="testing",
        **settings,  # type: ignore[arg-type]
    )
    return ClipStorageResource(url=f"s3://{bucket}/clips", s3=s3).root()


def test_s3_settings_come_from_dagsters_resource(
    s3_endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    keys = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing"}
    client = boto3.client("s3", endpoint_url=s3_endpoint, region_name="us-east-1", **keys)  # type: ignore[call-overload]
    client.create_bucket(Bucket="by-resource")
    root = s3_resource_root(s3_endpoint, "by-resource", region_name="us-east-1")
    root.create("a.json", b"1")
    body = client.get_object(Bucket="by-resource", Key="clips/a.json")["Body"].read()
    assert body == b"1"


def test_a_profile_is_used(
    s3_endpoint: str, s3_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    (tmp_path / "credentials").write_text(
        "[team]\naws_access_key_id = testing\naws_secret_access_key = testing\n"
    )
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    storage = ClipStorageResource(url=s3_url, s3=S3Resource(profile_name="team"))
    assert storage.root().create("a", b"1")


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"profile_name": "nobody"}, "nobody"),
        ({"aws_access_key_id": "half"}, "belong together"),
        ({"endpoint_url": "no-url"}, "no-url"),
    ],
)
def test_s3_settings_that_cannot_be_used_are_a_clear_error(
    s3_url: str, settings: dict[str, str], message: str
) -> None:
    with pytest.raises(StorageError, match=message):
        ClipStorageResource(url=s3_url, s3=S3Resource(**settings)).root()  # type: ignore[arg-type]


def test_without_credentials_it_says_where_they_may_come_from(
    s3_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "none"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    with pytest.raises(StorageError, match="AWS_ACCESS_KEY_ID"):
        StorageRoot(s3_url)


def test_s3_secrets_do_not_show() -> None:
    assert "hidden" not in repr(S3Settings(aws_secret_access_key="hidden"))
