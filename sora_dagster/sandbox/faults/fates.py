"""What the fault plan decided about one result, when its task was accepted."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from sora_dagster.sandbox.faults.failures import failure_of
from sora_dagster.sandbox.faults.result_faults import (
    Fail,
    GenerationFault,
    LateResult,
    NeverEnds,
    Nsfw,
    WrongCost,
)
from sora_dagster.sandbox.refusals import RefusedTaskError


@dataclass(frozen=True)
class PlannedOutcome:
    """How a result will turn out; by default as it should.

    Arguments:
        ends: whether it ever ends.
        delay_seconds: how much later than usual it does.
        failure: the error that it fails with.
        failure_told_in: where polls tell that error.
        is_nsfw: whether it is told to show what is not safe for work.
        told_cost: whether its cost is told rightly.
    """

    ends: bool = True
    delay_seconds: float = 0.0
    failure: RefusedTaskError | None = None
    failure_told_in: Literal["errors", "data"] = "errors"
    is_nsfw: bool = False
    told_cost: Literal["right", "missing", "zero"] = "right"


def fate_of(faults: Sequence[GenerationFault]) -> PlannedOutcome:
    """The fate of a result that these faults strike together."""
    fate = PlannedOutcome()
    for fault in faults:
        match fault:
            case Fail():
                failure = failure_of(fault.error, code=fault.code, message=fault.message)
                fate = replace(fate, failure=failure, failure_told_in=fault.told_in)
            case NeverEnds():
                fate = replace(fate, ends=False)
            case LateResult():
                fate = replace(fate, delay_seconds=fate.delay_seconds + fault.delay_seconds)
            case Nsfw():
                fate = replace(fate, is_nsfw=True)
            case WrongCost():
                fate = replace(fate, told_cost=fault.told)
    return fate
