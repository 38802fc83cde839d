"""The HTTP server under the sandbox's application."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import Callable, Iterator
from typing import Any, cast

import uvicorn
from starlette.applications import Starlette
from uvicorn.middleware.proxy_headers import ProxyHeadersMiddleware

from sora_dagster.sandbox.faults.connections import with_connections


class AsgiServer(uvicorn.Server):
    """A uvicorn server that tells when it is ready, and ends at once without a signal's status."""

    def __init__(self, app: Starlette, on_ready: Callable[[], None]) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                lifespan="on",
                # The application tells the time itself.
                date_header=False,
                # Done here, within what has to be outermost.
                proxy_headers=False,
                log_config=None,
                access_log=False,
            )
        )
        # Uvicorn keeps the set up to date in place, so that it can be handed out before the start.
        connections = self.server_state.connections
        # Uvicorn's types of the ASGI messages are narrower than Starlette's.
        proxied: Any = ProxyHeadersMiddleware(cast(Any, app))
        self.config.app = with_connections(proxied, connections)
        self._on_ready = on_ready
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """End the server soon; may be called from any thread, and from signal handlers."""
        self.should_exit = True
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended already
                self._loop.call_soon_threadsafe(self._stopping.set)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_ready()

    async def main_loop(self) -> None:
        # Uvicorn looks every 100 ms whether it is to end; a test of many short sandboxes would
        # mostly wait for that.
        self._loop = asyncio.get_running_loop()
        if not self.should_exit:
            await self._stopping.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Cut off all connections and requests under way, then let the application end."""
        for server in self.servers:
            server.close()
        for listener in sockets or []:
            listener.close()
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        under_way = list(self.server_state.tasks)
        for task in under_way:
            task.cancel()
        # Uvicorn reports each request that is cut off as an error; here it is meant.
        logger = logging.getLogger("uvicorn.error")
        level = logger.level
        logger.setLevel(logging.CRITICAL)
        try:
            await asyncio.gather(*under_way, return_exceptions=True)
            await self.lifespan.shutdown()
        finally:
            logger.setLevel(level)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone: uvicorn would raise them again after its end, which is no exit 0."""
        yield
