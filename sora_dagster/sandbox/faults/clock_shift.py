"""The time as the sandbox tells it, right or wrong."""

from __future__ import annotations

from collections.abc import Callable
from email.utils import formatdate, parsedate_to_datetime

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sora_dagster.sandbox.faults.active import ActiveFaults


class ClockShiftMiddleware:
    """Middleware that tells the time in `Date`, and shifts `Last-Modified` as the plan wants.

    Arguments:
        app: the application.
        clock: tells the Unix time in seconds.
        faults: knows by how much the told time is wrong.
    """

    def __init__(self, app: ASGIApp, *, clock: Callable[[], float], faults: ActiveFaults) -> None:
        self._app = app
        self._clock = clock
        self._faults = faults

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def dated(message: Message) -> None:
            if message["type"] == "http.response.start":
                shift_seconds = self._faults.plan.clock_shift_seconds
                headers = MutableHeaders(scope=message)
                headers["Date"] = formatdate(self._clock() + shift_seconds, usegmt=True)
                if shift_seconds and "Last-Modified" in headers:
                    modified_at = parsedate_to_datetime(headers["Last-Modified"]).timestamp()
                    headers["Last-Modified"] = formatdate(modified_at + shift_seconds, usegmt=True)
            await send(message)

        await self._app(scope, receive, dated)
