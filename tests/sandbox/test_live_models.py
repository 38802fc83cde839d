"""Videos of models besides Sora: their inputs, sizes, lengths, sound and price."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image

from sora_dagster.sandbox.bills import ASSUMED_PRICE_USD
from sora_dagster.sandbox.server import running_sandbox
from sora_dagster.sandbox.settings import SandboxSettings
from tests.s3_server import make_bucket, running_s3, s3_client
from tests.sandbox.api import SandboxApi, video_task
from tests.sandbox.images import data_uri, image_bytes
from tests.sandbox.models import EDITOR, FULL, GUIDED, MODELS, RULED, full_task
from tests.sandbox.receiver import Receiver

NO_SIZE = {"width": None, "height": None}
DRY_RUN = {"X-Runware-Dry-Run": "1"}
HILLS = "A mountain range at dawn"

Pixels = npt.NDArray[Any]


class Clock:
    """Unix time that a test moves."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture(scope="module")
def clock() -> Clock:
    return Clock()


@pytest.fixture(scope="module")
def api(clock: Clock) -> Iterator[SandboxApi]:
    settings = SandboxSettings(latency_seconds=0, latency_step_seconds=0)
    with running_sandbox(settings, catalogue=MODELS, clock=clock) as base_url:
        yield SandboxApi(base_url)


@pytest.fixture(scope="module")
def parent(api: SandboxApi) -> dict[str, Any]:
    """A finished video: 426x240, a second long."""
    return api.video(**full_task(positivePrompt=HILLS))


@dataclass(frozen=True)
class Decoded:
    """A decoded video."""

    frames: list[Pixels]
    rate: float
    has_sound: bool

    @property
    def seconds(self) -> float:
        return len(self.frames) / self.rate

    @property
    def size(self) -> tuple[int, int]:
        height, width = self.frames[0].shape[:2]
        return width, height


def decoded(api: SandboxApi, row: dict[str, Any]) -> Decoded:
    """A finished video, downloaded."""
    with av.open(io.BytesIO(api.http.get(row["videoURL"]).content), "r") as container:
        stream = container.streams.video[0]
        has_sound = bool(container.streams.audio)
        rate = float(stream.average_rate or 0)
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(stream)]
        return Decoded(frames, rate, has_sound)


def likeness(one: Pixels, other: Pixels) -> float:
    """How much the light and dark of two pictures agree: 1 is fully."""
    small = (
        np.asarray(Image.fromarray(picture).convert("L").resize((64, 36)), float).ravel()
        for picture in (one, other)
    )
    return float(np.corrcoef(*small)[0, 1])


def difference(one: Pixels, other: Pixels) -> float:
    return float(np.abs(one.astype(float) - other.astype(float)).mean())


def cost(api: SandboxApi, **fields: Any) -> float:
    response = api.post(video_task(**fields), headers=DRY_RUN)
    assert response.status_code == 200, response.text
    return float(response.json()["data"][0]["cost"])


def test_a_seed_decides_the_picture_and_the_next_result_has_the_next_seed(api: SandboxApi) -> None:
    tasks = [
        video_task(**full_task(positivePrompt=HILLS, seed=7, numberResults=count))
        for count in (1, 2)
    ]
    for task in tasks:
        api.post(task)
    [one], [again, other] = (
        api.results(task["taskUUID"], count) for task, count in zip(tasks, (1, 2), strict=True)
    )
    assert [row["seed"] for row in (one, again, other)] == [7, 7, 8]
    pictures = [decoded(api, row).frames[0] for row in (one, again, other)]
    assert np.array_equal(pictures[0], pictures[1])
    assert difference(pictures[0], pictures[2]) > 8


def test_the_seed_after_the_highest_is_the_lowest(api: SandboxApi) -> None:
    task = video_task(**full_task(seed=4294967295, numberResults=2))
    api.post(task)
    assert [row["seed"] for row in api.results(task["taskUUID"], 2)] == [4294967295, 0]


def test_only_models_that_take_a_video_id_give_one(api: SandboxApi, parent: dict[str, Any]) -> None:
    assert "outputs" not in parent
    assert {"videoUUID", "videoURL", "seed"} <= parent.keys()


@pytest.fixture(scope="module")
def presigned(api: SandboxApi, parent: dict[str, Any]) -> Iterator[str]:
    """A presigned URL of the stored video."""
    content = api.http.get(parent["videoURL"]).content
    with running_s3() as endpoint:
        place = {"Bucket": make_bucket(endpoint), "Key": "stored.mp4"}
        s3 = s3_client(endpoint)
        s3.put_object(**place, Body=content)
        yield s3.generate_presigned_url("get_object", Params=place)


@pytest.mark.parametrize("source", ["UUID", "URL", "presigned URL"])
def test_an_edit_is_its_video_recognisably_remixed(
    api: SandboxApi, parent: dict[str, Any], presigned: str, source: str
) -> None:
    address = {
        "UUID": parent["videoUUID"],
        "URL": parent["videoURL"],
        "presigned URL": presigned,
    }[source]
    edit = api.video(
        model=EDITOR.air,
        **NO_SIZE,
        duration=None,
        positivePrompt="With snow",
        inputs={"video": address},
    )
    shown, edited = decoded(api, parent), decoded(api, edit)
    assert (edited.size, edited.seconds) == (shown.size, shown.seconds)
    assert likeness(edited.frames[0], shown.frames[0]) > 0.6
    assert difference(edited.frames[0], shown.frames[0]) > 5


def test_a_video_that_expired_is_refused(api: SandboxApi, clock: Clock) -> None:
    row = api.video(**full_task(ttl=60))
    task = {"model": EDITOR.air, **NO_SIZE, "duration": None}
    for address in (row["videoUUID"], row["videoURL"]):
        fields = {**task, "inputs": {"video": address}}
        assert api.post(video_task(**fields), headers=DRY_RUN).status_code == 200
    clock.now += 60
    for address in (row["videoUUID"], row["videoURL"]):
        error = api.refusal(video_task(**task, inputs={"video": address}))
        assert (error["code"], error["parameter"]) == ("invalidVideo", "inputs.video")
        assert "expired" in error["message"]


def test_a_video_of_another_account_is_unknown() -> None:
    settings = SandboxSettings(
        latency_seconds=0, extra_keys={"other": "aac49721-1964-481a-ae78-8a4e29b91402"}
    )
    with running_sandbox(settings, catalogue=MODELS) as base_url:
        row = SandboxApi(base_url).video(**full_task())
        task = video_task(
            model=EDITOR.air, **NO_SIZE, duration=None, inputs={"video": row["videoUUID"]}
        )
        assert SandboxApi(base_url, "other").refusal(task)["parameter"] == "inputs.video"
        assert SandboxApi(base_url).post(task, headers=DRY_RUN).status_code == 200


def test_a_fault_refuses_uuids_but_not_addresses(api: SandboxApi, parent: dict[str, Any]) -> None:
    api.set_faults({"fault": "refuse_video_uuids"})
    try:
        task = {"model": EDITOR.air, **NO_SIZE, "duration": None}
        error = api.refusal(video_task(**task, inputs={"video": parent["videoUUID"]}))
        assert (error["code"], error["parameter"]) == ("invalidVideo", "inputs.video")
        error = api.refusal(
            video_task(
                model=GUIDED.air,
                **NO_SIZE,
                inputs={"referenceVideos": [parent["videoURL"], parent["videoUUID"]]},
            )
        )
        assert error["parameter"] == "inputs.referenceVideos"
        api.video(**task, inputs={"video": parent["videoURL"]})
        assert api.struck() == [2]
    finally:
        api.set_faults()


def test_an_extension_shows_its_video_and_then_new_pictures(
    api: SandboxApi, parent: dict[str, Any]
) -> None:
    extension = api.video(
        **full_task(
            **NO_SIZE,
            duration=2,
            positivePrompt="With snow",
            inputs={"video": parent["videoUUID"]},
            settings={"operation": "extend"},
        )
    )
    shown, extended = decoded(api, parent), decoded(api, extension)
    assert extended.seconds == 3
    assert difference(extended.frames[10], shown.frames[10]) < 3
    assert difference(extended.frames[40], shown.frames[10]) > 5


def noise() -> Pixels:
    """A picture unlike any that the sandbox draws."""
    return np.random.default_rng(1).integers(0, 256, (9, 16, 3), np.uint8)


def encoded(picture: Pixels) -> str:
    buffer = io.BytesIO()
    Image.fromarray(picture).resize((426, 240), Image.Resampling.NEAREST).save(buffer, "PNG")
    return data_uri(buffer.getvalue())


def test_frame_images_are_shown_at_their_places(api: SandboxApi) -> None:
    image = encoded(noise())
    wanted = np.asarray(Image.fromarray(noise()).resize((426, 240), Image.Resampling.NEAREST))
    places = [{"frame": "first"}, {"frame": "last"}, {"frame": 12}, {"timestamp": 1.0}]
    for place, index in zip(places, (0, -1, 12, 24), strict=True):
        video = decoded(
            api,
            api.video(
                **full_task(
                    **NO_SIZE,
                    resolution="240p",
                    duration=2,
                    fps=24,
                    inputs={"frameImages": [{"image": image, **place}]},
                )
            ),
        )
        likenesses = [likeness(frame, wanted) for frame in video.frames]
        assert likenesses[index] > 0.95, place
        assert min(likenesses) < likenesses[index] - 0.03, place


def test_plain_frames_begin_and_end_a_video(api: SandboxApi) -> None:
    red, blue = (
        data_uri(image_bytes(426, 240, colour=colour)) for colour in ((220, 0, 0), (0, 0, 220))
    )
    video = decoded(
        api, api.video(**full_task(**NO_SIZE, duration=2, inputs={"frameImages": [red, blue]}))
    )
    assert video.frames[0][..., 0].mean() > 200
    assert video.frames[-1][..., 2].mean() > 200


def test_reference_images_are_visible(api: SandboxApi) -> None:
    image = data_uri(image_bytes(300, 300, colour=(255, 0, 255)))
    plain = full_task(positivePrompt="A green forest", seed=1)
    without = decoded(api, api.video(**plain))
    beside = decoded(api, api.video(**plain, inputs={"referenceImages": [image]}))
    shares = [
        float(((frame[..., 0] > 220) & (frame[..., 1] < 60) & (frame[..., 2] > 220)).mean())
        for frame in (without.frames[15], beside.frames[15])
    ]
    assert shares[0] == 0
    assert shares[1] > 0.01


@pytest.mark.parametrize(
    ("fields", "has_sound", "rate"),
    [
        (full_task(), True, 25),
        (full_task(settings={"audio": False}, fps=24), False, 24),
        (full_task(fps=50, outputFormat="WEBM"), True, 50),
        ({"model": RULED.air, "width": 128, "height": 128, "duration": 1}, False, 30),
    ],
    ids=["by default", "switched off", "fast", "a silent model"],
)
def test_sound_and_frame_rate_are_those_of_the_request(
    api: SandboxApi, fields: dict[str, Any], has_sound: bool, rate: float
) -> None:
    video = decoded(api, api.video(**fields))
    assert (video.has_sound, round(video.rate), round(video.seconds, 2)) == (has_sound, rate, 1)


WIDE, TALL = data_uri(image_bytes(640, 320)), data_uri(image_bytes(300, 500))

SIZES: dict[str, tuple[dict[str, Any], str]] = {
    "requested": (full_task(), "426x240"),
    "by the tier and the frame's shape": (
        full_task(**NO_SIZE, resolution="360p", inputs={"frameImages": [TALL]}),
        "360x640",
    ),
    "by the frame": (full_task(**NO_SIZE, inputs={"frameImages": [TALL]}), "300x500"),
    "by the model": (
        full_task(**NO_SIZE, inputs={"referenceImages": [TALL]}),
        "426x240",
    ),
    "by the default tier and the frame's shape": (
        {"model": RULED.air, **NO_SIZE, "duration": 1, "inputs": {"frameImages": [WIDE]}},
        "704x320",
    ),
    "by a tier without sizes": (
        {"model": GUIDED.air, **NO_SIZE, "duration": 2},
        "426x240",
    ),
    "by default": ({"model": RULED.air, **NO_SIZE, "duration": 1}, "512x256"),
}


@pytest.mark.parametrize(("fields", "size"), SIZES.values(), ids=SIZES)
def test_a_size_is_found(api: SandboxApi, fields: dict[str, Any], size: str) -> None:
    assert decoded(api, api.video(**fields)).size == tuple(map(int, size.split("x")))


def test_a_length_that_is_left_to_the_model_is_five_seconds(api: SandboxApi) -> None:
    assert decoded(api, api.video(**full_task(duration="auto"))).seconds == 5


def edited(parent: dict[str, Any], **fields: Any) -> dict[str, Any]:
    task = full_task(**NO_SIZE, duration="auto", **fields)
    return {**task, "inputs": {"video": parent["videoUUID"], **task.get("inputs", {})}}


def test_the_bill_follows_from_what_is_generated(api: SandboxApi, parent: dict[str, Any]) -> None:
    edit = {"operation": "edit"}
    bills = {
        "two seconds": (full_task(duration=2), 0.40),
        "silent": (full_task(duration=2, settings={"audio": False}), 0.20),
        "two results": (full_task(duration=2, numberResults=2), 0.80),
        "a length left to the model": (full_task(duration="auto"), 1.00),
        "the larger tier": (full_task(duration=2, width=640, height=360), 0.80),
        "images": (full_task(inputs={"referenceImages": [WIDE, TALL]}), 0.21),
        "the frame's tier": (
            full_task(**NO_SIZE, resolution="360p", inputs={"frameImages": [TALL]}), 0.40
        ),
        "an edit": (edited(parent, settings=edit), 0.25),
        "an approximate price without its margin": (
            {"model": EDITOR.air, **NO_SIZE, "duration": None,
             "inputs": {"video": parent["videoUUID"]}},
            0.5,
        ),
        "by the video": (
            {"model": GUIDED.air, **NO_SIZE, "duration": 6,
             "inputs": {"referenceVideos": [parent["videoUUID"]]}},
            0.25,
        ),
    }  # fmt: skip
    costs = {name: cost(api, **fields) for name, (fields, _) in bills.items()}
    assert costs == {name: pytest.approx(usd) for name, (_, usd) in bills.items()}


def test_a_model_without_a_price_costs_a_fixed_sum(api: SandboxApi) -> None:
    task = {"model": RULED.air, "width": 128, "height": 128, "duration": 1}
    assert cost(api, **task, numberResults=2) == 2 * ASSUMED_PRICE_USD
    api.video(**task)
    charges = api.ledger()["charges"]
    assert charges[-1]["is_assumed_price"]
    assert not any(charge["is_assumed_price"] for charge in charges if charge["model"] == FULL.air)


def test_tasks_with_inputs_are_known_after_a_restart(tmp_path: Path, receiver: Receiver) -> None:
    settings = SandboxSettings(latency_seconds=0, data_dir=tmp_path)
    with running_sandbox(settings, catalogue=MODELS) as base_url:
        api = SandboxApi(base_url)
        row = api.video(**full_task())
        receiver.served = api.http.get(row["videoURL"]).content
        edits = [
            video_task(model=EDITOR.air, **NO_SIZE, duration=None, inputs={"video": address})
            for address in (row["videoUUID"], row["videoURL"], f"{receiver.url}/gone.mp4")
        ]
        before = [api.post(edit) and api.results(edit["taskUUID"])[0] for edit in edits]
    # What was fetched cannot be fetched again.
    receiver.served = b""
    with running_sandbox(settings, catalogue=MODELS) as base_url:
        api = SandboxApi(base_url)
        after = [api.results(edit["taskUUID"])[0] for edit in edits]
        assert [row["videoUUID"] for row in after] == [row["videoUUID"] for row in before]
