"""Who may use the viewer: requests to its own host names, with its password if it has one."""

from __future__ import annotations

import base64
import binascii
import hmac
import ipaddress
from collections.abc import Collection
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Receive, Scope, Send

PASSWORD_VARIABLE = "SORA_VIEWER_PASSWORD"
MIN_PASSWORD_LENGTH = 16
LIVENESS_PATH = "/livez"
_LOCAL_NAMES = ("localhost",)


def check_password(password: str) -> None:
    """Refuse a password that can be guessed.

    Raises:
        ValueError: if it has fewer than 16 characters.
    """
    if len(password) < MIN_PASSWORD_LENGTH:
        raise ValueError(
            f"{PASSWORD_VARIABLE} has {len(password)} characters; allowed: at least "
            f"{MIN_PASSWORD_LENGTH}. Make one with `openssl rand -hex 32`, or unset it for no login"
        )


class AccessGuard:
    """An ASGI app that lets only permitted requests through to another one.

    A page of another site can make a browser send requests to the viewer under a name that it
    controls (DNS rebinding). So only known host names are answered. An IP address is no name that
    anyone else controls, and is always answered. ``/livez`` answers 200 to everyone.

    Arguments:
        app: the app that is guarded.
        hosts: the host names that are answered, besides ``localhost`` and IP addresses.
        password: the password of an HTTP basic login, with any user name, or a bearer token.
            None: no login.

    Raises:
        ValueError: if the password is too short.
    """

    def __init__(
        self, app: ASGIApp, *, hosts: Collection[str] = (), password: str | None = None
    ) -> None:
        if password is not None:
            check_password(password)
        self._app = app
        self._hosts = {host.lower().rstrip(".") for host in (*_LOCAL_NAMES, *hosts)}
        self._password = password

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request, or pass it on."""
        from starlette.requests import Request
        from starlette.responses import PlainTextResponse

        if scope["type"] != "http":
            return await self._app(scope, receive, send)
        request = Request(scope)
        if request.url.path == LIVENESS_PATH:
            response = PlainTextResponse("ok")
        elif not self._is_own_host(request.headers.getlist("host")):
            response = PlainTextResponse(
                "The viewer does not answer to this host name. Add it to SORA_VIEWER_HOSTS of the "
                "viewer, or use the address in SORA_VIEWER_URL.",
                status_code=403,
            )
        elif not self._may_enter(request.headers.get("authorization", "")):
            response = PlainTextResponse(
                f"The viewer needs the password in {PASSWORD_VARIABLE}, with any user name.",
                status_code=401,
                headers={"WWW-Authenticate": 'Basic realm="sora-dagster viewer", charset="UTF-8"'},
            )
        else:
            return await self._app(scope, receive, send)
        await response(scope, receive, send)

    def _is_own_host(self, headers: list[str]) -> bool:
        if len(headers) != 1:
            return False
        try:
            host = urlsplit(f"//{headers[0]}").hostname or ""
        except ValueError:
            return False
        return _is_ip_address(host) or host.rstrip(".") in self._hosts

    def _may_enter(self, authorization: str) -> bool:
        if self._password is None:
            return True
        scheme, _, value = authorization.partition(" ")
        if scheme.lower() == "basic":
            value = _password_in(value)
        elif scheme.lower() != "bearer":
            return False
        return hmac.compare_digest(value.encode(errors="replace"), self._password.encode())


def _is_ip_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _password_in(credentials: str) -> str:
    """The password of a basic login; empty if it cannot be read."""
    try:
        text = base64.b64decode(credentials.strip(), validate=True).decode()
    except (binascii.Error, ValueError):
        return ""
    return text.partition(":")[2]
