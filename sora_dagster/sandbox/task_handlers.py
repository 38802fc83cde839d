"""Processes the tasks of a request by their type."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from sora_dagster.runware.catalogue import Catalogue
from sora_dagster.sandbox.calls import Caller, Reply
from sora_dagster.sandbox.faults.active import ActiveFaults
from sora_dagster.sandbox.faults.outcomes import error_of
from sora_dagster.sandbox.faults.plan import KnownUuids
from sora_dagster.sandbox.faults.request_faults import Refuse, RefuseVideoUuids
from sora_dagster.sandbox.faults.rules import Event, TaskFacts
from sora_dagster.sandbox.input_files import input_videos, is_uuid
from sora_dagster.sandbox.journal import JournalEntry
from sora_dagster.sandbox.ledger import Ledger
from sora_dagster.sandbox.refusals import RefusedTaskError
from sora_dagster.sandbox.request_form import VideoRequest
from sora_dagster.sandbox.request_resolver import RequestResolver
from sora_dagster.sandbox.task_queries import TaskQueries
from sora_dagster.sandbox.task_registry import TaskRegistry
from sora_dagster.sandbox.tasks import Order, Task, as_wire_number
from sora_dagster.sandbox.validation import read_video_request, task_uuid_of

_log = logging.getLogger(__name__)


@dataclass
class TaskHandlers:
    """Processes the tasks of a request, one at a time.

    Arguments:
        catalogue: the available models.
        registry: the accepted tasks.
        ledger: the charges.
        resolver: finds the inputs and the price of a submission.
        queries: answers queries for accepted tasks.
        faults: decides which submissions are refused.
        start: begins the generations of an accepted task.
        clock: returns the Unix time in seconds.
        record: records an accepted task for a restart of the sandbox.
        webhook_age_seconds: age from which a restored task sends no webhooks or uploads again.
    """

    catalogue: Catalogue
    registry: TaskRegistry
    ledger: Ledger
    resolver: RequestResolver
    queries: TaskQueries
    faults: ActiveFaults
    start: Callable[[Task], None]
    clock: Callable[[], float]
    record: Callable[[Task], None]
    webhook_age_seconds: float = 60.0

    async def handle(self, task: Mapping[str, Any], *, position: int, caller: Caller) -> Reply:
        """Process one task.

        Arguments:
            task: the task as it was sent.
            position: its index in the POST.
            caller: who sent it.

        Raises:
            RefusedTaskError: the task is refused.
        """
        match task.get("taskType"):
            case "videoInference":
                return await self._submit(task, position, caller)
            case "getResponse":
                return self.queries.poll(task, caller)
            case "getTaskDetails":
                return self.queries.details(task, caller)
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
        known_uuids = self.faults.plan.known_uuids
        # First, since a replay is refused whatever else it contains.
        self.registry.refuse_known(
            task_uuid_of(raw), account=caller.account, known_uuids=known_uuids
        )
        request = read_video_request(raw, self.catalogue)
        facts = TaskFacts(request.task_uuid, request.prompt)
        self._refuse_video_uuids(request, facts, position, is_dry_run=caller.is_dry_run)
        order = await self.resolver.resolve(request, caller)
        if caller.is_dry_run:
            # Where a dry run's answer has its price is not documented; assumed.
            row = {
                "taskType": "videoInference",
                "taskUUID": request.task_uuid,
                "cost": as_wire_number(order.cost_usd),
            }
            return Reply([row], [])
        for fault in self.faults.strikes(Refuse, Event("submission", (facts,), position=position)):
            raise error_of(fault)
        self.ledger.refuse_unpayable(order.cost_usd, account=caller.account)
        # Checks the UUID again: another POST may have submitted it while an image was loaded.
        task = self._accept(order, now=self.clock(), known_uuids=known_uuids)
        self.record(task)
        self.start(task)
        return Reply([task.acknowledgement()], [])

    def _refuse_video_uuids(
        self, request: VideoRequest, facts: TaskFacts, position: int, *, is_dry_run: bool
    ) -> None:
        """Apply the faults of input videos that are named by their UUIDs."""
        kind: Literal["submission", "dry_run"] = "dry_run" if is_dry_run else "submission"
        for slot, address in input_videos(request):
            if is_uuid(address):
                event = Event(kind, (facts,), position=position)
                if self.faults.strikes(RefuseVideoUuids, event):
                    raise slot.unknown_video(address)
                return

    async def restore(self, entries: Sequence[JournalEntry], *, base_url: str) -> None:
        """Accept again what was accepted before a restart.

        Arguments:
            entries: the tasks, in the order of their acceptance.
            base_url: address of the sandbox now.
        """
        for entry in entries:
            request = read_video_request(entry.task, self.catalogue)
            if entry.accepted_at + self.webhook_age_seconds < self.clock():
                no_delivery = {"webhook_url": None, "upload_endpoint": None}
                request = request.model_copy(update=no_delivery)
            caller = Caller(base_url=base_url, account=entry.account)
            try:
                order = await self.resolver.resolve(request, caller, is_restored=True)
            except RefusedTaskError as error:
                # Its first frame came from a local URL that no longer exists.
                _log.warning("task %s cannot be restored: %s", request.task_uuid, error)
                continue
            # A UUID with two entries was accepted twice.
            self.start(self._accept(order, now=entry.accepted_at, known_uuids="charged_again"))

    def _accept(self, order: Order, *, now: float, known_uuids: KnownUuids) -> Task:
        task = self.registry.accept(order, now=now, known_uuids=known_uuids)
        self.ledger.charge(task)
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
        balance_usd = self.ledger.balance_usd(caller.account)
        # The field names are those of the official SDK; the content of `balance` and `usage` is
        # not documented there, and assumed.
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
                    "credits": as_wire_number(self.ledger.total_usd(caller.account)),
                    "requests": self.ledger.posts,
                }
            },
        }
        return Reply([row], [])
