"""Deciding whether a requested clip needs a new task, by its chain of takes and attempts."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime

from sora_dagster.generation.protocol.ledger import Ledger, Take
from sora_dagster.generation.protocol.record_store import UnreadableRecordError
from sora_dagster.generation.protocol.records import AttemptRecord, OutcomeRecord
from sora_dagster.generation.requesting.carriers import refused_uuid
from sora_dagster.generation.requesting.options import RequestOptions
from sora_dagster.generation.requesting.payloads import request_price
from sora_dagster.generation.requesting.results import RequestResult, RequestState
from sora_dagster.generation.requesting.take_status import (
    TakeStatus,
    TakeStatusReader,
    UncheckedError,
)
from sora_dagster.prompts.clips import ClipRequest
from sora_dagster.runware.client import RunwareClient
from sora_dagster.runware.errors import ErrorRecord, UnknownModelError
from sora_dagster.storage import AccessDeniedError, ObjectMissingError

# Well beyond the time between a claim and its POST.
UNSENT_SECONDS = 300.0


@dataclass(frozen=True)
class NextAttempt:
    """The attempt to make.

    Arguments:
        take: number of the take.
        attempt: number of the attempt.
        claimed: its record, if it was claimed before and never sent.
        by_address: whether the video of its parent goes as its address, since Runware refused its
            UUID in an earlier attempt of the take.
    """

    take: int
    attempt: int
    claimed: AttemptRecord | None = None
    by_address: bool = False


class AttemptPlanner:
    """Reads a clip's chain of attempts, and decides what a request of the clip does now.

    Arguments:
        client: the API client, to poll an ended attempt again before another is made.
        ledger: the ledger.
        store_time: the store's clock.
        max_attempts: most attempts of one take that Runware accepted, without `retry_failed`.
        unsent_seconds: age after which a claim that was never sent may be voided.
    """

    def __init__(
        self,
        client: RunwareClient,
        ledger: Ledger,
        *,
        store_time: Callable[[], datetime],
        max_attempts: int,
        unsent_seconds: float = UNSENT_SECONDS,
    ) -> None:
        self._client = client
        self._ledger = ledger
        self._store_time = store_time
        self._max_attempts = max_attempts
        self._unsent_seconds = unsent_seconds

    def plan(
        self,
        request: ClipRequest,
        options: RequestOptions,
        *,
        is_dry_run: bool = False,
    ) -> RequestResult | NextAttempt:
        """What to do about a clip. A problem with one clip is a result, never raised.

        Arguments:
            request: the clip.
            options: whether changed and failed clips are generated again.
            is_dry_run: whether nothing may be written, for estimates.
        """
        reader = TakeStatusReader(
            self._client,
            self._ledger,
            store_time=self._store_time,
            unsent_seconds=self._unsent_seconds,
            is_dry_run=is_dry_run,
        )
        try:
            takes = self._ledger.takes(request.asset, request.clip)
            # A raised take is a request to generate it again.
            if not takes or request.spec.take > takes[-1].number:
                return NextAttempt(take=request.spec.take, attempt=1)
            if changes := what_changed(request, takes[-1]):
                if options.regenerate_changed:
                    return _new_take(request, takes)
                return self._changed(request, takes, changes, reader)
            return self._unchanged(request, takes[-1], reader, options)
        except (UnreadableRecordError, AccessDeniedError, ObjectMissingError) as error:
            return _unknown_result(
                request,
                "unreadable",
                f"one of its records cannot be read, and until that is fixed it is not paid for "
                f"again: {error}",
            )
        except UncheckedError as error:
            result = _unknown_result(
                request,
                error.error.kind,
                f"Runware could not be polled again about its last attempt, which may have a video "
                f"after all: {str(error).rstrip('.')}. Request the clip again.",
            )
            return replace(result, error=error.error.to_record())

    def _unchanged(
        self, request: ClipRequest, take: Take, reader: TakeStatusReader, options: RequestOptions
    ) -> RequestResult | NextAttempt:
        current = take.latest
        status = reader.status(take)
        names_uuid = status.outcome is not None and refused_uuid(
            current.carrier, status.outcome.errors
        )
        # Only a refusal given at once is certainly free.
        is_refused_uuid = names_uuid and status.kind == "failed" and _is_unaccepted(status)
        following = NextAttempt(
            take=take.number,
            attempt=current.attempt + 1,
            by_address=names_uuid or any(attempt.carrier == "address" for attempt in take.attempts),
        )
        match status.kind:
            case "stored" | "outstanding":
                return _result(request, take, RequestState(status.kind), status)
            case "stuck":
                return _result(request, take, RequestState.FAILED, status)
            case "unsent":
                return replace(following, attempt=current.attempt, claimed=current)
            case "void":
                return following
            case "record_missing":
                if found := reader.reopened(take, status):
                    return _result(request, take, RequestState.OUTSTANDING, found)
                return _result(request, take, RequestState.FAILED, status)
            case "failed" | "undecided":
                outcome = status.outcome
                assert outcome is not None
                may_try = is_refused_uuid or may_retry(
                    self._ledger, current, outcome, max_attempts=self._max_attempts
                )
                if not (options.retry_failed or may_try):
                    return _result(request, take, RequestState.FAILED, status)
                if found := reader.reopened(take, status):
                    return _result(request, take, RequestState.OUTSTANDING, found)
                return following

    def _changed(
        self, request: ClipRequest, takes: tuple[Take, ...], changes: str, reader: TakeStatusReader
    ) -> RequestResult | NextAttempt:
        """A clip whose row changed: its latest take is kept, and nothing is bought."""
        take = takes[-1]
        status = reader.status(take)
        if status.kind == "unsent" and reader.voids_old_claim(take.latest):
            status = TakeStatus("void", "it was never sent")
        found = None
        if status.kind in ("record_missing", "failed"):
            found = reader.reopened(take, status)
        if found is not None:
            return self._kept(request, take, changes, RequestState.OUTSTANDING, found.detail)
        if status.kind in ("void", "failed"):
            # The take has no video, so that there is nothing of it to keep.
            for earlier in reversed(takes[:-1]):
                if reader.stored(earlier):
                    detail = f"take {earlier.number} is stored"
                    return self._kept(request, earlier, changes, RequestState.STORED, detail)
            return _new_take(request, takes)
        kept = {
            "stored": RequestState.STORED,
            "outstanding": RequestState.OUTSTANDING,
            "unsent": RequestState.OUTSTANDING,
        }.get(status.kind, RequestState.FAILED)
        result = self._kept(request, take, changes, kept, status.detail)
        return replace(result, error=status.error)

    def _kept(
        self, request: ClipRequest, take: Take, changes: str, kept: RequestState, detail: str
    ) -> RequestResult:
        price = None
        try:
            price = request_price(request, self._client.catalogue)
            advice = (
                f"{price.would_cost('a new take')}: set regenerate_changed in the run config "
                f"(sora-dagster generate: --regenerate-changed)"
            )
        except UnknownModelError as error:
            advice = f"no new take can be generated: {error}"
        return RequestResult(
            request=request,
            state=RequestState.CHANGED,
            take=take.number,
            attempt=take.latest.attempt,
            task_uuid=take.latest.task_uuid,
            new_take_price=price,
            kept=kept,
            detail=f"{changes} changed and take {take.number} is kept ({detail}); {advice}",
        )


def may_retry(
    ledger: Ledger, attempt: AttemptRecord, outcome: OutcomeRecord, *, max_attempts: int
) -> bool:
    """Whether a failed attempt is followed by another automatically.

    Only if every failure is of a class that may pass: never after a refusal for safety, shape,
    money or rights, and never if it is not known whether the attempt may still succeed. Attempts
    that Runware never accepted do not count.
    """
    if outcome.state != "failed" or not outcome.errors:
        return False
    if not all(error.retryable for error in outcome.errors):
        return False
    earlier = (
        ledger.outcome(ledger.task_uuid(attempt.asset, attempt.clip, attempt.take, number))
        for number in range(1, attempt.attempt)
    )
    accepted = sum(_was_accepted(one) for one in (*earlier, outcome))
    return accepted < max_attempts


def _is_unaccepted(status: TakeStatus) -> bool:
    return status.outcome is not None and not status.outcome.was_accepted


def _was_accepted(outcome: OutcomeRecord | None) -> bool:
    """Whether Runware had, or may have had, a task with this outcome."""
    return outcome is None or (outcome.was_accepted and outcome.state != "void")


def what_changed(request: ClipRequest, take: Take) -> str:
    """How a clip differs from a take of it, in words; empty if it does not."""
    current = take.latest
    if (
        request.parent is not None
        and current.parent is not None
        and request.parent.video_uuid != current.parent.video_uuid
    ):
        return f"the video of its parent {request.parent.clip}"
    if current.fingerprint == request.spec.fingerprint:
        return ""
    return "its row" if request.parent is None else "its recipe, or its parent's settings,"


def _new_take(request: ClipRequest, takes: tuple[Take, ...]) -> NextAttempt:
    return NextAttempt(take=max(takes[-1].number + 1, request.spec.take), attempt=1)


def _result(
    request: ClipRequest, take: Take, state: RequestState, status: TakeStatus
) -> RequestResult:
    return RequestResult(
        request=request,
        state=state,
        take=take.number,
        attempt=take.latest.attempt,
        task_uuid=take.latest.task_uuid,
        detail=status.detail,
        error=status.error,
        manifest=status.manifest,
    )


def _unknown_result(request: ClipRequest, kind: str, reason: str) -> RequestResult:
    return RequestResult(
        request=request,
        state=RequestState.FAILED,
        take=request.spec.take,
        attempt=1,
        task_uuid=None,
        error=ErrorRecord(kind=kind, message=reason),
        detail=reason,
    )
