"""Who may use the sandbox."""

from __future__ import annotations

import httpx
import pytest

from tests.sandbox.api import SandboxApi

PING = {"taskType": "ping", "ping": True}


def test_a_bearer_key_is_accepted(api: SandboxApi) -> None:
    response = api.post(PING)
    assert response.status_code == 200
    assert response.json() == {"data": [{"taskType": "ping", "pong": True}]}


def test_a_first_element_with_the_key_is_accepted_and_answered(api: SandboxApi) -> None:
    authentication = {"taskType": "authentication", "apiKey": "sandbox-key"}
    response = httpx.post(api.base_url, json=[authentication, PING])
    assert response.status_code == 200
    first, second = response.json()["data"]
    assert first["taskType"] == "authentication"
    assert first["connectionSessionUUID"]
    assert second["pong"] is True


@pytest.mark.parametrize("header", ["Bearer wrong", "Basic sandbox-key", "Bearer", "sandbox-key"])
def test_an_invalid_header_is_refused_with_401(api: SandboxApi, header: str) -> None:
    response = httpx.post(api.base_url, json=[PING], headers={"Authorization": header})
    assert response.status_code == 401
    (error,) = response.json()["errors"]
    assert error["code"] == "invalidApiKey"
    assert error["parameter"] == "apiKey"
    assert error["taskType"] == "authentication"


def test_a_wrong_key_in_the_first_element_is_refused_whatever_the_header(api: SandboxApi) -> None:
    response = api.post({"taskType": "authentication", "apiKey": "wrong"}, PING)
    assert response.status_code == 401
    assert "data" not in response.json()


def test_no_key_at_all_is_refused_with_401(api: SandboxApi) -> None:
    response = httpx.post(api.base_url, json=[PING])
    assert response.status_code == 401
    assert response.json()["errors"][0]["code"] == "missingApiKey"


def test_a_key_in_a_later_element_does_not_count(api: SandboxApi) -> None:
    authentication = {"taskType": "authentication", "apiKey": "sandbox-key"}
    response = httpx.post(api.base_url, json=[PING, authentication])
    assert response.status_code == 401
