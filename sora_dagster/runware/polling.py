"""Asking how tasks are going: many in one POST, and one by one where the API wants it so.

That several `getResponse` tasks may go in one POST is not documented for polls, though the API
takes lists of any tasks; assumed, with a way back.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from sora_dagster.runware.answers import ApiAnswer
from sora_dagster.runware.errors import (
    AuthenticationError,
    NotFoundError,
    ProviderError,
    QuotaError,
    RateLimitError,
    RequestRefusedError,
    RunwareError,
    SafetyError,
    ServerError,
    TaskTimeoutError,
)
from sora_dagster.runware.requests import get_response, get_task_details
from sora_dagster.runware.results import (
    TaskStatus,
    archived_status,
    is_of_the_request,
    is_unknown_task,
    task_status,
)
from sora_dagster.runware.retries import RetryPolicy
from sora_dagster.runware.transport import Transport

logger = logging.getLogger(__name__)

# Statuses that can mean "not so many tasks in one request".
_TOO_MANY_STATUSES = frozenset({400, 413, 422})


class Polling:
    """Asks for the status of tasks.

    Arguments:
        transport: posts the questions.
        retries: how a question is repeated; that is free and harmless.
        batch_size: most tasks in one POST.
    """

    def __init__(self, transport: Transport, retries: RetryPolicy, batch_size: int) -> None:
        self._transport = transport
        self._retries = retries
        self._batch_size = batch_size

    def statuses(self, task_uuids: Sequence[str]) -> dict[str, TaskStatus]:
        """The status of each task, in the order given.

        Raises:
            RunwareError: where the answer is a failure that is not about single tasks, such as
                `AuthenticationError`, after retries of those that may pass.
        """
        waiting = list(dict.fromkeys(task_uuids))
        statuses: dict[str, TaskStatus] = {}
        while waiting:
            batch = waiting[: self._batch_size]
            waiting = waiting[len(batch) :]
            statuses.update(self._batch(batch))
        return {task_uuid: statuses[task_uuid] for task_uuid in dict.fromkeys(task_uuids)}

    def archived(self, task_uuid: str) -> TaskStatus:
        """The status of one task by the archive.

        Raises:
            RunwareError: as `statuses` does.
        """
        answer = self._answer([get_task_details(task_uuid)], [task_uuid])
        return _with_poll_error(archived_status(task_uuid, answer), answer)

    def _batch(self, batch: list[str]) -> dict[str, TaskStatus]:
        answer = self._answer([get_response(uuid) for uuid in batch], batch)
        statuses = {uuid: task_status(uuid, answer) for uuid in batch}
        if len(batch) == 1:
            return {uuid: _with_poll_error(status, answer) for uuid, status in statuses.items()}

        failed = answer.status_code >= 400 or bool(answer.unscoped_errors)
        alone = [
            uuid
            for uuid, status in statuses.items()
            if _may_be_refusal_of_batch(status) or (failed and not answer.names(uuid))
        ]
        if len(alone) == len(batch) and answer.status_code in _TOO_MANY_STATUSES:
            self._batch_size = 1
            logger.warning(
                "Runware refused to be asked for %d tasks at once (%s); asking for one at a time "
                "from now on",
                len(batch),
                next(iter(answer.errors), "no reason given"),
            )
        for uuid in alone:
            statuses |= self._batch([uuid])
        return statuses

    def _answer(self, tasks: list[dict[str, Any]], task_uuids: list[str]) -> ApiAnswer:
        """The answer to a question, where it is one; the failure of the whole is raised."""

        def post() -> ApiAnswer:
            answer = self._transport.post(tasks, purpose="poll")
            if len(task_uuids) == 1:
                answer = _adopted(answer, task_uuids[0])
            if (failure := _failure_of_all(answer, task_uuids)) is not None:
                raise failure
            return answer

        return self._retries.ask(post)


def _adopted(answer: ApiAnswer, task_uuid: str) -> ApiAnswer:
    """The answer to a question about one task, with the errors that can only be about it.

    An error that names no task, of a kind that a poll itself cannot have, is that task's.
    """

    def adopt(error: RunwareError) -> RunwareError:
        if error.task_uuid is not None or is_of_the_request(error):
            return error
        if is_unknown_task(error) or isinstance(
            error, (SafetyError, ProviderError, TaskTimeoutError)
        ):
            error = copy.copy(error)
            error.task_uuid = task_uuid
        return error

    return replace(
        answer,
        errors=tuple(map(adopt, answer.errors)),
        row_errors=tuple(map(adopt, answer.row_errors)),
    )


def _failure_of_all(answer: ApiAnswer, task_uuids: Sequence[str]) -> RunwareError | None:
    """The failure that an answer is, where it tells nothing of any task; else none."""
    statuses = [task_status(uuid, answer) for uuid in task_uuids]
    if any(status.is_known or status.not_found for status in statuses):
        return None
    errors = [*answer.errors, *answer.row_errors]
    for error in errors:
        if isinstance(error, AuthenticationError) or is_of_the_request(error):
            return error
    for error in answer.unscoped_errors:
        if isinstance(error, (QuotaError, RateLimitError, ServerError)):
            return error
        # A 404 that is not in the API's words: the address is wrong, or something in between is.
        if isinstance(error, NotFoundError) and error.code is None:
            return error
    return None


def _may_be_refusal_of_batch(status: TaskStatus) -> bool:
    """Whether a task's failure may be the refusal of the question it was in.

    A failed generation ends a task, so it is asked for alone before such an error is believed.
    """
    return bool(status.errors) and all(
        isinstance(error, RequestRefusedError) and error.task_type in (None, "getResponse")
        for error in status.errors
    )


def _with_poll_error(status: TaskStatus, answer: ApiAnswer) -> TaskStatus:
    if status.is_known or status.not_found or status.poll_error or not answer.unscoped_errors:
        return status
    return replace(status, poll_error=answer.unscoped_errors[0])
