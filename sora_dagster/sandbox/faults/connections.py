"""The TCP connection behind a request, for answers that are none."""

from __future__ import annotations

import asyncio
import functools
import socket
import struct
from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import Any

from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

_SCOPE_KEY = "sandbox.connections"
_NO_LINGER = struct.pack("ii", 1, 0)


def with_connections(app: ASGIApp, connections: Iterable[Any]) -> ASGIApp:
    """An application whose requests can find their connection.

    It has to be the outermost application, as others may change who the client seems to be.

    Arguments:
        app: the application.
        connections: all connections that are open, kept up to date by the server. Uvicorn's
            protocols differ in their class, but each has a `client` and a `transport`.
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
    """The transport of a request's connection; none where the client has closed it.

    Raises:
        RuntimeError: where the application is not served by the sandbox's own server.
    """
    if _SCOPE_KEY not in scope:
        raise RuntimeError(
            "the connection of this request is not known, so that it cannot be cut: connection "
            "faults need the sandbox's own server (running_sandbox or the sandbox command)"
        )
    transport: asyncio.Transport | None = scope[_SCOPE_KEY]()
    return transport


async def hang_up(scope: Scope, receive: Receive) -> None:
    """Close a request's connection once all that was written is sent."""
    if (transport := transport_of(scope)) is not None:
        transport.close()
    await _until_gone(receive)


class _WithoutAnswer(Response, ABC):
    """An answer that is none: something is done to the connection, and that is all."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002
        if (transport := transport_of(scope)) is not None:
            self._end(transport)
        await _until_gone(receive)

    @abstractmethod
    def _end(self, transport: asyncio.Transport) -> None:
        """End the connection in its way."""


class HungUp(_WithoutAnswer):
    """The connection is closed in good order, without a byte."""

    def _end(self, transport: asyncio.Transport) -> None:
        transport.close()


class ConnectionReset(_WithoutAnswer):
    """The connection is reset: the client gets a TCP RST instead of an answer."""

    def _end(self, transport: asyncio.Transport) -> None:
        transport.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, _NO_LINGER
        )
        transport.abort()


class NeverAnswered(_WithoutAnswer):
    """The connection stays open until the client gives up."""

    def _end(self, transport: asyncio.Transport) -> None:
        """Leave the connection alone."""


async def _until_gone(receive: Receive) -> None:
    # An application that returned while the connection is open would be answered for with a 500.
    while (await receive())["type"] != "http.disconnect":
        pass
