"""Streaming upload of an object: a few parts in memory, complete at the end or not at all."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Protocol

from sora_dagster.storage.attributes import ObjectAttributes

if TYPE_CHECKING:
    from obstore.store import ObjectStore

_log = logging.getLogger(__name__)

# S3 and GCS accept no smaller parts (except the last), and no more of them.
MIN_PART_BYTES = 5 * 1024**2
MAX_PARTS = 10_000
# A folder has no minimum; smaller parts cost more hand-overs between threads.
_FOLDER_PART_BYTES = 2 * 1024**2
_FOLDER_CONCURRENCY = 2
# Every upload may hold one part. Uploads share these beyond that, so that sixteen uploads at a time
# hold little more than sixteen parts.
_SPARE_PARTS = 6
_MAX_SPARE_PARTS_EACH = 2


class ByteSink(Protocol):
    """Target of a streamed object's bytes."""

    def write(self, chunk: bytes, /) -> object:
        """Append bytes."""


@contextmanager
def open_upload(
    store: ObjectStore,
    key: str,
    *,
    attributes: ObjectAttributes | None = None,
    max_bytes: int | None = None,
    translate_errors: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> Iterator[ByteSink]:
    """Stream an object into a store; an existing object stays until the end.

    A normal end of the block commits the object. Any exception aborts the upload: no object, no
    parts in the store, no unfinished file in a folder. If the process is killed, or the store
    cannot be reached for the abort, the parts stay until the unfinished upload is aborted.

    Memory: one part of 5 MiB for each upload (two of 2 MiB into a folder), and 6 more for all
    uploads of the process together. Chunks are kept until they are sent, never copied: write
    `bytes` of about 256 KiB, not a buffer that is reused.

    Arguments:
        store: the store.
        key: key of the object.
        attributes: content type and metadata; a folder keeps none.
        max_bytes: largest possible size, if it can exceed 48 GiB: parts are then larger than 5 MiB.
        translate_errors: a context that turns the store's exceptions into the caller's.
    """
    import obstore
    from obstore.store import LocalStore

    is_folder = isinstance(store, LocalStore)
    part_bytes = _FOLDER_PART_BYTES if is_folder else part_bytes_for(max_bytes)
    with _spare_parts.borrow(0 if is_folder else _MAX_SPARE_PARTS_EACH) as spare_parts:
        writable = obstore.open_writer(
            store,
            key,
            attributes=attributes.encoded() if attributes and not is_folder else None,
            buffer_size=part_bytes,
            max_concurrency=_FOLDER_CONCURRENCY if is_folder else 1 + spare_parts,
        )
        limit = None if is_folder else part_bytes * MAX_PARTS
        try:
            yield _Sink(writable, translate_errors, limit)
        except BaseException as error:
            _abort(writable, key, error)
            raise
        with translate_errors():
            writable.close()


def part_bytes_for(max_bytes: int | None) -> int:
    """Size of the parts with which the allowed number of parts suffices."""
    return max(MIN_PART_BYTES, -(-(max_bytes or 0) // MAX_PARTS))


class _Sink:
    """Writes to obstore's writable, up to a limit in bytes (None: no limit)."""

    def __init__(
        self,
        writable: Any,
        translate_errors: Callable[[], AbstractContextManager[None]],
        limit: int | None,
    ) -> None:
        self._writable = writable
        self._translate_errors = translate_errors
        self._limit = limit
        self._size = 0

    def write(self, chunk: bytes, /) -> None:
        self._size += len(chunk)
        with self._translate_errors():
            if self._limit is not None and self._size > self._limit:
                raise OverflowError(
                    f"the object exceeds {self._limit} bytes, the limit of its parts; set "
                    f"max_bytes to its largest possible size"
                )
            self._writable.write(chunk)


def _abort(writable: Any, key: str, reason: BaseException) -> None:
    try:
        # obstore has no other way to abort.
        writable.__exit__(type(reason), reason, reason.__traceback__)
    # The reason matters more to the caller; leftover parts cost little until they are pruned.
    except Exception as error:  # noqa: BLE001
        _log.warning("an unfinished upload of %s could not be aborted: %s", key, error)


class _SpareParts:
    """Parts that uploads may hold beyond their first, counted for the whole process."""

    def __init__(self, count: int) -> None:
        self._free = count
        self._lock = threading.Lock()

    @contextmanager
    def borrow(self, most: int) -> Iterator[int]:
        """Take some of the free parts, but leave half of them to others; never wait for more."""
        with self._lock:
            taken = min(most, -(-self._free // 2))
            self._free -= taken
        try:
            yield taken
        finally:
            with self._lock:
                self._free += taken


_spare_parts = _SpareParts(_SPARE_PARTS)
