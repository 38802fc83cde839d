"""Objects of a store as Python sees them: what a listing says, and a file over one."""

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
    """What a listing says of one object.

    Arguments:
        key: the object's key below the root.
        size_bytes: its length.
        last_modified: when it was written, by the store's own clock.
        etag: what the store calls this version of it, where it does.
    """

    key: str
    size_bytes: int
    last_modified: datetime
    etag: str | None = None


def object_info(meta: Any) -> ObjectInfo:
    """What obstore says of an object, in our words."""
    return ObjectInfo(
        key=meta["path"],
        size_bytes=meta["size"],
        last_modified=meta["last_modified"],
        etag=meta["e_tag"],
    )


def seekable_file(readable: Any, failure: Callable[[Exception], Exception]) -> BinaryIO:
    """obstore's reader as Python's buffered file.

    Arguments:
        readable: obstore's reader.
        failure: makes the exception that is raised where the store fails.
    """
    raw = _RawReader(readable, failure)
    return cast(BinaryIO, io.BufferedReader(cast(Any, raw), _BUFFER_BYTES))


class _RawReader(io.RawIOBase):
    """obstore's reader as Python's raw file, so that PyAV and others can seek in it."""

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
