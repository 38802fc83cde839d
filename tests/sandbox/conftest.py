"""Sandboxes and receivers for the tests of this folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from sora_dagster.runware.catalogue import Catalogue
from sora_dagster.sandbox.server import running_sandbox
from sora_dagster.sandbox.settings import SandboxSettings
from tests.sandbox.api import SandboxApi
from tests.sandbox.receiver import Receiver, running_receiver


@pytest.fixture(scope="session")
def render_cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the sandboxes of all tests keep the videos that they reuse."""
    return tmp_path_factory.mktemp("renders")


@pytest.fixture(scope="session")
def api(render_cache: Path) -> Iterator[SandboxApi]:
    """A sandbox shared by all tests that do not check its ledger or its pictures."""
    settings = SandboxSettings(
        latency_seconds=0,
        latency_step_seconds=0,
        reuse_rendered=True,
        render_cache_dir=render_cache,
    )
    with running_sandbox(settings) as base_url:
        yield SandboxApi(base_url)


@pytest.fixture
def start(render_cache: Path) -> Iterator[Callable[..., SandboxApi]]:
    """Starts a sandbox for one test, with its own settings."""
    with ExitStack() as stack:

        def begin(catalogue: Catalogue | None = None, **settings: Any) -> SandboxApi:
            given = SandboxSettings(
                **{
                    "latency_seconds": 0,
                    "latency_step_seconds": 0,
                    "reuse_rendered": True,
                    "render_cache_dir": render_cache,
                    **settings,
                }
            )
            running = running_sandbox(given, catalogue=catalogue)
            return SandboxApi(stack.enter_context(running))

        yield begin


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A server for one test that keeps what it receives."""
    with running_receiver() as receiver:
        yield receiver
