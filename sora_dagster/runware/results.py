"""The status of one task by an answer: its videos, its failures, and what is still running."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict

from sora_dagster.runware.errors import (
    AuthenticationError,
    ConflictError,
    ConnectionFailedError,
    NotFoundError,
    RateLimitError,
    RunwareError,
    ServerError,
)
from sora_dagster.runware.responses import ApiResponse, number_or_none, parse_response, text_or_none

_UUID_PATTERN = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)

# Statuses about the request as a whole: errors in such an answer say nothing about a generation,
# whatever task they name.
_STATUS_OF_THE_REQUEST = frozenset({401, 402, 403, 429})


class VideoResult(BaseModel):
    """A finished video (reference page, section of the result).

    Arguments:
        task_uuid: its task.
        video_uuid: its UUID. If an answer has none, it is derived from the URL.
        video_url: its address while it is hosted. None: it was only uploaded to the upload
            endpoint (not documented; assumed possible).
        seed: seed of the generation. None: not in the answer.
        cost_usd: its cost in USD. None: unknown. An answer's 0 counts as unknown, since no video
            of these models is free and 0 has been reported for videos that were charged.
        video_id: the id for `inputs.videoId` of a remix. None: not in the answer.
        nsfw: whether the content check flagged it. None: there was no check.
    """

    model_config = ConfigDict(frozen=True)

    task_uuid: str
    video_uuid: str
    video_url: str | None
    seed: int | None = None
    cost_usd: float | None = None
    video_id: str | None = None
    nsfw: bool | None = None


@dataclass(frozen=True)
class TaskStatus:
    """The status of a task by one answer.

    Arguments:
        task_uuid: the task.
        processing: number of running generations.
        results: finished videos, each once, ordered by `video_uuid`.
        errors: failed generations, each once.
        not_found: the API's error that the task is unknown. None: the API did not say so, which
            proves nothing.
        poll_error: an error of the poll itself, which says nothing about the task.
    """

    task_uuid: str
    processing: int = 0
    results: tuple[VideoResult, ...] = ()
    errors: tuple[RunwareError, ...] = ()
    not_found: NotFoundError | None = None
    poll_error: RunwareError | None = None

    @property
    def is_known(self) -> bool:
        """Whether the answer has anything that only an accepted task can have."""
        return bool(self.processing or self.results or self.errors)

    def is_over(self, number_results: int) -> bool:
        """Whether no more results will come.

        Arguments:
            number_results: number of requested videos.
        """
        if len(self.results) >= number_results:
            return True
        if self.processing:
            return False
        finished = len(self.results) + len(self.errors)
        return finished >= number_results or bool(self.errors and not self.results)


def task_status(task_uuid: str, answer: ApiResponse) -> TaskStatus:
    """The status of a task by an answer to a poll, from the rows and errors with its UUID."""
    results: dict[str, VideoResult] = {}
    processing = 0
    for row in answer.rows_of(task_uuid):
        if (video := _video(task_uuid, row)) is not None:
            earlier = results.get(video.video_uuid)
            results[video.video_uuid] = video if earlier is None else _merged(earlier, video)
        elif _is_running(row):
            processing += 1

    scoped = answer.errors_of(task_uuid)
    failures = [error for error in scoped if _is_of_the_generation(error)]
    return TaskStatus(
        task_uuid=task_uuid,
        processing=processing,
        results=tuple(sorted(results.values(), key=lambda video: video.video_uuid)),
        errors=_each_failure_once(answer.row_errors_of(task_uuid), failures),
        not_found=next((error for error in scoped if is_unknown_task(error)), None),
        poll_error=next(
            (error for error in scoped if error not in failures and not is_unknown_task(error)),
            None,
        ),
    )


def archived_status(task_uuid: str, answer: ApiResponse) -> TaskStatus:
    """The status of a task by an answer to `getTaskDetails`.

    Its row has the original `request` and `response` of the task (Runware documentation). The
    form of the response is not documented for asynchronous tasks; assumed to be the last answer
    for the UUID, of any form. So a conflict in it is not a failure: the task was running.
    """
    for row in answer.rows_of(task_uuid):
        if row.get("response") is None and row.get("request") is None:
            continue
        response = parse_response(200, row.get("response") or {})
        status = task_status(task_uuid, response)
        errors = tuple(
            error
            for error in (*response.row_errors, *response.errors)
            if not isinstance(error, ConflictError)
            and error.task_uuid in (None, task_uuid)
            and not is_unknown_task(error)
        )
        return TaskStatus(
            task_uuid=task_uuid,
            processing=status.processing or int(not status.results and not errors),
            results=status.results,
            errors=errors,
        )
    return task_status(task_uuid, answer)


def is_unknown_task(error: RunwareError) -> TypeGuard[NotFoundError]:
    """Whether an error of the API says that a task is unknown.

    It must have the API's form: a bare 404 may come from a proxy. Errors about expired tasks, or
    about an image or a model that is not found, do not count.
    """
    if not isinstance(error, NotFoundError) or error.code is None or is_of_the_request(error):
        return False
    code = error.code.lower()
    if code in ("notfound", "not_found"):
        return error.parameter in (None, "taskUUID")
    return "task" in code and code.endswith("notfound")


def _is_of_the_generation(error: RunwareError) -> bool:
    """Whether an error that names a task means that its generation failed.

    An error of the poll itself must not end a task, since its video is paid for.
    """
    if is_unknown_task(error) or isinstance(error, (ConflictError, ConnectionFailedError)):
        return False
    if is_of_the_request(error):
        return False
    if isinstance(error, (AuthenticationError, RateLimitError, ServerError)):
        return error.task_type not in (None, "getResponse", "getTaskDetails", "authentication")
    return True


def is_of_the_request(error: RunwareError) -> bool:
    """Whether the HTTP status of an error is about the request as a whole."""
    status = error.status_code or 200
    return status in _STATUS_OF_THE_REQUEST or status >= 500


def _each_failure_once(
    in_data: Iterable[RunwareError], in_errors: Iterable[RunwareError]
) -> tuple[RunwareError, ...]:
    """The failures of both lists.

    Several generations may fail alike, so equal errors of one list all count. The same failure
    may be in both lists, so a failure of the second list counts only if the first lacks it.
    """
    failures = list(in_data)
    counts = Counter(error.to_record() for error in failures)
    for error in in_errors:
        record = error.to_record()
        if counts[record] > 0:
            counts[record] -= 1
        else:
            failures.append(error)
    return tuple(failures)


def _video(task_uuid: str, row: Mapping[str, Any]) -> VideoResult | None:
    url = text_or_none(row.get("videoURL"))
    video_uuid = text_or_none(row.get("videoUUID"))
    status = str(row.get("status") or "").lower()
    # A running generation may already have its videoUUID (official SDK).
    finished = (url is not None and status in ("", "success")) or (
        video_uuid is not None and status == "success"
    )
    if not finished:
        return None
    outputs = row.get("outputs")
    video_id = outputs.get("videoId") if isinstance(outputs, Mapping) else None
    seed = row.get("seed")
    nsfw = row.get("NSFWContent")
    return VideoResult(
        task_uuid=task_uuid,
        video_uuid=video_uuid or _uuid_from_url(url or ""),
        video_url=url,
        seed=seed if isinstance(seed, int) and not isinstance(seed, bool) else None,
        cost_usd=cost_usd(row),
        video_id=text_or_none(video_id) or text_or_none(row.get("videoId")),
        nsfw=nsfw if isinstance(nsfw, bool) else None,
    )


def _merged(earlier: VideoResult, later: VideoResult) -> VideoResult:
    return earlier.model_copy(update={name: value for name, value in later if value is not None})


def _is_running(row: Mapping[str, Any]) -> bool:
    # An answer may repeat the request (`taskType` getResponse and the UUID), which does not prove
    # that the task exists.
    if row.get("status") is not None or row.get("progress") is not None:
        return True
    return row.get("taskType") == "videoInference"


def _uuid_from_url(url: str) -> str:
    # Without the query, since each answer may sign the URL again.
    path = urlsplit(url).path
    if match := _UUID_PATTERN.search(path.rpartition("/")[2]):
        return match[0].lower()
    return hashlib.sha256(path.encode()).hexdigest()[:32]


def cost_usd(row: Mapping[str, Any]) -> float | None:
    """The cost in a row in USD. None: missing or 0."""
    cost = number_or_none(row.get("cost"))
    return cost if cost is not None and cost > 0 else None
