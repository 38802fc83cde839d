"""The one endpoint: an array of tasks in, data and errors out."""

from __future__ import annotations

import hmac
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import httpx
from pydantic import SecretStr
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from sora_dagster.runware.models import Catalogue, FrameSize
from sora_dagster.sandbox.drawing.picture import PictureSpec
from sora_dagster.sandbox.drawing.subjects import Subject
from sora_dagster.sandbox.first_frames import load_first_frame
from sora_dagster.sandbox.ledger import Charge, Ledger, PostKind
from sora_dagster.sandbox.refusals import ERRORS_PAGE, RefusedTaskError, parameter_page
from sora_dagster.sandbox.rendering import VideoSpec
from sora_dagster.sandbox.settings import SandboxSettings
from sora_dagster.sandbox.tasks import Order, Task, TaskBook, as_wire_number
from sora_dagster.sandbox.validation import VideoRequest, read_video_request, task_uuid_of

_GET_A_KEY = "Get one at https://my.runware.ai/signup"


@dataclass
class _Answer:
    """What is said to one POST, as it grows task by task."""

    data: list[dict[str, Any]] = field(default_factory=list)
    errors: list[dict[str, Any]] = field(default_factory=list)
    succeeded: int = 0
    failed: int = 0
    unpaid: bool = False

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
        settings: limits and key.
        catalogue: the models that there are.
        book: the tasks.
        ledger: the books.
        start: begins the generations of a task that was accepted.
        client: fetches first-frame images.
        clock: tells the Unix time in seconds.
    """

    def __init__(
        self,
        settings: SandboxSettings,
        *,
        catalogue: Catalogue,
        book: TaskBook,
        ledger: Ledger,
        start: Callable[[Task], None],
        client: httpx.AsyncClient,
        clock: Callable[[], float],
    ) -> None:
        self._settings = settings
        self._catalogue = catalogue
        self._book = book
        self._ledger = ledger
        self._start = start
        self._client = client
        self._clock = clock

    async def serve(self, request: Request) -> Response:
        """Answer one POST."""
        tasks = _parsed(await request.body())
        is_dry_run = request.headers.get("x-runware-dry-run") == "1"
        self._ledger.count_post(_kind(tasks or (), is_dry_run=is_dry_run))
        if tasks is None:
            return _refused_whole("invalidRequest", "The body must be a JSON array of objects.")
        authentication = [task for task in tasks[:1] if task.get("taskType") == "authentication"]
        refusal = self._unauthorized(request.headers.get("authorization"), authentication)
        if refusal is not None:
            return refusal
        answer = _Answer()
        if authentication:
            answer.data.append(
                {"taskType": "authentication", "connectionSessionUUID": str(uuid4())}
            )
            answer.succeeded += 1
            tasks = tasks[1:]
        elif not tasks:
            return _refused_whole("arrayTooSmall", "The array has no task.")
        if (refusal := self._too_many(tasks)) is not None:
            return refusal
        base_url = str(request.base_url)
        for task in tasks:
            await self._do(task, answer, base_url=base_url, is_dry_run=is_dry_run)
        return answer.response()

    def _unauthorized(
        self, header: str | None, authentication: Sequence[Mapping[str, Any]]
    ) -> Response | None:
        given: list[object] = []
        if header is not None:
            scheme, _, key = header.partition(" ")
            given.append(key.strip() if scheme.lower() == "bearer" else "")
        given += [task.get("apiKey") for task in authentication]
        if not given:
            return _refused_key("missingApiKey", f"An API key is required. {_GET_A_KEY}")
        if not all(_is_key(key, self._settings.api_key) for key in given):
            return _refused_key("invalidApiKey", f"Invalid API key. {_GET_A_KEY}")
        return None

    def _too_many(self, tasks: Sequence[Mapping[str, Any]]) -> Response | None:
        most = self._settings.max_tasks_per_request
        if len(tasks) > most:
            return _refused_whole(
                "arrayTooLarge", f"The array has {len(tasks)} tasks; at most {most} are allowed."
            )
        polls = sum(task.get("taskType") == "getResponse" for task in tasks)
        most = self._settings.max_polls_per_request
        if polls > most:
            return _refused_whole(
                "arrayTooLarge",
                f"The array has {polls} getResponse tasks; at most {most} are allowed.",
            )
        return None

    async def _do(
        self, task: Mapping[str, Any], answer: _Answer, *, base_url: str, is_dry_run: bool
    ) -> None:
        task_type = task.get("taskType")
        try:
            match task_type:
                case "videoInference":
                    await self._submit(task, answer, base_url=base_url, is_dry_run=is_dry_run)
                case "getResponse":
                    self._poll(task, answer)
                case "getTaskDetails":
                    self._details(task, answer)
                case "accountManagement":
                    self._account(task, answer)
                case "ping":
                    answer.data.append({"taskType": "ping", "pong": True})
                case None:
                    raise RefusedTaskError(
                        "missingTaskType", "taskType is required.", parameter="taskType"
                    )
                case _:
                    raise RefusedTaskError(
                        "unsupportedTaskType",
                        f"taskType {task_type!r} is not supported.",
                        parameter="taskType",
                    )
        except RefusedTaskError as error:
            answer.failed += 1
            answer.unpaid |= error.code == "insufficientCredits"
            task_uuid = task.get("taskUUID")
            answer.errors.append(
                error.to_wire(
                    task_type=task_type if isinstance(task_type, str) else None,
                    task_uuid=task_uuid if isinstance(task_uuid, str) else None,
                )
            )
            if task_type == "videoInference" and not is_dry_run:
                self._ledger.count_refused()
        else:
            answer.succeeded += 1

    async def _submit(
        self, raw: Mapping[str, Any], answer: _Answer, *, base_url: str, is_dry_run: bool
    ) -> None:
        # First, as a replay is refused whatever else it holds.
        self._book.refuse_known(task_uuid_of(raw))
        order = await self._order(read_video_request(raw, self._catalogue), base_url)
        if is_dry_run:
            # Where a priced answer has its price is not documented; assumed.
            answer.data.append(
                {
                    "taskType": "videoInference",
                    "taskUUID": order.request.task_uuid,
                    "cost": as_wire_number(order.cost_usd),
                }
            )
            return
        self._ledger.refuse_unpayable(order.cost_usd)
        now = self._clock()
        # Checks the UUID once more: while an image was loaded, another POST may have brought it.
        task = self._book.accept(order, now=now)
        self._ledger.charge(
            Charge(
                task_uuid=task.task_uuid,
                model=order.request.entry.air,
                seconds=order.video.duration_seconds,
                size=order.video.size,
                results=order.request.number_results,
                cost_usd=order.cost_usd,
                at=now,
            )
        )
        answer.data.append(task.acknowledgement())
        self._start(task)

    async def _order(self, request: VideoRequest, base_url: str) -> Order:
        """Find a request's inputs, and price it.

        Raises:
            RefusedTaskError: where the image or the video is not there or does not fit.
        """
        subject = Subject(request.prompt, seed=0)
        duration_seconds = request.duration_seconds or request.entry.default_duration_seconds
        size = request.size
        picture = PictureSpec(subject)
        if request.image is not None:
            frame = await load_first_frame(request.image, request.entry, self._client)
            picture, size = PictureSpec(subject, first_frame=frame.encoded), frame.size
        if request.video_id is not None:
            parent = self._parent(request)
            picture, size = parent.picture.remixed(subject), parent.size
            # Not documented: without a duration, a remix is as long as its parent.
            duration_seconds = request.duration_seconds or parent.duration_seconds
        assert size is not None, "validation lets no request through that has none of the three"
        return Order(
            request=request,
            video=VideoSpec(
                picture=picture,
                size=FrameSize(*size),
                duration_seconds=duration_seconds,
                output_format=request.output_format,
                output_quality=request.output_quality,
            ),
            cost_usd=request.entry.price_usd(
                size=size,
                duration_seconds=duration_seconds,
                number_results=request.number_results,
            ),
            base_url=base_url,
        )

    def _parent(self, request: VideoRequest) -> VideoSpec:
        generation = self._book.find_video(request.video_id or "")
        if generation is None:
            parameter = "inputs.videoId"
            raise RefusedTaskError(
                "invalidVideoId",
                f"{parameter} is {request.video_id!r}, which is no finished video.",
                parameter=parameter,
                documentation=parameter_page(request.entry, parameter),
            )
        return generation.video

    def _poll(self, raw: Mapping[str, Any], answer: _Answer) -> None:
        task_uuid = task_uuid_of(raw)
        task = self._book.find(task_uuid)
        if task is not None:
            answer.data += task.rows(self._clock())
            answer.errors += task.errors()
        elif self._settings.unknown_polls == "error":
            raise _unknown_task(task_uuid)

    def _details(self, raw: Mapping[str, Any], answer: _Answer) -> None:
        task_uuid = task_uuid_of(raw)
        task = self._book.find(task_uuid)
        if task is None:
            raise _unknown_task(task_uuid)
        # `request` and `response` are documented; what they hold for a task that was delivered
        # asynchronously is not. Assumed: the last answer given, so that of a task which is still
        # running is its acknowledgement.
        if task.is_over:
            response: dict[str, Any] = {"data": task.rows(self._clock())}
            if errors := task.errors():
                response["errors"] = errors
        else:
            response = {"data": [task.acknowledgement()]}
        answer.data.append(
            {
                "taskType": "getTaskDetails",
                "taskUUID": task.task_uuid,
                "request": [dict(task.order.request.raw)],
                "response": response,
            }
        )

    def _account(self, raw: Mapping[str, Any], answer: _Answer) -> None:
        task_uuid = task_uuid_of(raw)
        operation = raw.get("operation")
        if operation != "getDetails":
            raise RefusedTaskError(
                "invalidOperation",
                f"operation {operation!r} is not supported; supported: getDetails.",
                parameter="operation",
            )
        # The names of the fields are the official SDK's; what `balance` and `usage` hold is not
        # documented there, and assumed.
        answer.data.append(
            {
                "taskType": "accountManagement",
                "taskUUID": task_uuid,
                "operation": operation,
                "organizationName": "Sandbox",
                "organizationUUID": "00000000-0000-4000-8000-000000000000",
                "balance": {
                    "amount": as_wire_number(self._ledger.balance_usd),
                    "currency": "USD",
                },
                "team": [],
                "apiKeys": [],
                "usage": {
                    "total": {
                        "credits": as_wire_number(self._ledger.total_usd),
                        "requests": self._ledger.posts,
                    }
                },
            }
        )


def _parsed(body: bytes) -> list[Mapping[str, Any]] | None:
    """The tasks of a body; none where it is no JSON array of objects."""
    try:
        parsed = json.loads(body, parse_constant=_refuse_constant)
    except (ValueError, RecursionError):
        return None
    if not isinstance(parsed, list) or not all(isinstance(item, dict) for item in parsed):
        return None
    return parsed


def _refuse_constant(name: str) -> object:
    # Python reads NaN and Infinity, which are not JSON.
    raise ValueError(f"{name} is not JSON")


def _kind(tasks: Sequence[Mapping[str, Any]], *, is_dry_run: bool) -> PostKind:
    task_types = {task.get("taskType") for task in tasks if isinstance(task.get("taskType"), str)}
    if "videoInference" in task_types:
        return "other" if is_dry_run else "submissions"
    return "polls" if "getResponse" in task_types else "other"


def _is_key(given: object, key: SecretStr) -> bool:
    return isinstance(given, str) and hmac.compare_digest(
        given.encode(errors="surrogatepass"), key.get_secret_value().encode()
    )


def _refused_key(code: str, message: str) -> Response:
    error = RefusedTaskError(code, message, parameter="apiKey")
    return JSONResponse({"errors": [error.to_wire(task_type="authentication")]}, status_code=401)


def _refused_whole(code: str, message: str) -> Response:
    error = RefusedTaskError(code, message, documentation=ERRORS_PAGE)
    return JSONResponse({"errors": [error.to_wire()]}, status_code=400)


def _unknown_task(task_uuid: str) -> RefusedTaskError:
    return RefusedTaskError(
        "taskFailedOrNotFound",
        f"There is no task with the taskUUID {task_uuid}.",
        parameter="taskUUID",
    )
