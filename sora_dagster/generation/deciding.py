"""Deciding whether a clip that is asked for needs a task: by its chain of takes and attempts."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from sora_dagster.generation.clips import ClipRequest
from sora_dagster.generation.ledger import Ledger, Take
from sora_dagster.generation.records import AttemptRecord, OutcomeRecord
from sora_dagster.generation.requested import Requested, RequestState
from sora_dagster.runware.client import RunwareClient
from sora_dagster.runware.errors import ErrorRecord, RunwareError

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class NextAttempt:
    """The attempt to make.

    Arguments:
        take: number of the take.
        attempt: number of the attempt.
        claimed: its record, where it was claimed before and never sent.
    """

    take: int
    attempt: int
    claimed: AttemptRecord | None = None


class Decider:
    """Reads a clip's chain, and says what asking for the clip means now.

    Arguments:
        client: the API client, to poll an ended attempt once more before another is made.
        ledger: the ledger.
        max_attempts: most attempts of one take without the user's asking for another.
    """

    def __init__(self, client: RunwareClient, ledger: Ledger, *, max_attempts: int) -> None:
        self._client = client
        self._ledger = ledger
        self._max_attempts = max_attempts

    def decide(
        self, request: ClipRequest, *, regenerate_stale: bool, retry_failed: bool
    ) -> Requested | NextAttempt:
        """What to do about a clip.

        Arguments:
            request: the clip.
            regenerate_stale: whether one whose spec changed gets a new take.
            retry_failed: whether one that failed for good, or too often, is tried again.

        Raises:
            RunwareError: where an ended attempt cannot be polled once more before the next.
        """
        takes = self._ledger.takes(request.asset, request.clip)
        if not takes:
            return NextAttempt(take=request.spec.take, attempt=1)
        take = takes[-1]
        if is_stale(request, take):
            if regenerate_stale:
                return NextAttempt(take=max(take.number + 1, request.spec.take), attempt=1)
            return _answer(
                request,
                take,
                RequestState.STALE,
                f"take {take.number} is of an earlier version and is kept; ask for the clip itself "
                f"to make a new take",
            )
        outcome = self._ledger.outcome(take.latest.task_uuid)
        if outcome is None:
            return self._open(request, take)
        if outcome.has_videos:
            return _answer(
                request,
                take,
                RequestState.STORED,
                f"take {take.number} is already generated, 0.00 USD",
            )
        return self._ended(request, take, outcome, retry_failed=retry_failed)

    def _open(self, request: ClipRequest, take: Take) -> Requested | NextAttempt:
        current = take.latest
        sent = self._ledger.sent(current.task_uuid)
        if sent is None:
            return NextAttempt(take=take.number, attempt=current.attempt, claimed=current)
        if sent.purpose == "submit":
            # It is there, unless its entry was lost with whoever was about to write it.
            self._ledger.ensure_pending(current)
            return _answer(
                request,
                take,
                RequestState.OUTSTANDING,
                f"take {take.number} is being generated already",
            )
        return NextAttempt(take=take.number, attempt=current.attempt + 1)

    def _ended(
        self, request: ClipRequest, take: Take, outcome: OutcomeRecord, *, retry_failed: bool
    ) -> Requested | NextAttempt:
        current = take.latest
        following = NextAttempt(take=take.number, attempt=current.attempt + 1)
        if outcome.state == "void":
            return following
        if not (retry_failed or may_retry(current, outcome, max_attempts=self._max_attempts)):
            reasons = "; ".join(error.sentence for error in outcome.errors)
            return _answer(
                request,
                take,
                RequestState.FAILED,
                f"take {take.number} {outcome.state} and is not tried again: "
                f"{reasons or 'no reason is known'} Change the clip's spec, or ask with "
                f"retry_failed.",
                outcome.errors[0] if outcome.errors else None,
            )
        if outcome.was_accepted and self._lives_on(current):
            self._ledger.reopen(current)
            return _answer(
                request,
                take,
                RequestState.OUTSTANDING,
                f"take {take.number} {outcome.state}, and Runware has results of it after all; "
                f"they are collected",
            )
        return following

    def _lives_on(self, attempt: AttemptRecord) -> bool:
        """Whether Runware shows a video, or a running generation, of an attempt that ended."""
        try:
            status = self._client.poll([attempt.task_uuid])[attempt.task_uuid]
        except RunwareError as error:
            _log.warning("task %s could not be polled once more: %s", attempt.task_uuid, error)
            raise
        return bool(status.results or status.processing)


def may_retry(attempt: AttemptRecord, outcome: OutcomeRecord, *, max_attempts: int) -> bool:
    """Whether a failed attempt is followed by another without the user's asking.

    Only where every failure is of a class that may pass: never after a refusal for safety, shape,
    money or rights, and never where it is not known whether the attempt may still succeed.
    """
    return (
        outcome.state == "failed"
        and bool(outcome.errors)
        and all(error.retryable for error in outcome.errors)
        and attempt.attempt < max_attempts
    )


def is_stale(request: ClipRequest, take: Take) -> bool:
    """Whether a take is of another spec, another parent video or a lower number than asked for."""
    current = take.latest
    parents_differ = (
        request.parent is not None
        and current.parent is not None
        and request.parent.video_id != current.parent.video_id
    )
    return (
        current.fingerprint != request.spec.fingerprint
        or parents_differ
        or take.number < request.spec.take
    )


def _answer(
    request: ClipRequest,
    take: Take,
    state: RequestState,
    detail: str,
    error: ErrorRecord | None = None,
) -> Requested:
    return Requested(
        request=request,
        state=state,
        take=take.number,
        attempt=take.latest.attempt,
        task_uuid=take.latest.task_uuid,
        detail=detail,
        error=error,
    )
