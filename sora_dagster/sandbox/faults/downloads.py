"""Applies the faults of downloads."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import FileResponse, PlainTextResponse, RedirectResponse, Response
from starlette.types import Message, Receive, Scope, Send

from sora_dagster.sandbox.faults.answers import hang_up, transport_of
from sora_dagster.sandbox.faults.result_faults import (
    DownloadCorrupt,
    DownloadFault,
    DownloadGone,
    DownloadRedirected,
    DownloadSlow,
    DownloadTruncated,
    DownloadWrongLength,
)

# Query parameter of a download that was redirected once.
REDIRECTED = "redirected"

_PIECES_PER_SECOND = 10


class VideoFile(FileResponse):
    """A file sent in larger pieces than usual, since each piece costs a thread switch."""

    chunk_size = 1 << 20


async def download_with_faults(
    faults: Sequence[DownloadFault], request: Request, path: Path, *, media_type: str
) -> Response:
    """The answer to a GET of a video that faults strike.

    Arguments:
        faults: the faults that strike it.
        request: the request.
        path: the video.
        media_type: its content type.
    """
    for fault in faults:
        if isinstance(fault, DownloadCorrupt):
            path = await asyncio.to_thread(_corrupted, path, fault)
    response: Response = VideoFile(path, media_type=media_type)
    for fault in faults:
        match fault:
            case DownloadGone():
                return PlainTextResponse("The video is gone.", status_code=fault.status)
            case DownloadRedirected():
                return RedirectResponse(fault.to or _other_name(request), status_code=302)
            case DownloadTruncated():
                response = _Truncated(response, fault.share)
            case DownloadWrongLength():
                response = _WrongLength(response, fault.off_by_bytes)
            case DownloadSlow():
                response = SlowBody(response, bytes_per_second=fault.bytes_per_second)
    return response


class _Truncated(Response):
    """An answer whose connection is closed after a share of its body."""

    def __init__(self, correct: Response, share: float) -> None:
        self._correct = correct
        self._share = share

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        left = 0

        async def cut(message: Message) -> None:
            nonlocal left
            if message["type"] == "http.response.start":
                left = int(_length_of(message) * self._share)
                await send(message)
            elif piece := message.get("body", b"")[:left]:
                left -= len(piece)
                await send({**message, "body": piece, "more_body": True})

        await self._correct(scope, receive, cut)
        await hang_up(scope, receive)


class _WrongLength(Response):
    """An answer with a wrong `Content-Length`, after which the connection is closed."""

    def __init__(self, correct: Response, off_by_bytes: int) -> None:
        self._correct = correct
        self._off_by_bytes = off_by_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        left = 0

        async def send_with_wrong_length(message: Message) -> None:
            nonlocal left
            if message["type"] == "http.response.start":
                left = max(0, _length_of(message) + self._off_by_bytes)
                headers = MutableHeaders(scope=message)
                headers["Content-Length"] = str(left)
                # Or a client that got all that was announced would send its next request here.
                headers["Connection"] = "close"
                await send(message)
                return
            body = message.get("body", b"")
            await send({**message, "body": body[:left], "more_body": True})
            beyond, transport = body[left:], transport_of(scope)
            if beyond and transport is not None:
                # The server sends no more than was announced.
                transport.write(beyond)
            left = max(0, left - len(body))

        await self._correct(scope, receive, send_with_wrong_length)
        await hang_up(scope, receive)


class SlowBody(Response):
    """An answer whose body is sent slowly.

    Arguments:
        correct: the correct answer.
        bytes_per_second: how slowly.
        sleep: waits for a number of seconds.
    """

    def __init__(
        self,
        correct: Response,
        *,
        bytes_per_second: float,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._correct = correct
        self._bytes_per_second = bytes_per_second
        self._sleep = sleep

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        size = max(1, int(self._bytes_per_second / _PIECES_PER_SECOND))

        async def drip(message: Message) -> None:
            body = message.get("body", b"")
            for start in range(0, len(body), size):
                piece = body[start : start + size]
                await send({**message, "body": piece, "more_body": True})
                await self._sleep(len(piece) / self._bytes_per_second)
            if message["type"] == "http.response.start" or not message.get("more_body", False):
                await send({**message, **({"body": b""} if body else {})})

        await self._correct(scope, receive, drip)


def _length_of(start: Message) -> int:
    return int(MutableHeaders(scope=start)["Content-Length"])


def _other_name(request: Request) -> str:
    """The same URL at another host that is also this sandbox."""
    url = request.url.include_query_params(**{REDIRECTED: 1})
    return str(url.replace(hostname="localhost" if url.hostname == "127.0.0.1" else "127.0.0.1"))


def _corrupted(path: Path, fault: DownloadCorrupt) -> Path:
    """A copy of a file with noise in it, of the same length and the same at every call."""
    corrupt = path.with_name(f"corrupt-{fault.part}-{path.name}")
    if not corrupt.exists():
        content = bytearray(path.read_bytes())
        third = len(content) // 3
        first, last = {
            "start": (0, third),
            "middle": (third, 2 * third),
            "end": (2 * third, len(content)),
            "all": (0, len(content)),
        }[fault.part]
        content[first:last] = random.Random(path.name).randbytes(last - first)
        unfinished = path.with_name(f"unfinished-{corrupt.name}")
        unfinished.write_bytes(content)
        unfinished.replace(corrupt)
    return corrupt
