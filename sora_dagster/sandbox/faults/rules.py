"""What all rules of a fault plan have in common: which events they strike."""

from __future__ import annotations

from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from sora_dagster.sandbox.faults.events import Event, EventKind


def as_list(value: object) -> object:
    """A single value where several may stand: `event: poll` for `event: [poll]`."""
    return [value] if isinstance(value, str | int) else value


OneOrMore = BeforeValidator(as_list)
Positive = Annotated[int, Field(ge=1)]
Index = Annotated[int, Field(ge=0)]


class Rule(BaseModel):
    """A fault, and the events that it strikes.

    Without a choice of occurrences it strikes whenever its filters fit.

    Arguments:
        fault: what happens.
        event: kinds of events that it strikes.
        nth: occurrences that it strikes, counted from 1.
        times: how many of the first occurrences it strikes, instead of `nth`.
        per: whether occurrences are counted over the whole plan, or for each task for itself.
        for_seconds: how long after the plan was set it strikes at all.
        prompt_contains: strike only tasks whose prompt contains this text (letter case counts).
            An event about several tasks is struck whole where one of them fits.
        task_uuids: strike only these tasks.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    # Whether nothing can be added to what it did, so that no later rule strikes the same event.
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
        """The kinds of events that it strikes: its field `event`, which each fault types itself."""
        kinds: tuple[EventKind, ...] = self.event  # type: ignore[attr-defined]
        return kinds

    def matches(self, event: Event) -> bool:
        """Whether its filters fit an event, whatever its occurrences."""
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
        """Whether its `occurrence`-th event, counted from 1, is one that it strikes."""
        if self.nth is not None:
            return occurrence in self.nth
        return self.times is None or occurrence <= self.times

    def counted_with(self, event: Event) -> Any:
        """What an event is counted together with: events with an equal key share a count."""
        if self.per == "plan":
            return None
        return tuple(task.task_uuid.lower() for task in event.tasks)


class ResultRule(Rule):
    """A rule about single results of tasks.

    Arguments:
        results: indexes of the results that it strikes, from 0; all by default.
        per: `result` counts the occurrences of each result for itself.
    """

    per: Literal["plan", "task", "result"] = "plan"  # type: ignore[assignment]
    results: Annotated[tuple[Index, ...], OneOrMore, Field(min_length=1)] | None = None

    def matches(self, event: Event) -> bool:
        is_chosen = self.results is None or event.result in self.results
        return is_chosen and super().matches(event)

    def counted_with(self, event: Event) -> Any:
        key = super().counted_with(event)
        return (key, event.result) if self.per == "result" else key
