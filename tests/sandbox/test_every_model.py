"""The sandbox accepts what a model's entry allows, and refuses what it forbids, over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from sora_dagster.runware import VideoInference
from tests.runware.model_requests import (
    ENTRIES,
    Addresses,
    allowed_requests,
    entry_named,
    forbidden_requests,
)
from tests.sandbox.api import SandboxApi
from tests.sandbox.images import data_uri, image_bytes
from tests.sandbox.receiver import Receiver, running_receiver
from tests.sandbox.sounds import sound_bytes

DRY_RUN = {"X-Runware-Dry-Run": "1"}
over_http = settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def addresses(api: SandboxApi) -> Iterator[Addresses]:
    """Inputs that the sandbox can read: a video of a model that is remixed by its id, for one."""
    video: dict[str, Any] = api.video(model="openai:3@1")
    receiver: Receiver
    with running_receiver() as receiver:
        receiver.served = sound_bytes()
        yield Addresses(
            image=data_uri(image_bytes(320, 300)),
            video=video["videoUUID"],
            audio=f"{receiver.url}/sound.wav",
            video_id=video["outputs"]["videoId"],
        )


def task_of(request: VideoInference) -> dict[str, Any]:
    return {**request.to_wire(), "taskUUID": str(uuid4())}


@pytest.mark.parametrize("name", [entry.short_name for entry in ENTRIES])
@over_http
@given(data=st.data())
def test_every_combination_that_an_entry_allows_is_accepted(
    api: SandboxApi, addresses: Addresses, name: str, data: st.DataObject
) -> None:
    request = data.draw(allowed_requests(entry_named(name), addresses))
    response = api.post(task_of(request), headers=DRY_RUN)
    assert response.status_code == 200, response.text


@pytest.mark.parametrize("name", [entry.short_name for entry in ENTRIES if entry.rules])
@over_http
@given(data=st.data())
def test_every_combination_that_an_entry_forbids_is_refused_and_named(
    api: SandboxApi, addresses: Addresses, name: str, data: st.DataObject
) -> None:
    request, clauses = data.draw(forbidden_requests(entry_named(name), addresses))
    parameter = api.refusal(task_of(request))["parameter"]
    named = {parameter} if isinstance(parameter, str) else set(parameter)
    assert named & {field for clause in clauses for field in clause}
