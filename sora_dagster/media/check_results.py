"""Names of the built-in checks of a stored video, and the result of one of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

Severity = Literal["error", "warn"]
Figure = float | int | str | bool

# In the order of the results. "error": the clip should not be used. "warn": a person should look
# at it, since silence can be intended and a cost above the estimate is already paid.
CHECKS: Mapping[str, Severity] = {
    "decodes": "error",
    "format_matches": "error",
    "size_matches": "error",
    "duration_matches": "error",
    "not_black": "error",
    "not_frozen": "error",
    "has_sound": "warn",
    "not_silent": "warn",
    "not_flagged": "error",
    "cost_within_estimate": "warn",
}


@dataclass(frozen=True)
class CheckResult:
    """Result of one check of a video.

    Arguments:
        name: name of the check, one of `CHECKS`.
        passed: whether the check was evaluated and found nothing wrong.
        description: what was found and what was expected, in a sentence.
        figures: the numbers behind the result.
        evaluated: False if the check could not be evaluated; it then neither passed nor failed,
            and the description says why.
    """

    name: str
    passed: bool
    description: str
    figures: Mapping[str, Figure] = field(default_factory=dict)
    evaluated: bool = True

    @property
    def failed(self) -> bool:
        """Whether the check was evaluated and found something wrong."""
        return self.evaluated and not self.passed

    @property
    def severity(self) -> Severity:
        """Severity of a failure of this check."""
        return CHECKS[self.name]


def not_evaluated(name: str, reason: str) -> CheckResult:
    """Result of a check that could not be evaluated."""
    return CheckResult(name, False, f"Not evaluated: {reason}.", evaluated=False)


def combine(results: Sequence[CheckResult]) -> CheckResult:
    """Combine the results of one check on several videos into one.

    It fails if one of them failed, and passes if at least one passed and none failed. The
    description names the videos for which the check was not evaluated.
    """
    if len(results) == 1:
        return results[0]
    count = len(results)
    failed = [number for number, result in enumerate(results, 1) if result.failed]
    skipped = [number for number, result in enumerate(results, 1) if not result.evaluated]
    passed = [number for number, result in enumerate(results, 1) if result.passed]
    shown = [*failed, *passed, *skipped][0]
    result = results[shown - 1]
    description = f"Video {shown} of {count}: {result.description}"
    if result.evaluated and skipped:
        numbers = ", ".join(map(str, skipped))
        description += f" Not evaluated for video {numbers} of {count}."
    figures = {
        **result.figures,
        "videos": count,
        "failed_videos": len(failed),
        "unevaluated_videos": len(skipped),
    }
    return replace(result, description=description, figures=figures)
