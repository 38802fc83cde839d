"""A stack for each test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from sora_dagster.sandbox.faults.plan import read_fault_plan
from sora_dagster.sandbox.server import running_sandbox
from sora_dagster.sandbox.settings import SandboxSettings
from tests.dagster_face.stack import Stack, stack_in
from tests.sandbox_server import Sandbox

FaultyStack = Callable[..., tuple[Stack, Sandbox]]


@pytest.fixture
def stack(sandbox: Sandbox, tmp_path: Path) -> Iterator[Stack]:
    with stack_in(tmp_path, sandbox.base_url) as stack:
        yield stack


@pytest.fixture
def faulty(stack: Stack, tmp_path: Path) -> Iterator[FaultyStack]:
    """The stack against a separate sandbox with faults."""
    with ExitStack() as stopping:

        def make(*rules: dict[str, Any]) -> tuple[Stack, Sandbox]:
            settings = SandboxSettings(
                latency_seconds=0,
                latency_step_seconds=0,
                reuse_rendered=True,
                faults=read_fault_plan({"rules": list(rules)}),
            )
            stack.base_url = stopping.enter_context(running_sandbox(settings))
            stack.settings_changes = {"retry_wait_seconds": 0.1, "confirm_seconds": 0.1}
            return stack, Sandbox(stack.base_url)

        yield make
