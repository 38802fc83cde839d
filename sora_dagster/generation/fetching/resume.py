"""Reading a file from its URL, going on where a broken connection left off."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from email.utils import parsedate_to_datetime
from typing import NoReturn

import httpx

from sora_dagster.generation.fetching.address_guard import (
    DownloadError,
    DownloadStalledError,
    TransientDownloadError,
    UrlGuard,
    shown_url,
)

_CHUNK_BYTES = 1 << 18
_MOST_REDIRECTS = 5
_TRANSIENT = (408, 429, 500, 502, 503, 504)
_MOST_BREAKS_WITHOUT_PROGRESS = 4
# Before the rest is asked for after a break without progress; doubled from one to the next.
FIRST_WAIT_SECONDS = 0.5
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)", re.IGNORECASE)


class ResumingReader:
    """The bytes of one file, from first to last.

    Where the connection breaks, the rest is asked for by `Range`, on the condition (`If-Range`)
    that the file is still the same by its `ETag` or `Last-Modified`. Whether the hosts of results
    serve ranges and validators is not documented; where one does not, the file can only be read
    anew, and `chunks` raises an error that says so.

    Arguments:
        http: the client, which must not follow redirects by itself.
        guard: checks the address, and that of every redirect.
        url: the file's address.
        most_bytes: longest file.
        is_late: whether the time for the file has run out.
        too_late: what is said then.
        sleep: waits for a number of seconds.
    """

    def __init__(
        self,
        http: httpx.Client,
        guard: UrlGuard,
        url: str,
        *,
        most_bytes: int,
        is_late: Callable[[], bool] = lambda: False,
        too_late: str = "did not arrive in time",
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._http = http
        self._guard = guard
        self._url = url
        self._most_bytes = most_bytes
        self._is_late = is_late
        self._too_late = too_late
        self._sleep = sleep
        self._shown = shown_url(url)
        self._total: int | None = None
        self._validator: tuple[str, str] | None = None
        self._received = 0

    @property
    def received(self) -> int:
        """How many bytes were given so far."""
        return self._received

    def chunks(self) -> Generator[bytes, None, None]:
        """The file's bytes as they are sent, in chunks of about 256 KiB.

        Raises:
            RefusedAddressError: if the address is not allowed.
            DownloadError: if the host refuses, the bytes are fewer or more than announced, or the
                download cannot be resumed. If it is `retryable`, the file may be read again from
                its first byte.
        """
        breaks = 0
        while True:
            before = self._received
            trouble: DownloadError | None = None
            try:
                with self._response() as response:
                    for chunk in self._gathered(response):
                        self._received += len(chunk)
                        self._check_length()
                        yield chunk
            except TransientDownloadError as error:
                trouble = error
            if trouble is None and self._is_whole():
                return
            trouble = trouble or DownloadError(
                f"{self._shown} sent {self._received} bytes of {self._total}", retryable=True
            )
            if self._validator is None or self._received == 0:
                # There is nothing to go on with, or no way to know that it is the same file.
                raise trouble
            breaks = 0 if self._received > before else breaks + 1
            if breaks == _MOST_BREAKS_WITHOUT_PROGRESS:
                raise DownloadStalledError(
                    f"{self._shown} sent {self._received} bytes of {self._total or 'unknown'} and, "
                    f"asked {breaks} times for the rest, nothing more; the last answer: {trouble}"
                ) from trouble
            if breaks:
                self._sleep(FIRST_WAIT_SECONDS * 2 ** (breaks - 1))
            self._check_time()

    @contextmanager
    def _response(self) -> Iterator[httpx.Response]:
        """The answer that begins with the next byte wanted."""
        headers = {"Accept-Encoding": "identity"}
        if self._received and self._validator is not None:
            headers["Range"] = f"bytes={self._received}-"
            headers["If-Range"] = self._validator[1]
        url = self._url
        for _ in range(_MOST_REDIRECTS + 1):
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
        raise DownloadError(f"{shown_url(url)} is behind more than {_MOST_REDIRECTS} redirects")

    def _check(self, response: httpx.Response) -> None:
        status = response.status_code
        if status in _TRANSIENT:
            raise TransientDownloadError(f"{self._shown} answered HTTP {status}")
        if self._received and status in (200, 206, 416):
            self._check_same_file(response)
        elif status != 200:
            raise DownloadError(f"{self._shown} answered HTTP {status}", gone=status in (404, 410))
        else:
            length = response.headers.get("Content-Length", "")
            self._total = int(length) if length.isdecimal() else None
            self._validator = _validator_of(response)
            self._check_length()

    def _check_same_file(self, response: httpx.Response) -> None:
        """See that an answer is the rest of what was read before."""
        found = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range", "").strip())
        if response.status_code == 200:
            self._refuse_rest("the host sends it from its start")
        if response.status_code == 416:
            self._refuse_rest("the host has no such range of it")
        if found is None:
            self._refuse_rest("the host does not say which range of it this is")
        first, _, total = map(int, found.groups())
        if first != self._received:
            self._refuse_rest(f"the host sends it from byte {first}")
        if total != (self._total or total):
            self._refuse_rest(f"it was {self._total} bytes long and is {total} bytes long now")
        name, value = self._validator or ("", "")
        if response.headers.get(name, value) != value:
            self._refuse_rest(f"its {name} has changed")
        self._total = total

    def _refuse_rest(self, reason: str) -> NoReturn:
        raise DownloadError(
            f"{self._shown} cannot be gone on with at byte {self._received}: {reason}",
            retryable=True,
        )

    def _gathered(self, response: httpx.Response) -> Iterator[bytes]:
        """The body in larger pieces than those it arrives in, nothing lost where it breaks."""
        pieces: list[bytes] = []
        size = 0
        try:
            for piece in response.iter_raw():
                self._check_time()
                pieces.append(piece)
                size += len(piece)
                if size >= _CHUNK_BYTES:
                    chunk = b"".join(pieces)
                    pieces.clear()
                    size = 0
                    yield chunk
        except httpx.TransportError:
            if pieces:
                yield b"".join(pieces)
            raise
        if pieces:
            yield b"".join(pieces)

    def _is_whole(self) -> bool:
        if self._total is not None and self._received > self._total:
            raise DownloadError(
                f"{self._shown} sent {self._received} bytes of {self._total}", retryable=True
            )
        return self._total is None or self._received == self._total

    def _check_length(self) -> None:
        if max(self._received, self._total or 0) > self._most_bytes:
            raise DownloadError(f"{self._shown} is longer than {self._most_bytes} bytes")

    def _check_time(self) -> None:
        if self._is_late():
            raise DownloadError(f"{self._shown} {self._too_late}", retryable=True)


def _validator_of(response: httpx.Response) -> tuple[str, str] | None:
    """The header that identifies a file for `If-Range`, and its value; only strong ones do.

    RFC 9110, 13.1.5: no weak `ETag`, and a date only where it is older than the answer.
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
