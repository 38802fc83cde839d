"""How accepted tasks are found again: by polls, and in the archive."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Literal

from sora_dagster.sandbox.calls import Caller, Reply, Row
from sora_dagster.sandbox.faults.active import ActiveFaults
from sora_dagster.sandbox.faults.events import Event, LookupFacts, TaskFacts
from sora_dagster.sandbox.faults.plan import UnknownPolls
from sora_dagster.sandbox.faults.task_faults import ArchivedRefusal, LookupFault
from sora_dagster.sandbox.refusals import RefusedTaskError
from sora_dagster.sandbox.task_registry import TaskRegistry
from sora_dagster.sandbox.tasks import Task
from sora_dagster.sandbox.validation import task_uuid_of


class TaskQueries:
    """Does the tasks `getResponse` and `getTaskDetails`.

    Arguments:
        book: the tasks that were accepted.
        faults: tells which look-ups go wrong.
        clock: tells the Unix time in seconds.
        unknown_polls: how a poll of an unknown task is answered.
    """

    def __init__(
        self,
        *,
        book: TaskRegistry,
        faults: ActiveFaults,
        clock: Callable[[], float],
        unknown_polls: UnknownPolls,
    ) -> None:
        self._book = book
        self._faults = faults
        self._clock = clock
        self._unknown_polls = unknown_polls

    def poll(self, raw: Mapping[str, Any], caller: Caller) -> Reply:
        """Answer a `getResponse`.

        Raises:
            RefusedTaskError: where the task is not known, and that is an error.
        """
        task_uuid = task_uuid_of(raw)
        task = self._book.find(task_uuid, account=caller.account)
        faults = self._strikes("poll", task_uuid, task)
        if task is not None:
            task.count_poll()
        mode = self._faults.plan.unknown_polls or self._unknown_polls
        if task is not None and not faults:
            tells_running = mode != "silent_running"
            return Reply(task.rows(self._clock(), tells_running=tells_running), task.errors())
        if mode == "error":
            raise _unknown(task_uuid)
        return Reply([], [])

    def details(self, raw: Mapping[str, Any], caller: Caller) -> Reply:
        """Answer a `getTaskDetails`.

        Raises:
            RefusedTaskError: where the task is not known.
        """
        task_uuid = task_uuid_of(raw)
        task = self._book.find(task_uuid, account=caller.account)
        faults = self._strikes("details", task_uuid, task)
        tells_refusal = any(isinstance(fault, ArchivedRefusal) for fault in faults)
        if task is None or (faults and not tells_refusal):
            raise _unknown(task_uuid)
        # `request` and `response` are documented; what they hold for a task that was delivered
        # asynchronously is not. Assumed: the last answer given, so that of a task which is still
        # running is its acknowledgement.
        response: Row = {"data": [task.acknowledgement()]}
        if tells_refusal and task.refused_replay is not None:
            response = {"errors": [task.failure(task.refused_replay)]}
        elif task.is_over:
            response = {"data": task.rows(self._clock())}
            if errors := task.errors():
                response["errors"] = errors
        row = {
            "taskType": "getTaskDetails",
            "taskUUID": task.task_uuid,
            "request": [dict(task.order.request.raw)],
            "response": response,
        }
        return Reply([row], [])

    def _strikes(
        self, kind: Literal["poll", "details"], task_uuid: str, task: Task | None
    ) -> list[LookupFault]:
        facts = TaskFacts(task_uuid) if task is None else task.facts
        lookup = None if task is None else self._lookup_facts(task)
        return self._faults.strikes(LookupFault, Event(kind, (facts,), lookup=lookup))

    def _lookup_facts(self, task: Task) -> LookupFacts:
        now, ended_at = self._clock(), task.ended_at
        return LookupFacts(
            polls=task.polls,
            polls_since_end=task.polls_since_end,
            seconds_since_acceptance=now - task.accepted_at,
            seconds_since_end=None if ended_at is None else now - ended_at,
            has_refused_replay=task.refused_replay is not None,
        )


def _unknown(task_uuid: str) -> RefusedTaskError:
    return RefusedTaskError(
        "taskFailedOrNotFound",
        f"There is no task with the taskUUID {task_uuid}.",
        parameter="taskUUID",
    )
