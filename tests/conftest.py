"""Fixtures that tests of several floors use."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from sora_dagster.generation.ledger import Ledger
from sora_dagster.storage import StorageRoot
from tests.sandbox_server import Sandbox, sandbox_process


@dataclass
class ManualClock:
    """A clock that moves when it is told to."""

    now: datetime = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def move(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def root(tmp_path: Path) -> StorageRoot:
    return StorageRoot(tmp_path / "storage")


@pytest.fixture
def ledger(root: StorageRoot) -> Ledger:
    ledger = Ledger(root)
    ledger.bind(api_base_url="https://api.example.com/v1", account="account-1")
    return ledger


@pytest.fixture(scope="session")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """One quick sandbox for all tests; storage roots differ, and so do their task UUIDs."""
    with sandbox_process(
        tmp_path_factory.mktemp("sandbox"), ["--latency=0.3", "--reuse-rendered"]
    ) as running_sandbox:
        yield running_sandbox
