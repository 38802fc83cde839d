"""Submitting a batch of new tasks: claim, reserve, send.

The order of writes is what makes a killed and repeated run pay once: index entry, attempt, spending
log, token, POST, proof. An attempt without its first token was never sent. A clip that a spending
limit does not allow is answered before the first of these writes.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from sora_dagster.generation.protocol.budget import Budget, BudgetDecision
from sora_dagster.generation.protocol.ledger import Ledger
from sora_dagster.generation.protocol.record_store import UnreadableRecordError
from sora_dagster.generation.protocol.records import AttemptRecord, Carrier
from sora_dagster.generation.protocol.spending_limits import SpendingLimits
from sora_dagster.generation.protocol.spending_log import BudgetLogError
from sora_dagster.generation.requesting.options import RequestOptions
from sora_dagster.generation.requesting.payloads import (
    keep_images,
    redacted_payload,
    redacted_spec,
)
from sora_dagster.generation.requesting.planner import NextAttempt
from sora_dagster.generation.requesting.results import RequestResult, RequestState
from sora_dagster.generation.requesting.sender import Sender, SendResult
from sora_dagster.generation.requesting.submission_gate import SubmissionGate
from sora_dagster.runware.errors import ErrorRecord
from sora_dagster.runware.pricing import Price
from sora_dagster.runware.requests import VideoInference

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class NewTask:
    """A task that is about to be claimed and sent.

    Arguments:
        index: position of the clip among the requests.
        result: the result if the task is submitted.
        plan: the attempt to make.
        inference: the API request.
        price: its expected price.
        is_direct: whether Runware puts the video into the store.
        carrier: how the video of its parent is sent; None if it has no parent.
        unpriced_because: why the price is unknown, if the API gave a reason. Default: empty.
    """

    index: int
    result: RequestResult
    plan: NextAttempt
    inference: VideoInference
    price: Price
    is_direct: bool
    carrier: Carrier | None = None
    unpriced_because: str = ""

    @property
    def task_uuid(self) -> str:
        """UUID of the task."""
        return self.inference.task_uuid


@dataclass(frozen=True)
class _ClaimedTask:
    """A task whose attempt is recorded.

    Arguments:
        task: the task.
        attempt: its record.
        is_own: whether this run made the claim, and may void it.
    """

    task: NewTask
    attempt: AttemptRecord
    is_own: bool

    @property
    def task_uuid(self) -> str:
        return self.attempt.task_uuid


class TaskSubmitter:
    """Claims, reserves and sends the tasks of one request, batch by batch.

    After an answer that refuses the account, after failing submissions or with a damaged spending
    log it sends nothing more.

    Arguments:
        ledger: the ledger.
        sender: sends tasks.
        budget: the spending limits.
        options: how clips are requested, and who pays.
        limits: the spending limits of a day; the run's is in the options.
    """

    def __init__(
        self,
        ledger: Ledger,
        sender: Sender,
        budget: Budget,
        options: RequestOptions,
        *,
        limits: SpendingLimits,
    ) -> None:
        self._ledger = ledger
        self._sender = sender
        self._budget = budget
        self._options = options
        self._limits = replace(limits, run_usd=options.run_limit_usd)
        self._gate = SubmissionGate()

    @property
    def closed_because(self) -> str | None:
        """Why nothing more is sent; None while tasks are sent."""
        return self._gate.closed_because

    def submit(self, tasks: Sequence[NewTask]) -> tuple[dict[int, RequestResult], list[NewTask]]:
        """Claim, reserve and send a batch.

        Returns:
            The results by the clips' positions, and the tasks that must be planned again: another
            run acted on the same clip in between, or the clip was requested twice.
        """
        results: dict[int, RequestResult] = {}
        unique: dict[str, NewTask] = {}
        again = [task for task in tasks if unique.setdefault(task.task_uuid, task) is not task]
        claims: dict[str, _ClaimedTask] = {}
        for task in self._within_limits(self._budget.check, unique.values(), results):
            claimed = self._claim(task)
            if claimed is None:
                again.append(task)
            else:
                claims[task.task_uuid] = claimed
        granted = self._within_limits(
            self._budget.reserve, [claimed.task for claimed in claims.values()], results
        )
        granted_uuids = {task.task_uuid for task in granted}
        for claimed in claims.values():
            # The limit was used up since it was read. A claim of another run is left to that run.
            is_granted = claimed.task_uuid in granted_uuids
            if not is_granted and claimed.is_own and not self._void(claimed):
                again.append(claimed.task)
        if not granted:
            return results, again
        sent = self._sender.send(
            [task.inference for task in granted],
            self._options,
            self._gate,
            slots={uuid: claims[uuid].attempt.key for uuid in granted_uuids},
        )
        ended = [claims[uuid] for uuid in sent if sent[uuid].state in ("void", "failed")]
        self._release(ended)
        for task in granted:
            answer = sent[task.task_uuid]
            if answer.state == "taken":
                self._release_if_void(claims[task.task_uuid])
                again.append(task)
            else:
                results[task.index] = _sent_result(task.result, answer, self.closed_because)
        self._remove_pending(ended)
        return results, again

    def _within_limits(
        self,
        decide: Callable[..., BudgetDecision],
        tasks: Iterable[NewTask],
        results: dict[int, RequestResult],
    ) -> list[NewTask]:
        """The tasks that the spending limits allow; the others get their results."""
        by_dataset: dict[str, list[NewTask]] = {}
        for task in tasks:
            by_dataset.setdefault(task.result.request.dataset, []).append(task)
        return [
            task
            for dataset, group in by_dataset.items()
            for task in self._within_limits_of(dataset, decide, group, results)
        ]

    def _within_limits_of(
        self,
        dataset: str,
        decide: Callable[..., BudgetDecision],
        tasks: Sequence[NewTask],
        results: dict[int, RequestResult],
    ) -> list[NewTask]:
        try:
            decision = decide(
                {task.task_uuid: task.price.usd for task in tasks},
                root_run=self._options.root_run,
                limits=self._limits,
                dataset=dataset,
            )
        except BudgetLogError as error:
            # Limits that cannot be read stop buying, and nothing else.
            self._gate.close(str(error))
            results |= {task.index: not_sent(task.result, str(error)) for task in tasks}
            return []
        results |= {
            task.index: _over_limit(task, decision.refused[task.task_uuid])
            for task in tasks
            if task.task_uuid in decision.refused
        }
        return [task for task in tasks if task.task_uuid not in decision.refused]

    def _claim(self, task: NewTask) -> _ClaimedTask | None:
        """Record the attempt; None if another run claimed it in between."""
        request, plan = task.result.request, task.plan
        if plan.claimed is not None:
            # Its entry may have been removed together with claims that seemed abandoned.
            self._ledger.pending.add(plan.claimed)
            return _ClaimedTask(task, plan.claimed, is_own=False)
        keep_images(self._ledger.root, request.spec, task.inference)
        try:
            won, attempt = self._ledger.claim_attempt(
                AttemptRecord(
                    request=request.model_copy(update={"spec": redacted_spec(request.spec)}),
                    take=plan.take,
                    attempt=plan.attempt,
                    fingerprint=request.spec.fingerprint,
                    task_uuid=task.task_uuid,
                    wire=redacted_payload(task.inference),
                    estimate=task.price,
                    root_run=self._options.root_run,
                    run_limit_usd=self._options.run_limit_usd,
                    delivery="direct" if task.is_direct else "download",
                    carrier=task.carrier,
                    created_at=self._ledger.clock(),
                    nonce=self._ledger.new_nonce(),
                )
            )
        except UnreadableRecordError as error:
            # Planning it again reports the error.
            _log.warning("%s could not be claimed: %s", request.clip, error)
            return None
        return _ClaimedTask(task, attempt, is_own=True) if won else None

    def _void(self, claimed: _ClaimedTask) -> bool:
        """Void a claim of this run; False if another run has taken it over."""
        if not self._ledger.take_right_to_void(claimed.task_uuid):
            return False
        # A process that was killed while it reserved may have left a reservation.
        self._end_void(claimed, "spending_limit", "a spending limit was reached before it was sent")
        return True

    def _release_if_void(self, claimed: _ClaimedTask) -> None:
        """Release the reservation of a task that another process has voided.

        Its next attempt needs the money.
        """
        try:
            sent = self._ledger.sent(claimed.task_uuid)
        except UnreadableRecordError as error:
            # It may have been sent; planning it again reports the error.
            _log.warning("%s", error)
            return
        if sent is not None and sent.purpose == "void":
            self._end_void(claimed, "not_sent", "another process voided it before it was sent")

    def _end_void(self, claimed: _ClaimedTask, kind: str, message: str) -> None:
        error = ErrorRecord(kind=kind, message=message)
        self._ledger.settle_unaccepted(claimed.task_uuid, error=error)
        self._release([claimed])
        self._remove_pending([claimed])

    def _release(self, ended: Sequence[_ClaimedTask]) -> None:
        """Release what this run reserved for tasks that Runware did not accept."""
        if not ended:
            return
        try:
            self._budget.settle(
                {claimed.task_uuid: 0.0 for claimed in ended}, root_run=self._options.root_run
            )
        except BudgetLogError as error:
            # The limit then allows less than it could; a damaged log stops buying all the same.
            _log.warning("the reservation could not be released: %s", error)
            self._gate.close(str(error))

    def _remove_pending(self, ended: Iterable[_ClaimedTask]) -> None:
        # Last of all, so that it is found again if this process is killed before.
        for claimed in ended:
            self._ledger.pending.remove(claimed.attempt.dataset, claimed.task_uuid)


def not_sent(result: RequestResult, reason: str) -> RequestResult:
    """The result of a clip that is not sent since its run stopped submitting."""
    return replace(
        result,
        state=RequestState.NOT_SENT,
        task_uuid=None,
        price=None,
        error=ErrorRecord(kind="not_sent", message=reason, retryable=True),
        detail=f"not sent, nothing paid, since this run stopped submitting: {reason}",
    )


def _over_limit(task: NewTask, reason: str) -> RequestResult:
    price, model = task.price, task.inference.model
    if price.usd is None:
        reason += f" The model is {model}; {task.unpriced_because or 'its dry run gave no price'}."
    elif price.note:
        reason += f" That price is an estimate: {price.note}."
    return replace(
        task.result,
        state=RequestState.OVER_LIMIT,
        price=None,
        error=ErrorRecord(kind="spending_limit", message=reason, retryable=False),
        detail=reason,
    )


def _sent_result(
    result: RequestResult, sent: SendResult, closed_because: str | None
) -> RequestResult:
    reason = None if sent.error is None else sent.error.sentence
    match sent.state:
        case "seen":
            price = "" if result.price is None else f", price: {result.price.text}"
            return replace(result, detail=f"take {result.take} submitted{price}")
        case "unconfirmed":
            detail = (
                f"sent without a clear response ({reason or 'none came'}); the collecting run "
                f"polls for it"
            )
            return replace(result, state=RequestState.UNCONFIRMED, error=sent.error, detail=detail)
        case "not_sent":
            return not_sent(result, closed_because or "this run makes no further submission")
        case _:
            return replace(
                result,
                state=RequestState.REFUSED,
                price=None,
                error=sent.error,
                detail=f"refused, nothing paid: {reason or 'not accepted'}",
            )
