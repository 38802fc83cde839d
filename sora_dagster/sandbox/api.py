"""The API's one endpoint: an array of tasks in, data and errors out."""

from __future__ import annotations

import hmac
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from sora_dagster.sandbox.calls import Caller, Reply
from sora_dagster.sandbox.faults.active import ActiveFaults
from sora_dagster.sandbox.faults.answers import answer_with_faults
from sora_dagster.sandbox.faults.request_faults import AnswerFault
from sora_dagster.sandbox.faults.rules import Event, PostEvent, TaskFacts
from sora_dagster.sandbox.ledger import Ledger, PostKind
from sora_dagster.sandbox.refusals import ERRORS_PAGE, RefusedTaskError
from sora_dagster.sandbox.settings import SandboxSettings
from sora_dagster.sandbox.task_handlers import TaskHandlers
from sora_dagster.sandbox.task_registry import TaskRegistry
from sora_dagster.sandbox.tasks import MAIN_ACCOUNT

RawTask = Mapping[str, Any]

# The kind of a POST with several types of tasks is the first of these that it has.
_TASK_TYPES: dict[PostEvent, str] = {
    "submission": "videoInference",
    "dry_run": "videoInference",
    "poll": "getResponse",
    "details": "getTaskDetails",
    "account": "accountManagement",
}
_COUNTED_AS: dict[PostEvent, PostKind] = {"submission": "submissions", "poll": "polls"}

_GET_A_KEY = "Get one at https://my.runware.ai/signup"


@dataclass
class _Answer:
    """The answer to one POST, built task by task."""

    data: list[dict[str, Any]] = field(default_factory=list)
    errors: list[dict[str, Any]] = field(default_factory=list)
    succeeded: int = 0
    failed: int = 0
    unpaid: bool = False

    def add(self, reply: Reply) -> None:
        self.succeeded += 1
        self.data += reply.data
        self.errors += reply.errors

    def refuse(self, task: RawTask, error: RefusedTaskError) -> None:
        self.failed += 1
        self.unpaid |= error.code == "insufficientCredits"
        self.errors.append(
            error.to_wire(
                task_type=_text(task.get("taskType")), task_uuid=_text(task.get("taskUUID"))
            )
        )

    def response(self) -> Response:
        # That a mixed answer comes with 200 is not documented; assumed.
        status = 200
        if self.failed and not self.succeeded:
            status = 402 if self.unpaid else 400
        body: dict[str, Any] = {}
        if self.data or not self.errors:
            body["data"] = self.data
        if self.errors:
            body["errors"] = self.errors
        return JSONResponse(body, status_code=status)


@dataclass
class RunwareApi:
    """Answers POSTs as Runware does.

    Arguments:
        settings: limits and keys.
        registry: the accepted tasks.
        faults: decides which answers go wrong.
        handlers: process the tasks.
        ledger: counts them.
    """

    settings: SandboxSettings
    registry: TaskRegistry
    faults: ActiveFaults
    handlers: TaskHandlers
    ledger: Ledger

    async def serve(self, request: Request) -> Response:
        """Answer one POST."""
        tasks = _parsed(await request.body())
        is_dry_run = request.headers.get("x-runware-dry-run") == "1"
        kind = _kind(tasks or (), is_dry_run=is_dry_run)
        self.ledger.count_post(_COUNTED_AS.get(kind, "other"))
        if tasks is None:
            return _refused_whole("invalidRequest", "The body must be a JSON array of objects.")
        authentication = [task for task in tasks[:1] if task.get("taskType") == "authentication"]
        try:
            account = self._account(request.headers.get("authorization"), authentication)
        except RefusedTaskError as error:
            errors = [error.to_wire(task_type="authentication")]
            return JSONResponse({"errors": errors}, status_code=401)
        caller = Caller(str(request.base_url), account, is_dry_run)
        event = Event(kind, self._facts(tasks, _TASK_TYPES.get(kind), account))
        faults = self.faults.strikes(AnswerFault, event)
        return await answer_with_faults(faults, lambda: self._answer(tasks, authentication, caller))

    async def _answer(
        self, tasks: Sequence[RawTask], authentication: Sequence[RawTask], caller: Caller
    ) -> Response:
        answer = _Answer()
        if authentication:
            row = {"taskType": "authentication", "connectionSessionUUID": str(uuid4())}
            answer.add(Reply([row], []))
            tasks = tasks[1:]
        elif not tasks:
            return _refused_whole("arrayTooSmall", "The array has no task.")
        if (refusal := self._too_many(tasks)) is not None:
            return refusal
        for position, task in enumerate(tasks):
            try:
                reply = await self.handlers.handle(task, position=position, caller=caller)
            except RefusedTaskError as error:
                answer.refuse(task, error)
                if task.get("taskType") == "videoInference" and not caller.is_dry_run:
                    self.ledger.count_refused()
            else:
                answer.add(reply)
        return answer.response()

    def _account(self, header: str | None, authentication: Sequence[RawTask]) -> str:
        """The account of the API key.

        Raises:
            RefusedTaskError: no key, an invalid one, or two of different accounts.
        """
        sent: list[object] = []
        if header is not None:
            scheme, _, key = header.partition(" ")
            sent.append(key.strip() if scheme.lower() == "bearer" else "")
        sent += [task.get("apiKey") for task in authentication]
        if not sent:
            raise _wrong_key("missingApiKey", f"An API key is required. {_GET_A_KEY}")
        accounts = {self._account_of(key) for key in sent}
        account = accounts.pop()
        if account is None or accounts:
            raise _wrong_key("invalidApiKey", f"Invalid API key. {_GET_A_KEY}")
        return account

    def _account_of(self, sent: object) -> str | None:
        accounts = {self.settings.api_key.get_secret_value(): MAIN_ACCOUNT}
        for key, account in (accounts | self.settings.extra_keys).items():
            if isinstance(sent, str) and hmac.compare_digest(
                sent.encode(errors="surrogatepass"), key.encode()
            ):
                return account
        return None

    def _facts(
        self, tasks: Sequence[RawTask], task_type: str | None, account: str
    ) -> tuple[TaskFacts, ...]:
        """What the fault plan selects a POST by: its tasks of the type that decides its kind."""
        facts = []
        for task in tasks:
            task_uuid = _text(task.get("taskUUID"))
            if task_uuid is None or task.get("taskType") != task_type:
                continue
            known = self.registry.find(task_uuid, account=account)
            prompt = _text(task.get("positivePrompt"))
            if prompt is None:
                prompt = "" if known is None else known.order.request.prompt
            facts.append(TaskFacts(task_uuid, prompt))
        return tuple(facts)

    def _too_many(self, tasks: Sequence[RawTask]) -> Response | None:
        polls = sum(task.get("taskType") == "getResponse" for task in tasks)
        for what, count, most in (
            ("tasks", len(tasks), self.settings.max_tasks_per_request),
            ("getResponse tasks", polls, self.settings.max_polls_per_request),
        ):
            if count > most:
                return _refused_whole(
                    "arrayTooLarge", f"The array has {count} {what}; at most {most} are allowed."
                )
        return None


def _parsed(body: bytes) -> list[dict[str, Any]] | None:
    """The tasks of a body; None if it is not a JSON array of objects."""
    try:
        parsed = json.loads(body, parse_constant=_refuse_constant)
        if b"\\u" in body:
            # JSON can contain half of a surrogate pair, which is not text.
            json.dumps(parsed, ensure_ascii=False).encode()
    except (ValueError, RecursionError):
        return None
    if not isinstance(parsed, list) or not all(isinstance(item, dict) for item in parsed):
        return None
    return parsed


def _refuse_constant(name: str) -> object:
    # Python reads NaN and Infinity, which are not JSON.
    raise ValueError(f"{name} is not JSON")


def _kind(tasks: Sequence[RawTask], *, is_dry_run: bool) -> PostEvent:
    task_types = {_text(task.get("taskType")) for task in tasks}
    for kind, task_type in _TASK_TYPES.items():
        if task_type in task_types:
            return "dry_run" if kind == "submission" and is_dry_run else kind
    return "other"


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _wrong_key(code: str, message: str) -> RefusedTaskError:
    return RefusedTaskError(code, message, parameter="apiKey")


def _refused_whole(code: str, message: str) -> Response:
    error = RefusedTaskError(code, message, documentation=ERRORS_PAGE)
    return JSONResponse({"errors": [error.to_wire()]}, status_code=400)
