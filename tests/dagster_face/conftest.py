"""A stack for each test."""

from __future__ import annotations

import shutil
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


@pytest.fixture(scope="session")
def empty_instance(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of a Dagster instance without runs; to be copied, since its tables take a while."""
    folder = tmp_path_factory.mktemp("dagster")
    (folder / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    with dg.DagsterInstance.from_config(str(folder)) as instance:
        assert not instance.get_run_records(limit=1)
        assert not instance.all_asset_keys()
        assert not instance.all_instigator_state()
    return folder


@pytest.fixture
def stack(
    sandbox: Sandbox, empty_instance: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Stack]:
    monkeypatch.setenv("RUNWARE_API_KEY", KEY)
    monkeypatch.setenv("DAGSTER_DISABLE_TELEMETRY", "yes")
    shutil.copytree(empty_instance, tmp_path / "dagster")
    with dg.DagsterInstance.from_config(str(tmp_path / "dagster")) as instance:
        yield Stack(tmp_path, sandbox.base_url, instance)


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
