"""When a POST is made again by itself, and after how long."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

import stamina

from sora_dagster.runware.answers import ApiAnswer
from sora_dagster.runware.errors import ConnectionFailedError, RunwareError

_FIRST_WAIT_SECONDS = 0.5
_LONGEST_WAIT_SECONDS = 10.0
# A submission is repeated for a shorter time than a question: who submits must not send a task
# long after claiming it, so a refusal that lasts is reported while it is still fresh.
_SUBMISSION_TIMEOUT_SECONDS = 12.0
_LONGEST_SUBMISSION_WAIT_SECONDS = 4.0

Result = TypeVar("Result")


class NothingAcceptedError(Exception):
    """An answer to a submission that refuses all of it for now (HTTP 429)."""

    def __init__(self, answer: ApiAnswer) -> None:
        super().__init__(f"HTTP {answer.status_code}, no task accepted")
        self.answer = answer


@dataclass(frozen=True)
class RetryPolicy:
    """How often and how long a POST is made again.

    Arguments:
        attempts: most POSTs, the first included.
        timeout_seconds: longest time that retries go on. An answer that asks for a longer wait
            is not waited for: whoever called can come back then.
    """

    attempts: int = 5
    timeout_seconds: float = 60.0

    def ask(self, post: Callable[[], Result]) -> Result:
        """Make a POST that changes nothing at Runware, again after any error that may pass."""
        return self._run(
            post,
            self._after_question,
            timeout_seconds=self.timeout_seconds,
            longest_wait_seconds=_LONGEST_WAIT_SECONDS,
        )

    def submit(self, post: Callable[[], Result]) -> Result:
        """Make a POST that is paid for, again only where nothing of it can have been accepted.

        That is where the connection was never made, and where the answer refuses all of it.
        """
        timeout_seconds = min(self.timeout_seconds, _SUBMISSION_TIMEOUT_SECONDS)
        ends_at = time.monotonic() + timeout_seconds
        return self._run(
            post,
            lambda error: _after_submission(error, ends_at - time.monotonic()),
            timeout_seconds=timeout_seconds,
            longest_wait_seconds=_LONGEST_SUBMISSION_WAIT_SECONDS,
        )

    def _run(
        self,
        post: Callable[[], Result],
        on: Callable[[Exception], bool | float],
        *,
        timeout_seconds: float,
        longest_wait_seconds: float,
    ) -> Result:
        for attempt in stamina.retry_context(
            on=on,
            attempts=self.attempts,
            timeout=timeout_seconds,
            wait_initial=_FIRST_WAIT_SECONDS,
            wait_max=longest_wait_seconds,
        ):
            with attempt:
                return post()
        raise AssertionError("retry_context ends by returning or raising")

    def _after_question(self, error: Exception) -> bool | float:
        if not isinstance(error, RunwareError) or not error.retryable:
            return False
        return _wait(error.retry_after_seconds, self.timeout_seconds)


def _after_submission(error: Exception, seconds_left: float) -> bool | float:
    if isinstance(error, NothingAcceptedError):
        return _wait(error.answer.retry_after_seconds, seconds_left)
    return isinstance(error, ConnectionFailedError) and not error.sent


def _wait(asked_seconds: float | None, longest_seconds: float) -> bool | float:
    if asked_seconds is None:
        return True
    return asked_seconds if asked_seconds <= longest_seconds else False
