"""The accepted tasks and the state of their generations.

Plain objects without a clock, network or threads: the runner updates them, and polls read them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

from sora_dagster.sandbox.faults.outcomes import PlannedOutcome
from sora_dagster.sandbox.faults.rules import QueryFacts, TaskFacts
from sora_dagster.sandbox.refusals import RefusedTaskError
from sora_dagster.sandbox.rendering import VideoSpec
from sora_dagster.sandbox.request_form import VideoRequest

State = Literal["processing", "success", "error"]
Outcome = Literal["running", "done", "partial", "failed"]

# The organization of the sandbox's default key.
MAIN_ACCOUNT = "00000000-0000-4000-8000-000000000000"


@dataclass(frozen=True)
class Order:
    """A request with its inputs and price: everything needed to charge and render it.

    Arguments:
        request: the request.
        video: its first result; each result has its own seed.
        cost_usd: price of all results together.
        is_assumed_price: whether the entry has no price, so that the sandbox's own figure counts.
        base_url: address under which the client reached the sandbox.
        account: UUID of the organization that pays.
    """

    request: VideoRequest
    video: VideoSpec
    cost_usd: float
    base_url: str
    account: str = MAIN_ACCOUNT
    is_assumed_price: bool = False

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
        video_id: the id that a remix of it sends in `inputs.videoId`.
        video: what is rendered.
        due_at: Unix time in seconds before which it does not end.
        state: its state.
        ended_at: Unix time in seconds of its end.
        video_url: where the finished video is hosted.
        error: why it failed.
        is_charged: whether it is paid for.
        planned: what the fault plan decided about it.
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
    planned: PlannedOutcome = field(default_factory=PlannedOutcome)

    def succeed(self, *, video_url: str | None, at: float) -> None:
        """Record that the video is finished."""
        self.state, self.video_url, self.ended_at = "success", video_url, at

    def fail(self, error: RefusedTaskError, *, at: float) -> None:
        """Record that the generation failed."""
        self.state, self.error, self.ended_at = "error", error, at


@dataclass(eq=False)
class Task:
    """An accepted task.

    Arguments:
        order: the request with its inputs and price.
        accepted_at: Unix time in seconds.
        attempt: 1, or more if a task of the same UUID was accepted before.
        generations: its results.
        polls: how often it was polled.
        polls_since_end: how often it was polled after its end.
        refused_replay: the latest refusal of a submission of its UUID.
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
        return self.ended_at is not None

    @property
    def ended_at(self) -> float | None:
        """Unix time in seconds of the end of its last generation; None while one runs."""
        ends = [generation.ended_at for generation in self.generations]
        return None if None in ends else max(end for end in ends if end is not None)

    @property
    def outcome(self) -> Outcome:
        """Its state as a whole."""
        if not self.is_over:
            return "running"
        finished = sum(generation.state == "success" for generation in self.generations)
        if finished == len(self.generations):
            return "done"
        return "partial" if finished else "failed"

    @property
    def facts(self) -> TaskFacts:
        """What the fault plan selects it by."""
        return TaskFacts(self.task_uuid, self.order.request.prompt)

    def query_facts(self, now: float) -> QueryFacts:
        """What the fault plan selects a query for it by."""
        return QueryFacts(
            polls=self.polls,
            polls_since_end=self.polls_since_end,
            seconds_since_acceptance=now - self.accepted_at,
            seconds_since_end=None if self.ended_at is None else now - self.ended_at,
            has_refused_replay=self.refused_replay is not None,
        )

    def count_poll(self) -> None:
        """Record a poll."""
        self.polls += 1
        self.polls_since_end += self.is_over

    def acknowledgement(self) -> dict[str, Any]:
        """The row that answers its submission."""
        return {"taskType": "videoInference", "taskUUID": self.task_uuid}

    def rows(self, now: float, *, include_running: bool = True) -> list[dict[str, Any]]:
        """The rows that a poll returns.

        Arguments:
            now: Unix time in seconds.
            include_running: whether running generations have a row.
        """
        rows = []
        for generation in self.generations:
            if generation.state == "success":
                rows.append({"status": "success", **self.result(generation)})
            elif generation.state == "processing" and include_running:
                rows.append(self._running_row(generation, now))
            elif generation.error is not None and generation.planned.failure_reported_in == "data":
                error = self.failure(generation.error)
                rows.append({**self.acknowledgement(), "status": "error", "error": error})
        return rows

    def errors(self) -> list[dict[str, Any]]:
        """The errors of its failed generations that are not reported as rows."""
        return [
            self.failure(generation.error)
            for generation in self.generations
            if generation.error is not None and generation.planned.failure_reported_in == "errors"
        ]

    def failure(self, error: RefusedTaskError) -> dict[str, Any]:
        """An error of the task in the API's form."""
        return dict(error.to_wire(task_type="videoInference", task_uuid=self.task_uuid))

    def result(self, generation: Generation) -> dict[str, Any]:
        """A finished generation.

        The form is that of Sora's reference page. Only models that take `inputs.videoId` have
        `outputs`: the result type of the official SDK 1.8.0, which no longer knows Sora, has none.
        """
        request, planned = self.order.request, generation.planned
        row: dict[str, Any] = {**self.acknowledgement(), "videoUUID": generation.video_uuid}
        if generation.video_url is not None:
            row["videoURL"] = generation.video_url
        row["seed"] = generation.seed
        if "videoId" in request.entry.inputs:
            row["outputs"] = {"videoId": generation.video_id}
        if request.include_cost and planned.reported_cost != "missing":
            is_zero = planned.reported_cost == "zero"
            row["cost"] = 0 if is_zero else as_wire_number(self.order.result_cost_usd)
        if request.checks_content or planned.is_nsfw:
            row["NSFWContent"] = planned.is_nsfw
        return row

    def _running_row(self, generation: Generation, now: float) -> dict[str, Any]:
        span = max(generation.due_at - self.accepted_at, 0.001)
        share = max(0.0, (now - self.accepted_at) / span)
        # A rendering that takes longer than the latency stays at 99.
        progress = min(99, int(100 * share))
        return {**self.acknowledgement(), "status": "processing", "progress": progress}


def as_wire_number(value: float) -> int | float:
    """A number as the API writes it: 4, not 4.0."""
    rounded = round(value, 6)
    return int(rounded) if rounded == int(rounded) else rounded
