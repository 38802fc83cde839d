"""Streaming an object into a store: few parts of it in memory, whole at the end or not at all."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import TYPE_CHECKING, Any, Protocol

from sora_dagster.storage.attributes import ObjectAttributes

if TYPE_CHECKING:
    from obstore.store import ObjectStore as Store

_log = logging.getLogger(__name__)

# S3 and GCS take no smaller parts (but for the last), and no more of them.
LEAST_PART_BYTES = 5 * 1024**2
MOST_PARTS = 10_000
# A folder has no least part; smaller ones cost more hand-overs between threads.
_FOLDER_PART_BYTES = 2 * 1024**2
_FOLDER_PARTS_AT_ONCE = 2
# Every upload may hold one part. These are lent beyond that, to whichever uploads are under way,
# so that sixteen of them at once hold little more than sixteen parts.
_SPARE_PARTS = 6
_MOST_SPARE_PARTS_EACH = 2


class ByteSink(Protocol):
    """Where a streamed object's bytes go."""

    def write(self, chunk: bytes, /) -> object:
        """Append bytes."""


@contextmanager
def open_upload(
    store: Store,
    key: str,
    *,
    attributes: ObjectAttributes | None = None,
    most_bytes: int | None = None,
    explaining: Callable[[], AbstractContextManager[None]] = nullcontext,
) -> Iterator[ByteSink]:
    """Stream an object into a store; what was there before stays until the end.

    A normal end of the block commits the object. Any exception aborts the upload: no object, no
    parts in the store, no unfinished file in a folder. Where the process is killed, or the store
    cannot be reached for the abort, the parts stay until somebody aborts the unfinished upload.

    Memory: one part of 5 MiB for each upload (two of 2 MiB into a folder), and 6 more for all
    uploads of the process together. Chunks are kept until they are sent, never copied: give
    `bytes`, of about 256 KiB, not a buffer that is used again.

    Arguments:
        store: the store.
        key: where the object goes.
        attributes: content type and metadata; a folder keeps none.
        most_bytes: the most that may come, where that could be beyond 48 GiB: parts are then larger
            than 5 MiB.
        explaining: turns the store's exceptions, raised inside of it, into the caller's.
    """
    import obstore
    from obstore.store import LocalStore

    is_folder = isinstance(store, LocalStore)
    part_bytes = _FOLDER_PART_BYTES if is_folder else part_bytes_for(most_bytes)
    with _spare_parts.lent(0 if is_folder else _MOST_SPARE_PARTS_EACH) as spare_parts:
        writable = obstore.open_writer(
            store,
            key,
            attributes=attributes.encoded() if attributes and not is_folder else None,
            buffer_size=part_bytes,
            max_concurrency=_FOLDER_PARTS_AT_ONCE if is_folder else 1 + spare_parts,
        )
        longest = None if is_folder else part_bytes * MOST_PARTS
        try:
            yield _Sink(writable, explaining, longest)
        except BaseException as error:
            _abort(writable, key, error)
            raise
        with explaining():
            writable.close()


def part_bytes_for(most_bytes: int | None) -> int:
    """How long the parts of an upload must be, for the parts to suffice."""
    return max(LEAST_PART_BYTES, -(-(most_bytes or 0) // MOST_PARTS))


class _Sink:
    """A writable of obstore's, whose failures are the caller's exceptions.

    Arguments:
        writable: obstore's writable.
        explaining: turns its exceptions into the caller's.
        longest: most bytes that its parts can hold; None for no limit.
    """

    def __init__(
        self,
        writable: Any,
        explaining: Callable[[], AbstractContextManager[None]],
        longest: int | None,
    ) -> None:
        self._writable = writable
        self._explaining = explaining
        self._longest = longest
        self._size = 0

    def write(self, chunk: bytes, /) -> None:
        self._size += len(chunk)
        with self._explaining():
            if self._longest is not None and self._size > self._longest:
                raise OverflowError(
                    f"it is longer than the {self._longest} bytes that its parts hold; say with "
                    f"most_bytes how long it may be"
                )
            self._writable.write(chunk)


def _abort(writable: Any, key: str, reason: BaseException) -> None:
    try:
        # obstore aborts in no other way.
        writable.__exit__(type(reason), reason, reason.__traceback__)
    # The reason matters more to the caller; what stays costs little until it is swept.
    except Exception as error:  # noqa: BLE001
        _log.warning("an unfinished upload of %s could not be aborted: %s", key, error)


class _SpareParts:
    """Parts that uploads may hold beyond their first, counted for the whole process.

    Arguments:
        count: how many there are.
    """

    def __init__(self, count: int) -> None:
        self._free = count
        self._lock = threading.Lock()

    @contextmanager
    def lent(self, most: int) -> Iterator[int]:
        """Lend some of the free ones, but leave half of them to others; never wait for more."""
        with self._lock:
            lent = min(most, -(-self._free // 2))
            self._free -= lent
        try:
            yield lent
        finally:
            with self._lock:
                self._free += lent


_spare_parts = _SpareParts(_SPARE_PARTS)
