"""What is done for each type of task."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import httpx

from sora_dagster.runware.models import Catalogue
from sora_dagster.sandbox.drawing.picture import PictureSpec
from sora_dagster.sandbox.drawing.subjects import Subject
from sora_dagster.sandbox.first_frames import load_first_frame
from sora_dagster.sandbox.journal import JournalEntry
from sora_dagster.sandbox.ledger import Charge, Ledger
from sora_dagster.sandbox.refusals import RefusedTaskError, parameter_page
from sora_dagster.sandbox.rendering import VideoSpec
from sora_dagster.sandbox.tasks import Order, Task, TaskBook, as_wire_number
from sora_dagster.sandbox.validation import VideoRequest, read_video_request, task_uuid_of

Row = dict[str, Any]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Reply:
    """What one task adds to the answer.

    Arguments:
        data: rows of the answer's `data`.
        errors: entries of its `errors`. The task itself succeeded all the same: a poll that tells
            of a failed generation is a good poll.
    """

    data: list[Row]
    errors: list[Row]


class TaskHandlers:
    """Does the tasks of a request, one at a time.

    Arguments:
        catalogue: the models that there are.
        book: the tasks that were accepted.
        ledger: the books.
        start: begins the generations of a task that was accepted.
        client: fetches first-frame images.
        clock: tells the Unix time in seconds.
        tells_unknown: whether a poll of an unknown UUID is an error, or answered with no row.
        note: notes an accepted task for a later life of the sandbox.
        tells_again_seconds: age of a restored task from which its webhooks are not sent again.
    """

    def __init__(
        self,
        *,
        catalogue: Catalogue,
        book: TaskBook,
        ledger: Ledger,
        start: Callable[[Task], None],
        client: httpx.AsyncClient,
        clock: Callable[[], float],
        tells_unknown: bool,
        note: Callable[[Task], None] = lambda _: None,
        tells_again_seconds: float = 60.0,
    ) -> None:
        self._catalogue = catalogue
        self._book = book
        self._ledger = ledger
        self._start = start
        self._client = client
        self._clock = clock
        self._tells_unknown = tells_unknown
        self._note = note
        self._tells_again_seconds = tells_again_seconds

    async def handle(self, task: Mapping[str, Any], *, base_url: str, is_dry_run: bool) -> Reply:
        """Do one task.

        Arguments:
            task: the task as it came.
            base_url: address under which the client reached the sandbox.
            is_dry_run: whether a generation is only checked and priced.

        Raises:
            RefusedTaskError: where it is not done.
        """
        match task.get("taskType"):
            case "videoInference":
                return await self._submit(task, base_url=base_url, is_dry_run=is_dry_run)
            case "getResponse":
                return self._poll(task)
            case "getTaskDetails":
                return self._details(task)
            case "accountManagement":
                return self._account(task)
            case "ping":
                return Reply([{"taskType": "ping", "pong": True}], [])
            case None:
                code, what = "missingTaskType", "taskType is required."
            case unknown:
                code, what = "unsupportedTaskType", f"taskType {unknown!r} is not supported."
        raise RefusedTaskError(code, what, parameter="taskType")

    async def _submit(self, raw: Mapping[str, Any], *, base_url: str, is_dry_run: bool) -> Reply:
        # First, as a replay is refused whatever else it holds.
        self._book.refuse_known(task_uuid_of(raw))
        order = await self._order(read_video_request(raw, self._catalogue), base_url)
        request = order.request
        if is_dry_run:
            # Where a priced answer has its price is not documented; assumed.
            row = {
                "taskType": "videoInference",
                "taskUUID": request.task_uuid,
                "cost": as_wire_number(order.cost_usd),
            }
            return Reply([row], [])
        self._ledger.refuse_unpayable(order.cost_usd)
        # Checks the UUID once more: while an image was loaded, another POST may have brought it.
        task = self._accept(order, now=self._clock())
        self._note(task)
        self._start(task)
        return Reply([task.acknowledgement()], [])

    async def restore(self, entries: Sequence[JournalEntry], *, base_url: str) -> None:
        """Take in again what was accepted before the sandbox was started anew.

        Arguments:
            entries: the tasks, in the order of their acceptance.
            base_url: address under which the sandbox is reached now.
        """
        for entry in entries:
            request = read_video_request(entry.task, self._catalogue)
            if entry.accepted_at + self._tells_again_seconds < self._clock():
                # Its webhooks were sent in its earlier life.
                request = replace(request, webhook_url=None, upload_endpoint=None)
            try:
                order = await self._order(request, base_url, is_restored=True)
            except RefusedTaskError as error:
                # Its first frame came from a local URL that is gone by now.
                _log.warning("task %s cannot be restored: %s", request.task_uuid, error)
                continue
            self._start(self._accept(order, now=entry.accepted_at))

    def _accept(self, order: Order, *, now: float) -> Task:
        request = order.request
        task = self._book.accept(order, now=now)
        self._ledger.charge(
            Charge(
                task_uuid=task.task_uuid,
                model=request.entry.air,
                seconds=order.video.duration_seconds,
                size=order.video.size,
                results=request.number_results,
                cost_usd=order.cost_usd,
                at=now,
            )
        )
        return task

    async def _order(
        self, request: VideoRequest, base_url: str, *, is_restored: bool = False
    ) -> Order:
        """Find a request's inputs, and price it.

        Arguments:
            request: the request.
            base_url: address under which the client reaches the sandbox.
            is_restored: whether it was accepted before, so that the video it is a remix of was
                finished then and may be rendered again now.

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
            parent = self._parent(request, request.video_id, is_restored=is_restored)
            picture, size = parent.picture.remixed(subject), parent.size
            # Not documented; assumed: without a duration, a remix is as long as its parent.
            duration_seconds = request.duration_seconds or parent.duration_seconds
        if size is None:
            raise AssertionError("a request without size, image and video was let through")
        return Order(
            request=request,
            video=VideoSpec(
                picture=picture,
                size=size,
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

    def _parent(self, request: VideoRequest, video_id: str, *, is_restored: bool) -> VideoSpec:
        generation = self._book.find_video(video_id, only_finished=not is_restored)
        if generation is None:
            parameter = "inputs.videoId"
            raise RefusedTaskError(
                "invalidVideoId",
                f"{parameter} is {video_id!r}, which is no finished video.",
                parameter=parameter,
                documentation=parameter_page(request.entry, parameter),
            )
        return generation.video

    def _poll(self, raw: Mapping[str, Any]) -> Reply:
        task_uuid = task_uuid_of(raw)
        task = self._book.find(task_uuid)
        if task is not None:
            return Reply(task.rows(self._clock()), task.errors())
        if self._tells_unknown:
            raise _unknown(task_uuid)
        return Reply([], [])

    def _details(self, raw: Mapping[str, Any]) -> Reply:
        task_uuid = task_uuid_of(raw)
        task = self._book.find(task_uuid)
        if task is None:
            raise _unknown(task_uuid)
        # `request` and `response` are documented; what they hold for a task that was delivered
        # asynchronously is not. Assumed: the last answer given, so that of a task which is still
        # running is its acknowledgement.
        response: Row = {"data": [task.acknowledgement()]}
        if task.is_over:
            response = {"data": task.rows(self._clock())}
            if errors := task.errors():
                response["errors"] = errors
        row = {
            "taskType": "getTaskDetails",
            "taskUUID": task.task_uuid,
            "request": [dict(task.order.request.raw)],
            "response": response,
        }
        return Reply([row], [])

    def _account(self, raw: Mapping[str, Any]) -> Reply:
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
        row = {
            "taskType": "accountManagement",
            "taskUUID": task_uuid,
            "operation": operation,
            "organizationName": "Sandbox",
            "organizationUUID": "00000000-0000-4000-8000-000000000000",
            "balance": {"amount": as_wire_number(self._ledger.balance_usd), "currency": "USD"},
            "team": [],
            "apiKeys": [],
            "usage": {
                "total": {
                    "credits": as_wire_number(self._ledger.total_usd),
                    "requests": self._ledger.posts,
                }
            },
        }
        return Reply([row], [])


def _unknown(task_uuid: str) -> RefusedTaskError:
    return RefusedTaskError(
        "taskFailedOrNotFound",
        f"There is no task with the taskUUID {task_uuid}.",
        parameter="taskUUID",
    )
