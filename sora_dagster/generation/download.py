"""Fetching finished videos: from trusted hosts, in bounded memory, hashed on the way."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass

import httpx
import stamina

from sora_dagster.generation.download_errors import DownloadError, NoProgressError
from sora_dagster.generation.hashing import StreamHash
from sora_dagster.generation.resuming import ResumingReader
from sora_dagster.generation.url_guard import (
    DEFAULT_ALLOWED_DOMAINS,
    UrlGuard,
    addresses_of,
    shown_url,
)
from sora_dagster.storage import ObjectAttributes, StorageRoot

__all__ = [
    "DEFAULT_MAX_BYTES",
    "DEFAULT_MAX_SECONDS",
    "Download",
    "DownloadError",
    "Downloader",
    "shown_url",
]

DEFAULT_MAX_BYTES = 4 * 1024**3
DEFAULT_MAX_SECONDS = 1800.0


@dataclass(frozen=True)
class Download:
    """What was fetched.

    Arguments:
        size_bytes: length of the object written.
        sha256: hash of its bytes, in hex.
    """

    size_bytes: int
    sha256: str


class Downloader:
    """Streams result URLs into the storage root.

    A connection that breaks is taken up at the byte it reached, where the host allows it; else the
    file is read anew. Bytes are stored as they are sent, and no encoding of them is asked for.

    Arguments:
        api_base_url: the API's address; its host may serve results too, on whatever scheme the
            API itself uses.
        allowed_domains: domains (and their subdomains) that results are fetched from, by https.
        allow_private: whether these may lie at private, local or reserved addresses.
        timeout_seconds: longest wait for the next bytes.
        max_bytes: longest video.
        max_seconds: longest time for one video.
        resolve: gives the addresses of a host.
        monotonic: a clock for waits, in seconds.
        sleep: waits for a number of seconds.
        transport: how to connect; for tests.
    """

    def __init__(
        self,
        *,
        api_base_url: str,
        allowed_domains: Iterable[str] = DEFAULT_ALLOWED_DOMAINS,
        allow_private: bool = False,
        timeout_seconds: float = 60.0,
        max_bytes: int = DEFAULT_MAX_BYTES,
        max_seconds: float = DEFAULT_MAX_SECONDS,
        resolve: Callable[[str], Iterable[str]] = addresses_of,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._guard = UrlGuard(
            api_base_url=api_base_url,
            allowed_domains=allowed_domains,
            allow_private=allow_private,
            resolve=resolve,
        )
        self._max_bytes = max_bytes
        self._max_seconds = max_seconds
        self._monotonic = monotonic
        self._sleep = sleep
        # Redirects are followed by hand, so that each new address is checked like the first.
        self._http = httpx.Client(
            timeout=timeout_seconds, follow_redirects=False, transport=transport
        )

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def check_url(self, url: str) -> None:
        """Refuse an address that results are not fetched from.

        Raises:
            DownloadError: where the scheme or host is not allowed.
        """
        self._guard.check(url)

    def fetch(
        self,
        url: str,
        root: StorageRoot,
        key: str,
        *,
        attributes: ObjectAttributes | None = None,
    ) -> Download:
        """Stream a URL into an object, which appears only when it is whole.

        Arguments:
            url: the video's address.
            root: where it is stored.
            key: the object's key.
            attributes: content type and metadata of the object.

        Raises:
            DownloadError: where the address is not allowed, the host refuses, the bytes are fewer
                or more than announced, or the connection breaks too often.
            StorageError: where the object cannot be written.
        """
        deadline = self._monotonic() + self._max_seconds

        def is_worth_another_try(error: Exception) -> bool:
            return (
                isinstance(error, DownloadError)
                and error.retryable
                and not isinstance(error, NoProgressError)
                and self._monotonic() <= deadline
            )

        for attempt in stamina.retry_context(on=is_worth_another_try, attempts=4, timeout=None):
            with attempt:
                return self._fetch_whole(url, root, key, attributes, deadline)
        raise AssertionError("stamina returns or raises")

    def _fetch_whole(
        self,
        url: str,
        root: StorageRoot,
        key: str,
        attributes: ObjectAttributes | None,
        deadline: float,
    ) -> Download:
        reader = ResumingReader(
            self._http,
            self._guard,
            url,
            most_bytes=self._max_bytes,
            is_late=lambda: self._monotonic() > deadline,
            too_late=f"did not arrive within {self._max_seconds:.0f} s",
            sleep=self._sleep,
        )
        with (
            StreamHash() as digest,
            closing(reader.chunks()) as chunks,
            root.writer(key, attributes=attributes, most_bytes=self._max_bytes) as sink,
        ):
            for chunk in chunks:
                digest.update(chunk)
                sink.write(chunk)
        return Download(size_bytes=reader.received, sha256=digest.hexdigest())
