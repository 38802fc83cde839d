"""A stack for each test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from sora_dagster.sandbox.faults.plan import read_fault_plan
from sora_dagster.sandbox.server import running_sandbox
from sora_dagster.sandbox.settings import SandboxSettings
from tests.dagster_face.stack import Stack
from tests.sandbox_server import KEY, Sandbox

FaultyStack = Callable[..., tuple[Stack, Sandbox]]


@pytest.fixture
def stack(sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stack]:
    monkeypatch.setenv("RUNWARE_API_KEY", KEY)
    monkeypatch.setenv("DAGSTER_DISABLE_TELEMETRY", "yes")
    (tmp_path / "dagster").mkdir()
    (tmp_path / "dagster" / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    with dg.DagsterInstance.from_config(str(tmp_path / "dagster")) as instance:
        yield Stack(tmp_path, sandbox.base_url, instance)


@pytest.fixture
def faulty(stack: Stack, tmp_path: Path) -> Iterator[FaultyStack]:
    """The stack against a sandbox of its own that misbehaves by some rules."""
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
