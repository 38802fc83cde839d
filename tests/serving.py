"""Serves ASGI apps in a thread."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
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
