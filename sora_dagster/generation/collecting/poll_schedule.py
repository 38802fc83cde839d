"""When outstanding tasks are polled: rarely, and all of them in one request."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Mapping

from sora_dagster.generation.collecting.settings import PollSettings


class PollSchedule:
    """Decides which tasks are polled now.

    Arguments:
        settings: how often to poll.
        new_jitter: a number from 0 to 1, different each time.
    """

    def __init__(
        self, settings: PollSettings, *, new_jitter: Callable[[], float] = random.random
    ) -> None:
        self._settings = settings
        self._new_jitter = new_jitter
        self._due: float | None = None
        self._wait = settings.first_seconds
        self._known: frozenset[str] = frozenset()
        self._has_polled = False
        self._seen_markers: set[str] = set()

    def due(
        self, outstanding: Collection[str], markers: Mapping[str, Collection[str]], now: float
    ) -> list[str]:
        """The tasks to poll: all of them at the scheduled time, otherwise those with new markers.

        Arguments:
            outstanding: UUIDs of the tasks that Runware may still be generating.
            markers: keys of the markers of each task.
            now: the time, in seconds.
        """
        if not outstanding:
            self._due = None
            self._known = frozenset()
            return []
        self._schedule(frozenset(outstanding), now)
        marked = [
            task_uuid
            for task_uuid in outstanding
            if not self._seen_markers.issuperset(markers.get(task_uuid, ()))
        ]
        for task_uuid in marked:
            self._seen_markers.update(markers[task_uuid])
        if self._due is None or now < self._due:
            return marked
        self._wait = min(self._wait * self._settings.factor, self._settings.longest_seconds)
        self._due = now + self._wait
        return list(outstanding)

    def seconds_left(self, now: float) -> float:
        """Time until the next refresh, in seconds."""
        pause = self._settings.refresh_seconds
        return pause if self._due is None else min(pause, max(0.05, self._due - now))

    def back_off(self, failures: int, now: float) -> None:
        """Postpone the next poll after failed ones: twice as long each time, up to a minute.

        Arguments:
            failures: number of polls that failed in a row.
            now: the time, in seconds.
        """
        settings = self._settings
        wait = settings.first_seconds * 2 ** min(failures, 20)
        longest = max(settings.failing_seconds, settings.first_seconds)
        # Many processes must not poll at the same moment when Runware is back.
        self._due = now + min(wait, longest) * (0.75 + self._new_jitter() / 2)

    def recover(self, now: float) -> None:
        """Poll often again, since a poll succeeded after failed ones."""
        self._wait = self._settings.first_seconds
        self._due = now + self._wait

    def _schedule(self, outstanding: frozenset[str], now: float) -> None:
        if self._due is not None and outstanding <= self._known:
            self._known = outstanding
            return
        # With something new, results may be near, so the waits start again. Tasks from before
        # this process may have finished long ago, so the first poll is immediate.
        first = self._settings.first_seconds
        if not self._has_polled:
            self._due = now
        else:
            self._due = now + first if self._due is None else min(self._due, now + first)
        self._has_polled = True
        self._wait = first
        self._known = outstanding
