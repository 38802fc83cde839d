"""Fetching finished videos: from trusted hosts, in bounded memory, hashed on the way."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass
from urllib.parse import urlsplit, urlunsplit

import httpx
import stamina

from sora_dagster.storage import StorageRoot

# Results are served from vm.runware.ai and im.runware.ai (reported by an integrator, not
# documented), so every host of that domain is allowed.
DEFAULT_ALLOWED_DOMAINS = ("runware.ai",)
DEFAULT_MAX_BYTES = 4 * 1024**3
_CHUNK_BYTES = 1 << 20


class DownloadError(Exception):
    """A video could not be fetched.

    Arguments:
        message: what happened; a URL's query is left out, since it may be a signature.
        gone: whether the host says that the file is there no more.
    """

    def __init__(self, message: str, *, gone: bool = False, retryable: bool = False) -> None:
        super().__init__(message)
        self.gone = gone
        self.retryable = retryable


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

    Arguments:
        api_base_url: the API's address; its host may serve results too, on whatever scheme the
            API itself uses.
        allowed_domains: domains (and their subdomains) that results are fetched from, by https.
        timeout_seconds: longest wait for the next bytes.
        max_bytes: longest video.
        transport: how to connect; for tests.
    """

    def __init__(
        self,
        *,
        api_base_url: str,
        allowed_domains: Iterable[str] = DEFAULT_ALLOWED_DOMAINS,
        timeout_seconds: float = 60.0,
        max_bytes: int = DEFAULT_MAX_BYTES,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        api = urlsplit(api_base_url)
        self._api_origin = (api.scheme, api.hostname)
        self._allowed_domains = tuple(domain.lower() for domain in allowed_domains)
        self._max_bytes = max_bytes
        # Redirects are not followed: a redirect is a new address that nobody vouched for.
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
        parts = urlsplit(url)
        host = (parts.hostname or "").lower()
        if (parts.scheme, host) == self._api_origin:
            return
        if parts.scheme == "https" and any(
            host == domain or host.endswith(f".{domain}") for domain in self._allowed_domains
        ):
            return
        raise DownloadError(
            f"results are not fetched from {shown_url(url)}; allowed are https addresses below "
            f"{', '.join(self._allowed_domains)}, and the API's own host"
        )

    def fetch(self, url: str, root: StorageRoot, key: str) -> Download:
        """Stream a URL into an object, which appears only when it is whole.

        Raises:
            DownloadError: where the address is not allowed, the host refuses, or the bytes are
                fewer or more than announced.
        """
        self.check_url(url)
        for attempt in stamina.retry_context(on=_worth_another_try, attempts=4, timeout=120.0):
            with attempt:
                return self._fetch_once(url, root, key)
        raise AssertionError("stamina returns or raises")

    def _fetch_once(self, url: str, root: StorageRoot, key: str) -> Download:
        try:
            with self._http.stream("GET", url) as response:
                if response.status_code != 200:
                    raise DownloadError(
                        f"{shown_url(url)} answered HTTP {response.status_code}",
                        gone=response.status_code in (404, 410),
                        retryable=response.status_code in (408, 429, 500, 502, 503, 504),
                    )
                announced = response.headers.get("Content-Length")
                digest = hashlib.sha256()
                size = 0
                with root.writer(key) as sink:
                    for chunk in response.iter_raw(_CHUNK_BYTES):
                        size += len(chunk)
                        if size > self._max_bytes:
                            raise DownloadError(
                                f"{shown_url(url)} is longer than {self._max_bytes} bytes"
                            )
                        digest.update(chunk)
                        sink.write(chunk)
                    if announced is not None and size != int(announced):
                        raise DownloadError(
                            f"{shown_url(url)} sent {size} bytes of {announced}", retryable=True
                        )
        except httpx.TransportError as error:
            raise DownloadError(
                f"{shown_url(url)} could not be fetched: {type(error).__name__}: {error}",
                retryable=True,
            ) from error
        return Download(size_bytes=size, sha256=digest.hexdigest())


def shown_url(url: str) -> str:
    """A URL as it may be shown: without its query, which may be a signature."""
    return urlunsplit(urlsplit(url)._replace(query="", fragment=""))


def _worth_another_try(error: Exception) -> bool:
    return isinstance(error, DownloadError) and error.retryable
