"""Fetching finished videos: from trusted hosts, in bounded memory, hashed on the way."""

from __future__ import annotations

import hashlib
import ipaddress
import socket
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from urllib.parse import urljoin, urlsplit, urlunsplit

import httpx
import stamina

from sora_dagster.storage import StorageRoot

# Results are served from vm.runware.ai and im.runware.ai (reported by an integrator, not
# documented), so every host of that domain is allowed.
DEFAULT_ALLOWED_DOMAINS = ("runware.ai",)
DEFAULT_MAX_BYTES = 4 * 1024**3
DEFAULT_MAX_SECONDS = 1800.0
_CHUNK_BYTES = 1 << 20
_REDIRECTS = (301, 302, 303, 307, 308)
_MOST_REDIRECTS = 5


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


def _addresses_of(host: str) -> list[str]:
    return [str(info[4][0]) for info in socket.getaddrinfo(host, 443, type=socket.SOCK_STREAM)]


class Downloader:
    """Streams result URLs into the storage root.

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
        resolve: Callable[[str], Iterable[str]] = _addresses_of,
        monotonic: Callable[[], float] = time.monotonic,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        api = urlsplit(api_base_url)
        self._api_origin = (api.scheme, api.hostname)
        self._allowed_domains = tuple(domain.lower() for domain in allowed_domains)
        self._allow_private = allow_private
        self._max_bytes = max_bytes
        self._max_seconds = max_seconds
        self._resolve = resolve
        self._monotonic = monotonic
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
        parts = urlsplit(url)
        host = (parts.hostname or "").lower()
        if (parts.scheme, host) == self._api_origin:
            return
        if parts.scheme == "https" and any(
            host == domain or host.endswith(f".{domain}") for domain in self._allowed_domains
        ):
            self._check_public(host)
            return
        raise DownloadError(
            f"results are not fetched from {shown_url(url)}; allowed are https addresses below "
            f"{', '.join(self._allowed_domains)}, and the API's own host"
        )

    def _check_public(self, host: str) -> None:
        """Refuse a name that leads into somebody's own network."""
        if self._allow_private:
            return
        try:
            addresses = list(self._resolve(host))
        except OSError as error:
            raise DownloadError(
                f"the address of {host} is not known: {error}", retryable=True
            ) from error
        for address in addresses:
            if not ipaddress.ip_address(address).is_global:
                raise DownloadError(
                    f"results are not fetched from {host}: its address {address} is private"
                )

    def fetch(self, url: str, root: StorageRoot, key: str) -> Download:
        """Stream a URL into an object, which appears only when it is whole.

        Raises:
            DownloadError: where the address is not allowed, the host refuses, or the bytes are
                fewer or more than announced.
        """
        for attempt in stamina.retry_context(on=_worth_another_try, attempts=4, timeout=120.0):
            with attempt:
                return self._fetch_once(url, root, key)
        raise AssertionError("stamina returns or raises")

    def _fetch_once(self, url: str, root: StorageRoot, key: str) -> Download:
        deadline = self._monotonic() + self._max_seconds
        for _ in range(_MOST_REDIRECTS + 1):
            self.check_url(url)
            try:
                with self._http.stream("GET", url) as response:
                    if response.status_code not in _REDIRECTS:
                        return self._store(response, root, key, deadline)
                    url = urljoin(url, response.headers.get("Location", ""))
            except httpx.TransportError as error:
                raise DownloadError(
                    f"{shown_url(url)} could not be fetched: {type(error).__name__}: {error}",
                    retryable=True,
                ) from error
        raise DownloadError(f"{shown_url(url)} is behind more than {_MOST_REDIRECTS} redirects")

    def _store(
        self, response: httpx.Response, root: StorageRoot, key: str, deadline: float
    ) -> Download:
        shown = shown_url(str(response.url))
        if response.status_code != 200:
            raise DownloadError(
                f"{shown} answered HTTP {response.status_code}",
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
                    raise DownloadError(f"{shown} is longer than {self._max_bytes} bytes")
                if self._monotonic() > deadline:
                    raise DownloadError(
                        f"{shown} did not arrive within {self._max_seconds:.0f} s", retryable=True
                    )
                digest.update(chunk)
                sink.write(chunk)
            if announced is not None and size != int(announced):
                raise DownloadError(f"{shown} sent {size} bytes of {announced}", retryable=True)
        return Download(size_bytes=size, sha256=digest.hexdigest())


def shown_url(url: str) -> str:
    """A URL as it may be shown: without its query, which may be a signature."""
    return urlunsplit(urlsplit(url)._replace(query="", fragment=""))


def _worth_another_try(error: Exception) -> bool:
    return isinstance(error, DownloadError) and error.retryable
