"""When a POST is repeated, and after how long."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import stamina

from sora_dagster.runware.errors import ConnectionFailedError, RunwareError
from sora_dagster.runware.responses import ApiResponse
from sora_dagster.runware.retry_log import log_retries_as_sentences

_FIRST_WAIT_SECONDS = 0.5
_MAX_WAIT_SECONDS = 10.0
# A submission is repeated for a shorter time: a task must not be sent long after it was claimed,
# so a lasting refusal is reported while it is still fresh.
_SUBMISSION_TIMEOUT_SECONDS = 12.0
_MAX_SUBMISSION_WAIT_SECONDS = 4.0

Result = TypeVar("Result")


class NothingAcceptedError(Exception):
    """An answer to a submission that accepts none of its tasks for now (HTTP 429)."""

    def __init__(self, answer: ApiResponse) -> None:
        super().__init__(f"HTTP {answer.status_code}, no task accepted")
        self.answer = answer


@dataclass(frozen=True)
class RetryPolicy:
    """How often and how long a POST is repeated.

    Arguments:
        attempts: maximum number of POSTs, including the first. Default: 5.
        timeout_seconds: maximum total time in seconds. If an answer asks for a longer wait, its
            error is raised at once. Default: 60.
    """

    attempts: int = 5
    timeout_seconds: float = 60.0

    def query(self, post: Callable[[], Result]) -> Result:
        """Make a POST that changes nothing at Runware; repeat it after any retryable error."""

        def retry(error: Exception) -> bool | float:
            if not isinstance(error, RunwareError) or not error.retryable:
                return False
            return _wait(error.retry_after_seconds, self.timeout_seconds)

        return self._run(post, retry, self.timeout_seconds, _MAX_WAIT_SECONDS)

    def submit(self, post: Callable[[], Result]) -> Result:
        """Make a POST that is paid for; repeat it only if no task can have been accepted.

        That is if the connection was never made, or if the answer refuses all tasks for now.
        """
        timeout_seconds = min(self.timeout_seconds, _SUBMISSION_TIMEOUT_SECONDS)
        ends_at = time.monotonic() + timeout_seconds

        def retry(error: Exception) -> bool | float:
            if isinstance(error, NothingAcceptedError):
                return _wait(error.answer.retry_after_seconds, ends_at - time.monotonic())
            return isinstance(error, ConnectionFailedError) and not error.sent

        return self._run(post, retry, timeout_seconds, _MAX_SUBMISSION_WAIT_SECONDS)

    def _run(
        self,
        post: Callable[[], Result],
        retry: Callable[[Exception], bool | float],
        timeout_seconds: float,
        max_wait_seconds: float,
    ) -> Result:
        log_retries_as_sentences()
        for attempt in stamina.retry_context(
            on=retry,
            attempts=self.attempts,
            timeout=timeout_seconds,
            wait_initial=_FIRST_WAIT_SECONDS,
            wait_max=max_wait_seconds,
        ):
            with attempt:
                return post()
        raise AssertionError("retry_context ends by returning or raising")


def _wait(requested_seconds: float | None, max_seconds: float) -> bool | float:
    if requested_seconds is None:
        return True
    return requested_seconds if requested_seconds <= max_seconds else False
