"""Storing does not run ahead of the loop that takes the results."""

from __future__ import annotations

import threading
from typing import Any, cast

from sora_dagster.generation.collecting.archive import ClipArchive
from sora_dagster.generation.collecting.tracked import FinishedTask, ReadyTask, TrackedTask
from sora_dagster.generation.collecting.workers import CollectionWorkers, StoreResult
from sora_dagster.runware.client import RunwareClient

PARALLEL = 2
TASKS = 6


class CountingArchive:
    """Stores at once, and counts."""

    def __init__(self) -> None:
        self.count = 0
        self.changed = threading.Condition()

    def store(self, ready: ReadyTask, damaged: dict[str, Any], **_: object) -> FinishedTask:
        with self.changed:
            self.count += 1
            self.changed.notify_all()
        return cast(FinishedTask, ready)

    def reaches(self, count: int, *, within_seconds: float) -> bool:
        with self.changed:
            return self.changed.wait_for(lambda: self.count >= count, within_seconds)


def started_work(archive: CountingArchive) -> CollectionWorkers:
    work = CollectionWorkers(cast(RunwareClient, None), cast(ClipArchive, archive), PARALLEL)
    for number in range(TASKS):
        task = type("Task", (), {"ready": number, "damaged": {}})()
        work.store(cast(TrackedTask, task))
    return work


def test_no_more_is_stored_than_is_taken_and_every_result_arrives() -> None:
    archive = CountingArchive()
    work = started_work(archive)
    results: list[object] = []
    while len(results) < TASKS:
        assert archive.reaches(min(len(results) + PARALLEL, TASKS), within_seconds=30)
        assert not archive.reaches(len(results) + PARALLEL + 1, within_seconds=0.1)
        stored = work.next_result(30)
        assert isinstance(stored, StoreResult)
        results.append(stored.result)
    assert sorted(map(str, results)) == [str(number) for number in range(TASKS)]
    assert not work.is_storing
    work.stop()


def test_stopping_ends_what_waits_for_its_results_to_be_taken() -> None:
    archive = CountingArchive()
    work = started_work(archive)
    assert archive.reaches(PARALLEL, within_seconds=30)
    work.stop()
    assert archive.count == PARALLEL
