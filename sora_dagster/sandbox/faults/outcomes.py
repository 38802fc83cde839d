"""What the fault plan decided about one result, and the errors that faults cause."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from sora_dagster.sandbox.faults.request_faults import Refuse
from sora_dagster.sandbox.faults.result_faults import (
    Fail,
    GenerationFault,
    LateResult,
    NeverEnds,
    Nsfw,
    WrongCost,
)
from sora_dagster.sandbox.faults.rules import FailureKind
from sora_dagster.sandbox.refusals import RefusedTaskError

# Runware publishes no list of codes.
_FAILURES: dict[FailureKind, tuple[str, str]] = {
    "provider": ("inferenceError", "The provider could not generate the video."),
    "validation": ("invalidPositivePrompt", "The provider does not accept this prompt."),
    "safety": ("contentPolicyViolation", "The content was refused by the provider's policy."),
    "timeout": ("timeoutProvider", "The provider did not answer in time."),
    "model": ("modelDisabled", "The model is disabled."),
}


@dataclass(frozen=True)
class PlannedOutcome:
    """How a result will turn out. Default: a finished video.

    Arguments:
        ends: whether it ever ends.
        delay_seconds: how much later than usual it ends.
        failure: the error that it fails with.
        failure_reported_in: where polls report that error.
        is_nsfw: whether it is reported as not safe for work.
        reported_cost: whether its cost is reported correctly.
    """

    ends: bool = True
    delay_seconds: float = 0.0
    failure: RefusedTaskError | None = None
    failure_reported_in: Literal["errors", "data"] = "errors"
    is_nsfw: bool = False
    reported_cost: Literal["correct", "missing", "zero"] = "correct"


def planned_outcome(faults: Sequence[GenerationFault]) -> PlannedOutcome:
    """The outcome of a result that these faults strike together."""
    outcome = PlannedOutcome()
    for fault in faults:
        match fault:
            case Fail():
                outcome = replace(
                    outcome, failure=error_of(fault), failure_reported_in=fault.reported_in
                )
            case NeverEnds():
                outcome = replace(outcome, ends=False)
            case LateResult():
                delay_seconds = outcome.delay_seconds + fault.delay_seconds
                outcome = replace(outcome, delay_seconds=delay_seconds)
            case Nsfw():
                outcome = replace(outcome, is_nsfw=True)
            case WrongCost():
                outcome = replace(outcome, reported_cost=fault.reported)
    return outcome


def error_of(fault: Fail | Refuse) -> RefusedTaskError:
    """The error that a fault causes."""
    usual = failure_of(fault.error)
    return RefusedTaskError(fault.code or usual.code, fault.message or usual.message)


def failure_of(kind: FailureKind) -> RefusedTaskError:
    """The usual error of a kind."""
    return RefusedTaskError(*_FAILURES[kind])
