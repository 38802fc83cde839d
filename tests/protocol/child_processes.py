"""Processes of the crash tests, forked from one that has done the imports."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.sandbox_server import Sandbox

REPOSITORY = Path(__file__).parents[2]


@dataclass(frozen=True)
class Ended:
    """How a process ended.

    Arguments:
        status: its exit status, negative for the signal that killed it.
        said: the lines it printed.
    """

    status: int
    said: list[str]


class Processes:
    """Starts processes by forking, each with nothing but the imports of the one before.

    Arguments:
        server: the process that forks.
    """

    def __init__(self, server: subprocess.Popen[str]) -> None:
        self._server = server

    def run(self, sandbox: Sandbox, storage: Path | str, *options: str) -> Ended:
        """Run one to its end."""
        assert self._server.stdin is not None
        assert self._server.stdout is not None
        arguments = [
            *("--base-url", sandbox.base_url, "--storage", str(storage), "--tiny"),
            *options,
        ]
        self._server.stdin.write(json.dumps(arguments) + "\n")
        self._server.stdin.flush()
        said: list[str] = []
        for line in self._server.stdout:
            if line.startswith("ended with "):
                return Ended(int(line.removeprefix("ended with ")), said)
            said.append(line.rstrip("\n"))
        raise AssertionError("the process that forks has ended")


@contextmanager
def forked_processes() -> Iterator[Processes]:
    """Processes until the end of the block."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.protocol.crash_child", "--serve"],
        cwd=REPOSITORY,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as server:
        try:
            yield Processes(server)
        finally:
            assert server.stdin is not None
            server.stdin.close()
