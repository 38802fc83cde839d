"""Waiting for videos that Runware puts into the store, which polls may tell of before."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from datetime import datetime, timedelta

from sora_dagster.generation import layout
from sora_dagster.generation.archive import ReadyTask
from sora_dagster.storage import StorageRoot


class Arrivals:
    """Keeps tasks that are over back until their video is in the store, or late.

    Arguments:
        root: the storage root.
        grace_seconds: how long after its task was first seen finished an upload is waited for.
        store_time: the store's clock.
    """

    def __init__(
        self, root: StorageRoot, *, grace_seconds: float, store_time: Callable[[], datetime]
    ) -> None:
        self._root = root
        self._grace = timedelta(seconds=grace_seconds)
        self._store_time = store_time
        self._since: dict[str, datetime] = {}
        self._held: dict[str, ReadyTask] = {}

    def __contains__(self, task_uuid: object) -> bool:
        return task_uuid in self._held

    def held(self, task_uuids: Collection[str]) -> list[ReadyTask]:
        """Those of some tasks that are kept back."""
        return [ready for uuid, ready in self._held.items() if uuid in task_uuids]

    def let_through(self, over: Sequence[ReadyTask]) -> list[ReadyTask]:
        """Those of some tasks that can be stored now; the others are kept back from here on.

        Costs one listing, where any of them is delivered directly.
        """
        awaited = {ready.attempt.task_uuid for ready in over if _is_put(ready)}
        if awaited:
            keys = {info.key for info in self._root.list(layout.INCOMING_FOLDER)}
            awaited = {uuid for uuid in awaited if layout.incoming_key(uuid) not in keys}
        let_through: list[ReadyTask] = []
        for ready in over:
            task_uuid = ready.attempt.task_uuid
            if task_uuid in awaited and not self._is_late(ready):
                self._held[task_uuid] = ready
            else:
                self._held.pop(task_uuid, None)
                let_through.append(ready)
        return let_through

    def _is_late(self, ready: ReadyTask) -> bool:
        since = self._since.setdefault(ready.attempt.task_uuid, ready.seen_finished_at)
        return self._store_time() - since >= self._grace


def _is_put(ready: ReadyTask) -> bool:
    """Whether a task's video is one that Runware puts into the store."""
    return ready.attempt.delivery == "direct" and len(ready.status.results) == 1
