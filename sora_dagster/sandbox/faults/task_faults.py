"""Faults of single tasks in a POST: refused submissions, and look-ups that know too little."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from sora_dagster.sandbox.faults.events import Event
from sora_dagster.sandbox.faults.failures import FailureKind
from sora_dagster.sandbox.faults.rules import Index, OneOrMore, Rule


class Refuse(Rule):
    """Refuse a submitted task, while others of its POST are accepted.

    Arguments:
        error: what kind of error it is refused with.
        code: raw error code; that of the kind by default.
        message: the error's message; that of the kind by default.
        positions: places in the POST, from 0, of the tasks that are refused; any by default.
    """

    fault: Literal["refuse"]
    event: Annotated[tuple[Literal["submission"], ...], OneOrMore] = ("submission",)
    error: FailureKind = "provider"
    code: str | None = None
    message: str | None = None
    positions: Annotated[tuple[Index, ...], OneOrMore, Field(min_length=1)] | None = None

    def matches(self, event: Event) -> bool:
        is_chosen = self.positions is None or event.position in self.positions
        return is_chosen and super().matches(event)


class LookupFault(Rule):
    """A fault of finding one task: by a poll, or in the archive (`getTaskDetails`)."""

    event: Annotated[tuple[Literal["poll", "details"], ...], OneOrMore, Field(min_length=1)] = (
        "poll",
        "details",
    )


class Unknown(LookupFault):
    """Know nothing of the task."""

    fault: Literal["unknown"]


class _Window(LookupFault):
    """A fault that begins or ends after a number of polls, or of seconds.

    Arguments:
        polls: of the task.
        seconds: instead of `polls`.
    """

    polls: int | None = Field(default=None, ge=0)
    seconds: float | None = Field(default=None, ge=0)

    @model_validator(mode="after")
    def _one_measure(self) -> Self:
        if (self.polls is None) == (self.seconds is None):
            raise ValueError("give polls or seconds, one of them")
        return self


class NotYetKnown(_Window):
    """Know nothing of an accepted task during its first polls, or its first seconds."""

    fault: Literal["not_yet_known"]

    def matches(self, event: Event) -> bool:
        task = event.lookup
        if task is None or not super().matches(event):
            return False
        if self.polls is not None:
            return task.polls < self.polls
        return self.seconds is not None and task.seconds_since_acceptance < self.seconds


class Forgotten(_Window):
    """Know nothing of a task once it is over and was polled since, or waited for, long enough."""

    fault: Literal["forgotten"]

    def matches(self, event: Event) -> bool:
        task = event.lookup
        if task is None or task.seconds_since_end is None or not super().matches(event):
            return False
        if self.polls is not None:
            return task.polls_since_end >= self.polls
        return self.seconds is not None and task.seconds_since_end >= self.seconds


class ArchivedRefusal(LookupFault):
    """Answer a look-up in the archive with the refusal of a replay, where one was refused.

    An integrator reports that `getTaskDetails` returns the last answer given for the UUID; Runware
    does not state it.
    """

    fault: Literal["archived_refusal"]
    event: Annotated[tuple[Literal["details"], ...], OneOrMore] = ("details",)

    def matches(self, event: Event) -> bool:
        return (
            event.lookup is not None and event.lookup.has_refused_replay and super().matches(event)
        )
