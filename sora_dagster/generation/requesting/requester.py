"""Asking for clips: which need a task, what each is expected to cost, and one POST for many.

The order of writes is what makes a killed and repeated run pay once: index entry, attempt, spending
log, token, POST, proof. An attempt without its first token was never sent. A clip that a spending
limit does not allow is answered before the first of these writes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime

from sora_dagster.generation.protocol import layout
from sora_dagster.generation.protocol.budget import Budget, Reservation, SpendingLimits
from sora_dagster.generation.protocol.ledger import Ledger
from sora_dagster.generation.protocol.markers import WebhookAddress
from sora_dagster.generation.protocol.record_format import UnreadableRecordError
from sora_dagster.generation.protocol.records import AttemptRecord
from sora_dagster.generation.protocol.scan import in_parallel
from sora_dagster.generation.protocol.spending_log import BudgetLogError
from sora_dagster.generation.requesting.direct_delivery import DirectDelivery, DirectDeliveryError
from sora_dagster.generation.requesting.payloads import (
    build_inference,
    estimate_usd,
    keep_first_frame,
    redacted_payload,
    redacted_spec,
    with_first_frame,
)
from sora_dagster.generation.requesting.planner import UNSENT_SECONDS, AttemptPlanner, NextAttempt
from sora_dagster.generation.requesting.results import RequestResult, RequestState
from sora_dagster.generation.requesting.sender import Payer, Sender, Sent
from sora_dagster.generation.requesting.submission_gate import SubmissionGate
from sora_dagster.prompts.clips import ClipRequest
from sora_dagster.runware.client import RunwareClient
from sora_dagster.runware.errors import ErrorRecord, InvalidRequestError, UnknownModelError
from sora_dagster.runware.requests import VideoInference

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class RequestOptions:
    """On whose behalf, and how, clips are asked for.

    Arguments:
        root_run: the run that the run's spending limit belongs to.
        run_limit_usd: that limit in USD; None for no limit.
        regenerate_changed: whether a clip whose row changed gets a new take, which is paid for.
        retry_failed: whether a clip that failed for good, or too often, is tried again.
    """

    root_run: str
    run_limit_usd: float | None
    regenerate_changed: bool = False
    retry_failed: bool = False


def options_after(ledger: Ledger, attempt: AttemptRecord) -> RequestOptions:
    """On whose behalf an attempt is retried: the run that paid for it, within that run's limit.

    Raises:
        UnreadableRecordError: if the record of who sent it cannot be read.
    """
    sent = ledger.sent(attempt.task_uuid)
    if sent is None or sent.root_run is None:
        return RequestOptions(attempt.root_run, attempt.run_limit_usd)
    return RequestOptions(sent.root_run, sent.run_limit_usd)


@dataclass(frozen=True)
class _Draft:
    """A task that is about to be claimed and sent.

    Arguments:
        index: the clip's place among those asked for.
        requested: the answer if it is submitted.
        decision: the attempt to make.
        inference: the API request.
        is_direct: whether Runware puts the video into the store.
    """

    index: int
    requested: RequestResult
    decision: NextAttempt
    inference: VideoInference
    is_direct: bool

    @property
    def task_uuid(self) -> str:
        return self.inference.task_uuid


@dataclass(frozen=True)
class _Claimed:
    """A draft whose attempt is on record.

    Arguments:
        draft: the draft.
        record: the attempt.
        is_own: whether this run made the claim, and may void it.
    """

    draft: _Draft
    record: AttemptRecord
    is_own: bool

    @property
    def slot_key(self) -> str:
        """Key of the attempt's record."""
        record = self.record
        return layout.attempt_key(record.asset, record.clip, record.take, record.attempt)


class Requester:
    """Submits what is asked for and missing, each attempt at most once.

    Arguments:
        client: the API client.
        ledger: the ledger, bound to the client's API.
        sender: sends tasks.
        budget: the spending limits.
        direct: decides which clips Runware puts into the store itself.
        store_time: the store's clock.
        webhook: where Runware calls back; None if results are polled for.
        hosted_seconds: how long Runware hosts a result; None for its default.
        max_attempts: most attempts of one take that Runware accepted, unless the user asks for
            another.
        day_limit_usd: spending limit of a day (UTC) over all runs, in USD; None for no limit.
        unsent_seconds: age after which a claim that was never sent may be voided.
    """

    def __init__(
        self,
        client: RunwareClient,
        ledger: Ledger,
        sender: Sender,
        *,
        budget: Budget,
        direct: DirectDelivery,
        store_time: Callable[[], datetime],
        webhook: WebhookAddress | None = None,
        hosted_seconds: int | None = None,
        max_attempts: int = 3,
        day_limit_usd: float | None = None,
        unsent_seconds: float = UNSENT_SECONDS,
    ) -> None:
        self._client = client
        self._ledger = ledger
        self._sender = sender
        self._direct = direct
        self._budget = budget
        self._webhook = webhook
        self._hosted_seconds = hosted_seconds
        self._day_limit_usd = day_limit_usd
        self.planner = AttemptPlanner(
            client,
            ledger,
            store_time=store_time,
            max_attempts=max_attempts,
            unsent_seconds=unsent_seconds,
        )

    def request(
        self,
        asked: Sequence[ClipRequest],
        asking: RequestOptions,
        *,
        on_progress: Callable[[Sequence[RequestResult]], None] = lambda _: None,
    ) -> list[RequestResult]:
        """Ask for clips, in their order; answers come in the same order.

        After an answer that refuses the account, or an API that fails, no further submission is
        made: what was not sent is answered NOT_SENT, and nothing is written for it.

        Arguments:
            asked: the clips.
            asking: on whose behalf, and how.
            on_progress: called after each POST with what it brought.
        """
        gate = SubmissionGate()
        answers: dict[int, RequestResult] = {}
        drafts: list[_Draft] = []

        def send_drafts() -> None:
            brought = self._buy(drafts, asking, gate)
            drafts.clear()
            answers.update(brought)
            on_progress(list(brought.values()))

        # Claims are made just before the POST that carries them, so that a claim that was never
        # sent is soon known for one.
        for index, plan in enumerate(self._plans(asked, asking)):
            drafted = self._drafted(index, asked[index], plan, gate)
            if isinstance(drafted, RequestResult):
                answers[index] = drafted
                continue
            drafts.append(drafted)
            if len(drafts) == self._client.submit_batch_size:
                send_drafts()
        if drafts:
            send_drafts()
        return [answers[index] for index in range(len(asked))]

    def rebuild(self, attempt: AttemptRecord) -> VideoInference:
        """The request of an attempt once more, for a replay of the same task.

        If its video is put into the store, it has a fresh address for the same key.

        Raises:
            ObjectMissingError: if its first frame is not in the root.
            InvalidRequestError: if the catalogue has changed so that it is no longer allowed.
            UnknownModelError: if the catalogue no longer has its model.
        """
        request = with_first_frame(self._ledger.root, attempt.request)
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
        # What was claimed stands: the delivery on record is what the collection goes by.
        if decision.claimed is not None:
            return self._direct.renew(decision.claimed)
        return self._direct.begin(request, task_uuid, attempt=decision.attempt)

    def _plans(
        self, asked: Sequence[ClipRequest], asking: RequestOptions
    ) -> Iterator[RequestResult | NextAttempt]:
        """What to do about each clip, in their order; read in parallel if there are several."""

        def plan(request: ClipRequest) -> RequestResult | NextAttempt:
            return self._plan(request, asking)

        return in_parallel(asked, plan) if len(asked) > 1 else map(plan, asked)

    def _plan(self, request: ClipRequest, asking: RequestOptions) -> RequestResult | NextAttempt:
        return self.planner.plan(
            request,
            regenerate_changed=asking.regenerate_changed,
            retry_failed=asking.retry_failed,
        )

    def _drafted(
        self,
        index: int,
        request: ClipRequest,
        plan: RequestResult | NextAttempt,
        gate: SubmissionGate,
    ) -> RequestResult | _Draft:
        """The task that a plan needs; an answer if it needs none, or none can be sent."""
        if isinstance(plan, RequestResult):
            return plan
        requested = RequestResult(
            request=request,
            state=RequestState.SUBMITTED,
            take=plan.take,
            attempt=plan.attempt,
            task_uuid=None,
        )
        if gate.closed_because is not None:
            return _not_sent(requested, gate.closed_because)
        task_uuid = self._ledger.task_uuid(request.asset, request.clip, plan.take, plan.attempt)
        try:
            upload_url = self._upload_url(request, task_uuid, plan)
            inference = self._build(request, task_uuid, upload_url)
        except (DirectDeliveryError, InvalidRequestError, UnknownModelError) as error:
            return replace(
                requested,
                state=RequestState.REFUSED,
                error=ErrorRecord(kind="validation", message=str(error), retryable=False),
                detail=f"not sent, nothing paid: {error}",
            )
        price_usd = estimate_usd(request, self._client.catalogue)
        return _Draft(
            index=index,
            requested=replace(requested, task_uuid=task_uuid, estimate_usd=price_usd),
            decision=plan,
            inference=inference,
            is_direct=upload_url is not None,
        )

    def _buy(
        self, drafts: Sequence[_Draft], asking: RequestOptions, gate: SubmissionGate
    ) -> dict[int, RequestResult]:
        """Claim, reserve and send a batch; answers by the clips' places."""
        answers: dict[int, RequestResult] = {}
        waiting = list(drafts)
        while waiting:
            again = self._buy_once(waiting, asking, gate, answers)
            waiting = []
            for draft in again:
                # Another run acted on the same clip in between: what is on record now decides.
                request = draft.requested.request
                drafted = self._drafted(draft.index, request, self._plan(request, asking), gate)
                if isinstance(drafted, RequestResult):
                    answers[draft.index] = drafted
                else:
                    waiting.append(drafted)
        return answers

    def _buy_once(
        self,
        drafts: Sequence[_Draft],
        asking: RequestOptions,
        gate: SubmissionGate,
        answers: dict[int, RequestResult],
    ) -> list[_Draft]:
        """Claim, reserve and send a batch once; gives the drafts that must be planned again."""
        # A clip that was asked for twice is planned again once its task was sent.
        unique: dict[str, _Draft] = {}
        again = [
            draft for draft in drafts if unique.setdefault(draft.task_uuid, draft) is not draft
        ]
        claims: list[_Claimed] = []
        for draft in self._within(self._budget.check, unique.values(), asking, gate, answers):
            claimed = self._claim(draft, asking)
            if claimed is None:
                again.append(draft)
            else:
                claims.append(claimed)
        by_uuid = {claimed.draft.task_uuid: claimed for claimed in claims}
        granted = self._within(
            self._budget.reserve, [claimed.draft for claimed in claims], asking, gate, answers
        )
        granted_uuids = {draft.task_uuid for draft in granted}
        for claimed in claims:
            # The limit was used up since it was read. A claim of another run is left to that run.
            is_granted = claimed.draft.task_uuid in granted_uuids
            if not is_granted and claimed.is_own and not self._void(claimed, asking, gate):
                again.append(claimed.draft)
        if not granted:
            return again
        sent = self._sender.send(
            [draft.inference for draft in granted],
            Payer(asking.root_run, asking.run_limit_usd),
            gate,
            slots={draft.task_uuid: by_uuid[draft.task_uuid].slot_key for draft in granted},
        )
        ended = [by_uuid[uuid] for uuid in sent if sent[uuid].state in ("void", "failed")]
        self._release(ended, asking, gate)
        for draft in granted:
            outcome = sent[draft.task_uuid]
            if outcome.state == "taken":
                self._give_back_if_void(by_uuid[draft.task_uuid], asking, gate)
                again.append(draft)
            else:
                answers[draft.index] = _answer(draft.requested, outcome, gate)
        self._forget(ended)
        return again

    def _within(
        self,
        ask: Callable[..., Reservation],
        drafts: Iterable[_Draft],
        asking: RequestOptions,
        gate: SubmissionGate,
        answers: dict[int, RequestResult],
    ) -> list[_Draft]:
        """The drafts that the spending limits allow; the others are answered."""
        drafts = list(drafts)
        if not drafts:
            return []
        try:
            reservation = ask(
                {draft.task_uuid: draft.requested.estimate_usd for draft in drafts},
                root_run=asking.root_run,
                limits=SpendingLimits(run_usd=asking.run_limit_usd, day_usd=self._day_limit_usd),
            )
        except BudgetLogError as error:
            # Limits that cannot be read stop buying, and nothing else.
            gate.close(str(error))
            for draft in drafts:
                answers[draft.index] = _not_sent(draft.requested, str(error))
            return []
        allowed = []
        for draft in drafts:
            reason = reservation.refused.get(draft.task_uuid)
            if reason is None:
                allowed.append(draft)
            else:
                answers[draft.index] = _over_limit(draft.requested, reason)
        return allowed

    def _claim(self, draft: _Draft, asking: RequestOptions) -> _Claimed | None:
        """Have the attempt on record; None if another run claimed it in between."""
        request, decision = draft.requested.request, draft.decision
        if decision.claimed is not None:
            # Its entry may have been removed together with claims that seemed abandoned.
            self._ledger.pending.add(decision.claimed)
            return _Claimed(draft, decision.claimed, is_own=False)
        keep_first_frame(self._ledger.root, request.spec)
        try:
            won, record = self._ledger.claim_attempt(
                AttemptRecord(
                    request=request.model_copy(update={"spec": redacted_spec(request.spec)}),
                    take=decision.take,
                    attempt=decision.attempt,
                    fingerprint=request.spec.fingerprint,
                    task_uuid=draft.task_uuid,
                    wire=redacted_payload(draft.inference),
                    estimate_usd=draft.requested.estimate_usd,
                    root_run=asking.root_run,
                    run_limit_usd=asking.run_limit_usd,
                    delivery="direct" if draft.is_direct else "download",
                    created_at=self._ledger.clock(),
                    nonce=self._ledger.new_nonce(),
                )
            )
        except UnreadableRecordError as error:
            # Planning it again answers for it.
            _log.warning("%s could not be claimed: %s", request.clip, error)
            return None
        return _Claimed(draft, record, is_own=True) if won else None

    def _void(self, claimed: _Claimed, asking: RequestOptions, gate: SubmissionGate) -> bool:
        """Void a claim of this run; False if another run has taken it over."""
        task_uuid = claimed.draft.task_uuid
        if not self._ledger.take_right_to_void(task_uuid):
            return False
        error = ErrorRecord(
            kind="spending_limit", message="a spending limit was reached before it was sent"
        )
        self._sender.end_unaccepted(task_uuid, error, is_void=True)
        # A process that was killed while it reserved may have left a reservation.
        self._release([claimed], asking, gate)
        self._forget([claimed])
        return True

    def _give_back_if_void(
        self, claimed: _Claimed, asking: RequestOptions, gate: SubmissionGate
    ) -> None:
        """Give back what was reserved for a task that another process has voided.

        Its next attempt needs the money.
        """
        task_uuid = claimed.draft.task_uuid
        try:
            sent = self._ledger.sent(task_uuid)
        except UnreadableRecordError as error:
            # It may have been sent; planning it again answers for it.
            _log.warning("%s", error)
            return
        if sent is None or sent.purpose != "void":
            return
        voided = ErrorRecord(
            kind="not_sent", message="another process voided it before it was sent"
        )
        self._sender.end_unaccepted(task_uuid, voided, is_void=True)
        self._release([claimed], asking, gate)
        self._forget([claimed])

    def _release(
        self, ended: Sequence[_Claimed], asking: RequestOptions, gate: SubmissionGate
    ) -> None:
        """Give back what this run reserved for tasks that Runware did not accept."""
        if not ended:
            return
        try:
            self._budget.settle(
                {claimed.draft.task_uuid: 0.0 for claimed in ended}, root_run=asking.root_run
            )
        except BudgetLogError as error:
            # The limit then allows less than it could; a damaged log stops buying all the same.
            _log.warning("the reservation could not be released: %s", error)
            gate.close(str(error))

    def _forget(self, ended: Iterable[_Claimed]) -> None:
        # Last of all, so that a process that is killed before leaves it to be found.
        for claimed in ended:
            self._ledger.pending.remove(claimed.record.dataset, claimed.draft.task_uuid)


def _answer(requested: RequestResult, sent: Sent, gate: SubmissionGate) -> RequestResult:
    """What became of a clip whose task was sent."""
    if sent.state == "seen":
        return replace(
            requested,
            detail=f"take {requested.take} submitted, about {requested.estimate_usd:.2f} USD",
        )
    if sent.state == "unconfirmed":
        reason = "no answer came" if sent.error is None else sent.error.sentence
        return replace(
            requested,
            state=RequestState.UNCONFIRMED,
            error=sent.error,
            detail=f"sent, without a clear answer ({reason}); the collecting run finds out what "
            f"became of it",
        )
    if sent.state == "not_sent":
        return _not_sent(requested, gate.closed_because or "this run makes no further submission")
    reason = "not accepted" if sent.error is None else sent.error.sentence
    return replace(
        requested,
        state=RequestState.REFUSED,
        estimate_usd=0.0,
        error=sent.error,
        detail=f"refused, nothing paid: {reason}",
    )


def _over_limit(requested: RequestResult, reason: str) -> RequestResult:
    return replace(
        requested,
        state=RequestState.OVER_LIMIT,
        estimate_usd=0.0,
        error=ErrorRecord(kind="spending_limit", message=reason, retryable=False),
        detail=reason,
    )


def _not_sent(requested: RequestResult, reason: str) -> RequestResult:
    return replace(
        requested,
        state=RequestState.NOT_SENT,
        task_uuid=None,
        estimate_usd=0.0,
        error=ErrorRecord(kind="not_sent", message=reason, retryable=True),
        detail=f"not sent, nothing paid, since this run stopped submitting: {reason}",
    )
