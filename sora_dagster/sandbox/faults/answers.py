"""Applies the faults of answers, down to the TCP connection."""

from __future__ import annotations

import asyncio
import functools
import socket
import struct
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any

from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from sora_dagster.sandbox.faults.request_faults import (
    AnswerFault,
    EmptyData,
    Garbage,
    LoseAnswer,
    Moment,
    NoAnswer,
    RefuseBatch,
    Reset,
    Slow,
    Status,
)
from sora_dagster.sandbox.refusals import RefusedTaskError

_SCOPE_KEY = "sandbox.connections"
_NO_LINGER = struct.pack("ii", 1, 0)

# Runware publishes no list of codes; these follow the names that its official SDK maps to error
# classes.
_CODES = {
    400: "invalidRequest",
    401: "invalidApiKey",
    402: "insufficientCredits",
    403: "forbidden",
    404: "notFound",
    413: "payloadTooLarge",
    429: "rateLimitExceeded",
    500: "internalServerError",
    503: "serviceUnavailable",
    504: "gatewayTimeout",
}


async def answer_with_faults(
    faults: Sequence[AnswerFault],
    answer: Callable[[], Awaitable[Response]],
    *,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> Response:
    """The answer to a request that faults strike.

    Arguments:
        faults: the faults that strike it.
        answer: processes the request and returns the correct answer; not called if a fault with
            the moment `before` replaces the answer.
        sleep: waits for a number of seconds.
    """
    if (replaced := await _replaced(faults, "before", sleep)) is not None:
        return replaced
    correct = await answer()
    return await _replaced(faults, "after", sleep) or correct


async def _replaced(
    faults: Sequence[AnswerFault], moment: Moment, sleep: Callable[[float], Awaitable[None]]
) -> Response | None:
    for fault in faults:
        if fault.moment == moment:
            if not isinstance(fault, Slow):
                return _answer_of(fault)
            await sleep(fault.delay_seconds)
    return None


def _answer_of(fault: AnswerFault) -> Response:
    """What replaces the correct answer."""
    match fault:
        case LoseAnswer():
            return _Ending(lambda transport: transport.close())
        case Reset():
            return _Ending(_reset)
        case NoAnswer():
            return _Ending(lambda _: None)
        case Garbage():
            return PlainTextResponse(fault.body, status_code=fault.status)
        case EmptyData():
            return JSONResponse({"data": []})
        case Status():
            return _error_status(fault)
        case RefuseBatch():
            refusal = RefusedTaskError("arrayTooLarge", "Only one getResponse task is allowed.")
            return JSONResponse({"errors": [refusal.to_wire()]}, status_code=400)
    raise AssertionError(f"{fault.__class__.__name__} is not a fault of an answer")


def _error_status(fault: Status) -> Response:
    headers = {}
    if fault.retry_after_seconds is not None:
        headers["Retry-After"] = str(fault.retry_after_seconds)
    if fault.body == "html":
        page = f"<html><body><h1>{fault.status}</h1>{fault.message}</body></html>"
        return HTMLResponse(page, status_code=fault.status, headers=headers)
    code = fault.code or _CODES.get(fault.status, "serverError")
    body = {"errors": [RefusedTaskError(code, fault.message).to_wire()]}
    return JSONResponse(body, status_code=fault.status, headers=headers)


def with_connections(app: ASGIApp, connections: Iterable[Any]) -> ASGIApp:
    """An application whose requests can find their connection.

    It must be the outermost application, since others may change the apparent client.

    Arguments:
        app: the application.
        connections: all open connections, kept up to date by the server. Uvicorn's protocols
            differ in their class, but each has a `client` and a `transport`.
    """

    async def wrapped(scope: Scope, receive: Receive, send: Send) -> None:
        scope[_SCOPE_KEY] = functools.partial(_open_transport, connections, scope.get("client"))
        await app(scope, receive, send)

    return wrapped


def _open_transport(
    connections: Iterable[Any], client: tuple[str, int] | None
) -> asyncio.Transport | None:
    for connection in connections:
        if connection.client is not None and connection.client == client:
            transport: asyncio.Transport = connection.transport
            return transport
    return None


def transport_of(scope: Scope) -> asyncio.Transport | None:
    """The transport of a request's connection; None if the client has closed it.

    Raises:
        RuntimeError: the application is not served by the sandbox's own server.
    """
    if _SCOPE_KEY not in scope:
        raise RuntimeError(
            "the connection of this request is not known, so it cannot be cut: connection faults "
            "need the sandbox's own server (running_sandbox or the sandbox command)"
        )
    transport: asyncio.Transport | None = scope[_SCOPE_KEY]()
    return transport


async def hang_up(scope: Scope, receive: Receive) -> None:
    """Close a request's connection after everything written is sent."""
    if (transport := transport_of(scope)) is not None:
        transport.close()
    await _until_gone(receive)


class _Ending(Response):
    """No answer: `end` is applied to the connection instead."""

    def __init__(self, end: Callable[[asyncio.Transport], None]) -> None:
        self._end = end

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        if (transport := transport_of(scope)) is not None:
            self._end(transport)
        await _until_gone(receive)


def _reset(transport: asyncio.Transport) -> None:
    # Without linger, the client gets a TCP RST.
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER)
    transport.abort()


async def _until_gone(receive: Receive) -> None:
    # If the application returned while the connection is open, uvicorn would answer with a 500.
    while (await receive())["type"] != "http.disconnect":
        pass
