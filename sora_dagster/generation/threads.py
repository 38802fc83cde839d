"""Threads that end with the process, and a process that ends when it is asked to."""

from __future__ import annotations

import os
import queue
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from functools import partial
from typing import Any, ParamSpec, TypeVar

_P = ParamSpec("_P")
_T = TypeVar("_T")
# Docker kills a process after 10 s. A collecting run of `generate` is given 8 s.
_GRACE_SECONDS = 9.0
# How long an interrupted process waits for work that cannot be broken off, such as an upload, or
# a request without an answer.
LAST_SECONDS = 3.0


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


@contextmanager
def ending_after_signals(grace_seconds: float = _GRACE_SECONDS) -> Iterator[None]:
    """End this process some seconds after SIGINT or SIGTERM, if it is still in the block then.

    Python's signal handlers run between the steps of Python code in the main thread: not while it
    waits in a library for an object store or a database that does not answer. The interpreter
    writes each signal's number into a socket at once. The end is that of a killed process, which
    nothing depends on.

    Does nothing in other threads, and where something else, such as asyncio, uses that socket.

    Arguments:
        grace_seconds: time from the signal to the end, in seconds. Default: 9.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    has_left = threading.Event()
    with reader, writer:
        before = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
        if before != -1:
            signal.set_wakeup_fd(before)
            yield
            return

        def watch() -> None:
            number = 0
            while number not in (signal.SIGINT, signal.SIGTERM):
                received = reader.recv(1)
                if not received:
                    return
                number = received[0]
            if not has_left.wait(grace_seconds):
                os._exit(128 + number)

        thread = threading.Thread(target=watch, name="signals", daemon=True)
        thread.start()
        try:
            yield
        finally:
            signal.set_wakeup_fd(-1)
            has_left.set()
            writer.shutdown(socket.SHUT_RDWR)
            thread.join()
