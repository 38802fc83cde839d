"""Entries of a gallery for tests, with real videos and posters."""

from __future__ import annotations

import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path
from typing import Any, cast

import av
import numpy as np
from av.video.stream import VideoStream
from PIL import Image

from sora_dagster.gallery.page import (
    GalleryEntry,
    GalleryVideo,
    render_gallery,
)
from sora_dagster.generation.protocol.layout import gallery_key

FIRST_DAY = datetime(2026, 11, 1, 12, 0, tzinfo=UTC)
VIDEO_HREF = "../../video.webm"
CODECS = {"mp4": "libx264", "webm": "libvpx-vp9"}


def entry(clip: str, **fields: Any) -> GalleryEntry:
    """A stored clip with one video, or as the fields say."""
    asset = fields.pop("asset", "clips")
    href = fields.pop("href", VIDEO_HREF)
    known: dict[str, Any] = {
        "asset": asset,
        "clip": clip,
        "partition": clip,
        "title": clip.replace("-", " "),
        "prompt": f"Everything about {clip}.",
        "model": "openai:3@2",
        "tags": (),
        "take": 1,
        "created_at": FIRST_DAY,
        "state": "stored",
        "cost_usd": 0.5,
        "estimate_usd": 0.5,
        "duration_seconds": 4.0,
        "width": 1280,
        "height": 720,
        "generation_seconds": 75.0,
        "videos": (video(href),),
    }
    if fields.get("state") == "failed":
        known["videos"] = ()
    return GalleryEntry(**known | fields)


def video(href: str, **fields: Any) -> GalleryVideo:
    """A video of 1280x720 and 4 s, or as the fields say."""
    known: dict[str, Any] = {
        "href": href,
        "content_type": "video/mp4",
        "seed": 7,
        "cost_usd": 0.5,
        "width": 1280,
        "height": 720,
        "duration_seconds": 4.0,
    }
    return GalleryVideo(**known | fields)


def many_entries(count: int) -> list[GalleryEntry]:
    """Clips of every shape, the last of which is the newest."""
    sizes = [(1280, 720), (720, 1280), (1024, 1024)]
    entries = []
    for number in range(count):
        width, height = sizes[number % 3]
        created_at = FIRST_DAY + timedelta(minutes=number)
        entries.append(
            entry(f"clip-{number:04d}", width=width, height=height, created_at=created_at)
        )
    return entries


def write_gallery(root: Path, entries: Sequence[GalleryEntry], *, wasted_usd: float = 0.0) -> str:
    """Lay the page and its entries' video into a storage root; gives the page's address."""
    path = root / gallery_key("default")
    path.parent.mkdir(parents=True, exist_ok=True)
    page = render_gallery(
        entries, title="Test gallery", generated_at=FIRST_DAY, wasted_usd=wasted_usd
    )
    path.write_text(page, encoding="utf-8")
    (root / "video.webm").write_bytes(_small_video())
    return path.as_uri()


def write_video(path: Path, *, seconds: float = 4.0) -> None:
    """A small video of moving stripes, in the container that the name ends with."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as output:
        stream = cast(VideoStream, output.add_stream(CODECS[path.suffix[1:]], rate=10))
        stream.width, stream.height, stream.pix_fmt = 128, 72, "yuv420p"
        for index in range(round(10 * seconds)):
            frame = av.VideoFrame.from_ndarray(_stripes(index), format="rgb24")
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))


@cache
def _small_video() -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "video.webm"
        write_video(path)
        return path.read_bytes()


def write_poster(path: Path) -> None:
    """A small JPEG."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(_stripes(0)).save(path)


def _stripes(shift: int) -> Any:
    columns = (np.arange(128) + 3 * shift) // 16 % 2 * 200 + 20
    return np.repeat(np.tile(columns, (72, 1))[:, :, None], 3, axis=2).astype(np.uint8)
