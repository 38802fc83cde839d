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

from sora_dagster.sandbox.faults.answers import with_connections
from sora_dagster.serving import Server


class AsgiServer(Server):
    """A server that stops at once, with exit status 0."""

    def __init__(self, app: Starlette, on_ready: Callable[[], None]) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                lifespan="on",
                # The application sets the date itself.
                date_header=False,
                # Applied below, since `with_connections` must be outermost.
                proxy_headers=False,
                log_config=None,
                access_log=False,
            ),
            on_ready,
        )
        # Uvicorn updates the set in place, so it can be passed on before the start.
        connections = self.server_state.connections
        # Uvicorn's types of the ASGI messages are narrower than Starlette's.
        proxied: Any = ProxyHeadersMiddleware(cast(Any, app))
        self.config.app = with_connections(proxied, connections)
        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """Stop the server soon; can be called from any thread, and from signal handlers."""
        self.should_exit = True
        if self._loop is not None:
            with contextlib.suppress(RuntimeError):  # the loop has ended already
                self._loop.call_soon_threadsafe(self._stopping.set)

    async def main_loop(self) -> None:
        # Uvicorn checks every 100 ms whether to stop; tests with many short sandboxes would mostly
        # wait for that.
        self._loop = asyncio.get_running_loop()
        if not self.should_exit:
            await self._stopping.wait()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        """Close all connections, cancel all requests, then stop the application."""
        for server in self.servers:
            server.close()
        for listener in sockets or []:
            listener.close()
        for connection in list(self.server_state.connections):
            connection.transport.abort()
        running = list(self.server_state.tasks)
        for task in running:
            task.cancel()
        # Uvicorn reports each cancelled request as an error; here it is intended.
        logger = logging.getLogger("uvicorn.error")
        level = logger.level
        logger.setLevel(logging.CRITICAL)
        try:
            await asyncio.gather(*running, return_exceptions=True)
            await self.lifespan.shutdown()
        finally:
            logger.setLevel(level)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Ignore signals: uvicorn would raise them again after its end, so not exit with 0."""
        yield
