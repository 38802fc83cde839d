"""The videos themselves, decoded."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from sora_dagster.runware.catalogue import FrameSize, OutputFormat
from sora_dagster.sandbox.drawing.layers import Stage
from sora_dagster.sandbox.drawing.picture import PictureSpec, layers_of, paint
from sora_dagster.sandbox.drawing.subjects import Subject
from sora_dagster.sandbox.rendering import (
    FRAMES_PER_SECOND,
    RenderingStoppedError,
    VideoSpec,
    render,
)
from sora_dagster.sandbox.sound import SAMPLE_RATE, sound_of
from tests.sandbox.api import SandboxApi, video_task
from tests.sandbox.images import data_uri, framed

SMALL = FrameSize(320, 180)


def spec(
    *,
    size: FrameSize = SMALL,
    output_format: OutputFormat = "MP4",
    duration_seconds: float = 4,
    output_quality: int = 95,
) -> VideoSpec:
    picture = PictureSpec(Subject("a boat on a lake at dawn", 1))
    return VideoSpec(picture, size, duration_seconds, output_format, output_quality)


def painted(picture: PictureSpec, *, frame: int = 0, size: FrameSize = SMALL) -> npt.NDArray[Any]:
    """One frame of a picture, RGB."""
    pixels = np.zeros((size.height, size.width, 3), np.uint8)
    paint(layers_of(picture, Stage(*size, 30), frames=120), pixels, frame)
    return pixels.astype(float)


def thumbnail(image: Image.Image) -> npt.NDArray[Any]:
    return np.asarray(image.convert("L").resize((64, 36)), float)


def difference(one: npt.NDArray[Any], other: npt.NDArray[Any]) -> float:
    return float(np.abs(one - other).mean())


def likeness(one: npt.NDArray[Any], other: npt.NDArray[Any]) -> float:
    """How much the light and dark of two pictures agree: 1 is fully."""
    return float(np.corrcoef(one.ravel(), other.ravel())[0, 1])


def first_image(content: bytes) -> Image.Image:
    with av.open(io.BytesIO(content), "r") as container:
        image = Image.fromarray(next(container.decode(video=0)).to_ndarray(format="rgb24"))
        return image


@pytest.mark.parametrize(
    ("output_format", "container_name", "video_codec", "audio_codec", "media_type"),
    [
        ("MP4", "mp4", "h264", "aac", "video/mp4"),
        ("MOV", "mov", "h264", "aac", "video/quicktime"),
        ("WEBM", "webm", "vp9", "opus", "video/webm"),
    ],
)
def test_a_downloaded_video_is_what_was_requested(
    start: Callable[..., SandboxApi],
    output_format: OutputFormat,
    container_name: str,
    video_codec: str,
    audio_codec: str,
    media_type: str,
) -> None:
    api = start(reuse_rendered=False)
    row = api.video(outputFormat=output_format, positivePrompt="Waves at night")
    assert row["videoURL"].endswith(f".{output_format.lower()}")
    response = api.http.get(row["videoURL"])
    assert response.headers["content-type"] == media_type
    with av.open(io.BytesIO(response.content), "r") as container:
        assert container_name in container.format.name
        video, audio = container.streams.video[0], container.streams.audio[0]
        assert (video.codec_context.width, video.codec_context.height) == (1280, 720)
        assert (video.codec_context.name, audio.codec_context.name.removeprefix("lib")) == (
            video_codec,
            audio_codec,
        )
        assert container.duration is not None
        duration = Fraction(container.duration, av.time_base)
        assert abs(duration - 4) <= Fraction(1, FRAMES_PER_SECOND)
        frames = sum(1 for _ in container.decode(video))
        assert frames == 4 * FRAMES_PER_SECOND


@pytest.mark.parametrize("output_format", ["MP4", "WEBM"])
def test_a_video_is_not_silent(tmp_path: Path, output_format: OutputFormat) -> None:
    path = tmp_path / "video"
    render(spec(output_format=output_format), path)
    with av.open(str(path)) as container:
        samples = np.concatenate(
            [frame.to_ndarray() for frame in container.decode(audio=0)], axis=1
        )
    assert abs(samples.shape[1] / SAMPLE_RATE - 4) < 0.1
    assert np.sqrt(np.mean(samples[:, SAMPLE_RATE : 3 * SAMPLE_RATE] ** 2)) > 0.01
    assert np.abs(samples).max() < 1


def test_a_better_quality_makes_a_larger_file(tmp_path: Path) -> None:
    for output_format in ("MP4", "WEBM"):
        sizes = []
        for quality in (20, 60, 99):
            path = tmp_path / f"{quality}.{output_format}"
            render(
                spec(output_format=output_format, output_quality=quality, duration_seconds=1), path
            )
            sizes.append(path.stat().st_size)
        assert sizes == sorted(sizes)
        assert sizes[0] * 1.3 < sizes[-1]


def test_rendering_the_same_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    for name in ("one", "two"):
        render(spec(duration_seconds=1), tmp_path / name)
    assert (tmp_path / "one").read_bytes() == (tmp_path / "two").read_bytes()


def test_a_rendering_can_be_stopped(tmp_path: Path) -> None:
    stop = threading.Event()
    stop.set()
    with pytest.raises(RenderingStoppedError):
        render(spec(), tmp_path / "video.mp4", stop=stop)


PROMPTS = [
    "A mountain range at dawn",
    "Waves on the ocean",
    "A neon city street",
    "A bamboo forest",
    "A coral reef",
    "Northern lights",
    "A ringed planet",
    "Abstract lights",
    "Something without any known word",
]


@pytest.mark.parametrize("prompt", PROMPTS)
def test_a_picture_moves(prompt: str) -> None:
    picture = PictureSpec(Subject(prompt, 3))
    assert difference(painted(picture, frame=0), painted(picture, frame=60)) > 1


@pytest.mark.parametrize("prompt", PROMPTS)
def test_no_frame_leaps_from_the_one_before(prompt: str) -> None:
    picture = PictureSpec(Subject(prompt, 3), remixes=(Subject("lanterns", 4),))
    layers = layers_of(picture, Stage(*SMALL, 30), frames=600)
    pixels = [np.zeros((180, 320, 3), np.uint8) for _ in range(2)]
    steps = []
    for frame in range(600):
        paint(layers, pixels[frame % 2], frame)
        if frame:
            earlier, later = (shown.mean(axis=2) for shown in pixels)
            steps.append(difference(earlier, later))
    assert max(steps) < 1.5 * np.percentile(steps, 90) + 1


def test_different_prompts_look_different() -> None:
    pictures = [painted(PictureSpec(Subject(prompt, 1)), frame=30) for prompt in PROMPTS]
    for index, one in enumerate(pictures):
        for other in pictures[index + 1 :]:
            assert difference(one, other) > 15


def test_different_seeds_of_a_prompt_look_different() -> None:
    one, other = (painted(PictureSpec(Subject("Waves on the ocean", seed))) for seed in (1, 2))
    assert difference(one, other) > 8


def test_the_same_prompt_and_seed_look_the_same_at_any_length() -> None:
    subject = PictureSpec(Subject("Waves on the ocean", 1))
    short, long = (layers_of(subject, Stage(*SMALL, 30), frames=frames) for frames in (120, 600))
    shown = [np.zeros((180, 320, 3), np.uint8) for _ in range(2)]
    for layers, pixels in zip((short, long), shown, strict=True):
        paint(layers, pixels, 77)
    assert np.array_equal(shown[0], shown[1])


@pytest.mark.parametrize("prompt", ["A mountain range at dawn", "A neon city street", "A reef"])
def test_a_remix_looks_like_its_parent_and_yet_not_the_same(prompt: str) -> None:
    parent = PictureSpec(Subject(prompt, 1))
    remix = parent.remixed(Subject("the same at night", 2))
    again = remix.remixed(Subject("and with balloons", 3))
    stranger = PictureSpec(Subject("A bamboo forest", 1))
    shown = painted(parent, frame=30)
    strange = painted(stranger, frame=30).mean(axis=2)
    for made in (remix, again):
        picture = painted(made, frame=30)
        assert difference(picture, shown) > 5
        likeness_to_parent = likeness(picture.mean(axis=2), shown.mean(axis=2))
        assert likeness_to_parent > 0.6
        assert likeness_to_parent > likeness(strange, shown.mean(axis=2))


def test_a_remix_over_http_is_made_from_its_parents_picture(
    start: Callable[..., SandboxApi],
) -> None:
    api = start(reuse_rendered=False)
    parent = api.video(positivePrompt="A mountain range at dawn")
    remix = api.video(
        positivePrompt="With snow",
        width=None,
        height=None,
        duration=None,
        inputs={"videoId": parent["outputs"]["videoId"]},
    )
    stranger = api.video(positivePrompt="A neon city street")
    shown, remixed, strange = (
        thumbnail(first_image(api.http.get(row["videoURL"]).content))
        for row in (parent, remix, stranger)
    )
    assert likeness(remixed, shown) > max(0.6, likeness(strange, shown))


def test_the_sound_of_another_subject_is_another() -> None:
    one, other = (
        sound_of(PictureSpec(Subject(prompt, 1)), samples=SAMPLE_RATE) for prompt in PROMPTS[:2]
    )
    assert not np.allclose(one, other, atol=0.01)


def photograph() -> Image.Image:
    """An image with odd sides, whose every part looks different."""
    y, x = np.mgrid[0:401, 0:601]
    channels = [x * 255 / 600, y * 255 / 400, 127 + 100 * np.sin(x / 37) * np.cos(y / 23)]
    return Image.fromarray(np.stack(channels, -1).astype(np.uint8), "RGB")


def test_a_video_starts_with_its_first_frame_and_moves_on(
    start: Callable[..., SandboxApi],
) -> None:
    api = start(reuse_rendered=False)
    buffer = io.BytesIO()
    photograph().save(buffer, "PNG")
    task = framed(data_uri(buffer.getvalue()), positivePrompt="The wind rises")
    assert api.post(task).status_code == 200
    (row,) = api.results(task["taskUUID"])
    with av.open(io.BytesIO(api.http.get(row["videoURL"]).content), "r") as container:
        frames = [
            Image.fromarray(frame.to_ndarray(format="rgb24")) for frame in container.decode(video=0)
        ]
    assert frames[0].size == (600, 400)
    given = np.asarray(photograph().resize((600, 400)), float)
    shown = [np.asarray(frame, float) for frame in (frames[0], frames[-1])]
    assert difference(shown[0], given) < 3
    assert difference(shown[1], given) > 6


def test_the_reused_rendering_is_one_file_for_many_tasks(start: Callable[..., SandboxApi]) -> None:
    api = start(reuse_rendered=True)
    rows = [api.video(positivePrompt=prompt) for prompt in ("A forest", "A city")]
    one, other = (api.http.get(row["videoURL"]).content for row in rows)
    assert one == other
    assert rows[0]["videoURL"] != rows[1]["videoURL"]


def test_the_sandbox_answers_while_it_renders(start: Callable[..., SandboxApi]) -> None:
    api = start(reuse_rendered=False)
    task = video_task(duration=20)
    api.post(task)
    answered = 0
    while all(row["status"] == "processing" for row in api.rows(task["taskUUID"])):
        answered += 1
    # A rendering of 600 frames takes seconds; blocked, not one poll would be answered meanwhile.
    assert answered >= 10
