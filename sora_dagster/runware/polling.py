"""Polls the status of tasks: many in one POST, or one by one if the API refuses that.

Whether several `getResponse` tasks may be in one POST is not documented, though the API accepts
lists of any tasks; assumed, with a fallback.
"""

from __future__ import annotations

import copy
import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

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
from sora_dagster.runware.responses import ApiResponse
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

# Statuses that can mean that a request has too many tasks.
_TOO_MANY_STATUSES = frozenset({400, 413, 422})


class Polling:
    """Polls the status of tasks.

    Arguments:
        transport: posts the polls.
        retries: how polls are repeated; a poll is free.
        batch_size: maximum number of tasks in one POST.
    """

    def __init__(self, transport: Transport, retries: RetryPolicy, batch_size: int) -> None:
        self._transport = transport
        self._retries = retries
        self._batch_size = batch_size

    def statuses(self, task_uuids: Sequence[str]) -> dict[str, TaskStatus]:
        """The status of each task, in the given order.

        Raises:
            RunwareError: if the poll as a whole failed, such as `AuthenticationError`; retryable
                errors only after retries.
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
            RunwareError: like `statuses`.
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
                "Runware refused a poll of %d tasks (%s); polling one task at a time from now on",
                len(batch),
                next(iter(answer.errors), "no reason given"),
            )
        for uuid in alone:
            statuses |= self._batch([uuid])
        return statuses

    def _answer(self, tasks: list[dict[str, Any]], task_uuids: list[str]) -> ApiResponse:
        """The answer to a poll; the failure of the whole poll is raised."""

        def post() -> ApiResponse:
            answer = self._transport.post(tasks, purpose="polls")
            if len(task_uuids) == 1:
                answer = _adopted(answer, task_uuids[0])
            if (failure := _failure_of_all(answer, task_uuids)) is not None:
                raise failure
            return answer

        return self._retries.query(post)


def _adopted(answer: ApiResponse, task_uuid: str) -> ApiResponse:
    """The answer to a poll of one task, with the errors that can only be the task's.

    An error that names no task, of a kind that a poll itself cannot have, is the task's.
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


def _failure_of_all(answer: ApiResponse, task_uuids: Sequence[str]) -> RunwareError | None:
    """The failure of a poll as a whole. None: the answer says something about a task."""
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
        # A 404 without a code of the API: the address is wrong, or a proxy is.
        if isinstance(error, NotFoundError) and error.code is None:
            return error
    return None


def _may_be_refusal_of_batch(status: TaskStatus) -> bool:
    """Whether a task's failure may be the refusal of the poll that it was in.

    A failed generation ends a task, so the task is polled alone before such an error counts.
    """
    return bool(status.errors) and all(
        isinstance(error, RequestRefusedError) and error.task_type in (None, "getResponse")
        for error in status.errors
    )


def _with_poll_error(status: TaskStatus, answer: ApiResponse) -> TaskStatus:
    if status.is_known or status.not_found or status.poll_error or not answer.unscoped_errors:
        return status
    return replace(status, poll_error=answer.unscoped_errors[0])
