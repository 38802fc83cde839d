"""Events of the sandbox, and what all rules of a fault plan share: which events they strike."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

PostEvent = Literal["submission", "dry_run", "poll", "details", "account", "other"]
FailureKind = Literal["provider", "validation", "safety", "timeout", "model"]
EventKind = PostEvent | Literal["generation", "webhook", "download", "upload"]


@dataclass(frozen=True)
class TaskFacts:
    """A task that an event is about.

    Arguments:
        task_uuid: its id as the client wrote it.
        prompt: its prompt; empty if the task is unknown.
    """

    task_uuid: str
    prompt: str = ""


@dataclass(frozen=True)
class QueryFacts:
    """The state of a known task when a poll or `getTaskDetails` asks for it.

    Arguments:
        polls: earlier polls of the task.
        polls_since_end: earlier polls after its end.
        seconds_since_acceptance: its age.
        seconds_since_end: time since its end; None while it runs.
        has_refused_replay: whether a later submission of its UUID was refused.
    """

    polls: int
    polls_since_end: int
    seconds_since_acceptance: float
    seconds_since_end: float | None
    has_refused_replay: bool


@dataclass(frozen=True)
class Event:
    """One occasion on which a fault can strike.

    Arguments:
        kind: what happens.
        tasks: the tasks that it is about: all of a POST, one otherwise.
        result: index of the result that it is about, from 0.
        position: index of a submitted task in its POST, from 0.
        query: state of a known task that is queried.
        is_failure: whether a webhook reports a failed result.
        is_redirected: whether the sandbox redirected a download here.
    """

    kind: EventKind
    tasks: tuple[TaskFacts, ...]
    result: int | None = None
    position: int | None = None
    query: QueryFacts | None = None
    is_failure: bool = False
    is_redirected: bool = False


# A single value where a list is expected: `event: poll` for `event: [poll]`.
OneOrMore = BeforeValidator(lambda value: [value] if isinstance(value, str | int) else value)
Delay = Annotated[float, Field(gt=0)]
Positive = Annotated[int, Field(ge=1)]
Indexes = Annotated[tuple[Annotated[int, Field(ge=0)], ...], OneOrMore, Field(min_length=1)]


class Rule(BaseModel):
    """A fault, and the events that it strikes. Default: every event that matches its filters.

    Arguments:
        fault: what happens.
        event: kinds of events that it strikes.
        nth: occurrences that it strikes, counted from 1.
        times: number of first occurrences that it strikes, instead of `nth`.
        per: count occurrences over the whole plan, or separately for each task.
        for_seconds: how long after the plan was set it can strike.
        prompt_contains: strike only tasks whose prompt contains this text (case-sensitive). An
            event about several tasks is struck as a whole if one of them matches.
        task_uuids: strike only these tasks.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    # Whether the fault decides the event, so that no later rule strikes it.
    is_final: ClassVar[bool] = True

    nth: Annotated[tuple[Positive, ...], OneOrMore, Field(min_length=1)] | None = None
    times: Positive | None = None
    per: Literal["plan", "task"] = "plan"
    for_seconds: float | None = Field(default=None, gt=0)
    prompt_contains: str | None = Field(default=None, min_length=1)
    task_uuids: Annotated[tuple[str, ...], OneOrMore, Field(min_length=1)] | None = None

    @model_validator(mode="after")
    def _one_choice_of_occurrences(self) -> Self:
        if self.nth is not None and self.times is not None:
            raise ValueError("give nth or times, not both")
        return self

    @property
    def kinds(self) -> tuple[EventKind, ...]:
        """The kinds of events that it strikes: its field `event`, which each fault declares."""
        kinds: tuple[EventKind, ...] = self.event  # type: ignore[attr-defined]
        return kinds

    def matches(self, event: Event) -> bool:
        """Whether its filters match an event, regardless of occurrences."""
        if event.kind not in self.kinds:
            return False
        tasks = event.tasks
        if self.prompt_contains is not None:
            tasks = tuple(task for task in tasks if self.prompt_contains in task.prompt)
        if self.task_uuids is not None:
            chosen = {task_uuid.lower() for task_uuid in self.task_uuids}
            tasks = tuple(task for task in tasks if task.task_uuid.lower() in chosen)
        is_filtered = self.prompt_contains is not None or self.task_uuids is not None
        return bool(tasks) or not is_filtered

    def strikes(self, occurrence: int) -> bool:
        """Whether it strikes its `occurrence`-th event, counted from 1."""
        if self.nth is not None:
            return occurrence in self.nth
        return self.times is None or occurrence <= self.times

    def count_key(self, event: Event) -> Any:
        """Events with an equal key share a count."""
        if self.per == "plan":
            return None
        return tuple(task.task_uuid.lower() for task in event.tasks)


class ResultRule(Rule):
    """A rule about single results of tasks.

    Arguments:
        results: indexes of the results that it strikes, from 0. Default: all.
        per: `result` counts the occurrences of each result separately.
    """

    per: Literal["plan", "task", "result"] = "plan"  # type: ignore[assignment]
    results: Indexes | None = None

    def matches(self, event: Event) -> bool:
        is_chosen = self.results is None or event.result in self.results
        return is_chosen and super().matches(event)

    def count_key(self, event: Event) -> Any:
        key = super().count_key(event)
        return (key, event.result) if self.per == "result" else key
