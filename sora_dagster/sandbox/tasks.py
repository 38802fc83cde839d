"""The tasks that were accepted, and how each of their generations stands.

Plain objects without clock, network or threads of their own: the runner moves them on, and polls
read them.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field, replace
from typing import Any, Literal
from uuid import UUID

from sora_dagster.sandbox.refusals import RefusedTaskError
from sora_dagster.sandbox.rendering import VideoSpec
from sora_dagster.sandbox.validation import VideoRequest

State = Literal["processing", "success", "error"]


@dataclass(frozen=True)
class Order:
    """A request whose inputs were found: all that is needed to charge and render it.

    Arguments:
        request: the request.
        video: what its first result would be; each result has a seed of its own.
        cost_usd: price of all results together.
        base_url: address under which the client reached the sandbox.
    """

    request: VideoRequest
    video: VideoSpec
    cost_usd: float
    base_url: str


@dataclass
class Generation:
    """One result of a task, from its start to its end.

    Arguments:
        seed: its seed.
        video_uuid: id of the video.
        video_id: what a remix of it names in `inputs.videoId`.
        video: what is rendered.
        due_at: Unix time in seconds before which it does not end.
        state: how it stands.
        ended_at: Unix time in seconds of its end.
        video_url: where the finished video is hosted.
        error: why it failed.
    """

    seed: int
    video_uuid: str
    video_id: str
    video: VideoSpec
    due_at: float
    state: State = "processing"
    ended_at: float | None = None
    video_url: str | None = None
    error: RefusedTaskError | None = None

    def succeed(self, *, video_url: str, at: float) -> None:
        """Note that the video is finished and hosted."""
        self.state, self.video_url, self.ended_at = "success", video_url, at

    def fail(self, error: RefusedTaskError, *, at: float) -> None:
        """Note that there will be no video."""
        self.state, self.error, self.ended_at = "error", error, at


@dataclass
class Task:
    """A task that was accepted.

    Arguments:
        order: what was asked for.
        accepted_at: Unix time in seconds.
        generations: its results, one for each that was asked for.
    """

    order: Order
    accepted_at: float
    generations: list[Generation] = field(default_factory=list)

    @property
    def task_uuid(self) -> str:
        """The client's id of the task."""
        return self.order.request.task_uuid

    @property
    def is_over(self) -> bool:
        """Whether every generation has ended."""
        return all(generation.state != "processing" for generation in self.generations)

    def acknowledgement(self) -> dict[str, Any]:
        """The row that answers its submission."""
        return {"taskType": "videoInference", "taskUUID": self.task_uuid}

    def rows(self, now: float) -> list[dict[str, Any]]:
        """The rows of its finished and running generations, as a poll tells them."""
        return [
            self._running_row(generation, now)
            if generation.state == "processing"
            else {"status": "success", **self.result(generation)}
            for generation in self.generations
            if generation.state != "error"
        ]

    def errors(self) -> list[dict[str, Any]]:
        """The errors of its failed generations."""
        return [
            generation.error.to_wire(task_type="videoInference", task_uuid=self.task_uuid)
            for generation in self.generations
            if generation.error is not None
        ]

    def result(self, generation: Generation) -> dict[str, Any]:
        """A finished generation as the reference page shows it."""
        request = self.order.request
        row: dict[str, Any] = {
            **self.acknowledgement(),
            "videoUUID": generation.video_uuid,
            "videoURL": generation.video_url,
            "seed": generation.seed,
            "outputs": {"videoId": generation.video_id},
        }
        if request.include_cost:
            row["cost"] = as_wire_number(self.order.cost_usd / request.number_results)
        if request.checks_content:
            row["NSFWContent"] = False
        return row

    def _running_row(self, generation: Generation, now: float) -> dict[str, Any]:
        span = max(generation.due_at - self.accepted_at, 0.001)
        share = max(0.0, (now - self.accepted_at) / span)
        # A rendering that takes longer than the latency stays at 99.
        return {
            **self.acknowledgement(),
            "status": "processing",
            "progress": min(99, int(100 * share)),
        }


class TaskBook:
    """All tasks that were ever accepted.

    Arguments:
        latency_seconds: from acceptance to the first result.
        latency_step_seconds: further time to each next one.
    """

    def __init__(
        self,
        *,
        latency_seconds: float,
        latency_step_seconds: float,
    ) -> None:
        self._latency_seconds = latency_seconds
        self._latency_step_seconds = latency_step_seconds
        self._tasks: dict[str, Task] = {}
        self._videos: dict[str, Generation] = {}

    @property
    def running(self) -> int:
        """How many tasks are not over."""
        return sum(not task.is_over for task in self._tasks.values())

    def find(self, task_uuid: str) -> Task | None:
        """The task of a UUID."""
        return self._tasks.get(task_uuid.lower())

    def find_video(self, video_id: str, *, only_finished: bool = True) -> Generation | None:
        """The video of an `outputs.videoId`."""
        generation = self._videos.get(video_id)
        if generation is not None and only_finished and generation.state != "success":
            return None
        return generation

    def refuse_known(self, task_uuid: str) -> None:
        """Make sure that a UUID was never accepted, be its task running or over.

        Raises:
            RefusedTaskError: `conflictTaskUUID`, where it was.
        """
        if self.find(task_uuid) is not None:
            raise RefusedTaskError(
                "conflictTaskUUID",
                f"A task with the taskUUID {task_uuid} was accepted already; every task needs a "
                f"taskUUID of its own.",
                parameter="taskUUID",
            )

    def accept(self, order: Order, *, now: float) -> Task:
        """Take a task in.

        Raises:
            RefusedTaskError: `conflictTaskUUID`, where its UUID was accepted before.
        """
        request = order.request
        self.refuse_known(request.task_uuid)
        task = Task(order=order, accepted_at=now)
        for index in range(request.number_results):
            seed = _seed(request.task_uuid, index)
            video_uuid = _video_uuid(request.task_uuid, index)
            generation = Generation(
                seed=seed,
                video_uuid=video_uuid,
                video_id="video_" + hashlib.sha256(video_uuid.encode()).hexdigest()[:48],
                video=_with_seed(order.video, seed),
                due_at=now + self._latency_seconds + index * self._latency_step_seconds,
            )
            task.generations.append(generation)
            self._videos[generation.video_id] = generation
        self._tasks[request.task_uuid.lower()] = task
        return task


def _seed(task_uuid: str, index: int) -> int:
    digest = hashlib.sha256(f"{task_uuid.lower()}/{index}".encode()).digest()
    return int.from_bytes(digest[:4], "big") >> 1


def _video_uuid(task_uuid: str, index: int) -> str:
    """The id of a result: the same when the sandbox is started again."""
    digest = hashlib.sha256(f"{task_uuid.lower()}/{index}/video".encode()).digest()
    return str(UUID(bytes=digest[:16], version=4))


def _with_seed(video: VideoSpec, seed: int) -> VideoSpec:
    picture = video.picture
    if picture.remixes:
        *older, newest = picture.remixes
        picture = replace(picture, remixes=(*older, replace(newest, seed=seed)))
    else:
        picture = replace(picture, subject=replace(picture.subject, seed=seed))
    return replace(video, picture=picture)


def as_wire_number(value: float) -> int | float:
    """A number as the API writes it: 4, not 4.0."""
    rounded = round(value, 6)
    return int(rounded) if rounded == int(rounded) else rounded
