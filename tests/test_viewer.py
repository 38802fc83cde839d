"""The viewer over real HTTP: it shows what is made to be looked at, and nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterator

import httpx
import pytest

from sora_dagster.generation.protocol.layout import gallery_key
from sora_dagster.storage import StorageRoot
from sora_dagster.web.viewer import create_app
from tests.serving import serving

VIDEO = bytes(range(256)) * 10
KEY = "clips/clips/paper-boat/take-1/abc.mp4"


@pytest.fixture
def viewer(root: StorageRoot) -> Iterator[str]:
    root.write(KEY, VIDEO)
    root.write("gallery/default/index.html", b"<!doctype html><p>all clips")
    root.write("slots/clips/paper-boat/take-1/attempt-1.json", b"{}")
    with serving(create_app(root)) as url:
        yield url


def test_a_whole_video_is_served(viewer: str) -> None:
    response = httpx.get(f"{viewer}/{KEY}")
    assert response.status_code == 200
    assert response.headers["Content-Type"] == "video/mp4"
    assert response.content == VIDEO


def test_a_player_gets_the_range_it_requests(viewer: str) -> None:
    response = httpx.get(f"{viewer}/{KEY}", headers={"Range": "bytes=100-199"})
    assert response.status_code == 206
    assert response.headers["Content-Range"] == f"bytes 100-199/{len(VIDEO)}"
    assert response.content == VIDEO[100:200]


@pytest.mark.parametrize(
    ("asked", "got"),
    [("bytes=0-", VIDEO), ("bytes=-10", VIDEO[-10:]), ("bytes=2550-9999", VIDEO[2550:])],
)
def test_open_ranges_are_served(viewer: str, asked: str, got: bytes) -> None:
    response = httpx.get(f"{viewer}/{KEY}", headers={"Range": asked})
    assert (response.status_code, response.content) == (206, got)


def test_a_range_behind_the_end_is_answered_with_the_size(viewer: str) -> None:
    response = httpx.get(f"{viewer}/{KEY}", headers={"Range": "bytes=9999-"})
    assert response.status_code == 416
    assert response.headers["Content-Range"] == f"bytes */{len(VIDEO)}"


def test_several_ranges_are_answered_with_the_whole_video(viewer: str) -> None:
    response = httpx.get(f"{viewer}/{KEY}", headers={"Range": "bytes=0-1,5-6"})
    assert (response.status_code, response.content) == (200, VIDEO)


def test_the_front_page_is_the_gallery(viewer: str) -> None:
    response = httpx.get(viewer, follow_redirects=True)
    assert response.url.path == "/gallery/default/index.html"
    assert response.headers["Content-Type"].startswith("text/html")
    assert "all clips" in response.text


def test_the_front_page_lists_the_galleries_of_several_datasets(
    viewer: str, root: StorageRoot
) -> None:
    root.write(gallery_key("Trailers & Co"), b"<!doctype html><p>trailers")
    response = httpx.get(viewer)
    assert response.status_code == 200
    links = re.findall(r'href="([^"]+)"', response.text)
    assert [httpx.get(f"{viewer}{link}").text for link in links] == [
        "<!doctype html><p>trailers",
        "<!doctype html><p>all clips",
    ]


def test_without_a_gallery_the_front_page_says_how_to_create_one(root: StorageRoot) -> None:
    with serving(create_app(root)) as url:
        response = httpx.get(url, follow_redirects=True)
    assert response.status_code == 404
    assert "Materialize the asset gallery" in response.text


@pytest.mark.parametrize(
    "path",
    [
        "slots/clips/paper-boat/take-1/attempt-1.json",
        "root.json",
        "clips",
        "clips/../root.json",
        "clips/%2e%2e/root.json",
        "clips/nothing.mp4",
    ],
)
def test_nothing_else_is_shown(viewer: str, path: str) -> None:
    assert httpx.get(f"{viewer}/{path}").status_code == 404


def test_it_is_read_only(viewer: str) -> None:
    assert httpx.put(f"{viewer}/{KEY}", content=b"x").status_code == 405
    assert httpx.delete(f"{viewer}/{KEY}").status_code == 405


def test_videos_in_a_bucket_are_redirected_to_the_store(s3_url: str) -> None:
    root = StorageRoot(s3_url)
    root.write(KEY, VIDEO)
    root.write("gallery/default/index.html", b"<p>all clips")
    with serving(create_app(root)) as url:
        answer = httpx.get(f"{url}/{KEY}")
        assert answer.status_code == 307
        assert "X-Amz-Expires=3600" in answer.headers["Location"]
        assert httpx.get(answer.headers["Location"]).content == VIDEO
        assert httpx.get(f"{url}/gallery/default/index.html").text == "<p>all clips"
