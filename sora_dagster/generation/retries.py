"""New attempts after failures that may pass, each after a wait."""

from __future__ import annotations

import time
from collections.abc import Callable

from sora_dagster.generation.archive import FinishedTask
from sora_dagster.generation.deciding import may_retry


class RetryQueue:
    """Failed tasks that are to be asked for again.

    They stay in the index until then, so that a process that is killed leaves them to the next.

    Arguments:
        max_attempts: most attempts of one take.
        first_wait_seconds: wait before the second attempt; it doubles with each further one.
        monotonic: a clock for waits, in seconds.
    """

    def __init__(
        self,
        *,
        max_attempts: int,
        first_wait_seconds: float,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._max_attempts = max_attempts
        self._first_wait_seconds = first_wait_seconds
        self._monotonic = monotonic
        self._waiting: list[tuple[float, FinishedTask]] = []

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, finished: FinishedTask) -> bool:
        """Queue a task, if it failed in a way that may pass; False where it did not."""
        attempt = finished.attempt
        if not may_retry(attempt, finished.outcome, max_attempts=self._max_attempts):
            return False
        wait = self._first_wait_seconds * 2 ** (attempt.attempt - 1)
        self._waiting.append((self._monotonic() + wait, finished))
        return True

    @property
    def waiting(self) -> list[FinishedTask]:
        """The tasks that wait."""
        return [finished for _, finished in self._waiting]

    def due(self) -> list[FinishedTask]:
        """Take out the tasks whose wait is over."""
        now = self._monotonic()
        ready = [finished for at, finished in self._waiting if at <= now]
        self._waiting = [(at, finished) for at, finished in self._waiting if at > now]
        return ready
