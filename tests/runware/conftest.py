from __future__ import annotations

from collections.abc import Iterator

import pytest
import stamina

from sora_dagster.runware import RunwareClient
from tests.runware.scripted_api import ScriptedApi

KEY = "rw-live-5e1f0c7d9a3b"


@pytest.fixture(autouse=True)
def _retries_do_not_wait() -> Iterator[None]:
    with stamina.set_testing(True, attempts=5, cap=True):
        yield


@pytest.fixture
def api() -> Iterator[ScriptedApi]:
    with ScriptedApi() as api:
        yield api


@pytest.fixture
def client(api: ScriptedApi) -> Iterator[RunwareClient]:
    with RunwareClient(KEY, base_url=api.url, timeout_seconds=5) as client:
        yield client
