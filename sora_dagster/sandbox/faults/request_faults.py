"""Faults of requests: whole answers, submitted tasks, and queries for tasks."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal, Self

from pydantic import Field, model_validator

from sora_dagster.sandbox.faults.rules import Delay, Event, FailureKind, Indexes, OneOrMore, Rule

AnswerEvent = Literal["submission", "dry_run", "poll", "details", "account", "other", "download"]
Moment = Literal["before", "after"]


class AnswerFault(Rule):
    """A fault of the answer to a whole request.

    Arguments:
        event: kinds of requests: POSTs with a submission, a dry run, a poll, `getTaskDetails`, an
            account query or something else, and downloads of a video.
        moment: `before` strikes before the request is processed; `after` processes it (accepts and
            charges its tasks) and then replaces the answer.
    """

    event: Annotated[tuple[AnswerEvent, ...], OneOrMore, Field(min_length=1)] = ("submission",)
    moment: Moment = "after"


class LoseAnswer(AnswerFault):
    """Close the connection in good order, without a byte of an answer."""

    fault: Literal["lose_answer"]


class Reset(AnswerFault):
    """Reset the connection (TCP RST), without a byte of an answer."""

    fault: Literal["reset"]


class NoAnswer(AnswerFault):
    """Keep the connection open and never answer."""

    fault: Literal["no_answer"]


class Garbage(AnswerFault):
    """Answer with an HTTP `status` and a `body` that is not JSON."""

    fault: Literal["garbage"]
    body: str = "<html>upstream said something else</html>"
    status: int = Field(default=200, ge=200, le=599)


class EmptyData(AnswerFault):
    """Answer `{"data": []}`."""

    fault: Literal["empty_data"]


class Status(AnswerFault):
    """Answer with an HTTP error status.

    Arguments:
        status: 400 to 599, such as 401, 402, 413, 429, 500, 503 or 504.
        retry_after_seconds: value of the header `Retry-After`. Default: no header.
        code: raw error code in the body. Default: one that fits the status.
        message: the error's message.
        body: `json` for an error of the API, `html` for a page of a proxy.
    """

    fault: Literal["status"]
    moment: Moment = "before"
    status: int = Field(ge=400, le=599)
    retry_after_seconds: int | None = Field(default=None, ge=0)
    code: str | None = None
    message: str = "A fault of the sandbox's plan."
    body: Literal["json", "html"] = "json"


class Slow(AnswerFault):
    """Answer correctly, but `delay_seconds` late.

    With `moment: after` the tasks are accepted at once and only the answer waits; with `before`
    their acceptance waits too.
    """

    is_final: ClassVar[bool] = False

    fault: Literal["slow"]
    delay_seconds: Delay


class RefuseBatch(AnswerFault):
    """Refuse a POST with several polls with 400. One with a single poll is not counted."""

    fault: Literal["refuse_batch"]
    event: Annotated[tuple[Literal["poll"], ...], OneOrMore] = ("poll",)
    moment: Moment = "before"

    def matches(self, event: Event) -> bool:
        return len(event.tasks) > 1 and super().matches(event)


class Refuse(Rule):
    """Refuse a submitted task, while others of its POST are accepted.

    Arguments:
        error: kind of the error.
        code: raw error code. Default: that of the kind.
        message: the error's message. Default: that of the kind.
        positions: indexes in the POST, from 0, of the tasks that are refused. Default: any.
    """

    fault: Literal["refuse"]
    event: Annotated[tuple[Literal["submission"], ...], OneOrMore] = ("submission",)
    error: FailureKind = "provider"
    code: str | None = None
    message: str | None = None
    positions: Indexes | None = None

    def matches(self, event: Event) -> bool:
        is_chosen = self.positions is None or event.position in self.positions
        return is_chosen and super().matches(event)


class RefuseVideoUuids(Rule):
    """Refuse a submitted task that names an input video by its UUID, as if that had expired.

    Tasks that name it by a URL, or none, are not counted. How long a UUID can be used is not
    documented.
    """

    fault: Literal["refuse_video_uuids"]
    event: Annotated[
        tuple[Literal["submission", "dry_run"], ...], OneOrMore, Field(min_length=1)
    ] = ("submission",)


class QueryFault(Rule):
    """A fault of a query for one task: a poll or `getTaskDetails`."""

    event: Annotated[tuple[Literal["poll", "details"], ...], OneOrMore, Field(min_length=1)] = (
        "poll",
        "details",
    )


class Unknown(QueryFault):
    """Answer as if the task were unknown."""

    fault: Literal["unknown"]


class _Window(QueryFault):
    """A fault that begins or ends after a number of polls of the task, or after `seconds`."""

    polls: int | None = Field(default=None, ge=0)
    seconds: float | None = Field(default=None, ge=0)

    @model_validator(mode="after")
    def _one_measure(self) -> Self:
        if (self.polls is None) == (self.seconds is None):
            raise ValueError("give polls or seconds, one of them")
        return self

    def _is_over(self, polls: int, seconds: float) -> bool:
        if self.polls is not None:
            return polls >= self.polls
        return self.seconds is not None and seconds >= self.seconds


class NotYetKnown(_Window):
    """Answer as if an accepted task were unknown during its first polls or seconds."""

    fault: Literal["not_yet_known"]

    def matches(self, event: Event) -> bool:
        task = event.query
        return (
            task is not None
            and not self._is_over(task.polls, task.seconds_since_acceptance)
            and super().matches(event)
        )


class Forgotten(_Window):
    """Answer as if a task were unknown after enough polls or seconds since its end."""

    fault: Literal["forgotten"]

    def matches(self, event: Event) -> bool:
        task = event.query
        return (
            task is not None
            and task.seconds_since_end is not None
            and self._is_over(task.polls_since_end, task.seconds_since_end)
            and super().matches(event)
        )


class ArchivedRefusal(QueryFault):
    """Answer `getTaskDetails` with the refusal of a replay, if one was refused.

    An integrator reports that `getTaskDetails` returns the last answer given for the UUID; Runware
    does not document it.
    """

    fault: Literal["archived_refusal"]
    event: Annotated[tuple[Literal["details"], ...], OneOrMore] = ("details",)

    def matches(self, event: Event) -> bool:
        return event.query is not None and event.query.has_refused_replay and super().matches(event)


RequestFault = (
    LoseAnswer
    | Reset
    | NoAnswer
    | Garbage
    | EmptyData
    | Status
    | Slow
    | RefuseBatch
    | Refuse
    | RefuseVideoUuids
    | Unknown
    | NotYetKnown
    | Forgotten
    | ArchivedRefusal
)
