"""Uploads are committed whole or aborted, whatever ends them."""

from __future__ import annotations

import pytest
from obstore.store import MemoryStore

from sora_dagster.storage import StorageRoot
from sora_dagster.storage.upload import (
    MAX_PARTS,
    MIN_PART_BYTES,
    ByteSink,
    open_upload,
    part_bytes_for,
)

MIB = 1 << 20
STORE = MemoryStore()


def test_parts_are_as_small_as_s3_allows_and_always_suffice() -> None:
    assert part_bytes_for(None) == part_bytes_for(4 << 30) == MIN_PART_BYTES
    for size in (48 << 30, 100 << 30, 5 << 40):
        assert part_bytes_for(size) * MAX_PARTS >= size


class Endless(bytes):
    """As long as it says, for a sink that counts before it writes."""

    def __len__(self) -> int:
        return MIN_PART_BYTES * MAX_PARTS + 1


def test_more_than_the_parts_hold_is_refused_and_leaves_nothing() -> None:
    with pytest.raises(OverflowError, match="max_bytes"), open_upload(STORE, "long") as sink:
        sink.write(b"x" * MIB)
        sink.write(Endless())
    assert [entry["path"] for page in STORE.list("long") for entry in page] == []


def test_max_bytes_raises_the_limit() -> None:
    with open_upload(STORE, "longer", max_bytes=1 << 40) as sink:
        sink.write(Endless(b"fake"))
    assert bytes(STORE.get("longer").bytes()) == b"fake"


def test_an_empty_upload_is_an_empty_object(root: StorageRoot) -> None:
    with root.writer("empty"):
        pass
    assert root.read("empty") == b""


@pytest.mark.parametrize("end", [KeyboardInterrupt, SystemExit, GeneratorExit, ValueError])
def test_whatever_ends_the_block_leaves_nothing(
    root: StorageRoot, end: type[BaseException]
) -> None:
    with pytest.raises(end), root.writer("video.mp4") as sink:
        for _ in range(20):
            sink.write(b"x" * MIB)
        raise end
    assert list(root.list("")) == []
    assert list(root.stale_uploads(-60)) == []


def test_many_uploads_at_once_are_all_served(s3_url: str) -> None:
    root = StorageRoot(s3_url)
    opened = [root.writer(f"{number}") for number in range(12)]
    sinks: list[ByteSink] = [upload.__enter__() for upload in opened]
    for _ in range(6):
        for number, sink in enumerate(sinks):
            sink.write(bytes([number]) * MIB)
    for upload in opened:
        upload.__exit__(None, None, None)
    for number in range(12):
        assert root.read(f"{number}") == bytes([number]) * 6 * MIB
