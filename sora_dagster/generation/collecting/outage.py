"""How long polls of Runware have been failing."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sora_dagster.runware.errors import RunwareError

# A shorter outage at the end of a run is no reason to fail it.
_SHORTEST_REPORTED_SECONDS = 120.0


@dataclass(frozen=True)
class Outage:
    """The polls that have failed since the last one that succeeded.

    Arguments:
        since: when the first of them failed, in seconds.
        failures: their number.
        error: the last error.
        was_polled_before: whether a poll of this collection succeeded before.
    """

    since: float
    failures: int
    error: RunwareError
    was_polled_before: bool

    def is_reported(self, now: float) -> bool:
        """Whether a collection that ends now has failed because of it."""
        return not self.was_polled_before or now - self.since >= _SHORTEST_REPORTED_SECONDS


class OutageWatch:
    """Counts the polls that fail.

    Arguments:
        elapsed: a clock that runs through a suspended machine, in seconds.
    """

    def __init__(self, elapsed: Callable[[], float]) -> None:
        self._elapsed = elapsed
        self._has_polled = False
        #: The polls that have failed since the last one that succeeded; None: that was the last.
        self.outage: Outage | None = None

    def succeed(self) -> bool:
        """Count a poll that succeeded; returns whether it ended an outage."""
        was_failing = self.outage is not None
        self._has_polled, self.outage = True, None
        return was_failing

    def fail(self, error: RunwareError) -> int:
        """Count a poll that failed; returns how many have failed in a row."""
        outage = self.outage
        since = self._elapsed() if outage is None else outage.since
        failures = 1 if outage is None else outage.failures + 1
        self.outage = Outage(since, failures, error, self._has_polled)
        return failures
