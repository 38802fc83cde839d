"""Whether a storage root can be read, checked seldom and without writing."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable

from sora_dagster.storage import StorageError, StorageRoot

# A check is one listing of one level. Health checks come every few seconds, from anyone.
CHECK_SECONDS = 30.0
# A check that does not return must not leave an old result in place.
_RESULT_SECONDS = 2 * CHECK_SECONDS
_log = logging.getLogger(__name__)


class Readiness:
    """Whether the storage root can be read. Safe to use from several threads.

    The root is read at most every 30 seconds and by one thread at a time; in between, the last
    result counts. Nothing is written. The reason of a failure is logged, not returned, since
    strangers can ask for it.

    Arguments:
        root: the storage root.
        clock: monotonic time in seconds.
    """

    def __init__(self, root: StorageRoot, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._root = root
        self._clock = clock
        self._checking = threading.Lock()
        self._result: tuple[bool, float] | None = None

    def is_ready(self) -> bool:
        """Whether the last check succeeded; checks first if that is more than 30 seconds ago."""
        if self._age() >= CHECK_SECONDS and self._checking.acquire(blocking=False):
            try:
                # Another thread may have checked between the two conditions.
                if self._age() >= CHECK_SECONDS:
                    self._result = (self._can_read(), self._clock())
            finally:
                self._checking.release()
        return self._result is not None and self._result[0] and self._age() < _RESULT_SECONDS

    def _age(self) -> float:
        result = self._result
        return float("inf") if result is None else self._clock() - result[1]

    def _can_read(self) -> bool:
        was_ready = self._result is None or self._result[0]
        try:
            # A look-up of one object cannot tell a missing bucket from a missing object.
            self._root.folders("")
        except StorageError as error:
            _log.error("the storage root cannot be read: %s", error)
            return False
        if not was_ready:
            _log.warning("the storage root can be read again")
        return True
