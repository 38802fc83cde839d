"""With `schema_check`, a clip that Runware's schema does not allow is not sent."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sora_dagster.generation.requesting.results import RequestState
from sora_dagster.runware.published_catalogue import PublishedAddresses
from sora_dagster.runware.schema_check import schema_check
from sora_dagster.storage import StorageRoot
from tests.generation.requesting import clip, quick_generator, request_clips
from tests.runware.published.documents import openapi, task_schema
from tests.sandbox_server import Sandbox


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A schema of Sora 2 Pro that allows fewer lengths than its catalogue entry."""
    document = openapi(**{"x-air-id": "openai:3@2"})
    schema = task_schema(document)
    schema["properties"] |= {"model": {"const": "openai:3@2"}, "duration": {"enum": [8]}}
    (tmp_path / "schemas").mkdir()
    (tmp_path / "schemas" / "sora.json").write_text(json.dumps(document))
    return tmp_path / "schemas"


def test_it_is_refused_before_it_is_sent(sandbox: Sandbox, root: StorageRoot, folder: Path) -> None:
    check = schema_check(
        "refuse", addresses=PublishedAddresses.for_api(sandbox.base_url), folder=str(folder)
    )
    charged = sandbox.charged()
    with quick_generator(sandbox.base_url, root, schema_check=check) as generator:
        short, allowed = request_clips(
            generator, clip("short", duration_seconds=4), clip("long", duration_seconds=8)
        )
    assert short.state is RequestState.REFUSED
    assert "duration: 4: the schema allows [8]" in short.detail
    assert allowed.state is RequestState.SUBMITTED
    assert sandbox.charged() - charged == {allowed.task_uuid}


def test_what_the_sandbox_publishes_allows_what_it_accepts(
    sandbox: Sandbox, root: StorageRoot
) -> None:
    check = schema_check("refuse", addresses=PublishedAddresses.for_api(sandbox.base_url))
    with quick_generator(sandbox.base_url, root, schema_check=check) as generator:
        [result] = request_clips(generator, clip("fox", duration_seconds=4))
    assert result.state is RequestState.SUBMITTED, result.detail
