"""How long something is waited for that others do."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from sora_dagster.generation.protocol.clocks import running_seconds


class Patience:
    """Decides when waiting has no use any more.

    Arguments:
        quiet_seconds: how long nothing may be outstanding or running before waiting ends.
        stall_seconds: how long nothing may change before waiting ends, whatever is outstanding.
        elapsed: the clock, in seconds.
    """

    def __init__(
        self,
        *,
        quiet_seconds: float,
        stall_seconds: float,
        elapsed: Callable[[], float] = running_seconds,
    ) -> None:
        self.quiet_seconds = quiet_seconds
        self._stall_seconds = stall_seconds
        self._elapsed = elapsed
        self._quiet_since = self._changed_at = elapsed()
        self._seen: object = None

    def after_look(self, seen: object, *, is_busy: bool) -> Literal["wait", "quiet", "stalled"]:
        """What to do after a look.

        Arguments:
            seen: what was seen; anything that can be compared.
            is_busy: whether something is outstanding or running.
        """
        now = self._elapsed()
        if seen != self._seen:
            self._seen, self._changed_at = seen, now
        if is_busy:
            self._quiet_since = now
        if now - self._quiet_since > self.quiet_seconds:
            return "quiet"
        return "stalled" if now - self._changed_at > self._stall_seconds else "wait"
