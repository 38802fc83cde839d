"""Sends webhooks, and uploads videos to the client's storage."""

from __future__ import annotations

import asyncio
import json
import logging
import random
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx

_log = logging.getLogger(__name__)

# Documented: backoff from 250 ms, doubling, capped at 8 s, with jitter.
_MAX_DELAY_SECONDS = 8.0
_UPLOAD_ATTEMPTS = 3
_UPLOAD_TIMEOUT_SECONDS = 60.0
_UPLOAD_CHUNK_BYTES = 1 << 20
_MAX_CONCURRENT = 32


@dataclass
class Deliverer:
    """Sends webhooks and uploads, with retries.

    Arguments:
        client: sends the requests.
        timeout_seconds: how long a webhook's receiver may take to answer.
        attempts: maximum attempts to send a webhook. Runware does not document its own.
        first_delay_seconds: wait before the second attempt.
        randomness: makes the jitter.
        sleep: waits for a number of seconds.
    """

    client: httpx.AsyncClient
    timeout_seconds: float
    attempts: int
    first_delay_seconds: float
    randomness: random.Random = field(default_factory=random.Random)
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    _slots: asyncio.Semaphore = field(
        default_factory=lambda: asyncio.Semaphore(_MAX_CONCURRENT), init=False
    )

    async def post_webhook(self, url: str, body: dict[str, Any] | str) -> bool:
        """Send one result to its receiver until it answers 2xx; return whether it did.

        Arguments:
            url: the receiver.
            body: the result; a string is sent unchanged.
        """
        content = body if isinstance(body, str) else json.dumps(body, separators=(",", ":"))
        headers = {"Content-Type": "application/json"}

        async def post() -> httpx.Response:
            return await self.client.post(url, content=content, headers=headers, timeout=None)

        return await self._deliver("webhook", post, self.attempts, self.timeout_seconds)

    async def upload(
        self, url: str, path: Path, *, media_type: str, size_bytes: int | None = None
    ) -> bool:
        """Upload a file until it is answered with 2xx; return whether it was.

        Arguments:
            url: the address.
            path: the file.
            media_type: its content type.
            size_bytes: upload only this many bytes from its start. Default: all.
        """
        size = path.stat().st_size if size_bytes is None else size_bytes
        headers = {
            "Content-Type": media_type,
            # Object stores refuse chunked bodies, which a stream of unknown length would be.
            "Content-Length": str(size),
        }

        async def put() -> httpx.Response:
            return await self.client.put(
                url, content=_chunks_of(path, size), headers=headers, timeout=None
            )

        return await self._deliver("upload", put, _UPLOAD_ATTEMPTS, _UPLOAD_TIMEOUT_SECONDS)

    async def _deliver(
        self,
        what: str,
        send: Callable[[], Awaitable[httpx.Response]],
        attempts: int,
        timeout_seconds: float,
    ) -> bool:
        delays = self._delays()
        for attempt in range(1, attempts + 1):
            try:
                async with self._slots, asyncio.timeout(timeout_seconds):
                    response = await send()
                if response.is_success:
                    return True
                problem = f"HTTP {response.status_code}"
            except (httpx.HTTPError, TimeoutError) as error:
                problem = type(error).__name__
            # Without the URL: it contains the receiver's secret, or an upload's signature.
            _log.warning("%s: attempt %d of %d failed: %s", what, attempt, attempts, problem)
            if attempt < attempts:
                await self.sleep(next(delays))
        return False

    def _delays(self) -> Iterator[float]:
        delay = self.first_delay_seconds
        while True:
            yield min(delay, _MAX_DELAY_SECONDS) * self.randomness.uniform(0.5, 1.0)
            delay = min(delay * 2, _MAX_DELAY_SECONDS)


async def _chunks_of(path: Path, size_bytes: int) -> AsyncIterator[bytes]:
    with path.open("rb") as file:
        left = size_bytes
        while chunk := await asyncio.to_thread(file.read, min(left, _UPLOAD_CHUNK_BYTES)):
            left -= len(chunk)
            yield chunk
