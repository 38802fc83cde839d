"""When outstanding tasks are polled: seldom, and all of them in one request."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class PollSettings:
    """When results are asked for.

    Arguments:
        first_seconds: wait before the first poll (Runware advises 1 to 2 s).
        factor: by how much the wait grows from poll to poll.
        longest_seconds: longest wait between polls.
        look_seconds: how often the inbox and the index are looked at in between.
    """

    first_seconds: float = 2.0
    factor: float = 2.0
    longest_seconds: float = 10.0
    look_seconds: float = 1.0


# With webhooks, polls are only the net for lost ones.
WEBHOOK_POLLS = PollSettings(first_seconds=30.0, longest_seconds=60.0)


class PollSchedule:
    """Decides which tasks are polled now.

    Arguments:
        settings: when to poll.
    """

    def __init__(self, settings: PollSettings) -> None:
        self._settings = settings
        self._due: float | None = None
        self._wait = settings.first_seconds
        self._known: frozenset[str] = frozenset()
        self._has_polled = False
        self._seen_markers: set[str] = set()

    def due(
        self, outstanding: Collection[str], markers: Mapping[str, Collection[str]], now: float
    ) -> list[str]:
        """The tasks to poll: all of them when their time has come, else those with a new marker.

        Arguments:
            outstanding: UUIDs of the tasks that Runware may still be generating.
            markers: keys of the markers of each task.
            now: the time, in seconds.
        """
        if not outstanding:
            self._due = None
            self._known = frozenset()
            return []
        self._expect(frozenset(outstanding), now)
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
        """How long until the next look is worth it."""
        pause = self._settings.look_seconds
        return pause if self._due is None else min(pause, max(0.05, self._due - now))

    def _expect(self, outstanding: frozenset[str], now: float) -> None:
        if self._due is not None and outstanding <= self._known:
            self._known = outstanding
            return
        # Something new is outstanding: results may be near, so the waits start again. What was
        # outstanding before this process began may have finished long ago: ask at once.
        first = self._settings.first_seconds
        if not self._has_polled:
            self._due = now
        else:
            self._due = now + first if self._due is None else min(self._due, now + first)
        self._has_polled = True
        self._wait = first
        self._known = outstanding
