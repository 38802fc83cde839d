"""The example of an asset downstream: 9:16 crops of clips, from a folder and from a bucket."""

from __future__ import annotations

import importlib.util
import io
from pathlib import Path
from types import ModuleType
from typing import Any

import av
import dagster as dg
import pytest

from tests.dagster_face.stack import Stack, failure_text

EXAMPLE = Path(__file__).parent.parent.parent / "examples" / "vertical_crop.py"


@pytest.fixture
def example(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The example as `dagster dev -f` loads it."""
    monkeypatch.setenv("RUNWARE_BASE_URL", stack.base_url)
    monkeypatch.setenv("SORA_PROMPTS", str(stack.prompts_path))
    spec = importlib.util.spec_from_file_location("vertical_crop", EXAMPLE)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def facts(video: bytes) -> dict[str, Any]:
    """Size, length and sound of a video that decodes whole."""
    with av.open(io.BytesIO(video)) as container:
        sound = [(packet.pts, bytes(packet)) for packet in container.demux(audio=0)]
    with av.open(io.BytesIO(video)) as container:
        picture = container.streams.video[0]
        return {
            "size": (picture.width, picture.height),
            "shown_at": [frame.time for frame in container.decode(picture)],
            "sound": sound,
        }


@pytest.mark.parametrize("store", ["file", "s3"])
def test_a_crop_has_its_clips_length_and_sound(
    stack: Stack, request: pytest.FixtureRequest, store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if store == "s3":
        stack.storage_url = request.getfixturevalue("s3_url")
    monkeypatch.setenv("SORA_STORAGE", stack.root.url)
    example = request.getfixturevalue("example")
    stack.write({"id": "a red fox", "size": "1280x720"})
    stack.tick_dataset_sensor()
    assert stack.materialize(["clip_requests", "clips"], ["a red fox"]).success
    result = example.defs.resolve_implicit_global_asset_job_def().execute_in_process(
        instance=stack.instance,
        asset_selection=[dg.AssetKey("vertical")],
        partition_key="a red fox",
        raise_on_error=False,
    )
    assert result.success, failure_text(result)
    manifest = stack.ledger.latest_manifest("clips", "a red fox")
    assert manifest is not None
    made = facts(stack.root.read("derived/vertical/a red fox.mp4"))
    source = facts(stack.root.read(manifest.videos[0].key))
    assert source.pop("size") == (1280, 720)
    assert made.pop("size") == (404, 720)
    assert source["sound"]
    assert made == source
    [event] = stack.events("vertical", "a red fox")
    assert event.metadata["dagster/uri"].value == stack.root.uri("derived/vertical/a red fox.mp4")
    assert event.metadata["clip_take"].value == 1


@pytest.mark.parametrize(
    ("size", "cropped"),
    [((180, 320), (180, 320)), ((90, 320), (90, 160)), ((320, 180), (100, 180))],
)
def test_a_crop_is_no_wider_than_nine_to_sixteen(
    example: ModuleType, size: tuple[int, int], cropped: tuple[int, int]
) -> None:
    made = io.BytesIO()
    assert example.crop_to_portrait(io.BytesIO(silent_video(*size)), made) == cropped
    with av.open(io.BytesIO(made.getvalue())) as container:
        picture = container.streams.video[0]
        assert (picture.width, picture.height) == cropped
        assert sum(1 for _ in container.decode(video=0)) == 12


def silent_video(width: int, height: int) -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("libx264", rate=24)
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for number in range(12):
            frame = av.VideoFrame(width, height, "yuv420p")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return file.getvalue()
