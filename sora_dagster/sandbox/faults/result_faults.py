"""Faults of generations, and of what is told about their results."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field

from sora_dagster.sandbox.faults.failures import FailureKind
from sora_dagster.sandbox.faults.rules import OneOrMore, ResultRule


class GenerationFault(ResultRule):
    """A fault of one result, decided when its task is accepted."""

    event: Annotated[tuple[Literal["generation"], ...], OneOrMore] = ("generation",)


class Fail(GenerationFault):
    """The generation fails when it is due.

    Arguments:
        error: what kind of error it fails with.
        code: raw error code; that of the kind by default.
        message: the error's message; that of the kind by default.
        told_in: whether polls tell it in `errors`, or as a row of `data` with the status `error`.
    """

    fault: Literal["fail"]
    error: FailureKind = "provider"
    code: str | None = None
    message: str | None = None
    told_in: Literal["errors", "data"] = "errors"


class NeverEnds(GenerationFault):
    """The generation stays in processing for ever."""

    fault: Literal["never_ends"]


class LateResult(GenerationFault):
    """The generation takes longer.

    Arguments:
        delay_seconds: by how much.
    """

    is_final: ClassVar[bool] = False

    fault: Literal["late_result"]
    delay_seconds: float = Field(gt=0)


class Nsfw(GenerationFault):
    """The result is told with `NSFWContent` true, checked or not."""

    is_final: ClassVar[bool] = False

    fault: Literal["nsfw"]


class WrongCost(GenerationFault):
    """The result's cost is not told, though it was asked for and charged.

    Arguments:
        told: `missing` leaves the field away, `zero` tells 0.
    """

    is_final: ClassVar[bool] = False

    fault: Literal["wrong_cost"]
    told: Literal["missing", "zero"] = "missing"
