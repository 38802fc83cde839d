"""What the checks of a stored video are called, and what each of them says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

Severity = Literal["error", "warn"]
Figure = float | int | str | bool

# What each check is about, in the order of the verdicts. A failed "error" means a clip that should
# not be used; a "warn" one that somebody should look at: silence can be wanted, and a price above
# the estimate has been paid already.
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
    """What one check says.

    Arguments:
        name: of the check, one of `CHECKS`.
        passed: whether it was evaluated, and nothing is wrong.
        description: what was found, and what was expected, in a sentence.
        figures: the numbers that it was judged by.
        evaluated: False where the check could not be evaluated: it neither passed nor failed, and
            the description says why.
    """

    name: str
    passed: bool
    description: str
    figures: Mapping[str, Figure] = field(default_factory=dict)
    evaluated: bool = True

    @property
    def failed(self) -> bool:
        """Whether it was evaluated, and something is wrong."""
        return self.evaluated and not self.passed

    @property
    def severity(self) -> Severity:
        """How bad it is where it failed."""
        return CHECKS[self.name]


def together(verdicts: Sequence[CheckResult]) -> CheckResult:
    """One verdict of those of one check on several videos.

    It fails where one of them does, and passes where at least one does and none fails. Its
    description says which videos were not evaluated.
    """
    if len(verdicts) == 1:
        return verdicts[0]
    count = len(verdicts)
    numbered = list(enumerate(verdicts, 1))
    failed = [number for number, verdict in numbered if verdict.failed]
    skipped = [number for number, verdict in numbered if not verdict.evaluated]
    passed = [number for number, verdict in numbered if verdict.passed]
    shown = [*failed, *passed, *skipped][0]
    verdict = verdicts[shown - 1]
    description = f"Video {shown} of {count}: {verdict.description}"
    if verdict.evaluated and skipped:
        others = ", ".join(str(number) for number in skipped)
        description += f" Not evaluated for video {others} of {count}."
    figures = {
        **verdict.figures,
        "videos": count,
        "failed_videos": len(failed),
        "unevaluated_videos": len(skipped),
    }
    return replace(verdict, description=description, figures=figures)


def unevaluated(name: str, reason: str) -> CheckResult:
    """The verdict of a check that could not be evaluated."""
    return CheckResult(name, False, f"Not evaluated: {reason}.", evaluated=False)
