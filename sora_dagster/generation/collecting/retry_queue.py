"""New attempts after failures that may pass, each after a wait."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sora_dagster.generation.collecting.tracked import FinishedTask
from sora_dagster.generation.protocol.ledger import Ledger
from sora_dagster.generation.protocol.record_format import UnreadableRecordError
from sora_dagster.generation.protocol.records import AttemptRecord
from sora_dagster.generation.requesting.planner import may_retry
from sora_dagster.storage import AccessDeniedError


@dataclass(frozen=True)
class _Retry:
    at: float
    failed: FinishedTask


class RetryQueue:
    """Failed tasks that are to be asked for again.

    They stay in the index until then, so that a process that is killed leaves them to the next.

    Arguments:
        ledger: the ledger of the storage root.
        max_attempts: most attempts of one take that Runware accepted.
        first_wait_seconds: wait before the second attempt; it doubles with each further one.
        elapsed: a clock, in seconds.
        on_warning: called with a sentence about each.
    """

    def __init__(
        self,
        ledger: Ledger,
        *,
        max_attempts: int,
        first_wait_seconds: float,
        elapsed: Callable[[], float],
        on_warning: Callable[[str], None],
    ) -> None:
        self._ledger = ledger
        self._max_attempts = max_attempts
        self._first_wait_seconds = first_wait_seconds
        self._elapsed = elapsed
        self._on_warning = on_warning
        self._waiting: list[_Retry] = []

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def attempts(self) -> list[AttemptRecord]:
        """The failed attempts that wait to be followed by another."""
        return [retry.failed.attempt for retry in self._waiting]

    def add(self, finished: FinishedTask) -> bool:
        """Queue the next attempt of a task whose failure may pass; False if none is due."""
        if finished.not_retried is not None or finished.how in ("elsewhere", "earlier"):
            return False
        attempt = finished.attempt
        try:
            is_due = may_retry(
                self._ledger, attempt, finished.outcome, max_attempts=self._max_attempts
            )
        except (UnreadableRecordError, AccessDeniedError) as error:
            # How often it was tried cannot be read, so it may have been too often.
            self._on_warning(f"{attempt.request.name} is not tried again: {error}")
            return False
        if not is_due:
            return False
        wait = self._first_wait_seconds * 2 ** (attempt.attempt - 1)
        self._waiting.append(_Retry(self._elapsed() + wait, finished))
        self._on_warning(f"{finished.failure_sentence} Another attempt is made.")
        return True

    def postpone(self, failed: FinishedTask) -> None:
        """Queue a task once more that could not be asked for."""
        self._waiting.append(_Retry(self._elapsed() + self._first_wait_seconds, failed))

    def due(self) -> list[FinishedTask]:
        """Take out the tasks whose wait is over."""
        now = self._elapsed()
        due = [retry.failed for retry in self._waiting if retry.at <= now]
        self._waiting = [retry for retry in self._waiting if retry.at > now]
        return due
