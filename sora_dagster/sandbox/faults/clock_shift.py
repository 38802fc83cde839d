"""The clock that the sandbox shows over HTTP, shifted by the fault plan."""

from __future__ import annotations

from collections.abc import Callable
from email.utils import formatdate, parsedate_to_datetime

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from sora_dagster.sandbox.faults.active import ActiveFaults


class ClockShiftMiddleware:
    """Sets the header `Date` and shifts `Last-Modified` as the fault plan says.

    Arguments:
        app: the application.
        clock: returns the Unix time in seconds.
        faults: has the shift of the clock.
    """

    def __init__(self, app: ASGIApp, *, clock: Callable[[], float], faults: ActiveFaults) -> None:
        self._app = app
        self._clock = clock
        self._faults = faults

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def send_dated(message: Message) -> None:
            if message["type"] == "http.response.start":
                shift_seconds = self._faults.plan.clock_shift_seconds
                headers = MutableHeaders(scope=message)
                headers["Date"] = formatdate(self._clock() + shift_seconds, usegmt=True)
                if shift_seconds and "Last-Modified" in headers:
                    modified_at = parsedate_to_datetime(headers["Last-Modified"]).timestamp()
                    headers["Last-Modified"] = formatdate(modified_at + shift_seconds, usegmt=True)
            await send(message)

        await self._app(scope, receive, send_dated)
