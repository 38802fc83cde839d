"""What the sandbox accepts is what a model's catalogue entry says."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from runware.errors import derive_code

from sora_dagster.runware.errors import error_from_payload
from sora_dagster.sandbox.server import running_sandbox
from sora_dagster.sandbox.settings import SandboxSettings
from tests.sandbox.api import SandboxApi, video_task
from tests.sandbox.images import data_uri, image_bytes
from tests.sandbox.models import EDITOR, GUIDED, MODELS, RULED, full_task
from tests.sandbox.receiver import Receiver
from tests.sandbox.sounds import sound_bytes

IMAGE = data_uri(image_bytes(320, 300))
VIDEO = "{video}"
AUDIO = "{audio}"
NO_SIZE = {"width": None, "height": None}
DRY_RUN = {"X-Runware-Dry-Run": "1"}


@pytest.fixture(scope="module")
def api() -> Iterator[SandboxApi]:
    settings = SandboxSettings(latency_seconds=0, latency_step_seconds=0)
    with running_sandbox(settings, catalogue=MODELS) as base_url:
        yield SandboxApi(base_url)


@pytest.fixture(scope="module")
def video_uuid(api: SandboxApi) -> str:
    """A finished video of a second."""
    return str(api.video(**full_task())["videoUUID"])


def filled(value: Any, video: str, audio: str) -> Any:
    """The value with the addresses of a video and a sound."""
    if isinstance(value, dict):
        return {name: filled(item, video, audio) for name, item in value.items()}
    if isinstance(value, list):
        return [filled(item, video, audio) for item in value]
    return {VIDEO: video, AUDIO: audio}.get(value, value) if isinstance(value, str) else value


ACCEPTED: dict[str, dict[str, Any]] = {
    "a size of the list": full_task(),
    "a whole number of the range": full_task(duration=10),
    "a length left to the model": full_task(duration="auto"),
    "no length": full_task(duration=None),
    "a seed": full_task(seed=4294967295),
    "a negative prompt": full_task(negativePrompt="x"),
    "a frame rate": full_task(fps=24),
    "all settings": full_task(
        settings={"audio": False, "temperature": 0.5},
        providerSettings={"maker": {"enhance": True, "shots": [{"prompt": "a"}]}},
        steps=50,
    ),
    "a first and a last frame": full_task(
        **NO_SIZE,
        inputs={
            "frameImages": [{"image": IMAGE, "frame": "first"}, {"image": IMAGE, "frame": "last"}]
        },
    ),
    "frames by number and by time": full_task(
        **NO_SIZE,
        inputs={
            "frameImages": [
                {"image": IMAGE, "frame": 0},
                {"image": IMAGE, "frame": 12},
                {"image": IMAGE, "timestamp": 0.75},
            ]
        },
    ),
    "plain frames": full_task(**NO_SIZE, inputs={"frameImages": [IMAGE, IMAGE]}),
    "a frame and a resolution": full_task(
        **NO_SIZE, resolution="360p", inputs={"frameImages": [IMAGE]}
    ),
    "references beside a size": full_task(
        inputs={
            "referenceImages": [IMAGE, IMAGE],
            "referenceVideos": [VIDEO],
            "referenceAudios": [AUDIO],
        }
    ),
    "a video to edit": full_task(
        **NO_SIZE,
        duration="auto",
        inputs={"video": VIDEO},
        settings={"operation": "edit"},
    ),
    "a video without an operation": full_task(**NO_SIZE, inputs={"video": VIDEO}),
    "a size by rule": {"model": RULED.air, "width": 1024, "height": 128, "duration": 2},
    "a resolution without an input": {
        "model": RULED.air, **NO_SIZE, "resolution": "large", "duration": 2
    },
    "no size where none is required": {"model": RULED.air, **NO_SIZE, "duration": 1},
    "an editor": {
        "model": EDITOR.air, **NO_SIZE, "duration": None, "inputs": {"video": VIDEO}
    },
    "a guided model": {
        "model": GUIDED.air, **NO_SIZE, "duration": "auto", "inputs": {"referenceVideos": [VIDEO]}
    },
}  # fmt: skip

FRAME = {"frameImages": [IMAGE]}

REFUSED: dict[str, tuple[dict[str, Any], str, str | list[str]]] = {
    "a resolution of another model": (
        full_task(**NO_SIZE, resolution="4K", inputs=FRAME), "unsupportedResolution", "resolution"
    ),
    "a resolution beside a size": (
        full_task(resolution="360p", inputs={"referenceImages": [IMAGE]}),
        "incompatibleParameters",
        ["width", "height", "resolution"],
    ),
    "no size without inputs": (
        full_task(**NO_SIZE), "missingParameter", ["width", "height", "inputs"]
    ),
    "a size beside a frame": (
        full_task(inputs=FRAME),
        "incompatibleParameters",
        ["width", "height", "inputs.frameImages"],
    ),
    "references beside a frame": (
        full_task(**NO_SIZE, inputs={**FRAME, "referenceImages": [IMAGE]}),
        "incompatibleParameters",
        ["inputs.referenceImages", "inputs.frameImages"],
    ),
    "a seed beside a video": (
        full_task(**NO_SIZE, seed=1, inputs={"video": VIDEO}),
        "incompatibleParameters",
        ["seed", "inputs.video"],
    ),
    "a length beside an edit": (
        full_task(**NO_SIZE, inputs={"video": VIDEO}, settings={"operation": "edit"}),
        "unsupportedDuration",
        ["duration", "settings.operation"],
    ),
    "an edit without a video": (
        full_task(duration="auto", settings={"operation": "edit"}),
        "missingParameter",
        ["inputs.video", "settings.operation"],
    ),
    "too long for its frame rate": (
        full_task(fps=50, duration=5), "unsupportedDuration", ["duration", "fps"]
    ),
    "a size beside a frame rate": (
        full_task(fps=24, width=640, height=360),
        "unsupportedDimensions",
        ["width", "height", "fps"],
    ),
    "too long for its size": (
        full_task(width=480, height=480, duration=6),
        "unsupportedDuration",
        ["duration", "width", "height"],
    ),
    "too many references beside a video": (
        full_task(**NO_SIZE, inputs={"video": VIDEO, "referenceImages": [IMAGE, IMAGE]}),
        "arrayTooLarge",
        ["inputs.referenceImages", "inputs.video"],
    ),
    "too many references": (
        full_task(inputs={"referenceImages": [IMAGE] * 3}),
        "arrayTooLarge",
        "inputs.referenceImages",
    ),
    "no input": (full_task(**NO_SIZE, inputs={}), "invalidInputs", "inputs"),
    "no references": (
        full_task(inputs={"referenceImages": []}), "arrayTooSmall", "inputs.referenceImages"
    ),
    "a reference that is no image": (
        full_task(inputs={"referenceImages": ["@@"]}),
        "invalidReferenceImage",
        "inputs.referenceImages",
    ),
    "an unknown video": (
        full_task(**NO_SIZE, inputs={"video": "aac49721-1964-481a-ae78-8a4e29b91402"}),
        "invalidVideo",
        "inputs.video",
    ),
    "a video of another machine": (
        full_task(**NO_SIZE, inputs={"video": "https://example.com/a.mp4"}),
        "invalidVideo",
        "inputs.video",
    ),
    "a video that is a sound": (
        full_task(**NO_SIZE, inputs={"video": AUDIO}), "invalidVideo", "inputs.video"
    ),
    "a video as base64": (
        full_task(**NO_SIZE, inputs={"video": IMAGE}), "invalidVideo", "inputs.video"
    ),
    "an unknown reference video": (
        full_task(inputs={"referenceVideos": ["aac49721-1964-481a-ae78-8a4e29b91402"]}),
        "invalidReferenceVideo",
        "inputs.referenceVideos",
    ),
    "an unknown sound": (
        full_task(inputs={"referenceAudios": ["aac49721-1964-481a-ae78-8a4e29b91402"]}),
        "invalidReferenceAudio",
        "inputs.referenceAudios",
    ),
    "a fraction of a second": (full_task(duration=1.5), "unsupportedDuration", "duration"),
    "a frame rate between": (full_task(fps=30), "unsupportedFps", "fps"),
    "a seed that is too large": (full_task(seed=4294967296), "unsupportedSeed", "seed"),
    "a seed with a fraction": (full_task(seed=1.5), "invalidSeed", "seed"),
    "an empty negative prompt": (
        full_task(negativePrompt=""), "invalidNegativePromptLength", "negativePrompt"
    ),
    "an unknown setting": (
        full_task(settings={"mood": 1}), "unsupportedParameter", "settings.mood"
    ),
    "a setting at the wrong place": (
        full_task(settings={"enhance": True}), "unsupportedParameter", "settings.enhance"
    ),
    "a setting of another maker": (
        full_task(providerSettings={"google": {}}), "unsupportedParameter",
        "providerSettings.google",
    ),
    "a switch that is a number": (
        full_task(settings={"audio": 1}), "invalidAudio", "settings.audio"
    ),
    "a setting outside its range": (full_task(steps=51), "invalidSteps", "steps"),
    "a seed of 400 digits": (full_task(seed=10**400), "unsupportedSeed", "seed"),
    "a setting of 400 digits": (
        full_task(settings={"temperature": -(10**400)}), "invalidTemperature",
        "settings.temperature",
    ),
    "a frame of 400 digits": (
        full_task(**NO_SIZE, inputs={"frameImages": [{"image": IMAGE, "frame": 10**400}]}),
        "invalidFrameImage",
        "inputs.frameImages.0.frame",
    ),
    "a setting outside its list": (
        full_task(settings={"operation": "blend"}), "invalidOperation", "settings.operation"
    ),
    "two images at one place": (
        full_task(
            **NO_SIZE,
            inputs={
                "frameImages": [{"image": IMAGE, "frame": 0}, {"image": IMAGE, "frame": "first"}]
            },
        ),
        "duplicateFrame",
        "inputs.frameImages.1.frame",
    ),
    "a time and a frame": (
        full_task(
            **NO_SIZE,
            inputs={"frameImages": [{"image": IMAGE, "frame": "first", "timestamp": 1}]},
        ),
        "invalidTimestamp",
        "inputs.frameImages.0.timestamp",
    ),
    "a time where there is none": (
        {
            "model": RULED.air, **NO_SIZE, "duration": 1,
            "inputs": {"frameImages": [{"image": IMAGE, "timestamp": 1}]},
        },
        "unsupportedParameter",
        "inputs.frameImages.0.timestamp",
    ),
    "a last frame where there is none": (
        {
            "model": RULED.air, **NO_SIZE, "duration": 1,
            "inputs": {"frameImages": [{"image": IMAGE, "frame": -1}]},
        },
        "unsupportedFrame",
        "inputs.frameImages.0.frame",
    ),
    "a size off the steps": (
        {"model": RULED.air, "width": 130, "height": 128, "duration": 1},
        "unsupportedDimensions",
        "width",
    ),
    "a length that is always the model's": (
        {"model": RULED.air, "width": 128, "height": 128, "duration": "auto"},
        "unsupportedDuration",
        "duration",
    ),
    "a size for an editor": (
        {"model": EDITOR.air, "duration": None, "inputs": {"video": VIDEO}},
        "unsupportedParameter",
        "width",
    ),
    "a length for an editor": (
        {"model": EDITOR.air, **NO_SIZE, "inputs": {"video": VIDEO}},
        "unsupportedParameter",
        "duration",
    ),
    "an editor without a video": (
        {"model": EDITOR.air, **NO_SIZE, "duration": None}, "missingParameter", "inputs.video"
    ),
    "a seed that the model does not take": (
        {"model": RULED.air, "width": 128, "height": 128, "duration": 1, "seed": 1},
        "unsupportedParameter",
        "seed",
    ),
}  # fmt: skip


@pytest.fixture
def serve_sound(receiver: Receiver) -> str:
    """Address of a sound."""
    receiver.served = sound_bytes()
    return f"{receiver.url}/sound.wav"


@pytest.mark.parametrize("fields", ACCEPTED.values(), ids=ACCEPTED)
def test_what_the_entry_allows_is_accepted(
    api: SandboxApi, video_uuid: str, serve_sound: str, fields: dict[str, Any]
) -> None:
    task = video_task(**filled(fields, video_uuid, serve_sound))
    response = api.post(task, headers=DRY_RUN)
    assert response.status_code == 200, response.text
    assert response.json()["data"][0]["cost"] > 0


@pytest.mark.parametrize(("fields", "code", "parameter"), REFUSED.values(), ids=REFUSED)
def test_what_the_entry_does_not_allow_is_refused_by_all_fields_of_the_rule(
    api: SandboxApi,
    video_uuid: str,
    serve_sound: str,
    fields: dict[str, Any],
    code: str,
    parameter: str | list[str],
) -> None:
    error = api.refusal(video_task(**filled(fields, video_uuid, serve_sound)))
    assert (error["code"], error["parameter"]) == (code, parameter)
    assert error["documentation"].startswith("https://runware.ai/docs/models/")


@pytest.mark.parametrize("code", sorted({code for _, code, _ in REFUSED.values()}))
def test_the_client_and_the_official_sdk_read_every_code_as_a_validation_error(code: str) -> None:
    parameter = ["width", "inputs.video"]
    error = error_from_payload({"code": code, "message": "m", "parameter": parameter})
    assert (derive_code(code), error.kind) == ("validation", "validation")
    assert error.parameter == "width, inputs.video"
