"""Asking for clips: which need a task, what each is expected to cost, and one POST for many.

The order of writes is what makes a killed and repeated run pay once: index entry, attempt, spending
log, right to send, POST, proof. Whoever finds an attempt without the right to send knows that
nothing was sent; whoever finds the right taken never sends.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from enum import Enum

from sora_dagster.generation.budget import Budget
from sora_dagster.generation.clips import ClipRequest
from sora_dagster.generation.inference import (
    build_inference,
    estimate_usd,
    kept_spec,
    kept_wire,
)
from sora_dagster.generation.ledger import Ledger, Take
from sora_dagster.generation.markers import WebhookAddress
from sora_dagster.generation.records import AttemptRecord, OutcomeRecord, SeenRecord
from sora_dagster.runware.client import RunwareClient
from sora_dagster.runware.errors import ErrorRecord, InvalidRequestError, UnknownModelError
from sora_dagster.runware.requests import VideoInference
from sora_dagster.runware.submissions import Submission

_log = logging.getLogger(__name__)

# Refusals of the whole request, not of the clip: nothing was accepted, and the same clip may be
# asked for again as soon as the cause is gone.
_NOT_THE_CLIPS_FAULT = frozenset({"authentication", "quota", "rate_limit", "connection", "server"})


class RequestState(Enum):
    """What became of asking for a clip."""

    STORED = "stored"
    OUTSTANDING = "outstanding"
    SUBMITTED = "submitted"
    UNCONFIRMED = "unconfirmed"
    STALE = "stale"
    OVER_LIMIT = "over_limit"
    REFUSED = "refused"
    FAILED = "failed"


@dataclass(frozen=True)
class Requested:
    """What became of asking for one clip.

    Arguments:
        request: the clip asked for.
        state: stored before (free), outstanding before (joined), submitted now, submitted without
            an answer (unconfirmed), stale and left as it is, over the spending limit, refused now,
            or failed before and not tried again.
        take: number of the take meant.
        attempt: number of the attempt meant.
        task_uuid: the task, where there is one.
        estimate_usd: what this call committed to spend, 0 where nothing was sent.
        error: why it was refused or failed.
        detail: the same as a sentence for people.
    """

    request: ClipRequest
    state: RequestState
    take: int
    attempt: int
    task_uuid: str | None
    estimate_usd: float = 0.0
    error: ErrorRecord | None = None
    detail: str = ""

    @property
    def ok(self) -> bool:
        """Whether the clip is stored or on its way."""
        return self.state not in (
            RequestState.OVER_LIMIT,
            RequestState.REFUSED,
            RequestState.FAILED,
        )


@dataclass(frozen=True)
class _Next:
    """The attempt to make; `claimed` where it stands already but was never sent."""

    take: int
    attempt: int
    claimed: AttemptRecord | None = None


@dataclass(frozen=True)
class _Prepared:
    requested: Requested
    record: AttemptRecord
    inference: VideoInference


class Requester:
    """Submits what is asked for and not there, each attempt once at most.

    Arguments:
        client: the API client.
        ledger: the ledger, bound to the client's API.
        webhook: where Runware shall call back; None where results are polled for.
        hosted_seconds: how long Runware shall host a result; None for its default.
        max_attempts: most attempts of one take without the user's asking for another.
    """

    def __init__(
        self,
        client: RunwareClient,
        ledger: Ledger,
        *,
        webhook: WebhookAddress | None = None,
        hosted_seconds: int | None = None,
        max_attempts: int = 3,
    ) -> None:
        self._client = client
        self._ledger = ledger
        self._budget = Budget(ledger)
        self._webhook = webhook
        self._hosted_seconds = hosted_seconds
        self._max_attempts = max_attempts

    def request(
        self,
        asked: Sequence[ClipRequest],
        *,
        root_run: str,
        run_limit_usd: float | None,
        regenerate_stale: bool = True,
        retry_failed: bool = False,
        on_progress: Callable[[Sequence[Requested]], None] = lambda _: None,
    ) -> list[Requested]:
        """Ask for clips, in their order; answers come in the same order.

        Arguments:
            asked: the clips.
            root_run: the run that the spending limit belongs to.
            run_limit_usd: the run's spending limit in USD, None for none.
            regenerate_stale: whether a clip whose spec changed gets a new take.
            retry_failed: whether a clip that failed for good, or too often, is tried again.
            on_progress: called after each POST with what it brought.
        """
        answers: list[Requested | None] = [None] * len(asked)
        chunk: list[tuple[int, _Prepared]] = []

        def send_chunk() -> None:
            brought = self._send([prepared for _, prepared in chunk], root_run, run_limit_usd)
            for (index, _), answer in zip(chunk, brought, strict=True):
                answers[index] = answer
            chunk.clear()
            on_progress(brought)

        # Claims are made just before the POST that carries them, so that a claim that was never
        # sent is soon known for one.
        for index, request in enumerate(asked):
            prepared = self._prepare(
                request, root_run, run_limit_usd, regenerate_stale, retry_failed
            )
            if isinstance(prepared, Requested):
                answers[index] = prepared
                continue
            chunk.append((index, prepared))
            if len(chunk) == self._client.submit_batch_size:
                send_chunk()
        if chunk:
            send_chunk()
        return [answer for answer in answers if answer is not None]

    def _prepare(
        self,
        request: ClipRequest,
        root_run: str,
        run_limit_usd: float | None,
        regenerate_stale: bool,
        retry_failed: bool,
    ) -> Requested | _Prepared:
        """Decide about one clip, and claim its attempt where a task is needed."""
        while True:
            decision = self._decide(request, regenerate_stale, retry_failed)
            if isinstance(decision, Requested):
                return decision
            task_uuid = self._ledger.task_uuid(
                request.asset, request.clip, decision.take, decision.attempt
            )
            try:
                inference = build_inference(
                    request,
                    task_uuid=task_uuid,
                    catalogue=self._client.catalogue,
                    webhook=self._webhook,
                    hosted_seconds=self._hosted_seconds,
                )
            except (InvalidRequestError, UnknownModelError) as error:
                return Requested(
                    request=request,
                    state=RequestState.REFUSED,
                    take=decision.take,
                    attempt=decision.attempt,
                    task_uuid=None,
                    error=ErrorRecord(kind="validation", message=str(error), retryable=False),
                    detail=f"not sent, nothing paid: {error}",
                )
            requested = Requested(
                request=request,
                state=RequestState.SUBMITTED,
                take=decision.take,
                attempt=decision.attempt,
                task_uuid=task_uuid,
                estimate_usd=estimate_usd(request, self._client.catalogue),
            )
            if decision.claimed is not None:
                return _Prepared(requested, decision.claimed, inference)
            won, record = self._ledger.claim_attempt(
                AttemptRecord(
                    request=request.model_copy(update={"spec": kept_spec(request.spec)}),
                    take=decision.take,
                    attempt=decision.attempt,
                    fingerprint=request.spec.fingerprint,
                    task_uuid=task_uuid,
                    wire=kept_wire(inference),
                    estimate_usd=requested.estimate_usd,
                    root_run=root_run,
                    run_limit_usd=run_limit_usd,
                    created_at=self._ledger.clock(),
                    nonce=self._ledger.new_nonce(),
                )
            )
            if won:
                return _Prepared(requested, record, inference)
            # Somebody else asked for the same clip in between: decide again from what stands now.

    def _decide(
        self, request: ClipRequest, regenerate_stale: bool, retry_failed: bool
    ) -> Requested | _Next:
        takes = self._ledger.takes(request.asset, request.clip)
        if not takes:
            return _Next(take=request.spec.take, attempt=1)
        take = takes[-1]
        current = take.latest

        def answer(state: RequestState, detail: str, error: ErrorRecord | None = None) -> Requested:
            return Requested(
                request=request,
                state=state,
                take=take.number,
                attempt=current.attempt,
                task_uuid=current.task_uuid,
                detail=detail,
                error=error,
            )

        if is_stale(request, take):
            if regenerate_stale:
                return _Next(take=max(take.number + 1, request.spec.take), attempt=1)
            return answer(
                RequestState.STALE,
                f"take {take.number} is of an earlier version and is kept; ask for the clip itself "
                f"to make a new take",
            )
        outcome = self._ledger.outcome(current.task_uuid)
        if outcome is None:
            sent = self._ledger.sent(current.task_uuid)
            if sent is None:
                return _Next(take=take.number, attempt=current.attempt, claimed=current)
            if sent.purpose == "submit":
                return answer(
                    RequestState.OUTSTANDING, f"take {take.number} is being generated already"
                )
            return _Next(take=take.number, attempt=current.attempt + 1)
        if outcome.has_videos:
            return answer(RequestState.STORED, f"take {take.number} is already generated, 0.00 USD")
        if outcome.state == "void":
            return _Next(take=take.number, attempt=current.attempt + 1)
        may_pass = outcome.state == "failed" and all(error.retryable for error in outcome.errors)
        if retry_failed or (may_pass and current.attempt < self._max_attempts):
            return _Next(take=take.number, attempt=current.attempt + 1)
        reasons = "; ".join(error.message for error in outcome.errors) or outcome.state
        return answer(
            RequestState.FAILED,
            f"take {take.number} {outcome.state} and is not tried again: {reasons}. "
            f"Change the clip's spec, or ask with retry_failed.",
            outcome.errors[0] if outcome.errors else None,
        )

    def _send(
        self, chunk: Sequence[_Prepared], root_run: str, run_limit_usd: float | None
    ) -> list[Requested]:
        """One POST for a chunk; answers in its order."""
        answers: dict[str, Requested] = {}
        reservation = self._budget.reserve(
            {item.record.task_uuid: item.requested.estimate_usd for item in chunk},
            root_run=root_run,
            run_limit_usd=run_limit_usd,
        )
        granted = set(reservation.granted)
        to_post: list[_Prepared] = []
        for item in chunk:
            task_uuid = item.record.task_uuid
            if task_uuid not in granted:
                answers[task_uuid] = self._over_limit(item, reservation.spent_usd, run_limit_usd)
            elif self._ledger.take_right_to_send(task_uuid):
                to_post.append(item)
            else:
                answers[task_uuid] = replace(
                    item.requested,
                    state=RequestState.OUTSTANDING,
                    estimate_usd=0.0,
                    detail="another run submits it right now",
                )
        if to_post:
            submissions = self._client.submit([item.inference for item in to_post])
            for item, submission in zip(to_post, submissions, strict=True):
                answers[item.record.task_uuid] = self._record(item, submission)
        return [answers[item.record.task_uuid] for item in chunk]

    def _over_limit(
        self, item: _Prepared, spent_usd: float, run_limit_usd: float | None
    ) -> Requested:
        detail = (
            f"not sent, nothing paid: it would cost {item.requested.estimate_usd:.2f} USD, and the "
            f"run's spending limit is {run_limit_usd:.2f} USD, of which {spent_usd:.2f} were "
            f"reserved before this batch. Raise the limit (--max-usd, SORA_MAX_USD) or ask for "
            f"fewer clips."
        )
        error = ErrorRecord(kind="spending_limit", message=detail, retryable=False)
        if self._ledger.take_right_to_void(item.record.task_uuid):
            self._end_unaccepted(item.record, "void", error)
        return replace(
            item.requested,
            state=RequestState.OVER_LIMIT,
            estimate_usd=0.0,
            error=error,
            detail=detail,
        )

    def _record(self, item: _Prepared, submission: Submission) -> Requested:
        task_uuid = item.record.task_uuid
        if submission.state in ("accepted", "conflict"):
            self._ledger.mark_seen(
                task_uuid,
                SeenRecord(
                    how="acknowledged" if submission.state == "accepted" else "conflict",
                    at=self._ledger.clock(),
                ),
            )
            return replace(
                item.requested,
                detail=f"take {item.requested.take} submitted, about "
                f"{item.requested.estimate_usd:.2f} USD",
            )
        error = submission.error.to_record() if submission.error is not None else None
        if submission.state == "uncertain":
            _log.warning("no clear answer for task %s: %s", task_uuid, submission.error)
            return replace(
                item.requested,
                state=RequestState.UNCONFIRMED,
                error=error,
                detail="sent, but without a clear answer; it is polled for and not sent again",
            )
        error = error or ErrorRecord(
            kind="connection", message="the request was never sent", retryable=True
        )
        void = submission.state == "unsent" or error.kind in _NOT_THE_CLIPS_FAULT
        self._end_unaccepted(item.record, "void" if void else "failed", error)
        return replace(
            item.requested,
            state=RequestState.REFUSED,
            estimate_usd=0.0,
            error=error,
            detail=f"refused, nothing paid: {submission.error or error.message}",
        )

    def _end_unaccepted(self, record: AttemptRecord, state: str, error: ErrorRecord) -> None:
        self._ledger.settle(
            record.task_uuid,
            OutcomeRecord(
                state="void" if state == "void" else "failed",
                cost_usd=0.0,
                errors=(error,),
                at=self._ledger.clock(),
                nonce=self._ledger.new_nonce(),
            ),
        )
        self._ledger.forget_pending(record.task_uuid)


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
