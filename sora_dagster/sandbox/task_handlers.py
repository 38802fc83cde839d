"""What is done for each type of task."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from sora_dagster.runware.models import Catalogue
from sora_dagster.sandbox.calls import Caller, Reply
from sora_dagster.sandbox.faults.active import ActiveFaults
from sora_dagster.sandbox.faults.events import Event, TaskFacts
from sora_dagster.sandbox.faults.failures import failure_of
from sora_dagster.sandbox.faults.plan import KnownUuids
from sora_dagster.sandbox.faults.task_faults import Refuse
from sora_dagster.sandbox.journal import JournalEntry
from sora_dagster.sandbox.ledger import Ledger
from sora_dagster.sandbox.refusals import RefusedTaskError
from sora_dagster.sandbox.request_resolver import RequestResolver
from sora_dagster.sandbox.task_queries import TaskQueries
from sora_dagster.sandbox.task_registry import TaskRegistry
from sora_dagster.sandbox.tasks import Order, Task, as_wire_number
from sora_dagster.sandbox.validation import read_video_request, task_uuid_of

_log = logging.getLogger(__name__)


class TaskHandlers:
    """Does the tasks of a request, one at a time.

    Arguments:
        catalogue: the models that there are.
        book: the tasks that were accepted.
        ledger: the books.
        orders: finds the inputs of a submission, and prices it.
        lookups: finds accepted tasks again.
        faults: tells which submissions are refused.
        start: begins the generations of a task that was accepted.
        clock: tells the Unix time in seconds.
        note: notes an accepted task for a later life of the sandbox.
        tells_again_seconds: age of a restored task from which its webhooks are not sent again.
    """

    def __init__(
        self,
        *,
        catalogue: Catalogue,
        book: TaskRegistry,
        ledger: Ledger,
        orders: RequestResolver,
        lookups: TaskQueries,
        faults: ActiveFaults,
        start: Callable[[Task], None],
        clock: Callable[[], float],
        note: Callable[[Task], None] = lambda _: None,
        tells_again_seconds: float = 60.0,
    ) -> None:
        self._catalogue = catalogue
        self._book = book
        self._ledger = ledger
        self._orders = orders
        self._lookups = lookups
        self._faults = faults
        self._start = start
        self._clock = clock
        self._note = note
        self._tells_again_seconds = tells_again_seconds

    async def handle(self, task: Mapping[str, Any], *, position: int, caller: Caller) -> Reply:
        """Do one task.

        Arguments:
            task: the task as it came.
            position: its index in the POST.
            caller: who asks, and how.

        Raises:
            RefusedTaskError: where it is not done.
        """
        match task.get("taskType"):
            case "videoInference":
                return await self._submit(task, position, caller)
            case "getResponse":
                return self._lookups.poll(task, caller)
            case "getTaskDetails":
                return self._lookups.details(task, caller)
            case "accountManagement":
                return self._account(task, caller)
            case "ping":
                return Reply([{"taskType": "ping", "pong": True}], [])
            case None:
                code, what = "missingTaskType", "taskType is required."
            case unknown:
                code, what = "unsupportedTaskType", f"taskType {unknown!r} is not supported."
        raise RefusedTaskError(code, what, parameter="taskType")

    async def _submit(self, raw: Mapping[str, Any], position: int, caller: Caller) -> Reply:
        known_uuids = self._faults.plan.known_uuids
        # First, as a replay is refused whatever else it holds.
        self._book.refuse_known(task_uuid_of(raw), account=caller.account, known_uuids=known_uuids)
        order = await self._orders.make(read_video_request(raw, self._catalogue), caller)
        request = order.request
        if caller.is_dry_run:
            # Where a priced answer has its price is not documented; assumed.
            row = {
                "taskType": "videoInference",
                "taskUUID": request.task_uuid,
                "cost": as_wire_number(order.cost_usd),
            }
            return Reply([row], [])
        self._refuse_by_plan(TaskFacts(request.task_uuid, request.prompt), position)
        self._ledger.refuse_unpayable(order.cost_usd, account=caller.account)
        # Checks the UUID once more: while an image was loaded, another POST may have brought it.
        task = self._accept(order, now=self._clock(), known_uuids=known_uuids)
        self._note(task)
        self._start(task)
        return Reply([task.acknowledgement()], [])

    def _refuse_by_plan(self, facts: TaskFacts, position: int) -> None:
        event = Event("submission", (facts,), position=position)
        for fault in self._faults.strikes(Refuse, event):
            raise failure_of(fault.error, code=fault.code, message=fault.message)

    async def restore(self, entries: Sequence[JournalEntry], *, base_url: str) -> None:
        """Take in again what was accepted before the sandbox was started anew.

        Arguments:
            entries: the tasks, in the order of their acceptance.
            base_url: address under which the sandbox is reached now.
        """
        for entry in entries:
            request = read_video_request(entry.task, self._catalogue)
            if entry.accepted_at + self._tells_again_seconds < self._clock():
                # Its webhooks were sent in its earlier life.
                request = replace(request, webhook_url=None, upload_endpoint=None)
            caller = Caller(base_url=base_url, account=entry.account)
            try:
                order = await self._orders.make(request, caller, is_restored=True)
            except RefusedTaskError as error:
                # Its first frame came from a local URL that is gone by now.
                _log.warning("task %s cannot be restored: %s", request.task_uuid, error)
                continue
            # A UUID that is noted twice was accepted twice.
            self._start(self._accept(order, now=entry.accepted_at, known_uuids="charged_again"))

    def _accept(self, order: Order, *, now: float, known_uuids: KnownUuids) -> Task:
        task = self._book.accept(order, now=now, known_uuids=known_uuids)
        self._ledger.charge(task)
        return task

    def _account(self, raw: Mapping[str, Any], caller: Caller) -> Reply:
        task_uuid = task_uuid_of(raw)
        operation = raw.get("operation")
        if operation != "getDetails":
            raise RefusedTaskError(
                "invalidOperation",
                f"operation {operation!r} is not supported; supported: getDetails.",
                parameter="operation",
            )
        balance_usd = self._ledger.balance_usd(caller.account)
        # The names of the fields are the official SDK's; what `balance` and `usage` hold is not
        # documented there, and assumed.
        row = {
            "taskType": "accountManagement",
            "taskUUID": task_uuid,
            "operation": operation,
            "organizationName": "Sandbox",
            "organizationUUID": caller.account,
            "balance": {"amount": as_wire_number(balance_usd), "currency": "USD"},
            "team": [],
            "apiKeys": [],
            "usage": {
                "total": {
                    "credits": as_wire_number(self._ledger.total_usd(caller.account)),
                    "requests": self._ledger.posts,
                }
            },
        }
        return Reply([row], [])
