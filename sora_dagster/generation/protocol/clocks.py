"""Clocks: one that runs through a suspended machine, and the store's own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta

_REFRESH_SECONDS = 600.0


def running_seconds() -> float:
    """Seconds on a clock that cannot be set and runs while the machine is suspended.

    On systems without such a clock, it stops while the machine is suspended.
    """
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


class StoreClock:
    """The store's clock, read from time to time and extrapolated in between.

    It is extrapolated with a clock that cannot be set, so that a step of this machine's wall clock
    has no effect. Thread-safe.

    Arguments:
        read: reads the store's time.
        elapsed: the clock in between, in seconds.
        refresh_seconds: how long it is extrapolated before the store's time is read again.
    """

    def __init__(
        self,
        read: Callable[[], datetime],
        *,
        elapsed: Callable[[], float] = running_seconds,
        refresh_seconds: float = _REFRESH_SECONDS,
    ) -> None:
        self._read = read
        self._elapsed = elapsed
        self._refresh_seconds = refresh_seconds
        self._lock = threading.Lock()
        self._known: tuple[datetime, float] | None = None

    def __call__(self) -> datetime:
        """The store's time now.

        Raises:
            StorageError: if the store's time must be read and the store fails.
        """
        with self._lock:
            if self._known is None or self._elapsed() - self._known[1] > self._refresh_seconds:
                self._known = (self._read(), self._elapsed())
            time_read, at = self._known
            return time_read + timedelta(seconds=self._elapsed() - at)
