"""Serves ASGI apps on sockets that are bound first, so that their addresses are known."""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

import uvicorn

# How long requests in progress may take after SIGTERM.
_GRACE_SECONDS = 5
# When the process ends in any case: Docker kills it after 10 s.
_LAST_RESORT_SECONDS = 8


class ListenError(OSError):
    """The server cannot listen on its address. The message says why and what to do."""


class Server(uvicorn.Server):
    """A uvicorn server that reports when it is ready.

    Arguments:
        config: the app, and how it is served.
        on_ready: called once it listens.
    """

    def __init__(self, config: uvicorn.Config, on_ready: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_ready = on_ready

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_ready()


class _PatientServer(Server):
    """A server that lets requests end for some seconds after SIGTERM or SIGINT."""

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if not self.should_exit:
            # For requests whose threads wait for a store that does not answer.
            last_resort = threading.Timer(_LAST_RESORT_SECONDS, os._exit, [128 + sig])
            last_resort.daemon = True
            last_resort.start()
        super().handle_exit(sig, frame)

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # Uvicorn logs each request that it cancels as an error, also after this.
        logging.getLogger("uvicorn.error").setLevel(logging.CRITICAL)
        await super().shutdown(sockets)


@contextmanager
def listening(host: str, port: int) -> Iterator[tuple[socket.socket, str]]:
    """A socket that listens, and its URL.

    Arguments:
        host: address to listen on.
        port: port to listen on; 0 for a free one.

    Raises:
        ListenError: if the port cannot be used.
    """
    try:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.create_server((host, port), family=family, backlog=512)
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise ListenError(
            f"cannot listen on {host}:{port}: {reason}. Stop the process that "
            f"listens there, or choose another --port (0 for a free one)."
        ) from error
    # Inherited by each connection. asyncio sets it only on sockets whose protocol is known, which
    # those of `create_server` do not report; without it every answer waits 40 ms.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, True)
    with listener:
        name = f"[{host}]" if ":" in host else host
        yield listener, f"http://{name}:{listener.getsockname()[1]}"


def serve(app: Any, *, host: str, port: int, on_ready: Callable[[str], None]) -> None:
    """Serve an ASGI app until SIGTERM or SIGINT.

    Arguments:
        app: the app.
        host: address to listen on.
        port: port to listen on; 0 for a free one.
        on_ready: called with the server's URL once it listens.

    Raises:
        ListenError: if the port cannot be used.
    """
    # The access log would show signatures.
    config = uvicorn.Config(
        app,
        log_level="warning",
        access_log=False,
        # A client may stop reading a video for as long as it likes.
        timeout_graceful_shutdown=_GRACE_SECONDS,
    )
    with listening(host, port) as (listener, url):
        _PatientServer(config, lambda: on_ready(url)).run(sockets=[listener])
