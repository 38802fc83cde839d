"""Sandboxes and receivers for the tests of this folder."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from sora_dagster.sandbox.server import running_sandbox
from sora_dagster.sandbox.settings import SandboxSettings
from tests.sandbox.api import SandboxApi
from tests.sandbox.receiver import Receiver, running_receiver


@pytest.fixture(scope="session")
def api() -> Iterator[SandboxApi]:
    """A sandbox shared by all tests that do not look at its books or its pictures."""
    settings = SandboxSettings(latency_seconds=0, latency_step_seconds=0, reuse_rendered=True)
    with running_sandbox(settings) as base_url:
        yield SandboxApi(base_url)


@pytest.fixture
def start() -> Iterator[Callable[..., SandboxApi]]:
    """Starts a sandbox of a test's own, with settings of its own."""
    with ExitStack() as stack:

        def begin(**settings: Any) -> SandboxApi:
            given = SandboxSettings(
                **{
                    "latency_seconds": 0,
                    "latency_step_seconds": 0,
                    "reuse_rendered": True,
                    **settings,
                }
            )
            return SandboxApi(stack.enter_context(running_sandbox(given)))

        yield begin


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    """A server of the test's own that keeps what it is sent."""
    with running_receiver() as receiver:
        yield receiver
