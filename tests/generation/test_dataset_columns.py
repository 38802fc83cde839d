"""Rows with the columns of live models, from the dataset's file to the stored clip."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import httpx
import pytest

from sora_dagster.generation.generator import Generator
from sora_dagster.generation.library.clip_checks import build_clip_checks
from sora_dagster.generation.protocol.records import ClipManifest
from sora_dagster.generation.requesting.payloads import build_inference
from sora_dagster.generation.requesting.results import RequestState
from sora_dagster.prompts.clips import ClipRequest, ClipSpec
from sora_dagster.prompts.dataset import load_dataset
from sora_dagster.runware.catalogue import Catalogue
from sora_dagster.sandbox.server import running_sandbox
from sora_dagster.sandbox.settings import SandboxSettings
from sora_dagster.storage import StorageRoot
from tests.generation.requesting import collect, quick_generator, request_clips
from tests.prompts.dataset_files import image_bytes, jsonl
from tests.protocol.faulty_sandbox import FaultySandbox
from tests.runware.examples import FIRST
from tests.sandbox.models import MODELS
from tests.sandbox_server import KEY
from tests.serving import serving

TOKEN = "a-signature-that-grants-access"


@pytest.fixture(scope="module")
def base_url() -> Iterator[str]:
    """A sandbox with the built-in models and small ones."""
    settings = SandboxSettings(latency_seconds=0, latency_step_seconds=0, reuse_rendered=True)
    with running_sandbox(settings, catalogue=MODELS) as url:
        yield url


@pytest.fixture
def generator(base_url: str, root: StorageRoot) -> Iterator[Generator]:
    made = quick_generator(base_url, root, catalogue=MODELS)
    yield made
    made.close()


@pytest.fixture(scope="module")
def image_url() -> Iterator[str]:
    """The address of an image that only a query gives access to."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return
        status = 200 if TOKEN in scope["query_string"].decode() else 403
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": image_bytes(480, 480)})

    with serving(app) as url:
        yield f"{url}/lake.png?X-Amz-Signature={TOKEN}"


@pytest.fixture
def clips(tmp_path: Path) -> Callable[..., tuple[ClipSpec, ...]]:
    """Reads rows from a dataset's file, beside two images."""
    (tmp_path / "first.png").write_bytes(image_bytes(426, 240))
    (tmp_path / "last.png").write_bytes(image_bytes(427, 240))

    def read(*rows: Mapping[str, object]) -> tuple[ClipSpec, ...]:
        path = tmp_path / "prompts.jsonl"
        full = [{"id": f"clip-{n}", "prompt": "A lake", **row} for n, row in enumerate(rows)]
        path.write_text(jsonl(*full))
        return load_dataset(path, catalogue=MODELS).clips

    return read


def request_of(spec: ClipSpec) -> ClipRequest:
    return ClipRequest(asset="clips", clip=spec.clip_id, spec=spec)


def stored(generator: Generator, *specs: ClipSpec) -> dict[str, ClipManifest]:
    requested = request_clips(generator, *map(request_of, specs))
    assert {result.state for result in requested} == {RequestState.SUBMITTED}
    manifests = {finished.manifest.clip: finished.manifest for finished in collect(generator)}
    return dict(sorted(manifests.items()))


def failed_checks(manifest: ClipManifest) -> set[str]:
    results = build_clip_checks().evaluate(manifest, MODELS)
    return {result.name for result in results if result.evaluated and not result.passed}


def test_each_column_arrives_at_runware_and_the_clip_is_stored_as_requested(
    generator: Generator, clips: Callable[..., tuple[ClipSpec, ...]]
) -> None:
    specs = clips(
        {
            "model": "full-1",
            "size": "640x360",
            "duration": 1,
            "fps": 25,
            "seed": 7,
            "negative_prompt": "text",
            "audio": False,
            "settings": {"steps": 9, "temperature": 0.5, "enhance": True, "shots": [{"s": 1}]},
        },
        {
            "model": "full-1",
            "resolution": "360p",
            "duration": "auto",
            "first_frame": "first.png",
            "last_frame": "last.png",
        },
        {
            "model": "full-1",
            "duration": 1,
            "reference_images": ["first.png", "last.png"],
            "number_results": 2,
            "seed": 11,
        },
    )
    plain, framed, guided = stored(generator, *specs).values()
    assert {name: plain.wire.get(name) for name in ("fps", "seed", "negativePrompt")} == {
        "fps": 25,
        "seed": 7,
        "negativePrompt": "text",
    }
    assert plain.wire["settings"] == {"temperature": 0.5, "audio": False}
    assert plain.wire["providerSettings"] == {"maker": {"enhance": True, "shots": [{"s": 1}]}}
    assert plain.wire["steps"] == 9
    assert (plain.videos[0].audio_codec, plain.videos[0].seed) == (None, 7)
    assert framed.wire["resolution"] == "360p"
    assert framed.wire["duration"] == "auto"
    assert [image["frame"] for image in framed.wire["inputs"]["frameImages"]] == ["first", "last"]
    assert len(guided.wire["inputs"]["referenceImages"]) == 2
    assert len({video.seed for video in guided.videos}) == 2
    for manifest in (plain, framed, guided):
        # The images of the test show one colour.
        assert failed_checks(manifest) <= {"cost_within_estimate", "not_frozen"}


def test_an_image_that_changed_after_the_dataset_was_read_is_not_sent(
    generator: Generator, clips: Callable[..., tuple[ClipSpec, ...]], tmp_path: Path
) -> None:
    rows = [
        {"model": "full-1", "duration": 1, "first_frame": name}
        for name in ("first.png", "last.png", "first.png")
    ]
    read = [request_of(spec) for spec in clips(*rows)]
    (tmp_path / "first.png").write_bytes(image_bytes(428, 240))
    results = request_clips(generator, *read[:2])
    (tmp_path / "first.png").unlink()
    results += request_clips(generator, read[2])
    assert [result.state for result in results] == [
        RequestState.REFUSED,
        RequestState.SUBMITTED,
        RequestState.REFUSED,
    ]
    assert "first.png changed after the dataset was read" in results[0].detail
    assert "first.png cannot be read any more: no such file" in results[2].detail
    for result in (results[0], results[2]):
        assert "not sent, nothing paid" in result.detail
        assert result.task_uuid is None
    # Only the other clip was sent.
    assert len(list(generator.ledger.root.list("slots/"))) == 1
    # Read again, it is sent as it is now.
    (tmp_path / "first.png").write_bytes(image_bytes(428, 240))
    assert stored(generator, *clips(*rows)[:1]).keys() == {"clip-0", "clip-1"}


def test_records_hold_no_image_and_nothing_that_grants_access_to_one(
    generator: Generator,
    root: StorageRoot,
    clips: Callable[..., tuple[ClipSpec, ...]],
    image_url: str,
) -> None:
    specs = clips(
        {"model": "full-1", "duration": 1, "first_frame": "first.png", "last_frame": image_url},
        {"model": "full-1", "duration": 1, "reference_images": [image_url, "last.png"]},
    )
    framed, guided = stored(generator, *specs).values()
    address = image_url.partition("?")[0]
    assert framed.request.spec.first_frame.startswith("sha256:")
    assert framed.request.spec.last_frame.startswith(f"{address}#sha256:")
    assert guided.wire["inputs"]["referenceImages"][0].startswith(f"{address}#sha256:")
    kept = [info.key for info in root.list("images/")]
    # Two files, each stored once. The address is not stored.
    assert len(kept) == 2
    for info in root.list(""):
        assert TOKEN.encode() not in root.read(info.key)
        if info.key.endswith(".json"):
            assert b"base64" not in root.read(info.key)
    # The same rows again, with an address that was signed again, are the same clips.
    again = clips(
        {
            "model": "full-1",
            "duration": 1,
            "first_frame": "first.png",
            "last_frame": image_url.replace("X-Amz-Signature", "X-Amz-Date=1&X-Amz-Signature"),
        }
    )
    [result] = request_clips(generator, request_of(again[0]))
    assert result.state is RequestState.STORED


def test_the_next_attempt_of_a_clip_sends_the_images_that_were_given(
    base_url: str,
    generator: Generator,
    clips: Callable[..., tuple[ClipSpec, ...]],
    image_url: str,
) -> None:
    [spec] = clips(
        {"model": "full-1", "duration": 1, "first_frame": "first.png", "last_frame": image_url}
    )
    FaultySandbox(base_url).set_faults(rules=[{"fault": "fail", "times": 1}])
    request_clips(generator, request_of(spec))
    [finished] = collect(generator)
    assert finished.manifest is not None
    # The sandbox reads the images of a task, so the second attempt had them all.
    assert finished.manifest.attempt == 2
    assert [image["frame"] for image in finished.manifest.wire["inputs"]["frameImages"]] == [
        "first",
        "last",
    ]


# A row for each of the built-in live models that need no video, with what only some of them know.
LIVE_ROWS: list[dict[str, object]] = [
    {"model": "veo-3.1", "first_frame": "first.png", "last_frame": "last.png", "audio": False},
    {"model": "veo-3.1-fast", "reference_images": ["first.png"], "seed": 5, "duration": 8},
    {"model": "veo-3.1", "resolution": "1080p", "first_frame": "first.png"},
    {"model": "gemini-omni-flash-1.1", "settings": {"temperature": 1}},
    {"model": "kling-3.0-pro", "audio": True, "negative_prompt": "text"},
    {"model": "kling-3.0-standard", "first_frame": "first.png"},
    {"model": "kling-3.0-omni-pro", "duration": 3},
    {"model": "seedance-2.5", "duration": "auto", "audio": False},
    {"model": "seedance-2.5", "resolution": "480p", "first_frame": "first.png"},
    {"model": "wan-3.0", "resolution": "720p", "reference_images": ["first.png"], "seed": 3},
    {"model": "minimax-h3", "last_frame": "last.png"},
    {"model": "grok-imagine-1.5", "duration": 1},
    {"model": "grok-imagine-1.0"},
    {"model": "ltx-2.5-fast", "fps": 48, "duration": 10},
    {"model": "gen-4.5", "first_frame": "first.png", "seed": 9},
    {"model": "ray-3.2"},
]


def test_rows_of_all_live_models_are_accepted_with_their_defaults(
    base_url: str, tmp_path: Path, clips: Callable[..., tuple[ClipSpec, ...]]
) -> None:
    # Large enough for every model.
    (tmp_path / "first.png").write_bytes(image_bytes(1280, 720))
    (tmp_path / "last.png").write_bytes(image_bytes(1280, 720))
    builtin = Catalogue.builtin()
    tasks = []
    for index, spec in enumerate(clips(*LIVE_ROWS)):
        task_uuid = f"{FIRST[:-2]}{index:02d}"
        inference = build_inference(
            request_of(spec),
            task_uuid=task_uuid,
            catalogue=builtin,
            webhook=None,
            hosted_seconds=None,
        )
        tasks.append(inference.to_wire())
    headers = {"X-Runware-Dry-Run": "1", "Authorization": f"Bearer {KEY}"}
    answer = httpx.post(base_url, json=tasks, headers=headers, timeout=60)
    assert json.loads(answer.text).get("errors", []) == []
    assert len(answer.json()["data"]) == len(tasks)
    live = {entry.air for entry in builtin.entries if not (entry.retired or entry.needs_video)}
    assert {task["model"] for task in tasks} == live
