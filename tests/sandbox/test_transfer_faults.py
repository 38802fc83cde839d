"""Faults of downloads and uploads."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, MutableMapping
from pathlib import Path
from typing import Any

import av
import httpx
import pytest
from starlette.responses import Response

from sora_dagster.sandbox.faults.downloads import SlowBody
from tests.sandbox.api import SandboxApi, until, video_task
from tests.sandbox.receiver import Receiver


@pytest.fixture
def api(start: Callable[..., SandboxApi]) -> SandboxApi:
    """A sandbox of the test's own."""
    return start()


@pytest.fixture
def video(api: SandboxApi) -> dict[str, Any]:
    """The row of a finished video."""
    return api.video()


@pytest.fixture
def whole(api: SandboxApi, video: dict[str, Any]) -> bytes:
    """The video's bytes."""
    content: bytes = api.http.get(video["videoURL"]).content
    return content


@pytest.mark.parametrize("status", [404, 410])
def test_a_url_is_gone_for_the_first_downloads_of_each_video(api: SandboxApi, status: int) -> None:
    videos = [api.video(), api.video()]
    api.set_faults({"fault": "download_gone", "status": status, "times": 2, "per": "result"})
    statuses = [[api.http.get(video["videoURL"]).status_code for _ in range(3)] for video in videos]
    assert statuses == [[status, status, 200]] * 2


def test_a_url_can_be_gone_for_ever(api: SandboxApi, video: dict[str, Any]) -> None:
    api.set_faults({"fault": "download_gone"})
    assert [api.http.get(video["videoURL"]).status_code for _ in range(3)] == [404] * 3


def test_a_result_is_chosen_by_its_index(api: SandboxApi) -> None:
    task = video_task(numberResults=2)
    api.post(task)
    rows = api.results(task["taskUUID"], count=2)
    api.set_faults({"fault": "download_gone", "results": 1})
    assert [api.http.get(row["videoURL"]).status_code for row in rows] == [200, 404]


def test_a_truncated_download_breaks_off_before_its_announced_end(
    api: SandboxApi, video: dict[str, Any], whole: bytes
) -> None:
    api.set_faults({"fault": "download_truncated", "share": 0.25})
    received = b""
    with api.http.stream("GET", video["videoURL"]) as response:
        assert int(response.headers["Content-Length"]) == len(whole)
        with pytest.raises(httpx.RemoteProtocolError):
            for chunk in response.iter_bytes():
                received += chunk
    assert received == whole[: len(whole) // 4]


def test_the_rest_of_a_truncated_download_can_be_fetched(
    api: SandboxApi, video: dict[str, Any], whole: bytes
) -> None:
    api.set_faults({"fault": "download_truncated", "nth": 1})
    with pytest.raises(httpx.RemoteProtocolError):
        api.http.get(video["videoURL"])
    rest = api.http.get(video["videoURL"], headers={"Range": "bytes=1000-"})
    assert rest.content == whole[1000:]


def test_a_body_is_shorter_than_announced(
    api: SandboxApi, video: dict[str, Any], whole: bytes
) -> None:
    api.set_faults({"fault": "download_wrong_length", "off_by_bytes": 10})
    received = b""
    with api.http.stream("GET", video["videoURL"]) as response:
        assert int(response.headers["Content-Length"]) == len(whole) + 10
        with pytest.raises(httpx.RemoteProtocolError):
            for chunk in response.iter_bytes():
                received += chunk
    assert received == whole


def test_a_body_is_longer_than_announced(
    api: SandboxApi, video: dict[str, Any], whole: bytes
) -> None:
    api.set_faults({"fault": "download_wrong_length", "off_by_bytes": -10, "nth": 1})
    assert api.http.get(video["videoURL"]).content == whole[:-10]
    assert api.http.get(video["videoURL"]).content == whole


@pytest.mark.parametrize(
    ("part", "spoiled"),
    [("start", [0]), ("middle", [1]), ("end", [2]), ("all", [0, 1, 2])],
)
def test_a_part_of_a_corrupt_download_is_noise_of_the_right_length(
    api: SandboxApi, video: dict[str, Any], whole: bytes, part: str, spoiled: list[int]
) -> None:
    api.set_faults({"fault": "download_corrupt", "part": part, "nth": 1})
    content = api.http.get(video["videoURL"]).content
    assert len(content) == len(whole)
    third = len(whole) // 3
    bounds = [(0, third), (third, 2 * third), (2 * third, len(whole))]
    differing = [index for index, (a, b) in enumerate(bounds) if content[a:b] != whole[a:b]]
    assert differing == spoiled
    assert api.http.get(video["videoURL"]).content == whole


def test_a_corrupt_video_cannot_be_decoded(
    api: SandboxApi, video: dict[str, Any], tmp_path: Path
) -> None:
    api.set_faults({"fault": "download_corrupt"})
    path = tmp_path / "video.mp4"
    path.write_bytes(api.http.get(video["videoURL"]).content)
    with pytest.raises(av.error.InvalidDataError), av.open(str(path)) as container:
        for _ in container.decode(video=0):
            pass


def test_a_slow_download_is_whole_in_the_end(
    api: SandboxApi, video: dict[str, Any], whole: bytes
) -> None:
    api.set_faults({"fault": "download_slow", "bytes_per_second": 10 * len(whole)})
    assert api.http.get(video["videoURL"]).content == whole
    assert api.struck() == [1]


def test_a_slow_download_waits_after_each_piece_for_as_long_as_it_takes() -> None:
    waits: list[float] = []
    sent: list[bytes] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message.get("body", b""))

    async def receive() -> MutableMapping[str, Any]:
        raise AssertionError("nothing is read")

    body = bytes(range(100))
    slow_body = SlowBody(Response(body), bytes_per_second=50, sleep=sleep)
    asyncio.run(slow_body({"type": "http"}, receive, send))
    assert b"".join(sent) == body
    assert waits == [0.1] * 20


def test_a_download_is_redirected_to_another_host_that_has_it(
    api: SandboxApi, video: dict[str, Any], whole: bytes
) -> None:
    api.set_faults({"fault": "download_redirected"})
    assert api.http.get(video["videoURL"]).status_code == 302
    response = api.http.get(video["videoURL"], follow_redirects=True)
    assert response.url.host != httpx.URL(video["videoURL"]).host
    assert response.content == whole


def test_a_download_is_redirected_where_the_plan_says(
    api: SandboxApi, video: dict[str, Any], receiver: Receiver
) -> None:
    receiver.served = b"elsewhere"
    api.set_faults({"fault": "download_redirected", "to": receiver.url})
    assert api.http.get(video["videoURL"], follow_redirects=True).content == b"elsewhere"


def test_a_redirected_download_can_be_struck_by_another_fault(
    api: SandboxApi, video: dict[str, Any]
) -> None:
    api.set_faults({"fault": "download_redirected"}, {"fault": "download_gone", "status": 410})
    response = api.http.get(video["videoURL"], follow_redirects=True)
    assert [answer.status_code for answer in (*response.history, response)] == [302, 410]


def test_the_connection_of_a_download_is_reset(api: SandboxApi, video: dict[str, Any]) -> None:
    api.set_faults({"fault": "reset", "event": "download"})
    with pytest.raises(httpx.ReadError):
        api.http.get(video["videoURL"])


def test_a_head_of_a_video_is_not_struck(api: SandboxApi, video: dict[str, Any]) -> None:
    api.set_faults({"fault": "download_gone"})
    assert api.http.head(video["videoURL"]).status_code == 200
    assert api.struck() == [0]


def test_an_upload_is_never_made(api: SandboxApi, receiver: Receiver) -> None:
    api.set_faults({"fault": "upload_lost", "nth": 1})
    api.video(uploadEndpoint=f"{receiver.url}/first")
    api.video(uploadEndpoint=f"{receiver.url}/second")
    assert [call.path for call in receiver.received] == ["/second"]


def test_only_the_beginning_of_a_video_is_put(api: SandboxApi, receiver: Receiver) -> None:
    api.set_faults({"fault": "upload_truncated", "share": 0.5})
    row = api.video(uploadEndpoint=receiver.url)
    whole = api.http.get(row["videoURL"]).content
    (call,) = receiver.received
    assert int(call.headers["Content-Length"]) == len(whole) // 2
    assert call.body == whole[: len(whole) // 2]


def test_a_video_is_uploaded_after_its_result_is_reported(
    api: SandboxApi, receiver: Receiver
) -> None:
    api.set_faults(
        {"fault": "upload_late", "delay_seconds": 600, "nth": 1},
        {"fault": "upload_late", "delay_seconds": 0.05, "nth": 2},
    )
    assert api.video(uploadEndpoint=receiver.url)["videoURL"]
    assert receiver.received == []
    api.video(uploadEndpoint=receiver.url)
    until(lambda: len(receiver.received) == 1, what="the upload")


def test_a_video_that_is_put_comes_without_a_url(api: SandboxApi, receiver: Receiver) -> None:
    api.set_faults({"fault": "upload_alone", "nth": 1})
    assert "videoURL" not in api.video(uploadEndpoint=receiver.url)
    assert len(receiver.received) == 1
    assert api.video(uploadEndpoint=receiver.url)["videoURL"]


def test_reused_videos_are_rendered_once_for_all_sandboxes_with_one_cache(
    start: Callable[..., SandboxApi], tmp_path: Path
) -> None:
    cache = tmp_path / "renders"
    first = start(render_cache_dir=cache)
    content = first.http.get(first.video()["videoURL"]).content
    (kept,) = cache.iterdir()
    assert kept.read_bytes() == content
    # What another sandbox serves comes from the cache, so a mark in it is found again.
    kept.unlink()
    kept.write_bytes(b"a mark")
    second = start(render_cache_dir=cache)
    assert second.http.get(second.video()["videoURL"]).content == b"a mark"
