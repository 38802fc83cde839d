"""Asking for clips: which need a task, what each is expected to cost, and one POST for many.

The order of writes is what makes a killed and repeated run pay once: index entry, attempt, spending
log, token, POST, proof. Whoever finds an attempt without its first token knows that nothing was
sent.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from sora_dagster.generation.budget import Budget, SpendingLimits
from sora_dagster.generation.clips import ClipRequest
from sora_dagster.generation.deciding import Decider, NextAttempt
from sora_dagster.generation.delivery import DirectDelivery, DirectDeliveryError
from sora_dagster.generation.first_frame_store import keep_first_frame, kept_spec, whole_request
from sora_dagster.generation.inference import build_inference, estimate_usd, kept_wire
from sora_dagster.generation.ledger import Ledger
from sora_dagster.generation.markers import WebhookAddress
from sora_dagster.generation.records import AttemptRecord
from sora_dagster.generation.requested import Requested, RequestState
from sora_dagster.generation.sender import Sender, Sent
from sora_dagster.runware.client import RunwareClient
from sora_dagster.runware.errors import ErrorRecord, InvalidRequestError, UnknownModelError
from sora_dagster.runware.requests import VideoInference


@dataclass(frozen=True)
class Asking:
    """On whose behalf, and how, clips are asked for.

    Arguments:
        root_run: the run that the run's spending limit belongs to.
        run_limit_usd: that limit in USD, None for none.
        regenerate_stale: whether a clip whose spec changed gets a new take.
        retry_failed: whether a clip that failed for good, or too often, is tried again.
    """

    root_run: str
    run_limit_usd: float | None
    regenerate_stale: bool = True
    retry_failed: bool = False


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
        sender: sends tasks.
        direct: decides which clips Runware puts into the store itself.
        store_time: the store's clock.
        webhook: where Runware shall call back; None where results are polled for.
        hosted_seconds: how long Runware shall host a result; None for its default.
        max_attempts: most attempts of one take without the user's asking for another.
        day_limit_usd: spending limit of a day (UTC) over all runs, in USD; None for none.
    """

    def __init__(
        self,
        client: RunwareClient,
        ledger: Ledger,
        sender: Sender,
        *,
        direct: DirectDelivery,
        store_time: Callable[[], datetime],
        webhook: WebhookAddress | None = None,
        hosted_seconds: int | None = None,
        max_attempts: int = 3,
        day_limit_usd: float | None = None,
    ) -> None:
        self._client = client
        self._ledger = ledger
        self._sender = sender
        self._direct = direct
        self._budget = Budget(ledger, store_time=store_time)
        self._decider = Decider(client, ledger, max_attempts=max_attempts)
        self._webhook = webhook
        self._hosted_seconds = hosted_seconds
        self._day_limit_usd = day_limit_usd

    def request(
        self,
        asked: Sequence[ClipRequest],
        asking: Asking,
        *,
        on_progress: Callable[[Sequence[Requested]], None] = lambda _: None,
    ) -> list[Requested]:
        """Ask for clips, in their order; answers come in the same order.

        Arguments:
            asked: the clips.
            asking: on whose behalf, and how.
            on_progress: called after each POST with what it brought.
        """
        answers: list[Requested | None] = [None] * len(asked)
        chunk: list[tuple[int, _Prepared]] = []

        def send_chunk() -> None:
            brought = self._send([prepared for _, prepared in chunk], asking)
            for (index, _), answer in zip(chunk, brought, strict=True):
                answers[index] = answer
            chunk.clear()
            on_progress(brought)

        # Claims are made just before the POST that carries them, so that a claim that was never
        # sent is soon known for one.
        for index, request in enumerate(asked):
            prepared = self._prepare(request, asking)
            if isinstance(prepared, Requested):
                answers[index] = prepared
                continue
            chunk.append((index, prepared))
            if len(chunk) == self._client.submit_batch_size:
                send_chunk()
        if chunk:
            send_chunk()
        return [answer for answer in answers if answer is not None]

    def rebuild(self, attempt: AttemptRecord) -> VideoInference:
        """The request of an attempt once more, for a replay of the same task.

        Where its video is put into the store, it is under a fresh address for the same key.

        Raises:
            ObjectMissingError: where its first frame is not in the root.
            InvalidRequestError: where the catalogue has changed so that it is not allowed any more.
            UnknownModelError: where the catalogue has lost its model.
        """
        request = whole_request(self._ledger.root, attempt.request)
        return self._build(request, attempt.task_uuid, self._direct.renew(attempt))

    def _build(
        self, request: ClipRequest, task_uuid: str, upload_url: str | None
    ) -> VideoInference:
        return build_inference(
            request,
            task_uuid=task_uuid,
            catalogue=self._client.catalogue,
            webhook=self._webhook,
            hosted_seconds=self._hosted_seconds,
            upload_url=upload_url,
        )

    def _upload_url(
        self, request: ClipRequest, task_uuid: str, decision: NextAttempt
    ) -> str | None:
        # What was claimed stands: whoever collects goes by the delivery that is on record.
        if decision.claimed is not None:
            return self._direct.renew(decision.claimed)
        return self._direct.begin(request, task_uuid, attempt=decision.attempt)

    def _prepare(self, request: ClipRequest, asking: Asking) -> Requested | _Prepared:
        """Decide about one clip, and claim its attempt where a task is needed."""
        while True:
            decision = self._decider.decide(
                request,
                regenerate_stale=asking.regenerate_stale,
                retry_failed=asking.retry_failed,
            )
            if isinstance(decision, Requested):
                return decision
            task_uuid = self._ledger.task_uuid(
                request.asset, request.clip, decision.take, decision.attempt
            )
            try:
                upload_url = self._upload_url(request, task_uuid, decision)
                inference = self._build(request, task_uuid, upload_url)
            except (DirectDeliveryError, InvalidRequestError, UnknownModelError) as error:
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
            keep_first_frame(self._ledger.root, request.spec)
            won, record = self._ledger.claim_attempt(
                AttemptRecord(
                    request=request.model_copy(update={"spec": kept_spec(request.spec)}),
                    take=decision.take,
                    attempt=decision.attempt,
                    fingerprint=request.spec.fingerprint,
                    task_uuid=task_uuid,
                    wire=kept_wire(inference),
                    estimate_usd=requested.estimate_usd,
                    root_run=asking.root_run,
                    run_limit_usd=asking.run_limit_usd,
                    delivery="download" if upload_url is None else "direct",
                    created_at=self._ledger.clock(),
                    nonce=self._ledger.new_nonce(),
                )
            )
            if won:
                return _Prepared(requested, record, inference)
            # Somebody else asked for the same clip in between: decide again from what stands now.

    def _send(self, chunk: Sequence[_Prepared], asking: Asking) -> list[Requested]:
        """One POST for a chunk; answers in its order."""
        reservation = self._budget.reserve(
            {item.record.task_uuid: item.requested.estimate_usd for item in chunk},
            root_run=asking.root_run,
            limits=SpendingLimits(run_usd=asking.run_limit_usd, day_usd=self._day_limit_usd),
        )
        granted = [item for item in chunk if item.record.task_uuid not in reservation.refused]
        sent = self._sender.send([item.inference for item in granted]) if granted else {}
        return [
            self._over_limit(item, reservation.refused[item.record.task_uuid])
            if item.record.task_uuid in reservation.refused
            else self._answer(item, sent[item.record.task_uuid])
            for item in chunk
        ]

    def _over_limit(self, item: _Prepared, reason: str) -> Requested:
        error = ErrorRecord(kind="spending_limit", message=reason, retryable=False)
        if self._ledger.take_right_to_void(item.record.task_uuid):
            self._sender.end_unaccepted(item.record.task_uuid, error, is_void=True)
            # A process that was killed while it reserved may have left a reservation.
            self._budget.settle({item.record.task_uuid: 0.0}, root_run=item.record.root_run)
            self._ledger.forget_pending(item.record.task_uuid)
        return replace(
            item.requested,
            state=RequestState.OVER_LIMIT,
            estimate_usd=0.0,
            error=error,
            detail=reason,
        )

    def _answer(self, item: _Prepared, sent: Sent) -> Requested:
        requested = item.requested
        if sent.state == "seen":
            return replace(
                requested,
                detail=f"take {requested.take} submitted, about {requested.estimate_usd:.2f} USD",
            )
        if sent.state == "taken":
            return replace(
                requested,
                state=RequestState.OUTSTANDING,
                estimate_usd=0.0,
                detail="another run submits it right now",
            )
        if sent.state == "unconfirmed":
            return replace(
                requested,
                state=RequestState.UNCONFIRMED,
                error=sent.error,
                detail="sent, but without a clear answer; the collecting run clears it up",
            )
        self._budget.settle({item.record.task_uuid: 0.0}, root_run=item.record.root_run)
        # Last, so that a process that is killed before leaves it to be found.
        self._ledger.forget_pending(item.record.task_uuid)
        reason = sent.error.sentence if sent.error is not None else "not accepted"
        return replace(
            requested,
            state=RequestState.REFUSED,
            estimate_usd=0.0,
            error=sent.error,
            detail=f"refused, nothing paid: {reason}",
        )
