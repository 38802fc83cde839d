"""Stored clips as downstream code reads them, in a folder and in a bucket."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from sora_dagster.generation.library.stored_clip import StoredClip
from sora_dagster.generation.protocol import layout
from sora_dagster.generation.protocol.ledger import Ledger
from sora_dagster.generation.protocol.records import ClipManifest, StoredVideo
from sora_dagster.prompts.clips import ClipRequest, ParentVideo
from sora_dagster.runware.pricing import Price
from sora_dagster.storage import ObjectMissingError, StorageError, StorageRoot
from tests.generation.requesting import clip as requested_clip
from tests.generation.stored_takes import NONCE
from tests.serving import serving

BODY = os.urandom(3 << 20)
MIB = 1 << 20


@pytest.fixture(params=["file", "s3"])
def root(request: pytest.FixtureRequest, tmp_path: Path) -> StorageRoot:
    if request.param == "s3":
        return StorageRoot(request.getfixturevalue("s3_url"))
    return StorageRoot(tmp_path / "a folder")


def stored(
    root: StorageRoot, *bodies: bytes, asset: str = "clips", clip: str = "fox", **changes: Any
) -> StoredClip:
    """A clip in the storage root, of these videos."""
    request = requested_clip("fox", "a fox in snow", tags=["hero"]).model_copy(
        update={"asset": asset, "clip": clip}
    )
    videos = []
    for number, body in enumerate(bodies or [BODY]):
        key = layout.video_key(asset, clip, 1, f"video-{number}", "mp4", NONCE)
        root.write(key, body)
        videos.append(video_of(key, body))
    poster_key = layout.take_file_key(asset, clip, 1, "poster.jpg", NONCE)
    root.write(poster_key, b"a poster")
    manifest = ClipManifest(
        **{
            "asset": asset,
            "clip": clip,
            "take": 1,
            "attempt": 1,
            "fingerprint": request.spec.fingerprint,
            "task_uuid": "a-task",
            "state": "done",
            "request": request,
            "wire": {},
            "videos": videos,
            "poster_key": poster_key,
            "errors": (),
            "cost_usd": 1.2,
            "cost_is_estimate": False,
            "estimate": Price(usd=1.2, certainty="published"),
            "requested_at": datetime(2026, 11, 24, tzinfo=UTC),
            "stored_at": datetime(2026, 11, 24, tzinfo=UTC),
            "generation_seconds": 60.0,
            "content_hash": videos[0].sha256,
            "root_run": "run",
            "nonce": "a-nonce",
            **changes,
        }
    )
    return StoredClip(Ledger(root).write_manifest(manifest), root)


def video_of(key: str, body: bytes) -> StoredVideo:
    return StoredVideo(
        key=key,
        video_uuid=key,
        video_id=None,
        seed=7,
        cost_usd=1.2,
        nsfw=None,
        size_bytes=len(body),
        sha256=hashlib.sha256(body).hexdigest(),
        content_type="video/mp4",
        container="mp4",
        width=1280,
        height=720,
        duration_seconds=4.0,
        frame_count=120,
        frames_per_second=30.0,
        video_codec="h264",
        audio_codec="aac",
    )


@contextmanager
def counting_proxy(endpoint: str, counts: dict[str, int]) -> Iterator[str]:
    """An S3 endpoint that passes everything on, and counts the bytes read and the requests."""
    with httpx.Client() as client:

        def forward(request: Request) -> Response:
            answer = client.request(
                request.method,
                f"{endpoint}{request.url.path}?{request.url.query}",
                headers=[(name, value) for name, value in request.headers.items()],
            )
            counts["requests"] = counts.get("requests", 0) + 1
            if request.method == "GET":
                counts["bytes"] = counts.get("bytes", 0) + len(answer.content)
            headers = {
                name: value
                for name, value in answer.headers.items()
                if name not in ("content-length", "connection")
                or (name == "content-length" and request.method == "HEAD")
            }
            return Response(answer.content, answer.status_code, headers)

        app = Starlette(routes=[Route("/{path:path}", forward, methods=["GET", "HEAD"])])
        with serving(app) as address:
            yield address


def test_a_clip_says_what_it_is(root: StorageRoot) -> None:
    clip = stored(root)
    assert (clip.prompt, clip.tags, clip.cost_usd, clip.seed) == (
        "a fox in snow",
        ("hero",),
        1.2,
        7,
    )
    assert repr(clip) == (
        f"<StoredClip clips/fox, take 1: 1280x720, 4 s, 1.20 USD, {root.uri(clip.video.key)}>"
    )


def test_a_video_is_a_file_that_can_be_sought_in(root: StorageRoot) -> None:
    clip = stored(root, BODY, b"another")
    with clip.open() as file:
        file.seek(-10, os.SEEK_END)
        assert file.read() == BODY[-10:]
        file.seek(MIB)
        assert file.read(5) == BODY[MIB : MIB + 5]
    assert clip.read() == BODY
    assert clip.read(1) == b"another"


def test_a_small_read_fetches_a_small_part(
    s3_url: str, s3_endpoint: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = os.urandom(16 * MIB)
    manifest = stored(StorageRoot(s3_url), body).manifest
    counts: dict[str, int] = {}
    with counting_proxy(s3_endpoint, counts) as proxy:
        monkeypatch.setenv("AWS_ENDPOINT_URL", proxy)
        with StoredClip(manifest, StorageRoot(s3_url)).open() as file:
            assert file.read(100) == body[:100]
            file.seek(12 * MIB)
            assert file.read(100) == body[12 * MIB : 12 * MIB + 100]
        assert 0 < counts["bytes"] <= 2 * MIB
        counts.clear()
        StoredClip(manifest, StorageRoot(s3_url)).read()
        assert counts["bytes"] == len(body)


def test_a_video_that_there_is_none_of_is_a_clear_error(root: StorageRoot) -> None:
    clip = stored(root, BODY, b"another")
    with pytest.raises(IndexError, match="fox has 2 video"):
        clip.open(2)


def test_a_download_goes_to_the_file_that_is_named(root: StorageRoot, tmp_path: Path) -> None:
    target = tmp_path / "new" / "video.mp4"
    assert stored(root).download(target) == target
    assert target.read_bytes() == BODY
    assert os.listdir(target.parent) == ["video.mp4"]


def test_a_download_into_a_folder_is_named_for_its_clip(root: StorageRoot, tmp_path: Path) -> None:
    clip = stored(root, BODY, b"another")
    remix = stored(root, b"a remix", asset="remixes", clip="fox|night")
    assert clip.download(str(tmp_path)).name == "fox.mp4"
    assert clip.download(tmp_path, 1).name == "fox (2).mp4"
    assert remix.download(tmp_path).name == "fox+night.mp4"
    assert (tmp_path / "fox (2).mp4").read_bytes() == b"another"


def test_a_damaged_video_is_not_downloaded_and_what_was_there_stays(
    root: StorageRoot, tmp_path: Path
) -> None:
    clip = stored(root)
    folder = tmp_path / "downloads"
    folder.mkdir()
    (folder / "fox.mp4").write_bytes(b"from before")
    root.write(clip.video.key, BODY[:-1])
    with pytest.raises(StorageError, match="is damaged"):
        clip.download(folder)
    assert (folder / "fox.mp4").read_bytes() == b"from before"
    root.delete(clip.video.key)
    with pytest.raises(ObjectMissingError):
        clip.download(folder)
    assert os.listdir(folder) == ["fox.mp4"]
    root.write(clip.video.key, BODY)
    assert clip.download(folder).read_bytes() == BODY


def test_a_clip_in_a_folder_has_a_path_and_a_file_address(tmp_path: Path) -> None:
    clip = stored(StorageRoot(tmp_path / "a folder"))
    assert clip.path is not None
    assert clip.path.read_bytes() == BODY
    assert clip.url() == clip.path.as_uri()


def test_a_clip_in_a_bucket_has_an_address_that_anybody_can_read(s3_url: str) -> None:
    clip = stored(StorageRoot(s3_url), BODY, b"another")
    assert clip.path is None
    assert httpx.get(clip.url()).content == BODY
    address = httpx.URL(clip.url(expires_seconds=60, index=1))
    assert address.params["X-Amz-Expires"] == "60"
    assert httpx.get(address).content == b"another"


def test_a_clip_in_memory_has_no_address() -> None:
    with pytest.raises(StorageError, match="cannot be signed"):
        stored(StorageRoot("memory://")).url()


def test_pictures_are_read_where_there_are_any(root: StorageRoot) -> None:
    root.write("sheet.jpg", b"a sheet")
    with_sheet = stored(root, sheet_key="sheet.jpg")
    without = stored(root, clip="owl")
    assert (with_sheet.poster(), with_sheet.sheet()) == (b"a poster", b"a sheet")
    assert (without.poster(), without.sheet()) == (b"a poster", None)


def test_a_remix_loads_the_take_that_it_was_made_from(root: StorageRoot) -> None:
    first = stored(root)
    remix = remix_of(root, first)
    assert remix.parent is not None
    assert remix.parent.take == 1
    loaded = remix.load_parent()
    assert loaded is not None
    assert loaded.manifest == first.manifest
    assert (first.parent, first.load_parent()) == (None, None)


def test_a_parent_that_was_removed_is_a_clear_error(root: StorageRoot) -> None:
    first = stored(root)
    remix = remix_of(root, first)
    root.delete(layout.manifest_key("clips", "fox", 1))
    with pytest.raises(ObjectMissingError, match="take 1 of clips/fox"):
        remix.load_parent()


def remix_of(root: StorageRoot, parent: StoredClip) -> StoredClip:
    request = ClipRequest(
        asset="remixes",
        clip="fox|night",
        spec=requested_clip("fox", "at night").spec,
        recipe="night",
        parent=ParentVideo(
            asset="clips",
            clip="fox",
            take=1,
            content_hash=parent.manifest.content_hash,
            video_uuid=parent.video.video_uuid,
            video_id="a-video-id",
            size=(1280, 720),
            duration_seconds=4.0,
        ),
    )
    return stored(root, asset="remixes", clip="fox|night", request=request)
