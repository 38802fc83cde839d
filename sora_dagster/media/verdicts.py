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
    "format_as_asked": "error",
    "size_as_asked": "error",
    "duration_as_asked": "error",
    "not_black": "error",
    "not_frozen": "error",
    "has_sound": "warn",
    "not_silent": "warn",
    "content_flag_clean": "error",
    "cost_within_estimate": "warn",
}


@dataclass(frozen=True)
class Verdict:
    """What one check says.

    Arguments:
        name: of the check, one of `CHECKS`.
        passed: False only where something is wrong.
        description: what was found, and what was expected, in a sentence.
        figures: the numbers that it was judged by.
        was_judged: False where there was nothing to judge; the description says why.
    """

    name: str
    passed: bool
    description: str
    figures: Mapping[str, Figure] = field(default_factory=dict)
    was_judged: bool = True

    @property
    def severity(self) -> Severity:
        """How bad it is where it failed."""
        return CHECKS[self.name]


def together(verdicts: Sequence[Verdict]) -> Verdict:
    """One verdict of those of one check on several videos: it passes where each of them does."""
    if len(verdicts) == 1:
        return verdicts[0]
    failed = [number for number, verdict in enumerate(verdicts, 1) if not verdict.passed]
    judged = [number for number, verdict in enumerate(verdicts, 1) if verdict.was_judged]
    shown = [*failed, *judged, 1][0]
    verdict = verdicts[shown - 1]
    figures = {**verdict.figures, "videos": len(verdicts), "failed_videos": len(failed)}
    return replace(
        verdict,
        description=f"Video {shown} of {len(verdicts)}: {verdict.description}",
        figures=figures,
    )


def unjudged(name: str, reason: str) -> Verdict:
    """The verdict where there is nothing to judge."""
    return Verdict(name, True, f"Not judged: {reason}.", was_judged=False)
