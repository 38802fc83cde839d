"""The sandbox as a server: its parts put together, started and ended."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import queue
import random
import signal
import socket
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sora_dagster.runware.models import Catalogue
from sora_dagster.sandbox.api import RunwareApi
from sora_dagster.sandbox.delivery import Deliverer
from sora_dagster.sandbox.hosting import HostedVideos
from sora_dagster.sandbox.journal import Journal
from sora_dagster.sandbox.ledger import Ledger
from sora_dagster.sandbox.render_queue import RenderQueue
from sora_dagster.sandbox.runner import TaskRunner
from sora_dagster.sandbox.settings import SandboxSettings
from sora_dagster.sandbox.task_handlers import TaskHandlers
from sora_dagster.sandbox.tasks import TaskBook


class AddressInUseError(OSError):
    """The sandbox cannot listen where it should; the message says why and what to do."""


def announce(url: str) -> None:
    """Print the line that tells that the sandbox is ready, and where."""
    print(f"listening on {url}", flush=True)


def sandbox_app(
    settings: SandboxSettings,
    folder: Path,
    *,
    base_url: str = "http://127.0.0.1",
    catalogue: Catalogue | None = None,
    clock: Callable[[], float] = time.time,
    randomness: random.Random | None = None,
) -> Starlette:
    """A sandbox as an ASGI application.

    Arguments:
        settings: how it behaves.
        folder: where rendered videos go, and the journal of accepted tasks.
        base_url: address of its root, for the URLs of videos from an earlier life.
        catalogue: the models that there are; the built-in ones by default.
        clock: tells the Unix time in seconds.
        randomness: makes the jitter of webhook retries.
    """
    client = httpx.AsyncClient(trust_env=False)
    renders = RenderQueue(folder, workers=settings.render_workers, reuse=settings.reuse_rendered)
    hosting = HostedVideos(clock)
    book = TaskBook(
        latency_seconds=settings.latency_seconds,
        latency_step_seconds=settings.latency_step_seconds,
    )
    ledger = Ledger(balance_usd=settings.balance_usd)
    deliverer = Deliverer(
        client,
        timeout_seconds=settings.webhook_timeout_seconds,
        attempts=settings.webhook_attempts,
        first_delay_seconds=settings.webhook_first_delay_seconds,
        randomness=randomness,
    )
    runner = TaskRunner(renders=renders, hosting=hosting, deliverer=deliverer, clock=clock)
    journal = Journal(folder)
    handlers = TaskHandlers(
        catalogue=catalogue or Catalogue.builtin(),
        book=book,
        ledger=ledger,
        start=runner.start,
        client=client,
        clock=clock,
        tells_unknown=settings.unknown_polls == "error",
        note=journal.append,
    )
    api = RunwareApi(settings, handlers=handlers, ledger=ledger)

    async def books(_: Request) -> Response:
        return JSONResponse(ledger.to_json())

    async def health(_: Request) -> Response:
        return JSONResponse({"status": "ok", "tasks_running": book.running})

    @contextlib.asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        await handlers.restore(journal.entries(), base_url=base_url)
        try:
            yield
        finally:
            renders.close()
            await runner.close()
            await client.aclose()

    return Starlette(
        routes=[
            Route("/v1", api.serve, methods=["POST"]),
            Route("/video/{name}", hosting.serve),
            Route("/sandbox/ledger", books),
            Route("/sandbox/health", health),
        ],
        lifespan=lifespan,
    )


def serve(settings: SandboxSettings, *, on_ready: Callable[[str], None] = announce) -> None:
    """Run a sandbox until SIGTERM or SIGINT.

    Arguments:
        settings: how it behaves.
        on_ready: called with its base URL (``http://HOST:PORT/v1``) once it answers; prints
            ``listening on URL`` by default.

    Raises:
        AddressInUseError: where it cannot listen at the address.
    """

    async def run(server: _Server, listener: socket.socket) -> None:
        loop = asyncio.get_running_loop()
        for name in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(name, server.stop)
        await server.serve(sockets=[listener])

    with _prepared(settings, on_ready) as (server, listener):
        asyncio.run(run(server, listener))


@contextlib.contextmanager
def running_sandbox(
    settings: SandboxSettings,
    *,
    catalogue: Catalogue | None = None,
    clock: Callable[[], float] = time.time,
) -> Iterator[str]:
    """A sandbox in a thread of this process, for tests; the block gets its base URL.

    Arguments:
        settings: how it behaves.
        catalogue: the models that there are; the built-in ones by default.
        clock: tells the Unix time in seconds: when results are due, and when URLs expire.

    Example:
        >>> with running_sandbox(SandboxSettings(latency_seconds=0)) as base_url:
        ...     print(base_url.rpartition(":")[0])
        http://127.0.0.1

    Raises:
        AddressInUseError: where it cannot listen at the address.
    """
    urls: queue.SimpleQueue[str | None] = queue.SimpleQueue()

    def run(server: _Server, listener: socket.socket) -> None:
        try:
            asyncio.run(server.serve(sockets=[listener]))
        finally:
            urls.put(None)

    with _prepared(settings, urls.put, catalogue, clock) as (server, listener):
        thread = threading.Thread(target=run, args=(server, listener), daemon=True)
        thread.start()
        try:
            url = urls.get()
            if url is None:
                raise RuntimeError("the sandbox ended before it was ready")
            yield url
        finally:
            server.stop()
            thread.join()


@contextlib.contextmanager
def _prepared(
    settings: SandboxSettings,
    on_ready: Callable[[str], None],
    catalogue: Catalogue | None = None,
    clock: Callable[[], float] = time.time,
) -> Iterator[tuple[_Server, socket.socket]]:
    """A server that is ready to be run, and the socket that it will listen at."""
    with _listening(settings) as listener, _data_folder(settings.data_dir) as folder:
        host = f"[{settings.host}]" if ":" in settings.host else settings.host
        base_url = f"http://{host}:{listener.getsockname()[1]}"
        app = sandbox_app(settings, folder, base_url=base_url, catalogue=catalogue, clock=clock)
        yield _Server(app, lambda: on_ready(f"{base_url}/v1")), listener


@contextlib.contextmanager
def _data_folder(wanted: Path | None) -> Iterator[Path]:
    if wanted is not None:
        wanted.mkdir(parents=True, exist_ok=True)
        yield wanted
        return
    with tempfile.TemporaryDirectory(prefix="runware-sandbox-") as folder:
        yield Path(folder)


@contextlib.contextmanager
def _listening(settings: SandboxSettings) -> Iterator[socket.socket]:
    """A socket that listens where the settings say."""
    try:
        family = socket.getaddrinfo(settings.host, settings.port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.create_server(
            (settings.host, settings.port), family=family, backlog=512, reuse_port=False
        )
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        raise AddressInUseError(
            f"cannot listen on {settings.host}:{settings.port}: {reason}; "
            f"give another --port, or 0 for a free one"
        ) from error
    with listener:
        yield listener


class _Server(uvicorn.Server):
    """A uvicorn server that tells when it is ready, and ends at once without a signal's status."""

    def __init__(self, app: Starlette, on_ready: Callable[[], None]) -> None:
        super().__init__(
            uvicorn.Config(
                app,
                lifespan="on",
                log_config=None,
                access_log=False,
                # Downloads that are under way are cut off: the sandbox has to end promptly.
                timeout_graceful_shutdown=0,
            )
        )
        self._on_ready = on_ready

    def stop(self) -> None:
        self.should_exit = True

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self._on_ready()

    async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
        # Uvicorn reports each connection that is cut off as an error; here it is meant.
        logger = logging.getLogger("uvicorn.error")
        level = logger.level
        logger.setLevel(logging.CRITICAL)
        try:
            await super().shutdown(sockets)
        finally:
            logger.setLevel(level)

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals alone: uvicorn would raise them again after its end, which is no exit 0."""
        yield
