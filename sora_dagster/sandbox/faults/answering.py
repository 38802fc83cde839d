"""Plays the faults of answers."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence

from starlette.responses import HTMLResponse, JSONResponse, PlainTextResponse, Response

from sora_dagster.sandbox.faults.answer_faults import (
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
from sora_dagster.sandbox.faults.connections import ConnectionReset, HungUp, NeverAnswered
from sora_dagster.sandbox.refusals import RefusedTaskError

# Runware publishes no list of codes; these follow the names that its official SDK sorts into
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


async def answered(
    faults: Sequence[AnswerFault],
    answer: Callable[[], Awaitable[Response]],
    *,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
) -> Response:
    """The answer to a request that faults strike.

    Arguments:
        faults: the faults that strike it.
        answer: does what the request asks for, and gives the right answer; not called where a
            fault comes before.
        sleep: waits for a number of seconds.
    """
    spoiled = await _spoiled(faults, "before", None, sleep)
    if spoiled is not None:
        return spoiled
    right = await answer()
    return await _spoiled(faults, "after", right, sleep) or right


async def _spoiled(
    faults: Sequence[AnswerFault],
    moment: Moment,
    answer: Response | None,
    sleep: Callable[[float], Awaitable[None]],
) -> Response | None:
    for fault in faults:
        if fault.moment != moment:
            continue
        if isinstance(fault, Slow):
            await sleep(fault.delay_seconds)
        else:
            answer = _answer_of(fault)
    return answer


def _answer_of(fault: AnswerFault) -> Response:
    """What is answered instead of the right answer."""
    match fault:
        case LoseAnswer():
            return HungUp()
        case Reset():
            return ConnectionReset()
        case NoAnswer():
            return NeverAnswered()
        case Garbage():
            return PlainTextResponse(fault.body, status_code=fault.status)
        case EmptyData():
            return JSONResponse({"data": []})
        case Status():
            return _error_status(fault)
        case RefuseBatch():
            refusal = RefusedTaskError("arrayTooLarge", "Only one getResponse task is allowed.")
            return JSONResponse({"errors": [refusal.to_wire()]}, status_code=400)
    raise AssertionError(f"{fault.__class__.__name__} is no fault of an answer")


def _error_status(fault: Status) -> Response:
    headers = {}
    if fault.retry_after_seconds is not None:
        headers["Retry-After"] = str(fault.retry_after_seconds)
    if fault.body == "html":
        return HTMLResponse(
            f"<html><body><h1>{fault.status}</h1>{fault.message}</body></html>",
            status_code=fault.status,
            headers=headers,
        )
    code = fault.code or _CODES.get(fault.status, "serverError")
    body = {"errors": [RefusedTaskError(code, fault.message).to_wire()]}
    return JSONResponse(body, status_code=fault.status, headers=headers)
