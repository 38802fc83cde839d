"""A sandbox with faults for all tests of the protocol, and the table that they fill."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from sora_dagster.sandbox.server import running_sandbox
from sora_dagster.sandbox.settings import SandboxSettings
from tests.protocol.child_processes import Processes, forked_processes
from tests.protocol.families import CATALOGUE
from tests.protocol.faulty_sandbox import (
    FaultySandbox,
    Receiver,
    faulty_sandbox,
    quick_requests,
    running_receiver,
)
from tests.protocol.matrix import MATRIX, Matrix
from tests.protocol.scenario import Scenario
from tests.sandbox_server import Sandbox

OTHER_ACCOUNT_KEY = "other-key"
_OTHER_ACCOUNT = "22222222-3333-4444-8555-666666666666"


def pytest_configure(config: pytest.Config) -> None:
    config.stash.setdefault(MATRIX, Matrix())


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    lines = config.stash.setdefault(MATRIX, Matrix()).lines()
    if lines:
        terminalreporter.section("the generation protocol under faults")
        for line in lines:
            terminalreporter.write_line(line)


@pytest.fixture(scope="session")
def matrix(pytestconfig: pytest.Config) -> Matrix:
    return pytestconfig.stash.setdefault(MATRIX, Matrix())


@pytest.fixture(scope="module")
def crash_sandbox() -> Iterator[Sandbox]:
    """A sandbox for processes that are killed."""
    settings = SandboxSettings(
        latency_seconds=0.05, latency_step_seconds=0, reuse_rendered=True, balance_usd=1e6
    )
    with running_sandbox(settings, catalogue=CATALOGUE) as base_url:
        yield Sandbox(base_url)


@pytest.fixture(scope="module")
def processes() -> Iterator[Processes]:
    with forked_processes() as running:
        yield running


@pytest.fixture(scope="module")
def _running_sandbox() -> Iterator[FaultySandbox]:
    with (
        quick_requests(),
        faulty_sandbox(extra_keys={OTHER_ACCOUNT_KEY: _OTHER_ACCOUNT}) as sandbox,
    ):
        yield sandbox


@pytest.fixture
def faulty(_running_sandbox: FaultySandbox) -> Iterator[FaultySandbox]:
    """The sandbox, without faults at first."""
    _running_sandbox.clear_faults()
    yield _running_sandbox
    _running_sandbox.clear_faults()


@pytest.fixture(scope="module")
def receiver() -> Iterator[Receiver]:
    with running_receiver() as running:
        yield running


@pytest.fixture
def new_scenario(faulty: FaultySandbox, tmp_path: Path) -> Iterator[Callable[..., Scenario]]:
    """Begins a scenario with a storage root of its own, in a folder where none is named."""
    made: list[Scenario] = []

    def begin(root_url: str | None = None, **fields: Any) -> Scenario:
        scenario = Scenario(faulty, root_url or str(tmp_path / f"storage-{len(made)}"), **fields)
        made.append(scenario)
        return scenario

    yield begin
    for scenario in made:
        scenario.close()
