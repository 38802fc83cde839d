"""Faults of webhooks."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from sora_dagster.sandbox.faults.events import Event
from sora_dagster.sandbox.faults.rules import OneOrMore, ResultRule


class WebhookFault(ResultRule):
    """A fault of telling one result; several may come together."""

    is_final: ClassVar[bool] = False

    event: Annotated[tuple[Literal["webhook"], ...], OneOrMore] = ("webhook",)


class WebhookLost(WebhookFault):
    """The webhook is never sent."""

    is_final: ClassVar[bool] = True

    fault: Literal["webhook_lost"]


class WebhookLate(WebhookFault):
    """The webhook is sent later.

    Arguments:
        delay_seconds: by how much.
    """

    fault: Literal["webhook_late"]
    delay_seconds: float = Field(gt=0)


class WebhookRepeated(WebhookFault):
    """The webhook is sent again after it was delivered.

    Arguments:
        copies: how often it is sent in all.
    """

    fault: Literal["webhook_repeated"]
    copies: int = Field(default=2, ge=2)


class WebhookOutOfOrder(WebhookFault):
    """The webhooks of a task are held back until all its results have ended, then sent one after
    the other, the last result first."""

    fault: Literal["webhook_out_of_order"]


class WebhookMalformed(WebhookFault):
    """The webhook's body is something else than a result.

    Arguments:
        body: the text that is sent.
    """

    fault: Literal["webhook_malformed"]
    body: str = '{"taskType": "videoInference", "taskUUID": '


class WebhookFailure(WebhookFault):
    """A failure is told in one of the forms that a failure's webhook may have.

    Arguments:
        form: `flat` for the error itself, `error` for it in `{"error": …}`, `errors` for it in
            `{"errors": […]}`.
        of: `failed` strikes failed results only; `all` tells a failure of finished ones too, which
            is a lie.
    """

    fault: Literal["webhook_failure"]
    form: Literal["flat", "error", "errors"] = "flat"
    of: Literal["failed", "all"] = "failed"

    def matches(self, event: Event) -> bool:
        return (event.is_failure or self.of == "all") and super().matches(event)
