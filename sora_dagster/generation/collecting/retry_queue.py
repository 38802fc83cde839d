"""New attempts after failures that may pass, each after a wait."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from sora_dagster.generation.collecting.context import CollectionContext
from sora_dagster.generation.collecting.tracked import FinishedTask
from sora_dagster.generation.protocol.record_store import UnreadableRecordError
from sora_dagster.generation.protocol.records import AttemptRecord
from sora_dagster.generation.requesting.planner import may_retry
from sora_dagster.generation.requesting.results import RequestResult
from sora_dagster.runware.errors import RunwareError
from sora_dagster.storage import AccessDeniedError, ObjectMissingError


class RetryQueue:
    """Failed tasks that will be requested again.

    They stay in the index until then, so that a process that is killed leaves them to the next.

    Arguments:
        context: what the collection works with.
        on_warning: called with a sentence about each.
    """

    def __init__(self, context: CollectionContext, on_warning: Callable[[str], None]) -> None:
        self._context = context
        self._on_warning = on_warning
        # Each with the time, in seconds, at which it is requested again.
        self._waiting: list[tuple[float, FinishedTask]] = []

    def __len__(self) -> int:
        return len(self._waiting)

    @property
    def attempts(self) -> list[AttemptRecord]:
        """The failed attempts that will be followed by another."""
        return [failed.attempt for _, failed in self._waiting]

    def add(self, finished: FinishedTask) -> bool:
        """Queue the next attempt of a task whose failure may pass; False if none is due."""
        if finished.not_retried is not None or finished.ended_before:
            return False
        attempt = finished.attempt
        try:
            is_due = may_retry(
                self._context.ledger,
                attempt,
                finished.outcome,
                max_attempts=self._context.max_attempts,
            )
        except (UnreadableRecordError, AccessDeniedError) as error:
            # The number of attempts cannot be read, so there may have been too many already.
            self._on_warning(f"{attempt.request.name} is not retried: {error}")
            return False
        if is_due:
            self._wait(finished, self._context.retry_wait_seconds * 2 ** (attempt.attempt - 1))
            self._on_warning(f"{finished.failure_sentence} It will be retried.")
        return is_due

    def request_due(self) -> Iterator[tuple[FinishedTask, RequestResult | None]]:
        """Request the next attempt of the tasks whose wait is over.

        Yields:
            Each failed task and the result of the request; None if no attempt is made, with the
            reason in the task's `not_retried`.
        """
        now = self._context.elapsed()
        due = [failed for at, failed in self._waiting if at <= now]
        self._waiting = [(at, failed) for at, failed in self._waiting if at > now]
        for failed in due:
            try:
                requested = self._context.request_again(failed)
            except RunwareError as error:
                if not error.retryable:
                    raise
                # Outstanding tasks are collected meanwhile.
                name = failed.attempt.request.name
                self._on_warning(f"{name} could not be requested again yet: {error}")
                self._wait(failed, self._context.retry_wait_seconds)
            except (UnreadableRecordError, AccessDeniedError, ObjectMissingError) as error:
                yield replace(failed, not_retried=str(error)), None
            else:
                if requested.ok:
                    yield failed, requested
                else:
                    yield replace(failed, not_retried=requested.detail), None

    def _wait(self, failed: FinishedTask, seconds: float) -> None:
        self._waiting.append((self._context.elapsed() + seconds, failed))
