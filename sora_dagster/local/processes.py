"""Starting other processes, waiting until they are ready, and stopping them."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from weakref import WeakSet

import httpx

_READY_SECONDS = 60.0
_INTERVAL_SECONDS = 0.1
_PR_SET_PDEATHSIG = 1


class ProcessError(Exception):
    """A process did not start, or ended early."""


_processes: WeakSet[ManagedProcess] = WeakSet()


class ManagedProcess:
    """A process in its own process group, so that everything it starts ends with it.

    Arguments:
        name: its name in messages.
        command: program and arguments.
        environment: environment variables on top of those of this process.
        log_path: file for its output.
        appends_log: whether earlier output in the file is kept. Default: it is replaced.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        *,
        environment: Mapping[str, str],
        log_path: Path,
        appends_log: bool = False,
    ) -> None:
        self.name = name
        self.log_path = log_path
        self._terminated_at: float | None = None
        log_path.parent.mkdir(parents=True, exist_ok=True)
        with log_path.open("ab" if appends_log else "wb") as log:
            self._process = subprocess.Popen(
                list(command),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**os.environ, **environment},
                start_new_session=True,
                preexec_fn=_prepare_process if sys.platform == "linux" else None,
            )
        _processes.add(self)

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def has_ended(self) -> bool:
        """Whether it has ended."""
        return self._process.poll() is not None

    def check(self) -> None:
        """Check that it is running.

        Raises:
            ProcessError: if it has ended, with the end of its output.
        """
        if self.has_ended:
            raise ProcessError(
                f"{self.name} ended with status {self._process.returncode}:\n{self.last_output()}"
            )

    def last_output(self, lines: int = 15) -> str:
        """The end of its output."""
        text = self.log_path.read_text(errors="replace")
        return "\n".join(text.splitlines()[-lines:])

    def wait_for_line(self, prefix: str, *, timeout_seconds: float = _READY_SECONDS) -> str:
        """Wait for a line of its output with a prefix; gives the rest of that line.

        Raises:
            ProcessError: if it ends first, or takes too long.
        """
        found: list[str] = []

        def is_printed() -> bool:
            self.check()
            for line in self.log_path.read_text(errors="replace").splitlines():
                if line.startswith(prefix):
                    found.append(line.removeprefix(prefix).strip())
                    return True
            return False

        if not wait_until(is_printed, timeout_seconds=timeout_seconds):
            raise ProcessError(
                f"{self.name} was not ready within {timeout_seconds:.0f} s:\n{self.last_output()}"
            )
        return found[0]

    def wait(self) -> int:
        """Wait until it ends; gives its exit status."""
        return self._process.wait()

    def terminate(self) -> None:
        """Send SIGTERM to it and everything it started, once."""
        if self._terminated_at is None:
            self._terminated_at = time.monotonic()
            self._signal(signal.SIGTERM)

    def end(self, *, grace_seconds: float = 5.0) -> None:
        """Stop it and everything it started: SIGTERM first, SIGKILL after a grace period."""
        self.terminate()
        assert self._terminated_at is not None
        left_seconds = self._terminated_at + grace_seconds - time.monotonic()
        if not wait_until(self._group_is_gone, timeout_seconds=left_seconds):
            self._signal(signal.SIGKILL)
            wait_until(self._group_is_gone, timeout_seconds=grace_seconds)
        self._process.wait()

    def _signal(self, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, number)

    def _group_is_gone(self) -> bool:
        self._process.poll()
        try:
            os.killpg(self.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:
            # macOS reports this for a group of zombies only.
            return True
        return False


@contextmanager
def running(
    name: str, command: Sequence[str], *, environment: Mapping[str, str], log_path: Path
) -> Iterator[ManagedProcess]:
    """A process that runs while the block does."""
    process = ManagedProcess(name, command, environment=environment, log_path=log_path)
    try:
        yield process
    finally:
        process.end()


def terminate_all() -> None:
    """Send SIGTERM to all running processes at once, since each may take seconds to end."""
    for process in list(_processes):
        if not process.has_ended:
            process.terminate()


def wait_until(
    condition: Callable[[], bool],
    *,
    timeout_seconds: float,
    sleep: Callable[[float], None] = time.sleep,
) -> bool:
    """Wait until a condition holds; False if it does not in time."""
    deadline = time.monotonic() + timeout_seconds
    while not condition():
        if time.monotonic() >= deadline:
            return False
        sleep(_INTERVAL_SECONDS)
    return True


def _prepare_process() -> None:
    """Let signals stop the new process, and have Linux stop it when its parent is killed."""
    # Shells have background commands ignore SIGINT, which their processes inherit. Dagster's
    # servers treat SIGTERM as they treat SIGINT, and would ignore it, too.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def wait_for_http(
    url: str, process: ManagedProcess, *, timeout_seconds: float = _READY_SECONDS
) -> None:
    """Wait until a process answers a URL with HTTP 200.

    Raises:
        ProcessError: if it ends first, or takes too long.
    """

    def answers() -> bool:
        process.check()
        try:
            return httpx.get(url, timeout=5.0).status_code == 200
        except httpx.TransportError:
            # Not listening yet.
            return False

    if not wait_until(answers, timeout_seconds=timeout_seconds):
        raise ProcessError(
            f"{process.name} did not answer at {url} within {timeout_seconds:.0f} s:\n"
            f"{process.last_output()}"
        )
