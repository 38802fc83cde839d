"""Serving an ASGI app on a socket that is bound first, so that its address is known."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from starlette.applications import Starlette


def serve_app(app: Starlette, *, host: str, port: int, on_ready: Callable[[str], None]) -> None:
    """Serve until SIGTERM or SIGINT.

    Arguments:
        app: the app.
        host: address to listen at.
        port: port to listen at; 0 for a free one.
        on_ready: called with the server's own URL once it listens.

    Raises:
        OSError: where the port cannot be listened at.
    """
    import uvicorn

    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((host, port))

    class Server(uvicorn.Server):
        async def startup(self, sockets: list[socket.socket] | None = None) -> None:
            await super().startup(sockets)
            on_ready(f"http://{host}:{listener.getsockname()[1]}")

    # The access log would show signatures.
    config = uvicorn.Config(app, log_level="warning", access_log=False)
    with listener:
        Server(config).run(sockets=[listener])
