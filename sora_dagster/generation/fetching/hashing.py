"""Hashing a stream beside the one who reads it."""

from __future__ import annotations

import hashlib
from collections import deque
from concurrent.futures import Future, ThreadPoolExecutor

# Chunks that wait to be hashed; the reader waits for the oldest where there are more.
_MOST_WAITING = 2


class StreamHash:
    """The SHA-256 of a stream, computed by a thread of its own: hashing needs no interpreter lock.

    Example:
        >>> with StreamHash() as digest:
        ...     digest.update(b"abc")
        >>> digest.hexdigest()[:16]
        'ba7816bf8f01cfea'
    """

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self._waiting: deque[Future[None]] = deque()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="hash")

    def __enter__(self) -> StreamHash:
        return self

    def __exit__(self, error_type: type[BaseException] | None, *_: object) -> None:
        # A stream that broke is hashed no further.
        self._pool.shutdown(cancel_futures=error_type is not None)

    def update(self, chunk: bytes) -> None:
        """Hash the next chunk, soon."""
        if len(self._waiting) > _MOST_WAITING:
            self._waiting.popleft().result()
        self._waiting.append(self._pool.submit(self._digest.update, chunk))

    def hexdigest(self) -> str:
        """The hash of all chunks so far, in hex."""
        while self._waiting:
            self._waiting.popleft().result()
        return self._digest.hexdigest()
