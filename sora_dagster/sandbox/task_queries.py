"""Answers queries for accepted tasks: polls and `getTaskDetails`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Literal

from sora_dagster.sandbox.calls import Caller, Reply, Row
from sora_dagster.sandbox.faults.active import ActiveFaults
from sora_dagster.sandbox.faults.plan import UnknownPolls
from sora_dagster.sandbox.faults.request_faults import ArchivedRefusal, QueryFault
from sora_dagster.sandbox.faults.rules import Event, TaskFacts
from sora_dagster.sandbox.refusals import RefusedTaskError
from sora_dagster.sandbox.task_registry import TaskRegistry
from sora_dagster.sandbox.tasks import Task
from sora_dagster.sandbox.validation import task_uuid_of


@dataclass
class TaskQueries:
    """Answers the tasks `getResponse` and `getTaskDetails`.

    Arguments:
        registry: the accepted tasks.
        faults: decides which queries go wrong.
        clock: returns the Unix time in seconds.
        unknown_polls: how a poll of an unknown task is answered.
    """

    registry: TaskRegistry
    faults: ActiveFaults
    clock: Callable[[], float]
    unknown_polls: UnknownPolls

    def poll(self, raw: Mapping[str, Any], caller: Caller) -> Reply:
        """Answer a `getResponse`.

        Raises:
            RefusedTaskError: the task is unknown, and that is answered with an error.
        """
        task_uuid, task, faults = self._find("poll", raw, caller)
        if task is not None:
            task.count_poll()
        mode = self.faults.plan.unknown_polls or self.unknown_polls
        if task is not None and not faults:
            include_running = mode != "silent_running"
            rows = task.rows(self.clock(), include_running=include_running)
            return Reply(rows, task.errors())
        if mode == "error":
            raise _unknown(task_uuid)
        return Reply([], [])

    def details(self, raw: Mapping[str, Any], caller: Caller) -> Reply:
        """Answer a `getTaskDetails`.

        Raises:
            RefusedTaskError: the task is unknown.
        """
        task_uuid, task, faults = self._find("details", raw, caller)
        shows_refusal = any(isinstance(fault, ArchivedRefusal) for fault in faults)
        if task is None or (faults and not shows_refusal):
            raise _unknown(task_uuid)
        # `request` and `response` are documented; their content for a task that was delivered
        # asynchronously is not. Assumed: the last answer given, so that of a running task is its
        # acknowledgement.
        response: Row = {"data": [task.acknowledgement()]}
        if shows_refusal and task.refused_replay is not None:
            response = {"errors": [task.failure(task.refused_replay)]}
        elif task.is_over:
            response = {"data": task.rows(self.clock())}
            if errors := task.errors():
                response["errors"] = errors
        row = {
            "taskType": "getTaskDetails",
            "taskUUID": task.task_uuid,
            "request": [dict(task.order.request.raw)],
            "response": response,
        }
        return Reply([row], [])

    def _find(
        self, kind: Literal["poll", "details"], raw: Mapping[str, Any], caller: Caller
    ) -> tuple[str, Task | None, list[QueryFault]]:
        """The UUID that is queried, its task, and the faults that strike the query."""
        task_uuid = task_uuid_of(raw)
        task = self.registry.find(task_uuid, account=caller.account)
        if task is None:
            event = Event(kind, (TaskFacts(task_uuid),))
        else:
            event = Event(kind, (task.facts,), query=task.query_facts(self.clock()))
        return task_uuid, task, self.faults.strikes(QueryFault, event)


def _unknown(task_uuid: str) -> RefusedTaskError:
    return RefusedTaskError(
        "taskFailedOrNotFound",
        f"There is no task with the taskUUID {task_uuid}.",
        parameter="taskUUID",
    )
