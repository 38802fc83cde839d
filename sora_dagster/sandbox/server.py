"""The sandbox as a server: its parts assembled, started and stopped."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import queue
import signal
import socket
import ssl
import tempfile
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path

import httpx
from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from sora_dagster.runware.catalogue import Catalogue
from sora_dagster.sandbox.api import RunwareApi
from sora_dagster.sandbox.asgi_server import AsgiServer
from sora_dagster.sandbox.delivery import Deliverer
from sora_dagster.sandbox.faults.active import ActiveFaults
from sora_dagster.sandbox.faults.clock_shift import ClockShiftMiddleware
from sora_dagster.sandbox.hosting import HostedVideos
from sora_dagster.sandbox.input_files import InputFiles
from sora_dagster.sandbox.journal import Journal
from sora_dagster.sandbox.ledger import Ledger
from sora_dagster.sandbox.published.routes import PublishedModels
from sora_dagster.sandbox.render_queue import RenderQueue
from sora_dagster.sandbox.request_resolver import RequestResolver
from sora_dagster.sandbox.runner import TaskRunner
from sora_dagster.sandbox.settings import SandboxSettings
from sora_dagster.sandbox.task_handlers import TaskHandlers
from sora_dagster.sandbox.task_queries import TaskQueries
from sora_dagster.sandbox.task_registry import TaskRegistry
from sora_dagster.sandbox.webhooks import Webhooks
from sora_dagster.serving import listening


@functools.cache
def _tls() -> ssl.SSLContext:
    """The certificates for outgoing calls, read once: this is the slowest part of a start."""
    return httpx.create_ssl_context(trust_env=False)


def announce(url: str) -> None:
    """Print that the sandbox is ready, and its URL."""
    print(f"listening on {url}", flush=True)


def _app(
    settings: SandboxSettings,
    folder: Path,
    base_url: str,
    catalogue: Catalogue | None,
    clock: Callable[[], float],
) -> Starlette:
    catalogue = catalogue or settings.catalogue()
    client = httpx.AsyncClient(trust_env=False, verify=_tls())
    faults = ActiveFaults(settings.fault_plan(), clock=clock)
    renders = RenderQueue(
        folder,
        workers=settings.render_workers,
        reuse=settings.reuse_rendered,
        cache=settings.render_cache_dir,
    )
    hosting = HostedVideos(clock, faults)
    registry = TaskRegistry(
        latency_seconds=settings.latency_seconds,
        latency_step_seconds=settings.latency_step_seconds,
    )
    ledger = Ledger(balance_usd=settings.balance_usd)
    deliverer = Deliverer(
        client,
        timeout_seconds=settings.webhook_timeout_seconds,
        attempts=settings.webhook_attempts,
        first_delay_seconds=settings.webhook_first_delay_seconds,
    )
    runner = TaskRunner(
        renders=renders,
        hosting=hosting,
        deliverer=deliverer,
        webhooks=Webhooks(deliverer=deliverer, faults=faults),
        faults=faults,
        refund=ledger.refund,
        clock=clock,
    )
    journal = Journal(folder)
    handlers = TaskHandlers(
        catalogue=catalogue,
        registry=registry,
        ledger=ledger,
        resolver=RequestResolver(
            InputFiles(registry=registry, hosting=hosting, client=client, folder=folder / "inputs")
        ),
        queries=TaskQueries(
            registry=registry, faults=faults, clock=clock, unknown_polls=settings.unknown_polls
        ),
        faults=faults,
        start=runner.start,
        clock=clock,
        record=journal.append,
    )
    api = RunwareApi(settings, registry=registry, faults=faults, handlers=handlers, ledger=ledger)

    async def serve_ledger(_: Request) -> Response:
        shift_seconds = faults.plan.clock_shift_seconds
        return JSONResponse(ledger.to_json(clock_shift_seconds=shift_seconds))

    async def health(_: Request) -> Response:
        return JSONResponse({"status": "ok", "tasks_running": registry.running})

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
            Route("/sandbox/ledger", serve_ledger),
            Route("/sandbox/health", health),
            *PublishedModels(catalogue, clock).routes(),
            *faults.routes(),
        ],
        middleware=[Middleware(ClockShiftMiddleware, clock=clock, faults=faults)],
        lifespan=lifespan,
    )


def serve(settings: SandboxSettings, *, on_ready: Callable[[str], None] = announce) -> None:
    """Run a sandbox until SIGTERM or SIGINT.

    Arguments:
        settings: how it behaves.
        on_ready: called with its base URL (``http://HOST:PORT/v1``) when it is ready. Default:
            print ``listening on URL``.

    Raises:
        ListenError: it cannot listen on the address.
    """

    async def run(server: AsgiServer, listener: socket.socket) -> None:
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
    """A sandbox in a thread of this process, for tests. Yields its base URL.

    Arguments:
        settings: how it behaves.
        catalogue: the available models. Default: those of the settings.
        clock: returns the Unix time in seconds, by which results are due and URLs expire.

    Example:
        >>> with running_sandbox(SandboxSettings(latency_seconds=0)) as base_url:
        ...     print(base_url.rpartition(":")[0])
        http://127.0.0.1

    Raises:
        ListenError: it cannot listen on the address.
    """
    urls: queue.SimpleQueue[str | None] = queue.SimpleQueue()

    def run(server: AsgiServer, listener: socket.socket) -> None:
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
) -> Iterator[tuple[AsgiServer, socket.socket]]:
    """A server that is ready to run, and the socket that it will listen on."""
    with (
        listening(settings.host, settings.port) as (listener, base_url),
        _data_folder(settings.data_dir) as folder,
    ):
        app = _app(settings, folder, base_url, catalogue, clock)
        yield AsgiServer(app, lambda: on_ready(f"{base_url}/v1")), listener


@contextlib.contextmanager
def _data_folder(wanted: Path | None) -> Iterator[Path]:
    if wanted is not None:
        wanted.mkdir(parents=True, exist_ok=True)
        yield wanted
        return
    with tempfile.TemporaryDirectory(prefix="runware-sandbox-") as folder:
        yield Path(folder)
