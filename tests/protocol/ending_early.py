"""A process that ends early, played in this one: the first writes are made, and then none."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sora_dagster.storage import StorageError, StorageRoot


class CrashError(BaseException):
    """The process ends here."""


@contextmanager
def crashing_at(root: StorageRoot, step: int) -> Iterator[None]:
    """Let a process end at its n-th write or delete, half of the time just after it.

    After its end it writes nothing any more.
    """
    count = [0]

    def guarded(operation: Callable[..., object]) -> Callable[..., object]:
        def run(*arguments: object, **options: object) -> object:
            if threading.current_thread().name == "claims":
                # The timer ends with its process, and raises nothing.
                if count[0] > step // 2:
                    raise StorageError("this process has ended")
                return operation(*arguments, **options)
            count[0] += 1
            if count[0] <= step // 2:
                return operation(*arguments, **options)
            if count[0] == step // 2 + 1 and step % 2:
                operation(*arguments, **options)
            raise CrashError

        return run

    names = ("create", "write", "delete")
    for name in names:
        setattr(root, name, guarded(getattr(root, name)))
    try:
        yield
    finally:
        for name in names:
            delattr(root, name)
