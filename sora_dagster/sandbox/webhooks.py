"""Reports results to the clients' webhooks."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from sora_dagster.sandbox.delivery import Deliverer
from sora_dagster.sandbox.faults.active import ActiveFaults
from sora_dagster.sandbox.faults.outcomes import failure_of
from sora_dagster.sandbox.faults.result_faults import (
    WebhookFailure,
    WebhookFault,
    WebhookLate,
    WebhookLost,
    WebhookMalformed,
    WebhookOutOfOrder,
    WebhookRepeated,
)
from sora_dagster.sandbox.faults.rules import Event
from sora_dagster.sandbox.tasks import Generation, Task


@dataclass
class _Progress:
    """The webhooks of a task: how many results have ended, and those that wait for the others."""

    results: int = 0
    waiting: dict[int, Callable[[], Awaitable[None]]] = field(default_factory=dict)


@dataclass
class Webhooks:
    """Sends a webhook for each result that has ended.

    Arguments:
        deliverer: sends them.
        faults: decides which go wrong.
        sleep: waits for a number of seconds.
    """

    deliverer: Deliverer
    faults: ActiveFaults
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    _progress: dict[Task, _Progress] = field(default_factory=dict, init=False)

    async def report(self, url: str, task: Task, index: int) -> None:
        """Report one result that has ended; to be called once for each.

        Arguments:
            url: the client's webhook.
            task: the task.
            index: of the result.
        """
        generation = task.generations[index]
        event = Event(
            "webhook", (task.facts,), result=index, is_failure=generation.error is not None
        )
        faults = self.faults.strikes(WebhookFault, event)
        progress = self._progress.setdefault(task, _Progress())
        progress.results += 1

        async def send() -> None:
            await self._send(url, _body(task, generation, faults), faults)

        due: list[Callable[[], Awaitable[None]]] = []
        if any(isinstance(fault, WebhookOutOfOrder) for fault in faults):
            progress.waiting[index] = send
        else:
            due.append(send)
        if progress.results == len(task.generations):
            del self._progress[task]
            due += [progress.waiting[it] for it in sorted(progress.waiting, reverse=True)]
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
                    await self.sleep(fault.delay_seconds)
                case WebhookRepeated():
                    copies = max(copies, fault.copies)
        for _ in range(copies):
            await self.deliverer.post_webhook(url, body)


def _body(
    task: Task, generation: Generation, faults: Sequence[WebhookFault]
) -> dict[str, Any] | str:
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
    # The flat result, with nothing around it (documented). The form of a failure is not
    # documented; assumed to be the flat error.
    if generation.error is not None:
        return task.failure(generation.error)
    return task.result(generation)
