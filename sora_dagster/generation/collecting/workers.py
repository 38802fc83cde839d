"""The threads of a collection: several store clips, one polls, and the loop takes the results."""

from __future__ import annotations

import queue
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from sora_dagster.generation.collecting.archive import ClipArchive
from sora_dagster.generation.collecting.tracked import (
    FinishedTask,
    ReadyTask,
    TrackedTask,
)
from sora_dagster.generation.fetching.video_store import DamagedCopy
from sora_dagster.runware.client import RunwareClient
from sora_dagster.runware.results import TaskStatus


@dataclass(frozen=True)
class Stored:
    """What storing a task brought: its end, or why it could not be stored."""

    task: TrackedTask
    result: FinishedTask | BaseException


@dataclass(frozen=True)
class Polled:
    """What polling for tasks brought: their statuses, or why the poll failed."""

    task_uuids: Sequence[str]
    result: Mapping[str, TaskStatus] | BaseException


class CollectionWork:
    """Stores and polls in threads, so that what is stored is handed over at once.

    Storing waits while as many results as there are storing threads have not been taken yet.
    Otherwise it would run ahead of a slow event log, and a clip would be reported long after it
    was stored.

    Arguments:
        client: the API client.
        archive: stores what is over.
        parallel_clips: how many clips are fetched and stored at once.
    """

    def __init__(self, client: RunwareClient, archive: ClipArchive, parallel_clips: int) -> None:
        self._client = client
        self._archive = archive
        self._results: queue.SimpleQueue[Stored | Polled] = queue.SimpleQueue()
        self._pool = ThreadPoolExecutor(parallel_clips, thread_name_prefix="store-clip")
        self._poller = ThreadPoolExecutor(1, thread_name_prefix="poll")
        self._free_results = threading.Semaphore(parallel_clips)
        self._is_stopping = threading.Event()
        self._storing = 0
        self._is_polling = False

    @property
    def is_storing(self) -> bool:
        """Whether anything is being stored, or was and is not taken yet."""
        return self._storing > 0

    @property
    def is_polling(self) -> bool:
        """Whether a poll is under way, or was and is not taken yet."""
        return self._is_polling

    def store(self, task: TrackedTask) -> None:
        """Store a task that is over at Runware."""
        assert task.ready is not None
        self._storing += 1
        future = self._pool.submit(self._store, task.ready, task.damaged)

        def take(done: Future[FinishedTask]) -> None:
            self._results.put(Stored(task, _failure_of(done) or done.result()))

        future.add_done_callback(take)

    def _store(self, ready: ReadyTask, damaged: dict[str, DamagedCopy]) -> FinishedTask:
        self._free_results.acquire()
        if self._is_stopping.is_set():
            raise CancelledError
        return self._archive.store(ready, damaged)

    def poll(self, task_uuids: Sequence[str]) -> None:
        """Poll for tasks."""
        self._is_polling = True
        future: Future[Mapping[str, TaskStatus]] = self._poller.submit(
            self._client.poll, task_uuids
        )

        def take(done: Future[Mapping[str, TaskStatus]]) -> None:
            self._results.put(Polled(task_uuids, _failure_of(done) or done.result()))

        future.add_done_callback(take)

    def take(self, timeout_seconds: float | None) -> Stored | Polled | None:
        """The next result; None if there is none in time.

        Arguments:
            timeout_seconds: longest wait for it; None to take only what is there.
        """
        try:
            result = self._results.get(block=timeout_seconds is not None, timeout=timeout_seconds)
        except queue.Empty:
            return None
        if isinstance(result, Stored):
            self._storing -= 1
            self._free_results.release()
        else:
            self._is_polling = False
        return result

    def stop(self) -> None:
        """Wait for what is under way, and begin nothing more."""
        self._is_stopping.set()
        self._free_results.release(self._storing + 1)
        self._pool.shutdown(cancel_futures=True)
        self._poller.shutdown(cancel_futures=True)


def _failure_of(future: Future[Any]) -> BaseException | None:
    """Why a thread's work failed, or was cancelled; None if it did not."""
    return CancelledError() if future.cancelled() else future.exception()
