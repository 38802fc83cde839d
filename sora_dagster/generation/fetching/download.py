"""Downloading finished videos: from trusted hosts, in bounded memory, hashed while streaming."""

from __future__ import annotations

import hashlib
import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass

import httpx
import stamina

from sora_dagster.generation.fetching.resume import ResumingReader
from sora_dagster.runware.address_guard import (
    DownloadError,
    DownloadStalledError,
    GuardedTransport,
    RefusedAddressError,
    UrlGuard,
    addresses_of,
    http_client,
    shown_url,
)
from sora_dagster.runware.retry_log import log_retries_as_sentences
from sora_dagster.storage import ObjectAttributes, StorageRoot

__all__ = [
    "DEFAULT_MAX_BYTES",
    "Download",
    "DownloadError",
    "Downloader",
    "RefusedAddressError",
    "shown_url",
]

DEFAULT_MAX_BYTES = 4 * 1024**3
# Chunks that wait to be hashed. If there are more, the reader waits for the oldest.
_MAX_WAITING_CHUNKS = 2


@dataclass(frozen=True)
class Download:
    """A finished download.

    Arguments:
        size_bytes: length of the object written.
        sha256: hash of its bytes, in hex.
    """

    size_bytes: int
    sha256: str


class Downloader:
    """Streams result URLs into the storage root.

    A broken connection is resumed at the byte it reached if the host allows it; otherwise the file
    is read again from the start. Bytes are stored as sent; no content encoding is requested.

    Arguments:
        api_base_url: the API's address; its host may serve videos too, over the same scheme.
        result_hosts: domains allowed besides runware.ai, with their subdomains; https only.
        result_networks: networks (CIDR) that are allowed although they are not public. A proxy of
            the environment resolves hosts itself; its answers are not checked.
        timeout_seconds: longest wait for the next bytes.
        max_bytes: maximum length of a video; default: 4 GiB.
        max_seconds: maximum time for one video; default: 30 minutes.
        resolve: returns the IP addresses of a host.
        monotonic: a clock for waits, in seconds.
        sleep: waits for a number of seconds.
        transport: replaces the network and the environment's proxies; for tests.

    Raises:
        ValueError: if a host or network is not valid.
    """

    def __init__(
        self,
        *,
        api_base_url: str,
        result_hosts: Iterable[str] = (),
        result_networks: Iterable[str] = (),
        timeout_seconds: float = 60.0,
        max_bytes: int = DEFAULT_MAX_BYTES,
        max_seconds: float = 1800.0,
        resolve: Callable[[str], Iterable[str]] = addresses_of,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._guard = UrlGuard(
            api_base_url=api_base_url,
            result_hosts=result_hosts,
            result_networks=result_networks,
            resolve=resolve,
        )
        self._max_bytes = max_bytes
        self._max_seconds = max_seconds
        self._monotonic = monotonic
        self._sleep = sleep
        self._http = (
            http_client(self._guard, timeout_seconds=timeout_seconds)
            if transport is None
            else httpx.Client(transport=GuardedTransport(self._guard, lambda: transport))
        )

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def fetch(
        self,
        url: str,
        root: StorageRoot,
        key: str,
        *,
        attributes: ObjectAttributes | None = None,
        check_interrupted: Callable[[], None] = lambda: None,
    ) -> Download:
        """Stream a URL into an object, which appears only when it is complete.

        Arguments:
            url: the video's address.
            root: where it is stored.
            key: the object's key.
            attributes: content type and metadata of the object.
            check_interrupted: called after all bytes that arrive; raises an error to break off.

        Raises:
            RefusedAddressError: if the address is not allowed.
            DownloadError: if the host refuses, sends fewer or more bytes than announced, or the
                connection breaks too often.
            StorageError: if the object cannot be written.
        """
        deadline = self._monotonic() + self._max_seconds

        def is_worth_another_try(error: Exception) -> bool:
            return (
                isinstance(error, DownloadError)
                and error.retryable
                and not isinstance(error, DownloadStalledError | RefusedAddressError)
                and self._monotonic() <= deadline
            )

        def check() -> None:
            check_interrupted()
            if self._monotonic() > deadline:
                raise DownloadError(
                    f"{shown_url(url)} did not arrive within {self._max_seconds:.0f} s",
                    retryable=True,
                )

        log_retries_as_sentences()
        for attempt in stamina.retry_context(on=is_worth_another_try, attempts=4, timeout=None):
            with attempt:
                return self._fetch_from_start(url, root, key, attributes, check)
        raise AssertionError("stamina returns or raises")

    def _fetch_from_start(
        self,
        url: str,
        root: StorageRoot,
        key: str,
        attributes: ObjectAttributes | None,
        check: Callable[[], None],
    ) -> Download:
        reader = ResumingReader(
            self._http,
            self._guard,
            url,
            max_bytes=self._max_bytes,
            check=check,
            sleep=self._sleep,
        )
        with (
            _StreamHash() as digest,
            closing(reader.chunks()) as chunks,
            root.writer(key, attributes=attributes, max_bytes=self._max_bytes) as sink,
        ):
            for chunk in chunks:
                digest.update(chunk)
                sink.write(chunk)
        return Download(size_bytes=reader.received, sha256=digest.hexdigest())


class _StreamHash:
    """The SHA-256 of a stream, computed in another thread, since hashing releases the GIL.

    Example:
        >>> with _StreamHash() as digest:
        ...     digest.update(b"abc")
        >>> digest.hexdigest()[:16]
        'ba7816bf8f01cfea'
    """

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self._waiting: deque[Future[None]] = deque()
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="hash")

    def __enter__(self) -> _StreamHash:
        return self

    def __exit__(self, error_type: type[BaseException] | None, *_: object) -> None:
        self._pool.shutdown(cancel_futures=error_type is not None)

    def update(self, chunk: bytes) -> None:
        if len(self._waiting) > _MAX_WAITING_CHUNKS:
            self._waiting.popleft().result()
        self._waiting.append(self._pool.submit(self._digest.update, chunk))

    def hexdigest(self) -> str:
        while self._waiting:
            self._waiting.popleft().result()
        return self._digest.hexdigest()
