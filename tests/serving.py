"""Servers in threads: of ASGI apps, and one that never answers."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import uvicorn

from sora_dagster.serving import Server, listening


@contextmanager
def serving(app: Any) -> Iterator[str]:
    """The URL of an ASGI app, which is served while the block runs."""
    ready = threading.Event()
    with listening("127.0.0.1", 0) as (listener, url):
        server = Server(uvicorn.Config(app, log_level="warning", access_log=False), ready.set)
        thread = threading.Thread(
            target=server.run, kwargs={"sockets": [listener]}, name="server", daemon=True
        )
        thread.start()
        if not ready.wait(timeout=20):
            raise RuntimeError(f"the server at {url} did not start within 20 s")
        try:
            yield url
        finally:
            server.should_exit = True
            thread.join(timeout=20)


@contextmanager
def silent_server() -> Iterator[str]:
    """A server that accepts connections and never answers; gives its URL."""
    with socket.create_server(("127.0.0.1", 0)) as listener, ExitStack() as connections:

        def accept() -> None:
            try:
                while True:
                    connections.enter_context(listener.accept()[0])
            except OSError:
                return

        threading.Thread(target=accept, daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        listener.shutdown(socket.SHUT_RDWR)
