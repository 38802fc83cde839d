"""Requesting clips: plan each, build the request of a new task, submit many with one POST."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime

from sora_dagster.generation.protocol.budget import Budget
from sora_dagster.generation.protocol.ledger import Ledger
from sora_dagster.generation.protocol.markers import WebhookUrl
from sora_dagster.generation.protocol.record_store import NewerFormatError
from sora_dagster.generation.protocol.records import AttemptRecord, Carrier
from sora_dagster.generation.protocol.scan import in_parallel
from sora_dagster.generation.protocol.spending_limits import SpendingLimits
from sora_dagster.generation.requesting.carriers import (
    CarrierError,
    ParentVideos,
    refused_uuid,
)
from sora_dagster.generation.requesting.direct_delivery import DirectDelivery, DirectDeliveryError
from sora_dagster.generation.requesting.estimates import dry_run_prices
from sora_dagster.generation.requesting.input_urls import InputUrls
from sora_dagster.generation.requesting.options import RequestOptions
from sora_dagster.generation.requesting.payloads import (
    build_inference,
    request_price,
    with_images,
)
from sora_dagster.generation.requesting.planner import UNSENT_SECONDS, AttemptPlanner, NextAttempt
from sora_dagster.generation.requesting.results import RequestResult, RequestState
from sora_dagster.generation.requesting.sender import Sender
from sora_dagster.generation.requesting.submitter import NewTask, TaskSubmitter, not_sent
from sora_dagster.prompts.clips import ClipRequest
from sora_dagster.runware.client import RunwareClient
from sora_dagster.runware.errors import ErrorRecord, InvalidRequestError, UnknownModelError
from sora_dagster.runware.pricing import Price
from sora_dagster.runware.requests import VideoInference
from sora_dagster.runware.schema_check import SchemaCheck


class Requester:
    """Submits the requested clips that are missing, each attempt at most once.

    Arguments:
        client: the API client.
        ledger: the ledger, bound to the client's API.
        sender: sends tasks.
        budget: the spending limits.
        direct: decides which clips Runware puts into the store itself.
        store_time: the store's clock.
        webhook: where Runware calls back; None if results are polled for.
        hosted_seconds: how long Runware hosts a result; None for its default.
        max_attempts: most attempts of one take that Runware accepted, without `retry_failed`.
        limits: the spending limits of a day; a run's limit comes with each request. Default: none.
        unsent_seconds: age after which a claim that was never sent may be voided.
        schema_check: holds requests to Runware's schemas; None if only the catalogue's rules count.

    Attributes:
        input_urls: the full URLs of requested clips, for another attempt or a replay.
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
        webhook: WebhookUrl | None = None,
        hosted_seconds: int | None = None,
        max_attempts: int = 3,
        limits: SpendingLimits | None = None,
        unsent_seconds: float = UNSENT_SECONDS,
        schema_check: SchemaCheck | None = None,
    ) -> None:
        self._client = client
        self._ledger = ledger
        self._parents = ParentVideos(ledger, client.catalogue, api_base_url=client.base_url)
        self._sender = sender
        self._direct = direct
        self._budget = budget
        self._webhook = webhook
        self._hosted_seconds = hosted_seconds
        self._limits = limits or SpendingLimits()
        self._schema_check = schema_check
        self.input_urls = InputUrls()
        self.planner = AttemptPlanner(
            client,
            ledger,
            store_time=store_time,
            max_attempts=max_attempts,
            unsent_seconds=unsent_seconds,
        )

    def request(
        self,
        requests: Sequence[ClipRequest],
        options: RequestOptions,
        *,
        on_progress: Callable[[Sequence[RequestResult]], None] = lambda _: None,
    ) -> list[RequestResult]:
        """Request clips, in their order; the results have the same order.

        After an answer that refuses the account, or from an API that fails, no further submission
        is made: what was not sent gets the state NOT_SENT, and nothing is written for it.

        Arguments:
            requests: the clips.
            options: how they are requested, and who pays.
            on_progress: called after each POST with its results.
        """
        for request in requests:
            self.input_urls.remember(request.spec)
        submitter = TaskSubmitter(
            self._ledger, self._sender, self._budget, options, limits=self._limits
        )
        results: dict[int, RequestResult] = {}
        batch: list[NewTask] = []

        def prepare(index: int, plan: RequestResult | NextAttempt) -> None:
            prepared = self._prepared(index, requests[index], plan, submitter)
            if isinstance(prepared, NewTask):
                batch.append(prepared)
            else:
                results[index] = prepared

        def submit_batch() -> None:
            submitted = [task.index for task in batch]
            while batch:
                submitted_tasks = self._with_api_prices(batch)
                sent, again = submitter.submit(submitted_tasks)
                results.update(sent)
                batch.clear()
                again += [task for task in submitted_tasks if _is_refused_uuid(task, sent)]
                for task in again:
                    # Another run acted on the same clip in between, or Runware refused the UUID of
                    # the parent's video: the records now decide.
                    prepare(task.index, self.planner.plan(requests[task.index], options))
            on_progress([results[index] for index in submitted])

        # Claims are made just before the POST that carries them, so that a claim that was never
        # sent is soon known for one.
        for index, plan in enumerate(self._plans(requests, options)):
            prepare(index, plan)
            if len(batch) == self._client.submit_batch_size:
                submit_batch()
        if batch:
            submit_batch()
        return [results[index] for index in range(len(requests))]

    def rebuild(self, attempt: AttemptRecord) -> VideoInference:
        """Build the request of an attempt again, for a replay of the same task.

        If its video is put into the store, it has a fresh address for the same key.

        Raises:
            ObjectMissingError: if an image is not in the root, or a full URL is not known.
            NewerFormatError: if a newer version requested it in a way that this one does not know.
            CarrierError: if the video of its parent is not in the root.
            InvalidRequestError: if the catalogue has changed so that it is no longer allowed.
            UnknownModelError: if the catalogue no longer has its model.
        """
        request = self.recorded_request(attempt)
        return self._build(request, attempt.task_uuid, attempt.carrier, self._direct.renew(attempt))

    def recorded_request(self, attempt: AttemptRecord) -> ClipRequest:
        """The request of an attempt, with its images and full URLs, so that it can be sent again.

        Raises:
            ObjectMissingError: if an image is not in the root, or a full URL is not known.
            NewerFormatError: if a newer version requested it in a way that this one does not know.
        """
        request = with_images(self._ledger.root, attempt.request, self.input_urls.full_url)
        if request.spec.fingerprint != attempt.fingerprint:
            # A field that decides what is generated was ignored when the record was read.
            raise NewerFormatError(
                f"{self._ledger.root.uri(attempt.key)} requests a clip in a way that this "
                f"sora-dagster does not know, so it is not sent again. Upgrade sora-dagster in "
                f"this environment: pip install --upgrade sora-dagster"
            )
        return request

    def draft(self, request: ClipRequest) -> VideoInference:
        """The request of a clip for its price only; nothing is written.

        Raises:
            CarrierError: if the video of its parent cannot be sent.
            InvalidRequestError: if the API would refuse it.
            UnknownModelError: if the model has no catalogue entry.
        """
        carrier = self._parents.carrier_of(request, by_address=False)
        return build_inference(
            request,
            task_uuid=str(uuid.uuid4()),
            catalogue=self._client.catalogue,
            webhook=None,
            hosted_seconds=None,
            parent_video=self._parents.sent(request, carrier, is_dry_run=True),
        )

    def _build(
        self,
        request: ClipRequest,
        task_uuid: str,
        carrier: Carrier | None,
        upload_url: str | None,
    ) -> VideoInference:
        return build_inference(
            request,
            task_uuid=task_uuid,
            catalogue=self._client.catalogue,
            webhook=self._webhook,
            hosted_seconds=self._hosted_seconds,
            upload_url=upload_url,
            parent_video=self._parents.sent(request, carrier),
        )

    def _with_api_prices(self, tasks: Sequence[NewTask]) -> list[NewTask]:
        """The tasks, with prices of the API's dry run where the catalogue has none."""
        unpriced = [task.inference for task in tasks if task.price.usd is None]
        found = dry_run_prices(self._client, unpriced) if unpriced else {}
        priced = []
        for task in tasks:
            answer = found.get(task.task_uuid)
            if answer is None:
                priced.append(task)
                continue
            price = task.price if answer.usd is None else Price.by_api(answer.usd)
            result = replace(task.result, price=price)
            priced.append(
                replace(task, result=result, price=price, unpriced_because=answer.problem)
            )
        return priced

    def _plans(
        self, requests: Sequence[ClipRequest], options: RequestOptions
    ) -> Iterator[RequestResult | NextAttempt]:
        """What to do about each clip, in their order; read in parallel if there are several."""

        def plan(request: ClipRequest) -> RequestResult | NextAttempt:
            return self.planner.plan(request, options)

        return in_parallel(requests, plan) if len(requests) > 1 else map(plan, requests)

    def _prepared(
        self,
        index: int,
        request: ClipRequest,
        plan: RequestResult | NextAttempt,
        submitter: TaskSubmitter,
    ) -> RequestResult | NewTask:
        """The task that a plan needs; a result if it needs none, or none can be sent."""
        if isinstance(plan, RequestResult):
            return plan
        result = RequestResult(
            request=request,
            state=RequestState.SUBMITTED,
            take=plan.take,
            attempt=plan.attempt,
            task_uuid=None,
        )
        if submitter.closed_because is not None:
            return not_sent(result, submitter.closed_because)
        task_uuid = self._ledger.task_uuid(request.asset, request.clip, plan.take, plan.attempt)
        try:
            # The collection uses the recorded delivery, so a claimed attempt keeps its own.
            upload_url = (
                self._direct.begin(request, task_uuid, attempt=plan.attempt)
                if plan.claimed is None
                else self._direct.renew(plan.claimed)
            )
            carrier = (
                self._parents.carrier_of(request, by_address=plan.by_address)
                if plan.claimed is None
                else plan.claimed.carrier
            )
            inference = self._build(request, task_uuid, carrier, upload_url)
            if self._schema_check is not None:
                self._schema_check.check(inference)
        except (CarrierError, DirectDeliveryError, InvalidRequestError, UnknownModelError) as error:
            return replace(
                result,
                state=RequestState.REFUSED,
                error=ErrorRecord(kind="validation", message=str(error), retryable=False),
                detail=f"not sent, nothing paid: {error}",
            )
        price = request_price(request, self._client.catalogue)
        if price.usd is None and plan.claimed is not None:
            # The process that claimed it may have had a price of the API.
            price = plan.claimed.estimate
        return NewTask(
            index=index,
            result=replace(result, task_uuid=task_uuid, price=price),
            plan=plan,
            inference=inference,
            price=price,
            is_direct=upload_url is not None,
            carrier=carrier,
        )


def _is_refused_uuid(task: NewTask, results: Mapping[int, RequestResult]) -> bool:
    """Whether Runware refused a task now because of the UUID of its parent's video."""
    result = results.get(task.index)
    if result is None or result.state is not RequestState.REFUSED or result.error is None:
        return False
    return refused_uuid(task.carrier, [result.error])
