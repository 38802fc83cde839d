"""A sandbox process for tests, and what it charged."""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from sora_dagster.local.processes import running

KEY = "sandbox-key"


@dataclass(frozen=True)
class Sandbox:
    """A running sandbox.

    Arguments:
        base_url: address of its API.
    """

    base_url: str

    def ledger(self) -> dict[str, Any]:
        """What it charged and how often it was asked."""
        answer: dict[str, Any] = httpx.get(self._address("ledger")).json()
        return answer

    def charged(self) -> set[str]:
        """UUIDs of the tasks that were charged."""
        return {charge["taskUUID"] for charge in self.ledger()["charges"]}

    def set_faults(self, *rules: Mapping[str, Any]) -> None:
        """Replace its fault plan; without rules it works correctly from now on."""
        httpx.put(self._address("faults"), json={"rules": rules}).raise_for_status()

    def struck(self) -> list[int]:
        """How often each rule of its fault plan struck."""
        return [rule["struck"] for rule in httpx.get(self._address("faults")).json()["rules"]]

    def _address(self, page: str) -> str:
        return f"{self.base_url.removesuffix('/v1')}/sandbox/{page}"


def free_port() -> int:
    """A TCP port that is free now."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


@contextmanager
def sandbox_process(folder: Path, arguments: Sequence[str]) -> Iterator[Sandbox]:
    """A sandbox of its own, which ends with the block."""
    with running(
        "the sandbox",
        [sys.executable, "-m", "sora_dagster", "sandbox", "--port=0", *arguments],
        environment={},
        log_path=folder / "sandbox.log",
    ) as process:
        yield Sandbox(process.wait_for_line("listening on "))
