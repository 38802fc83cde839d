"""Objects of a store in Python: listing entries and readable files."""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, BinaryIO, cast

_BUFFER_BYTES = 1 << 20


@dataclass(frozen=True)
class ObjectInfo:
    """Facts of one object.

    Arguments:
        key: the object's key below the root.
        size_bytes: its size.
        last_modified: when it was written, by the store's clock.
        etag: the store's identifier of this version, if it has one.
    """

    key: str
    size_bytes: int
    last_modified: datetime
    etag: str | None = None


def object_info(meta: Any) -> ObjectInfo:
    """Facts of an object from obstore's metadata."""
    return ObjectInfo(
        key=meta["path"],
        size_bytes=meta["size"],
        last_modified=meta["last_modified"],
        etag=meta["e_tag"],
    )


def seekable_file(readable: Any, failure: Callable[[Exception], Exception]) -> BinaryIO:
    """A buffered Python file over obstore's reader.

    Arguments:
        readable: obstore's reader.
        failure: turns the store's exception into the one to raise.
    """
    raw = _RawReader(readable, failure)
    return cast(BinaryIO, io.BufferedReader(cast(Any, raw), _BUFFER_BYTES))


class _RawReader(io.RawIOBase):
    """A raw Python file over obstore's reader, so that PyAV and others can seek in it."""

    def __init__(self, readable: Any, failure: Callable[[Exception], Exception]) -> None:
        self._readable = readable
        self._failure = failure

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        try:
            chunk = bytes(self._readable.read(len(buffer)))
        except Exception as error:  # noqa: BLE001
            raise self._failure(error) from None
        buffer[: len(chunk)] = chunk
        return len(chunk)

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        return int(self._readable.seek(offset, whence))

    def tell(self) -> int:
        return int(self._readable.tell())
