"""The client of the Runware API: submit, poll, price, account."""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Self

import httpx
from pydantic import SecretStr

from sora_dagster.runware.account import AccountStatus
from sora_dagster.runware.catalogue import Catalogue
from sora_dagster.runware.errors import (
    ConflictError,
    ConnectionFailedError,
    InvalidRequestError,
    MissingKeyError,
    Problem,
    RunwareError,
    SubmissionTooLateError,
    UnreadableResponseError,
)
from sora_dagster.runware.polling import Polling
from sora_dagster.runware.requests import VideoInference, account_details, ping
from sora_dagster.runware.responses import ApiResponse
from sora_dagster.runware.results import TaskStatus, cost_usd
from sora_dagster.runware.retries import NothingAcceptedError, RetryPolicy
from sora_dagster.runware.rules import check_request
from sora_dagster.runware.submissions import (
    Submission,
    submission_from_answer,
    submission_without_answer,
)
from sora_dagster.runware.transport import DEFAULT_BASE_URL, PostCounts, Transport


class RunwareClient:
    """A client of the Runware API that never pays twice for one request.

    It is thread-safe. Close it, or use it as a context manager.

    Arguments:
        api_key: sent as a header and shown nowhere.
        base_url: address of the API. Default: Runware's.
        catalogue: the models that may be used. Default: Sora 2 Pro and Sora 2.
        timeout_seconds: maximum wait for an answer in seconds. Default: 60.
        submit_batch_size: maximum number of tasks in one submission. Default: 20; the API's limit
            is not documented; assumed.
        poll_batch_size: maximum number of tasks in one poll. Default: 50; assumed too.
        retry_attempts: maximum number of POSTs for one call, including the first. Default: 5.
        retry_timeout_seconds: maximum total time of the retries in seconds. Default: 60.
        transport: replaces the network connection, for tests. Default: none.
        uuid_factory: makes the UUIDs of tasks that are not paid for. Default: random ones.

    Raises:
        MissingKeyError: if the key is empty.
        ValueError: if the key, the address or a number is invalid.
    """

    def __init__(
        self,
        api_key: SecretStr | str,
        *,
        base_url: str = DEFAULT_BASE_URL,
        catalogue: Catalogue | None = None,
        timeout_seconds: float = 60.0,
        submit_batch_size: int = 20,
        poll_batch_size: int = 50,
        retry_attempts: int = 5,
        retry_timeout_seconds: float = 60.0,
        transport: httpx.BaseTransport | None = None,
        uuid_factory: Callable[[], str] = lambda: str(uuid.uuid4()),
    ) -> None:
        for name, value in (
            ("submit_batch_size", submit_batch_size),
            ("poll_batch_size", poll_batch_size),
            ("retry_attempts", retry_attempts),
        ):
            if value < 1:
                raise ValueError(f"{name} is {value}; allowed: 1 or more")
        self.catalogue = catalogue or Catalogue.builtin()
        self.submit_batch_size = submit_batch_size
        self._new_uuid = uuid_factory
        self._transport = Transport(
            api_key, base_url=base_url, timeout_seconds=timeout_seconds, transport=transport
        )
        self._retries = RetryPolicy(retry_attempts, retry_timeout_seconds)
        self._polling = Polling(self._transport, self._retries, poll_batch_size)

    @classmethod
    def from_environment(
        cls, environ: Mapping[str, str] | None = None, **options: Any
    ) -> RunwareClient:
        """Create a client from `RUNWARE_API_KEY` and, if set, `RUNWARE_BASE_URL`.

        Arguments:
            environ: environment variables. Default: those of the process.
            options: further arguments of the client.

        Raises:
            MissingKeyError: if there is no key.
        """
        environ = os.environ if environ is None else environ
        key = environ.get("RUNWARE_API_KEY", "").strip()
        if not key:
            raise MissingKeyError
        base_url = environ.get("RUNWARE_BASE_URL", "").strip() or DEFAULT_BASE_URL
        return cls(SecretStr(key), **{"base_url": base_url, **options})

    def __repr__(self) -> str:
        return f"RunwareClient(base_url={self.base_url!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._transport.close()

    @property
    def base_url(self) -> str:
        """Address of the API."""
        return self._transport.base_url

    @property
    def posts(self) -> PostCounts:
        """Number of POSTs so far."""
        return self._transport.posts

    def submit(
        self,
        requests: Sequence[VideoInference],
        *,
        before_post: Callable[[], None] = lambda: None,
    ) -> list[Submission]:
        """Request videos, in one POST if the API accepts it. This is what is paid for.

        The POST is repeated only if no task can have been accepted: the connection was never made,
        or the answer is a 429 that accepts no task. After a 413 each half of the tasks is posted
        separately. The outcome of each request is in its `Submission`; an answer of the API is
        never raised.

        Arguments:
            requests: up to `submit_batch_size` requests.
            before_post: called right before each POST. If it raises `SubmissionTooLateError`,
                nothing is posted and the tasks are ``uncertain``. Default: nothing.

        Raises:
            ValueError: if there are more requests.
            InvalidRequestError: if a request breaks a rule, or two have the same task UUID;
                nothing was sent.
            UnknownModelError: if the catalogue has no entry for a model; nothing was sent.
        """
        if len(requests) > self.submit_batch_size:
            raise ValueError(
                f"{len(requests)} requests are too many for one submission; allowed: "
                f"{self.submit_batch_size} (submit_batch_size). Submit them in parts"
            )
        self._check(requests)
        return self._submit(requests, before_post) if requests else []

    def _submit(
        self, requests: Sequence[VideoInference], before_post: Callable[[], None]
    ) -> list[Submission]:
        tasks = [request.to_wire() for request in requests]

        def post() -> ApiResponse:
            before_post()
            answer = self._transport.post(tasks, purpose="submissions")
            if answer.status_code == 429 and not _shows_running_tasks(answer):
                raise NothingAcceptedError(answer)
            return answer

        try:
            answer = self._retries.submit(post)
        except NothingAcceptedError as refusal:
            answer = refusal.answer
        except (ConnectionFailedError, SubmissionTooLateError) as error:
            return [submission_without_answer(request.task_uuid, error) for request in requests]
        if answer.status_code == 413 and len(requests) > 1 and not _shows_running_tasks(answer):
            half = len(requests) // 2
            return [
                *self._submit(requests[:half], before_post),
                *self._submit(requests[half:], before_post),
            ]
        names_any = any(answer.names(request.task_uuid) for request in requests)
        return [
            submission_from_answer(request.task_uuid, answer, names_any_task=names_any)
            for request in requests
        ]

    def poll(self, task_uuids: Sequence[str]) -> dict[str, TaskStatus]:
        """Poll the status of tasks, many in one POST. Polls are free and repeated after errors.

        If the API refuses to poll several tasks at once, this client polls one by one from then on.

        Raises:
            RunwareError: if the poll as a whole failed: `AuthenticationError`, or, after retries,
                `RateLimitError`, `ServerError`, `ConnectionFailedError`. A failed task is not
                raised; it is in the task's status.
        """
        return self._polling.statuses(task_uuids)

    def task_details(self, task_uuid: str) -> TaskStatus:
        """The status of an old task from the archive.

        The archive has the last answer for the UUID (reported, not documented). So after a refused
        replay its errors are those of the replay: Runware knows the UUID, and the generation did
        not necessarily fail.

        Raises:
            RunwareError: like `poll`.
        """
        return self._polling.archived(task_uuid)

    def price(self, requests: Sequence[VideoInference]) -> dict[str, float | None]:
        """The API's prices of requests in USD by task UUID. None: the API gave no price.

        The requests are sent as a dry run, under random UUIDs and without webhook and upload URLs:
        nothing is executed or charged (Runware documentation). Where the answer has the price is
        not documented; assumed to be `cost` of the acknowledgement.

        Raises:
            InvalidRequestError: if a request breaks a rule; nothing was sent.
            UnknownModelError: if the catalogue has no entry for a model.
            RunwareError: if the API refuses a request or, after retries, fails.
        """
        self._check(requests)
        prices: dict[str, float | None] = {}
        for start in range(0, len(requests), self.submit_batch_size):
            prices |= self._price(requests[start : start + self.submit_batch_size])
        return prices

    def account(self) -> AccountStatus:
        """Balance and name of the account.

        Raises:
            RunwareError: if the API refuses or, after retries, fails.
        """
        task_uuid = self._new_uuid()
        answer = self._query([account_details(task_uuid)])
        rows = answer.rows_of(task_uuid)
        if not rows:
            raise UnreadableResponseError(
                "Runware's answer about the account has no data",
                status_code=answer.status_code,
            )
        return AccountStatus.from_row(rows[0])

    def ping(self) -> None:
        """Check that the API is up and accepts the key.

        Raises:
            RunwareError: if it is not, or does not.
        """
        self._query([ping()])

    def _check(self, requests: Sequence[VideoInference]) -> None:
        seen: set[str] = set()
        for request in requests:
            check_request(request, self.catalogue)
            if request.task_uuid in seen:
                raise InvalidRequestError(
                    [
                        Problem(
                            "taskUUID",
                            request.task_uuid,
                            f"{request.task_uuid} is also the UUID of another request of this "
                            f"submission; use a new UUID for each task",
                        )
                    ],
                    request.task_uuid,
                )
            seen.add(request.task_uuid)

    def _price(self, requests: Sequence[VideoInference]) -> dict[str, float | None]:
        originals: dict[str, str] = {}
        tasks = []
        for request in requests:
            task_uuid = self._new_uuid()
            originals[task_uuid] = request.task_uuid
            wire = {**request.to_wire(), "taskUUID": task_uuid, "includeCost": True}
            wire.pop("webhookURL", None)
            wire.pop("uploadEndpoint", None)
            tasks.append(wire)
        try:
            answer = self._query(tasks, dry_run=True)
        except RunwareError as error:
            # The caller knows the request by its own UUID, not by the random one.
            error.task_uuid = originals.get(error.task_uuid or "", error.task_uuid)
            raise
        prices: dict[str, float | None] = {}
        for task_uuid, original in originals.items():
            costs = filter(None, map(cost_usd, answer.rows_of(task_uuid)))
            prices[original] = sum(costs) or None
        return prices

    def _query(self, tasks: list[dict[str, Any]], *, dry_run: bool = False) -> ApiResponse:
        """The answer to tasks that change nothing; raises any error in it."""

        def post() -> ApiResponse:
            answer = self._transport.post(tasks, purpose="other", dry_run=dry_run)
            for error in (*answer.errors, *answer.row_errors):
                raise error
            return answer

        return self._retries.query(post)


def _shows_running_tasks(answer: ApiResponse) -> bool:
    conflict = any(isinstance(error, ConflictError) for error in answer.errors)
    return conflict or bool(answer.rows)
