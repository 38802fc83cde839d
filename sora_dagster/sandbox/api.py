"""The one endpoint: an array of tasks in, data and errors out."""

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
from sora_dagster.sandbox.faults.answer_faults import AnswerFault
from sora_dagster.sandbox.faults.answering import answered
from sora_dagster.sandbox.faults.events import Event, PostEvent, TaskFacts
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
_BOOKED_AS: dict[PostEvent, PostKind] = {"submission": "submissions", "poll": "polls"}

_GET_A_KEY = "Get one at https://my.runware.ai/signup"


@dataclass
class _Answer:
    """What is said to one POST, as it grows task by task."""

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


class RunwareApi:
    """Answers POSTs as Runware does.

    Arguments:
        settings: limits and keys.
        book: the tasks that were accepted.
        faults: tells which answers go wrong.
        handlers: do the tasks.
        ledger: counts them.
    """

    def __init__(
        self,
        settings: SandboxSettings,
        *,
        book: TaskRegistry,
        faults: ActiveFaults,
        handlers: TaskHandlers,
        ledger: Ledger,
    ) -> None:
        self._settings = settings
        self._book = book
        self._faults = faults
        self._handlers = handlers
        self._ledger = ledger

    async def serve(self, request: Request) -> Response:
        """Answer one POST."""
        tasks = _parsed(await request.body())
        is_dry_run = request.headers.get("x-runware-dry-run") == "1"
        kind = _kind(tasks or (), is_dry_run=is_dry_run)
        self._ledger.count_post(_BOOKED_AS.get(kind, "other"))
        if tasks is None:
            return _refused_whole("invalidRequest", "The body must be a JSON array of objects.")
        authentication = [task for task in tasks[:1] if task.get("taskType") == "authentication"]
        try:
            account = self._account(request.headers.get("authorization"), authentication)
        except RefusedTaskError as error:
            return _refused_key(error)
        caller = Caller(str(request.base_url), account, is_dry_run)
        strikes = self._faults.strikes(
            AnswerFault, Event(kind, self._facts(tasks, _TASK_TYPES.get(kind), account))
        )
        return await answered(strikes, lambda: self._answer(tasks, authentication, caller))

    async def _answer(
        self, tasks: Sequence[RawTask], authentication: Sequence[RawTask], caller: Caller
    ) -> Response:
        """Do the tasks, and tell what came of them."""
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
                reply = await self._handlers.handle(task, position=position, caller=caller)
            except RefusedTaskError as error:
                answer.refuse(task, error)
                if task.get("taskType") == "videoInference" and not caller.is_dry_run:
                    self._ledger.count_refused()
            else:
                answer.add(reply)
        return answer.response()

    def _account(self, header: str | None, authentication: Sequence[RawTask]) -> str:
        """The account of the key that was given.

        Raises:
            RefusedTaskError: where no key was given, or a wrong one, or two of different accounts.
        """
        given: list[object] = []
        if header is not None:
            scheme, _, key = header.partition(" ")
            given.append(key.strip() if scheme.lower() == "bearer" else "")
        given += [task.get("apiKey") for task in authentication]
        if not given:
            raise _wrong_key("missingApiKey", f"An API key is required. {_GET_A_KEY}")
        accounts = {self._account_of(key) for key in given}
        account = accounts.pop()
        if account is None or accounts:
            raise _wrong_key("invalidApiKey", f"Invalid API key. {_GET_A_KEY}")
        return account

    def _account_of(self, given: object) -> str | None:
        if _is_key(given, self._settings.api_key.get_secret_value()):
            return MAIN_ACCOUNT
        for key, account in self._settings.extra_keys.items():
            if _is_key(given, key):
                return account
        return None

    def _facts(
        self, tasks: Sequence[RawTask], task_type: str | None, account: str
    ) -> tuple[TaskFacts, ...]:
        """What the fault plan chooses a POST by: its tasks of the type that makes its kind."""
        facts = []
        for task in tasks:
            task_uuid = _text(task.get("taskUUID"))
            if task_uuid is None or task.get("taskType") != task_type:
                continue
            known = self._book.find(task_uuid, account=account)
            prompt = _text(task.get("positivePrompt"))
            if prompt is None:
                prompt = "" if known is None else known.order.request.prompt
            facts.append(TaskFacts(task_uuid, prompt))
        return tuple(facts)

    def _too_many(self, tasks: Sequence[RawTask]) -> Response | None:
        polls = sum(task.get("taskType") == "getResponse" for task in tasks)
        for what, count, most in (
            ("tasks", len(tasks), self._settings.max_tasks_per_request),
            ("getResponse tasks", polls, self._settings.max_polls_per_request),
        ):
            if count > most:
                return _refused_whole(
                    "arrayTooLarge", f"The array has {count} {what}; at most {most} are allowed."
                )
        return None


def _parsed(body: bytes) -> list[dict[str, Any]] | None:
    """The tasks of a body; none where it is no JSON array of objects."""
    try:
        parsed = json.loads(body, parse_constant=_refuse_constant)
        if b"\\u" in body:
            # Half of a surrogate pair can be written in JSON, but is no text.
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


def _is_key(given: object, key: str) -> bool:
    return isinstance(given, str) and hmac.compare_digest(
        given.encode(errors="surrogatepass"), key.encode()
    )


def _text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _wrong_key(code: str, message: str) -> RefusedTaskError:
    return RefusedTaskError(code, message, parameter="apiKey")


def _refused_key(error: RefusedTaskError) -> Response:
    return JSONResponse({"errors": [error.to_wire(task_type="authentication")]}, status_code=401)


def _refused_whole(code: str, message: str) -> Response:
    error = RefusedTaskError(code, message, documentation=ERRORS_PAGE)
    return JSONResponse({"errors": [error.to_wire()]}, status_code=400)
