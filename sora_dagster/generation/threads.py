"""Threads that end with the process."""

from __future__ import annotations

import queue
import threading
import time
from collections.abc import Callable
from concurrent.futures import Future
from functools import partial
from typing import Any, ParamSpec, TypeVar

_P = ParamSpec("_P")
_T = TypeVar("_T")


class DaemonThreads:
    """A thread pool that does not keep an interrupted process alive.

    The pools of `concurrent.futures` are joined before a process ends, however long that takes.

    Arguments:
        count: maximum number of threads.
        name: prefix of their names.
    """

    def __init__(self, count: int, name: str) -> None:
        self._count = count
        self._name = name
        self._work: queue.SimpleQueue[tuple[Future[Any], Callable[[], Any]] | None] = (
            queue.SimpleQueue()
        )
        self._threads: list[threading.Thread] = []

    def submit(
        self, work: Callable[_P, _T], *arguments: _P.args, **options: _P.kwargs
    ) -> Future[_T]:
        """Call a function as soon as a thread is free."""
        future: Future[_T] = Future()
        self._work.put((future, partial(work, *arguments, **options)))
        if len(self._threads) < self._count:
            name = f"{self._name}-{len(self._threads)}"
            thread = threading.Thread(target=self._run, name=name, daemon=True)
            self._threads.append(thread)
            thread.start()
        return future

    def _run(self) -> None:
        while (item := self._work.get()) is not None:
            future, work = item
            try:
                result = work()
            except BaseException as error:  # noqa: BLE001 - raised where the result is read
                future.set_exception(error)
            else:
                future.set_result(result)

    def stop(self, timeout_seconds: float | None = None) -> None:
        """End the threads after all submitted work, and wait for them.

        Arguments:
            timeout_seconds: longest wait, in seconds; what still runs then ends with the process,
                as if it were killed. Default: no limit.
        """
        for _ in self._threads:
            self._work.put(None)
        end = None if timeout_seconds is None else time.monotonic() + timeout_seconds
        for thread in self._threads:
            thread.join(None if end is None else max(0.0, end - time.monotonic()))
