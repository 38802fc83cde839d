"""The URL of a finished video."""

from __future__ import annotations

from typing import Any

import pytest

from sora_dagster.sandbox.server import running_sandbox
from sora_dagster.sandbox.settings import SandboxSettings
from tests.sandbox.api import SandboxApi


@pytest.fixture(scope="module")
def video(api: SandboxApi) -> dict[str, Any]:
    """The row of a finished video."""
    return api.video()


def test_the_url_is_of_the_address_that_the_client_used(
    api: SandboxApi, video: dict[str, Any]
) -> None:
    assert video["videoURL"].startswith(api.base_url.replace("/v1", "/video/"))
    assert video["videoURL"].endswith(f"/{video['videoUUID']}.mp4")


def test_the_whole_video_is_served_with_its_length_and_type(
    api: SandboxApi, video: dict[str, Any]
) -> None:
    response = api.http.get(video["videoURL"])
    assert response.status_code == 200
    assert response.headers["content-type"] == "video/mp4"
    assert int(response.headers["content-length"]) == len(response.content)
    assert response.headers["etag"]


def test_a_range_is_served_as_206(api: SandboxApi, video: dict[str, Any]) -> None:
    whole = api.http.get(video["videoURL"]).content
    response = api.http.get(video["videoURL"], headers={"Range": "bytes=100-199"})
    assert response.status_code == 206
    assert response.headers["content-range"] == f"bytes 100-199/{len(whole)}"
    assert response.content == whole[100:200]


def test_the_rest_of_a_broken_download_is_served(api: SandboxApi, video: dict[str, Any]) -> None:
    whole = api.http.get(video["videoURL"]).content
    response = api.http.get(video["videoURL"], headers={"Range": f"bytes={len(whole) // 2}-"})
    assert whole[: len(whole) // 2] + response.content == whole


def test_a_range_behind_the_end_is_refused_with_416(api: SandboxApi, video: dict[str, Any]) -> None:
    response = api.http.get(video["videoURL"], headers={"Range": "bytes=99999999-"})
    assert response.status_code == 416


def test_head_returns_the_length_without_a_body(api: SandboxApi, video: dict[str, Any]) -> None:
    whole = api.http.get(video["videoURL"])
    response = api.http.head(video["videoURL"])
    assert response.status_code == 200
    assert response.content == b""
    for name in ("content-length", "etag", "accept-ranges"):
        assert response.headers[name] == whole.headers[name]


def test_an_unknown_video_is_not_found(api: SandboxApi, video: dict[str, Any]) -> None:
    url = video["videoURL"].replace(video["videoUUID"], "nothing")
    assert api.http.get(url).status_code == 404


def test_the_url_ends_with_its_ttl_counted_from_the_result() -> None:
    now = [1_000_000.0]
    settings = SandboxSettings(latency_seconds=0, reuse_rendered=True)
    with running_sandbox(settings, clock=lambda: now[0]) as base_url:
        api = SandboxApi(base_url)
        limited, endless = api.video(ttl=60), api.video()
        now[0] += 59.9
        assert api.http.get(limited["videoURL"]).status_code == 200
        now[0] += 0.1
        assert api.http.get(limited["videoURL"]).status_code == 410
        assert api.http.head(limited["videoURL"]).status_code == 410
        now[0] += 10_000_000
        assert api.http.get(endless["videoURL"]).status_code == 200
