"""The threads of a collection: several store clips, one polls, and the loop takes the results."""

from __future__ import annotations

import queue
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import CancelledError
from dataclasses import dataclass

from sora_dagster.generation.collecting.archive import ClipArchive
from sora_dagster.generation.collecting.tracked import FinishedTask, ReadyTask, TrackedTask
from sora_dagster.generation.fetching.video_store import DamagedCopy
from sora_dagster.generation.threads import LAST_SECONDS, DaemonThreads
from sora_dagster.runware.client import RunwareClient
from sora_dagster.runware.results import TaskStatus


@dataclass(frozen=True)
class StoreResult:
    """The end of a task that was stored, or why it could not be stored."""

    task: TrackedTask
    result: FinishedTask | BaseException


@dataclass(frozen=True)
class PollResult:
    """The statuses of the tasks that were polled, or why the poll failed."""

    task_uuids: Sequence[str]
    result: Mapping[str, TaskStatus] | BaseException


class CollectionWorkers:
    """Stores and polls in threads, so that a stored clip is reported immediately.

    Storing waits while as many results as there are storing threads have not been taken yet.
    Otherwise it would run ahead of a slow event log, and a clip would be reported long after it
    was stored.

    Arguments:
        client: the API client.
        archive: stores tasks.
        parallel_clips: number of clips that are fetched and stored at the same time.
    """

    def __init__(self, client: RunwareClient, archive: ClipArchive, parallel_clips: int) -> None:
        self._client = client
        self._archive = archive
        self._results: queue.SimpleQueue[StoreResult | PollResult] = queue.SimpleQueue()
        self._storers = DaemonThreads(parallel_clips, "store-clip")
        self._poller = DaemonThreads(1, "poll")
        self._free_results = threading.Semaphore(parallel_clips)
        self._is_stopping = threading.Event()
        self._is_interrupted = threading.Event()
        self._storing = 0
        self._is_polling = False

    @property
    def is_storing(self) -> bool:
        """Whether a store is running, or its result has not been taken yet."""
        return self._storing > 0

    @property
    def is_polling(self) -> bool:
        """Whether a poll is running, or its result has not been taken yet."""
        return self._is_polling

    def store(self, task: TrackedTask) -> None:
        """Store a task that is over at Runware."""
        ready = task.ready
        assert ready is not None
        self._storing += 1
        future = self._storers.submit(self._store, ready, task.damaged)
        future.add_done_callback(
            lambda done: self._results.put(StoreResult(task, done.exception() or done.result()))
        )

    def _store(self, ready: ReadyTask, damaged: dict[str, DamagedCopy]) -> FinishedTask:
        self._free_results.acquire()
        if self._is_stopping.is_set():
            raise CancelledError
        return self._archive.store(ready, damaged, check_interrupted=self._check_interrupted)

    def _check_interrupted(self) -> None:
        if self._is_interrupted.is_set():
            raise CancelledError

    def poll(self, task_uuids: Sequence[str]) -> None:
        """Poll tasks."""
        self._is_polling = True
        future = self._poller.submit(self._client.poll, task_uuids)
        future.add_done_callback(
            lambda done: self._results.put(
                PollResult(task_uuids, done.exception() or done.result())
            )
        )

    def next_result(self, timeout_seconds: float | None) -> StoreResult | PollResult | None:
        """The next result; None if there is none in time.

        Arguments:
            timeout_seconds: longest wait for it; None to not wait.
        """
        try:
            result = self._results.get(block=timeout_seconds is not None, timeout=timeout_seconds)
        except queue.Empty:
            return None
        if isinstance(result, StoreResult):
            self._storing -= 1
            self._free_results.release()
        else:
            self._is_polling = False
        return result

    def stop(self, *, is_interrupted: bool = False) -> None:
        """Wait for the running work, and start no more.

        Arguments:
            is_interrupted: whether the process was asked to end, or another one took over its
                clips: downloads are then broken off, and work that does not end within some
                seconds is left to die with the process, as if it were killed. The next collection
                stores these clips.
        """
        self._is_stopping.set()
        if is_interrupted:
            self._is_interrupted.set()
        self._free_results.release(self._storing + 1)
        self._storers.stop(LAST_SECONDS if is_interrupted else None)
        # Nothing is lost with a poll.
        self._poller.stop(LAST_SECONDS)
