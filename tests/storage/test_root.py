"""The storage root behaves the same on a folder, in memory and on an S3 server."""

from __future__ import annotations

import os
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sora_dagster.generation.protocol.layout import segment
from sora_dagster.storage import (
    ObjectAttributes,
    ObjectMissingError,
    StaleUpload,
    StorageError,
    StorageRoot,
)


@pytest.fixture(params=["file", "memory", "s3"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> StorageRoot:
    if request.param == "s3":
        return StorageRoot(request.getfixturevalue("s3_url"))
    return StorageRoot("memory://" if request.param == "memory" else tmp_path / "a folder")


def test_a_created_object_can_be_read(root: StorageRoot) -> None:
    assert root.create("a/b.json", b"1")
    assert root.read("a/b.json") == b"1"


def test_creating_again_changes_nothing_and_returns_false(root: StorageRoot) -> None:
    root.create("a/b.json", b"first")
    assert not root.create("a/b.json", b"second")
    assert root.read("a/b.json") == b"first"


def test_one_of_many_simultaneous_creates_wins(root: StorageRoot) -> None:
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


def test_an_open_object_is_seekable(root: StorageRoot) -> None:
    root.write("x", bytes(range(256)))
    with root.open("x") as file:
        file.seek(100)
        assert file.read(3) == bytes([100, 101, 102])
        assert file.seek(-1, os.SEEK_END) == 255
        assert file.read() == b"\xff"


def test_reading_the_clock_of_the_store_leaves_no_object(root: StorageRoot) -> None:
    root.write("x", b"")
    info = root.info("x")
    assert info is not None
    assert root.store_time() >= info.last_modified
    assert [found.key for found in root.list("")] == ["x"]


def test_a_copy_replaces_what_was_there(root: StorageRoot) -> None:
    root.write("from", b"new")
    root.write("to", b"old and longer")
    root.copy("from", "to", attributes=ObjectAttributes("video/mp4"))
    assert root.read("to") == b"new"
    assert root.read("from") == b"new"
    root.write("from", b"newer")
    assert root.read("to") == b"new"


def test_copying_a_missing_object_fails(root: StorageRoot) -> None:
    with pytest.raises(ObjectMissingError, match="nothing"):
        root.copy("nothing", "to")


def test_attributes_are_kept_where_the_store_keeps_any(root: StorageRoot) -> None:
    given = ObjectAttributes("video/mp4", {"Clip": "fox", "Prompt": "ein Fuchs im Schnee, müde"})
    assert root.create("created", b"1", attributes=given)
    root.write("written", b"1", attributes=given)
    with root.writer("streamed", attributes=given) as sink:
        sink.write(b"1")
    root.write("plain", b"1")
    root.copy("plain", "copied", attributes=given)
    kept = {
        "Content-Type": "video/mp4",
        "clip": "fox",
        "prompt": "ein Fuchs im Schnee, m%C3%BCde",
    }
    for key in ("created", "written", "streamed", "copied"):
        assert root.attributes(key) == ({} if root.url.startswith("file:") else kept), key
    with pytest.raises(ObjectMissingError):
        root.attributes("nothing")


def test_folders_are_listed_without_what_is_in_them(root: StorageRoot) -> None:
    for key in ("clips/fox/take-1/a", "clips/owl/take-1/a", "clips/owl/take-2/a", "clips/x", "y"):
        root.write(key, b"")
    assert root.folders("clips") == ["fox", "owl"]
    assert root.folders("clips/owl") == ["take-1", "take-2"]
    assert root.folders("") == ["clips"]
    assert root.folders("absent") == []


def test_an_object_written_again_has_another_etag(root: StorageRoot) -> None:
    root.write("x", b"1")
    first = root.info("x")
    root.write("x", b"22")
    second = root.info("x")
    assert first is not None
    assert second is not None
    assert first.etag
    assert first.etag != second.etag
    assert [info.etag for info in root.list("")] == [second.etag]


def test_a_store_without_uploads_has_no_stale_ones(root: StorageRoot) -> None:
    root.write("x", b"1")
    assert root.stale_uploads(0) == []


@pytest.mark.parametrize("url", ["memory://", "folder"])
def test_a_folder_and_memory_sign_nothing(url: str, tmp_path: Path) -> None:
    root = StorageRoot(url if "://" in url else tmp_path / url)
    assert not root.can_presign
    assert not root.is_reachable_from_outside
    assert root.signing_seconds_left() is None
    with pytest.raises(StorageError, match="cannot be signed"):
        root.presign("PUT", "x", 60)


def test_the_file_of_a_write_that_was_killed_is_a_stale_upload(tmp_path: Path) -> None:
    root = StorageRoot(tmp_path)
    writer = root.writer("clips/fox/video.mp4")
    writer.__enter__().write(b"x" * (4 << 20))
    [left] = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert root.stale_uploads(3600) == []
    found: list[StaleUpload] = []
    for _ in range(1000):
        # The last bytes are written in the background, which can update the time again.
        os.utime(left, (0, 0))
        if found := root.stale_uploads(3600):
            break
    [stale] = found
    assert stale.key == "clips/fox/video.mp4"
    root.abort_upload(stale)
    assert not left.exists()
    root.abort_upload(stale)


def test_a_users_file_with_a_number_sign_is_no_upload(tmp_path: Path) -> None:
    (tmp_path / "take #2.txt").write_text("a note")
    os.utime(tmp_path / "take #2.txt", (0, 0))
    assert StorageRoot(tmp_path).stale_uploads(3600) == []


def test_a_folder_that_cannot_be_made_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="Choose a folder"):
        StorageRoot(tmp_path / "file" / "storage")


@pytest.mark.parametrize(
    "url", ["ftp://host/x", "http://host/x", "", "  ", "s3://", "gs:///prefix"]
)
def test_an_address_of_no_store_is_refused(url: str) -> None:
    with pytest.raises(StorageError):
        StorageRoot(url)


def test_secrets_in_an_address_are_refused_and_not_repeated() -> None:
    for url in ("s3://key:hidden@bucket/x", "az://container/x?sig=hidden"):
        with pytest.raises(StorageError, match="name/prefix only") as raised:
            StorageRoot(url)
        assert "hidden" not in str(raised.value)


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
