"""Clocks: one that runs through a suspended machine, and the store's own."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import datetime, timedelta

_REFRESH_SECONDS = 600.0


def running_seconds() -> float:
    """Seconds on a clock that no one can set and that goes on while the machine is suspended.

    Where the system has no such clock, it stops while the machine is suspended.
    """
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


class StoreClock:
    """The store's clock, read now and then and carried on in between.

    It is carried on by a clock that cannot be set, so that a step of this machine's wall clock
    makes nothing older. May be used from several threads.

    Arguments:
        read: asks the store for its time.
        elapsed: the clock that carries it on, in seconds.
        refresh_seconds: how long it is carried on before the store is asked again.
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
            StorageError: if the store must be asked and fails.
        """
        with self._lock:
            if self._known is None or self._elapsed() - self._known[1] > self._refresh_seconds:
                self._known = (self._read(), self._elapsed())
            time_read, at = self._known
            return time_read + timedelta(seconds=self._elapsed() - at)
