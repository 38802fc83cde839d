"""Reading a file from its URL, and resuming it after a broken connection."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from email.utils import parsedate_to_datetime

import httpx

from sora_dagster.runware.address_guard import (
    DownloadError,
    DownloadStalledError,
    TransientDownloadError,
    UrlGuard,
    shown_url,
)

_CHUNK_BYTES = 1 << 18
_MAX_REDIRECTS = 5
_TRANSIENT_STATUSES = (408, 429, 500, 502, 503, 504)
_MAX_BREAKS_WITHOUT_PROGRESS = 4
# Before the rest is requested after a break without progress; doubled with each further one.
FIRST_WAIT_SECONDS = 0.5
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)", re.IGNORECASE)


class ResumingReader:
    """The bytes of one file, from first to last.

    After a broken connection the rest is requested by `Range`, on the condition (`If-Range`) that
    the file is still the same by its `ETag` or `Last-Modified`. Whether the hosts of results
    support both is not documented. If one does not, the file can only be read again from the
    start, and `chunks` raises an error that says so.

    Arguments:
        http: the client, which must not follow redirects by itself.
        guard: checks the address, and that of every redirect.
        url: the file's address.
        max_bytes: maximum length of the file.
        check: raises an error to break off, such as when the time for the file has run out.
        sleep: waits for a number of seconds.
    """

    def __init__(
        self,
        http: httpx.Client,
        guard: UrlGuard,
        url: str,
        *,
        max_bytes: int,
        check: Callable[[], None] = lambda: None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._http = http
        self._guard = guard
        self._url = url
        self._max_bytes = max_bytes
        self._check_continue = check
        self._sleep = sleep
        self._shown = shown_url(url)
        self._total: int | None = None
        self._validator: tuple[str, str] | None = None
        self._received = 0

    @property
    def received(self) -> int:
        """Number of bytes yielded so far."""
        return self._received

    def chunks(self) -> Generator[bytes, None, None]:
        """The file's bytes as sent, in chunks of about 256 KiB.

        Raises:
            RefusedAddressError: if the address is not allowed.
            DownloadError: if the host refuses, sends fewer or more bytes than announced, or the
                download cannot be resumed. If it is `retryable`, the file may be read again from
                the start.
        """
        breaks = 0
        while True:
            before = self._received
            try:
                with self._response() as response:
                    for chunk in self._buffered(response):
                        self._received += len(chunk)
                        self._check_length()
                        yield chunk
                if self._total is None or self._received == self._total:
                    return
                problem = DownloadError(
                    f"{self._shown} sent {self._received} bytes of {self._total}", retryable=True
                )
                if self._received > self._total:
                    raise problem
            except TransientDownloadError as error:
                problem = error
            if self._validator is None or self._received == 0:
                # There is nothing to resume, or no way to know that it is the same file.
                raise problem
            breaks = 0 if self._received > before else breaks + 1
            if breaks == _MAX_BREAKS_WITHOUT_PROGRESS:
                raise DownloadStalledError(
                    f"{self._shown} sent {self._received} bytes of {self._total or 'unknown'}. The "
                    f"rest was requested {breaks} times, and nothing more came; the last failure: "
                    f"{problem}"
                ) from problem
            if breaks:
                self._sleep(FIRST_WAIT_SECONDS * 2 ** (breaks - 1))
            self._check_continue()

    @contextmanager
    def _response(self) -> Iterator[httpx.Response]:
        """The response that starts at the next byte."""
        headers = {"Accept-Encoding": "identity"}
        if self._received and self._validator is not None:
            headers["Range"] = f"bytes={self._received}-"
            headers["If-Range"] = self._validator[1]
        url = self._url
        for _ in range(_MAX_REDIRECTS + 1):
            self._guard.check(url)
            try:
                with self._http.stream("GET", url, headers=headers) as response:
                    if response.next_request is None:
                        self._shown = shown_url(url)
                        self._check(response)
                        yield response
                        return
                    url = str(response.next_request.url)
            except httpx.TransportError as error:
                raise TransientDownloadError(
                    f"{shown_url(url)} could not be fetched: {type(error).__name__}: {error}"
                ) from error
        raise DownloadError(f"{shown_url(url)} is behind more than {_MAX_REDIRECTS} redirects")

    def _check(self, response: httpx.Response) -> None:
        status = response.status_code
        if status in _TRANSIENT_STATUSES:
            raise TransientDownloadError(f"{self._shown} answered HTTP {status}")
        if self._received and status in (200, 206, 416):
            if (obstacle := self._obstacle(response)) is not None:
                raise DownloadError(
                    f"{self._shown} cannot be resumed at byte {self._received}: {obstacle}",
                    retryable=True,
                )
        elif status != 200:
            raise DownloadError(f"{self._shown} answered HTTP {status}", gone=status in (404, 410))
        else:
            length = response.headers.get("Content-Length", "")
            self._total = int(length) if length.isdecimal() else None
            self._validator = _validator_of(response)
            self._check_length()

    def _obstacle(self, response: httpx.Response) -> str | None:
        """Why a response is not the rest of the same file; None if it is."""
        if response.status_code == 200:
            return "the host sends it from its start"
        if response.status_code == 416:
            return "the host does not have this range of it"
        found = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", "").strip())
        if found is None:
            return "the host does not say which range of it this is"
        first, _, total = map(int, found.groups())
        if first != self._received:
            return f"the host sends it from byte {first}"
        if total != (self._total or total):
            return f"it was {self._total} bytes long and is {total} bytes long now"
        name, value = self._validator or ("", "")
        if response.headers.get(name, value) != value:
            return f"its {name} has changed"
        self._total = total
        return None

    def _buffered(self, response: httpx.Response) -> Iterator[bytes]:
        """The body in larger chunks than it arrives in; all that arrived before a break is kept."""
        buffer = bytearray()
        try:
            for piece in response.iter_raw():
                self._check_continue()
                buffer += piece
                if len(buffer) >= _CHUNK_BYTES:
                    chunk = bytes(buffer)
                    buffer.clear()
                    yield chunk
        except httpx.TransportError:
            if buffer:
                yield bytes(buffer)
            raise
        if buffer:
            yield bytes(buffer)

    def _check_length(self) -> None:
        if max(self._received, self._total or 0) > self._max_bytes:
            raise DownloadError(f"{self._shown} is longer than {self._max_bytes} bytes")


def _validator_of(response: httpx.Response) -> tuple[str, str] | None:
    """The header that identifies a file for `If-Range`, and its value; only strong validators.

    RFC 9110, 13.1.5: no weak `ETag`, and a date only if it is older than the response.
    """
    etag = response.headers.get("ETag", "")
    if etag.startswith('"'):
        return "ETag", etag
    try:
        modified = response.headers["Last-Modified"]
        age = parsedate_to_datetime(response.headers["Date"]) - parsedate_to_datetime(modified)
    except (KeyError, ValueError, TypeError):
        return None
    return ("Last-Modified", modified) if age.total_seconds() >= 1 else None
