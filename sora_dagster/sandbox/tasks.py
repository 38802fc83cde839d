"""The tasks that were accepted, and how each of their generations stands.

Plain objects without clock, network or threads of their own: the runner moves them on, and polls
read them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from sora_dagster.sandbox.faults.events import TaskFacts
from sora_dagster.sandbox.faults.fates import PlannedOutcome
from sora_dagster.sandbox.refusals import RefusedTaskError
from sora_dagster.sandbox.rendering import VideoSpec
from sora_dagster.sandbox.validation import VideoRequest

State = Literal["processing", "success", "error"]
Outcome = Literal["running", "done", "partial", "failed"]

# The organization that the sandbox's usual key belongs to.
MAIN_ACCOUNT = "00000000-0000-4000-8000-000000000000"


@dataclass(frozen=True)
class Order:
    """A request whose inputs were found: all that is needed to charge and render it.

    Arguments:
        request: the request.
        video: what its first result would be; each result has a seed of its own.
        cost_usd: price of all results together.
        base_url: address under which the client reached the sandbox.
        account: UUID of the organization that pays.
    """

    request: VideoRequest
    video: VideoSpec
    cost_usd: float
    base_url: str
    account: str = MAIN_ACCOUNT

    @property
    def result_cost_usd(self) -> float:
        """Price of one result."""
        return self.cost_usd / self.request.number_results


@dataclass(eq=False)
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
        is_charged: whether it is paid for.
        fate: what the fault plan decided about it.
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
    is_charged: bool = True
    fate: PlannedOutcome = field(default_factory=PlannedOutcome)

    def succeed(self, *, video_url: str | None, at: float) -> None:
        """Note that the video is finished, and hosted where it has a URL."""
        self.state, self.video_url, self.ended_at = "success", video_url, at

    def fail(self, error: RefusedTaskError, *, at: float) -> None:
        """Note that there will be no video."""
        self.state, self.error, self.ended_at = "error", error, at


@dataclass(eq=False)
class Task:
    """A task that was accepted.

    Arguments:
        order: what was asked for.
        accepted_at: Unix time in seconds.
        attempt: 1, or more where a task of the same UUID had been accepted before.
        generations: its results, one for each that was asked for.
        polls: how often it was polled.
        polls_since_end: how often it was polled when it was over.
        refused_replay: the refusal of the latest submission of its UUID that was refused.
    """

    order: Order
    accepted_at: float
    attempt: int = 1
    generations: list[Generation] = field(default_factory=list)
    polls: int = 0
    polls_since_end: int = 0
    refused_replay: RefusedTaskError | None = None

    @property
    def task_uuid(self) -> str:
        """The client's id of the task."""
        return self.order.request.task_uuid

    @property
    def is_over(self) -> bool:
        """Whether every generation has ended."""
        return all(generation.state != "processing" for generation in self.generations)

    @property
    def ended_at(self) -> float | None:
        """Unix time in seconds of the end of its last generation; none while one runs."""
        ends = [generation.ended_at for generation in self.generations]
        return None if None in ends else max(end for end in ends if end is not None)

    @property
    def outcome(self) -> Outcome:
        """How it stands as a whole."""
        if not self.is_over:
            return "running"
        finished = sum(generation.state == "success" for generation in self.generations)
        if finished == len(self.generations):
            return "done"
        return "partial" if finished else "failed"

    @property
    def facts(self) -> TaskFacts:
        """What the fault plan chooses it by."""
        return TaskFacts(self.task_uuid, self.order.request.prompt)

    def count_poll(self) -> None:
        """Note that it was polled."""
        self.polls += 1
        self.polls_since_end += self.is_over

    def acknowledgement(self) -> dict[str, Any]:
        """The row that answers its submission."""
        return {"taskType": "videoInference", "taskUUID": self.task_uuid}

    def rows(self, now: float, *, tells_running: bool = True) -> list[dict[str, Any]]:
        """The rows of its finished and running generations, as a poll tells them.

        Arguments:
            now: Unix time in seconds.
            tells_running: whether the running ones have a row.
        """
        rows = []
        for generation in self.generations:
            if generation.state == "success":
                rows.append({"status": "success", **self.result(generation)})
            elif generation.state == "processing" and tells_running:
                rows.append(self._running_row(generation, now))
            elif generation.error is not None and generation.fate.failure_told_in == "data":
                error = self.failure(generation.error)
                rows.append({**self.acknowledgement(), "status": "error", "error": error})
        return rows

    def errors(self) -> list[dict[str, Any]]:
        """The errors of its failed generations, but for those that are told as rows."""
        return [
            self.failure(generation.error)
            for generation in self.generations
            if generation.error is not None and generation.fate.failure_told_in == "errors"
        ]

    def failure(self, error: RefusedTaskError) -> dict[str, Any]:
        """An error of the task as it is told."""
        return dict(error.to_wire(task_type="videoInference", task_uuid=self.task_uuid))

    def result(self, generation: Generation) -> dict[str, Any]:
        """A finished generation as the reference page shows it."""
        request = self.order.request
        row: dict[str, Any] = {
            **self.acknowledgement(),
            "videoUUID": generation.video_uuid,
            **({} if generation.video_url is None else {"videoURL": generation.video_url}),
            "seed": generation.seed,
            "outputs": {"videoId": generation.video_id},
        }
        fate = generation.fate
        if request.include_cost and fate.told_cost != "missing":
            told_usd = 0.0 if fate.told_cost == "zero" else self.order.result_cost_usd
            row["cost"] = as_wire_number(told_usd)
        if request.checks_content or fate.is_nsfw:
            row["NSFWContent"] = fate.is_nsfw
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


def as_wire_number(value: float) -> int | float:
    """A number as the API writes it: 4, not 4.0."""
    rounded = round(value, 6)
    return int(rounded) if rounded == int(rounded) else rounded
