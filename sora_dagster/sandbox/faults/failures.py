"""The errors that faults fail tasks and results with."""

from __future__ import annotations

from typing import Literal

from sora_dagster.sandbox.refusals import RefusedTaskError

FailureKind = Literal["provider", "validation", "safety", "timeout", "model"]

_FAILURES: dict[FailureKind, tuple[str, str]] = {
    "provider": ("inferenceError", "The provider could not generate the video."),
    "validation": ("invalidPositivePrompt", "The provider does not accept this prompt."),
    "safety": ("contentPolicyViolation", "The content was refused by the provider's policy."),
    "timeout": ("timeoutProvider", "The provider did not answer in time."),
    "model": ("modelDisabled", "The model is disabled."),
}


def failure_of(
    kind: FailureKind, *, code: str | None = None, message: str | None = None
) -> RefusedTaskError:
    """An error of a kind.

    Arguments:
        kind: what failed.
        code: raw error code; one of the kind by default. Runware publishes no list of them.
        message: what is wrong; a sentence of the kind by default.
    """
    usual_code, usual_message = _FAILURES[kind]
    return RefusedTaskError(code or usual_code, message or usual_message)
