"""Faults of the answer to a whole request: lost, garbled, refused or late."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from sora_dagster.sandbox.faults.events import Event
from sora_dagster.sandbox.faults.rules import OneOrMore, Rule

AnswerEvent = Literal["submission", "dry_run", "poll", "details", "account", "other", "download"]
Moment = Literal["before", "after"]


class AnswerFault(Rule):
    """A fault of the answer to a request.

    Arguments:
        event: the kind of requests: POSTs with a submission, with one that is a dry run, with a
            poll, with a look-up in the archive, with a question about the account, others, or
            downloads of a video.
        moment: `before` strikes before anything in the request is done, `after` does it all
            (accepts and charges the tasks) and then spoils the answer.
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
    """Answer something that is not JSON.

    Arguments:
        body: the answer's text.
        status: its HTTP status.
    """

    fault: Literal["garbage"]
    body: str = "<html>upstream said something else</html>"
    status: int = Field(default=200, ge=200, le=599)


class EmptyData(AnswerFault):
    """Answer `{"data": []}`."""

    fault: Literal["empty_data"]


class Status(AnswerFault):
    """Answer with an HTTP status that tells an error.

    Arguments:
        status: 400 to 599, such as 401, 402, 413, 429, 500, 503 or 504.
        retry_after_seconds: value of the header `Retry-After`; none to leave it away.
        code: raw error code in the body; one that suits the status by default.
        message: the error's message.
        body: `json` for an error as the API tells it, `html` for a page as a proxy tells it.
    """

    fault: Literal["status"]
    moment: Moment = "before"
    status: int = Field(ge=400, le=599)
    retry_after_seconds: int | None = Field(default=None, ge=0)
    code: str | None = None
    message: str = "A fault of the sandbox's plan."
    body: Literal["json", "html"] = "json"


class Slow(AnswerFault):
    """Answer late, but rightly.

    Arguments:
        delay_seconds: how late. With `moment: after` the tasks are accepted at once and only the
            answer waits; with `before` their acceptance waits too.
    """

    is_final: ClassVar[bool] = False

    fault: Literal["slow"]
    delay_seconds: float = Field(gt=0)


class RefuseBatch(AnswerFault):
    """Refuse a POST that has several polls with 400; those with one are let through uncounted."""

    fault: Literal["refuse_batch"]
    event: Annotated[tuple[Literal["poll"], ...], OneOrMore] = ("poll",)
    moment: Moment = "before"

    def matches(self, event: Event) -> bool:
        return len(event.tasks) > 1 and super().matches(event)
