"""Tells results to the clients' webhooks."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sora_dagster.sandbox.delivery import Deliverer
from sora_dagster.sandbox.faults.active import ActiveFaults
from sora_dagster.sandbox.faults.events import Event
from sora_dagster.sandbox.faults.failures import failure_of
from sora_dagster.sandbox.faults.webhook_faults import (
    WebhookFailure,
    WebhookFault,
    WebhookLate,
    WebhookLost,
    WebhookMalformed,
    WebhookOutOfOrder,
    WebhookRepeated,
)
from sora_dagster.sandbox.tasks import Generation, Task


@dataclass
class _Told:
    """How far the telling of a task is.

    Arguments:
        results: how many of its results have ended.
        held: indexes and webhooks that wait for the others.
    """

    results: int = 0
    held: list[tuple[int, Callable[[], Awaitable[None]]]] = field(default_factory=list)


class Webhooks:
    """Sends a webhook for each result that ended.

    Arguments:
        deliverer: sends them.
        faults: tells which go wrong.
        sleep: waits for a number of seconds.
    """

    def __init__(
        self,
        *,
        deliverer: Deliverer,
        faults: ActiveFaults,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._deliverer = deliverer
        self._faults = faults
        self._sleep = sleep
        self._told: dict[Task, _Told] = {}

    async def tell(self, url: str, task: Task, index: int) -> None:
        """Tell one result that ended; to be called once for each.

        Arguments:
            url: the client's webhook.
            task: the task.
            index: of the result.
        """
        generation = task.generations[index]
        event = Event(
            "webhook", (task.facts,), result=index, is_failure=generation.error is not None
        )
        faults = self._faults.strikes(WebhookFault, event)
        told = self._told.setdefault(task, _Told())
        told.results += 1
        is_last = told.results == len(task.generations)

        async def send() -> None:
            await self._send(url, _body(task, generation, faults), faults)

        due: list[Callable[[], Awaitable[None]]] = []
        if any(isinstance(fault, WebhookOutOfOrder) for fault in faults):
            told.held.append((index, send))
        else:
            due.append(send)
        if is_last:
            del self._told[task]
            due += [held for _, held in sorted(told.held, key=lambda it: it[0], reverse=True)]
        for webhook in due:
            await webhook()

    async def _send(
        self, url: str, body: dict[str, Any] | str, faults: Sequence[WebhookFault]
    ) -> None:
        copies = 1
        for fault in faults:
            match fault:
                case WebhookLost():
                    return
                case WebhookLate():
                    await self._sleep(fault.delay_seconds)
                case WebhookRepeated():
                    copies = max(copies, fault.copies)
        for _ in range(copies):
            await self._deliverer.post_webhook(url, body)


def _body(
    task: Task, generation: Generation, faults: Sequence[WebhookFault]
) -> dict[str, Any] | str:
    """What a webhook says, as the faults that strike it will have it."""
    for fault in faults:
        match fault:
            case WebhookMalformed():
                return fault.body
            case WebhookFailure():
                error = task.failure(generation.error or failure_of("provider"))
                forms: dict[str, dict[str, Any]] = {
                    "flat": error,
                    "error": {"taskUUID": task.task_uuid, "error": error},
                    "errors": {"taskUUID": task.task_uuid, "errors": [error]},
                }
                return forms[fault.form]
    # The flat result, with nothing around it (documented). What a failure looks like is not
    # documented; assumed to be the flat error.
    if generation.error is not None:
        return task.failure(generation.error)
    return task.result(generation)
