"""The outcome of each task of a submission.

A submission is paid for, so an answer counts only for what it proves: a task is refused only if
the answer cannot mean anything else.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from sora_dagster.runware.errors import (
    AuthenticationError,
    ConflictError,
    ConnectionFailedError,
    QuotaError,
    RunwareError,
    ServerError,
    SubmissionTooLateError,
    TaskTimeoutError,
)
from sora_dagster.runware.responses import ApiResponse
from sora_dagster.runware.results import cost_usd

SubmissionState = Literal["accepted", "refused", "conflict", "uncertain", "unsent"]

# Statuses that refuse a request as a whole, if the answer names none of its tasks.
_REFUSING_STATUSES = frozenset({400, 401, 402, 403, 404, 413, 429})


@dataclass(frozen=True)
class Submission:
    """The outcome of one task of a submission.

    Arguments:
        task_uuid: the task.
        state: ``accepted`` (Runware named it), ``refused`` (it was not started), ``conflict`` (it
            is already running, so an earlier submission was accepted), ``unsent`` (there was no
            connection), or ``uncertain`` (it may be running and be charged).
        error: why it was not accepted. None: it was accepted.
        cost_usd: its price in USD. None: not in the answer.
    """

    task_uuid: str
    state: SubmissionState
    error: RunwareError | None = None
    cost_usd: float | None = None


def submission_without_answer(
    task_uuid: str, error: ConnectionFailedError | SubmissionTooLateError
) -> Submission:
    """The outcome of a task if no complete response came."""
    is_unsent = isinstance(error, ConnectionFailedError) and not error.sent
    return Submission(task_uuid, "unsent" if is_unsent else "uncertain", error)


def submission_from_answer(
    task_uuid: str, answer: ApiResponse, *, names_any_task: bool
) -> Submission:
    """The outcome of a task by the answer.

    Arguments:
        task_uuid: the task.
        answer: the answer to its POST.
        names_any_task: whether the answer names any task of that POST.
    """
    if rows := answer.rows_of(task_uuid):
        cost = next((cost for row in rows if (cost := cost_usd(row)) is not None), None)
        return Submission(task_uuid, "accepted", cost_usd=cost)

    errors = [*answer.errors_of(task_uuid), *answer.row_errors_of(task_uuid)]
    for error in errors:
        if isinstance(error, ConflictError):
            return Submission(task_uuid, "conflict", error)
    if errors:
        return Submission(task_uuid, _state_by_own_error(errors[0], answer), errors[0])

    whole = next(iter(answer.unscoped_errors), None)
    if whole is not None and not names_any_task and _refuses_all(whole, answer):
        return Submission(task_uuid, "refused", whole)
    return Submission(task_uuid, "uncertain", whole or _not_named(task_uuid, answer))


def _state_by_own_error(error: RunwareError, answer: ApiResponse) -> SubmissionState:
    # A server that failed or timed out over a task may have started it before.
    if answer.status_code >= 500 or isinstance(error, (ServerError, TaskTimeoutError)):
        return "uncertain"
    return "refused"


def _refuses_all(error: RunwareError, answer: ApiResponse) -> bool:
    if answer.status_code in _REFUSING_STATUSES:
        return True
    # Without a valid key or balance nothing is started, whatever the HTTP status.
    return answer.status_code < 500 and isinstance(error, (AuthenticationError, QuotaError))


def _not_named(task_uuid: str, answer: ApiResponse) -> RunwareError:
    return RunwareError(
        f"Runware answered HTTP {answer.status_code} without naming this task, so it is unknown "
        f"whether it was accepted",
        task_uuid=task_uuid,
        status_code=answer.status_code,
    )
