"""What an answer tells about one task: its videos, its failures, and what is still running."""

from __future__ import annotations

import hashlib
import math
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, TypeGuard
from urllib.parse import urlsplit

from pydantic import BaseModel, ConfigDict

from sora_dagster.runware.answers import ApiAnswer, parse_answer
from sora_dagster.runware.errors import (
    AuthenticationError,
    ConflictError,
    ConnectionFailedError,
    NotFoundError,
    RateLimitError,
    RunwareError,
    ServerError,
)

__all__ = [
    "ApiAnswer",
    "TaskStatus",
    "VideoResult",
    "archived_status",
    "parse_answer",
    "task_status",
]

_UUID_PATTERN = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.IGNORECASE)

# Statuses that are about the request as a whole, so that errors in such an answer say nothing of
# how a generation went, whatever task they name.
_STATUS_OF_THE_REQUEST = frozenset({401, 402, 403, 429})


class VideoResult(BaseModel):
    """One finished video (reference page, section of the result).

    Arguments:
        task_uuid: the task it is of.
        video_uuid: the video's own UUID. Where an answer has none, it is derived from the URL.
        video_url: where the video can be fetched while its URL lives; none where it was only
            delivered to the upload endpoint (not documented; assumed possible).
        seed: the seed it was made with.
        cost_usd: what it cost. An answer's 0 is taken as "not known", since no video of these
            models is free and 0 has been reported on videos that were charged.
        video_id: the id that a remix of it names.
        nsfw: whether the content check flagged it; none where there was no check.
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
    """How a task is going, by one answer.

    Arguments:
        task_uuid: the task.
        processing: generations that are still running.
        progress: 0 to 100, of the generation that is least far; none where nothing was said.
        results: finished videos, each once, ordered by `video_uuid`.
        errors: generations that failed, each once.
        not_found: the API's word that it does not know the task; none where it did not say so.
            Silence is not that word.
        poll_error: what went wrong with the question itself; it tells nothing of the task.
    """

    task_uuid: str
    processing: int = 0
    progress: int | None = None
    results: tuple[VideoResult, ...] = ()
    errors: tuple[RunwareError, ...] = ()
    not_found: NotFoundError | None = None
    poll_error: RunwareError | None = None

    @property
    def is_known(self) -> bool:
        """Whether the answer holds anything that only a task which was accepted can have."""
        return bool(self.processing or self.results or self.errors)

    def is_over(self, number_results: int) -> bool:
        """Whether nothing more will come.

        Arguments:
            number_results: how many videos the task was asked for.
        """
        if len(self.results) >= number_results:
            return True
        if self.processing:
            return False
        finished = len(self.results) + len(self.errors)
        return finished >= number_results or bool(self.errors and not self.results)


def task_status(task_uuid: str, answer: ApiAnswer) -> TaskStatus:
    """What an answer to a poll tells about one task, by what it says under the task's UUID."""
    results: dict[str, VideoResult] = {}
    processing = 0
    progress: list[int] = []
    for row in answer.rows_of(task_uuid):
        if (video := _video(task_uuid, row)) is not None:
            earlier = results.get(video.video_uuid)
            results[video.video_uuid] = video if earlier is None else _merged(earlier, video)
        elif _is_running(row):
            processing += 1
            if (percent := _number(row.get("progress"))) is not None:
                progress.append(max(0, min(100, int(percent))))

    scoped = answer.errors_of(task_uuid)
    failures = [error for error in scoped if _is_of_the_generation(error)]
    doubts = [error for error in scoped if not _is_of_the_generation(error)]
    return TaskStatus(
        task_uuid=task_uuid,
        processing=processing,
        progress=min(progress, default=None),
        results=tuple(sorted(results.values(), key=lambda video: video.video_uuid)),
        errors=_each_failure_once(answer.row_errors_of(task_uuid), failures),
        not_found=next((error for error in scoped if is_unknown_task(error)), None),
        poll_error=next((error for error in doubts if not is_unknown_task(error)), None),
    )


def archived_status(task_uuid: str, answer: ApiAnswer) -> TaskStatus:
    """What an answer to `getTaskDetails` tells about one task.

    Its row holds the `request` and the `response` of the task as they were (Runware
    documentation). What the response looks like is not documented for a task that was delivered
    asynchronously; assumed to be the last answer given for the UUID, of any form. So a conflict in
    it is no failure, but tells of a task that was running.
    """
    for row in answer.rows_of(task_uuid):
        if row.get("response") is None and row.get("request") is None:
            continue
        response = parse_answer(200, row.get("response") or {})
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
            progress=status.progress,
            results=status.results,
            errors=errors,
        )
    return task_status(task_uuid, answer)


def is_unknown_task(error: RunwareError) -> TypeGuard[NotFoundError]:
    """Whether an error is the API's word that it does not know a task.

    It has to be said in the API's own form: a bare 404 may come from a proxy. An expired task was
    known, and an image or a model that is not found is another matter.
    """
    if not isinstance(error, NotFoundError) or error.code is None or is_of_the_request(error):
        return False
    code = error.code.lower()
    if code in ("notfound", "not_found"):
        return error.parameter in (None, "taskUUID")
    return "task" in code and code.endswith("notfound")


def _is_of_the_generation(error: RunwareError) -> bool:
    """Whether an error that names a task tells that its generation failed.

    What went wrong with the poll itself must not end a task: its video is paid for.
    """
    if is_unknown_task(error) or isinstance(error, (ConflictError, ConnectionFailedError)):
        return False
    if is_of_the_request(error):
        return False
    if isinstance(error, (AuthenticationError, RateLimitError, ServerError)):
        return error.task_type not in (None, "getResponse", "getTaskDetails", "authentication")
    return True


def is_of_the_request(error: RunwareError) -> bool:
    """Whether an error came with an HTTP status that is about the request as a whole."""
    status = error.status_code or 200
    return status in _STATUS_OF_THE_REQUEST or status >= 500


def _each_failure_once(
    in_data: Iterable[RunwareError], in_errors: Iterable[RunwareError]
) -> tuple[RunwareError, ...]:
    """The failures of both lists.

    Several generations may fail alike, so like errors of one list all count. The same failure may
    stand in both lists, so what is in one already is not counted again in the other.
    """
    failures = list(in_data)
    told = Counter(error.to_record() for error in failures)
    for error in in_errors:
        record = error.to_record()
        if told[record] > 0:
            told[record] -= 1
        else:
            failures.append(error)
    return tuple(failures)


def _video(task_uuid: str, row: Mapping[str, Any]) -> VideoResult | None:
    url = _text(row.get("videoURL"))
    video_uuid = _text(row.get("videoUUID"))
    status = str(row.get("status") or "").lower()
    # A generation that is running may carry its videoUUID already (official SDK).
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
        video_id=_text(video_id) or _text(row.get("videoId")),
        nsfw=nsfw if isinstance(nsfw, bool) else None,
    )


def _merged(earlier: VideoResult, later: VideoResult) -> VideoResult:
    told = {name: value for name, value in later if value is not None}
    return earlier.model_copy(update=told)


def _is_running(row: Mapping[str, Any]) -> bool:
    # An answer may repeat the question (`taskType` getResponse and the UUID); that alone is no
    # proof that the task exists.
    if row.get("status") is not None or row.get("progress") is not None:
        return True
    return row.get("taskType") == "videoInference"


def _uuid_from_url(url: str) -> str:
    # Without the query: the same video may be given under a freshly signed URL.
    path = urlsplit(url).path
    if match := _UUID_PATTERN.search(path.rpartition("/")[2]):
        return match[0].lower()
    return hashlib.sha256(path.encode()).hexdigest()[:32]


def cost_usd(row: Mapping[str, Any]) -> float | None:
    """The cost that a row tells, in USD; 0 counts as not told."""
    cost = _number(row.get("cost"))
    return cost if cost is not None and cost > 0 else None


def _number(value: object) -> float | None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        number = float(value)
    except OverflowError:
        return None
    return number if math.isfinite(number) else None


def _text(value: object) -> str | None:
    return value if isinstance(value, str) and value else None
