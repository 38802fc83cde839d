"""Recipes: the remixes that they become, their requests, and what is wrong with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from sora_dagster.generation.requesting.payloads import build_inference, planned_remix_price
from sora_dagster.prompts.clips import ClipRequest, ClipSpec, ParentVideo
from sora_dagster.prompts.dataset import PromptDataset, Recipe, load_dataset
from sora_dagster.prompts.recipes import remix_spec
from sora_dagster.runware.catalogue import Catalogue, FrameSize
from tests.prompts.dataset_files import Write, error_of

CATALOGUE = Catalogue.builtin()
VIDEO_UUID = "b7db282d-0000-4000-8000-000000000001"
TASK_UUID = "11111111-1111-4111-8111-111111111111"


def dataset_of(write: Write, recipe: str, *, model: str, row: str = "") -> PromptDataset:
    path = write(
        "p.yaml",
        f"clips:\n  - {{id: a, prompt: A lake, model: '{model}', recipes: night{row}}}\n"
        f"recipes:\n  night: {recipe}\n",
    )
    return load_dataset(path, catalogue=CATALOGUE)


def sent(
    spec: ClipSpec,
    *,
    size: tuple[int, int] = (1280, 720),
    seconds: float = 8.0,
    parent_video: str = VIDEO_UUID,
) -> dict[str, Any]:
    """The request of a remix, without what every request has."""
    parent = ParentVideo(
        asset="clips",
        clip="a",
        take=1,
        content_hash="0" * 64,
        video_uuid=VIDEO_UUID,
        size=FrameSize(*size),
        duration_seconds=seconds,
    )
    wire = build_inference(
        ClipRequest(asset="remixes", clip="a|night", spec=spec, recipe="night", parent=parent),
        task_uuid=TASK_UUID,
        catalogue=CATALOGUE,
        webhook=None,
        hosted_seconds=None,
        parent_video=parent_video,
    ).to_wire()
    usual = {"taskType", "taskUUID", "deliveryMethod", "includeCost", "numberResults"}
    return {
        name: value
        for name, value in wire.items()
        if name not in (*usual, "outputFormat", "positivePrompt")
    }


@pytest.mark.parametrize(
    ("model", "recipe", "request_json"),
    [
        ("sora-2-pro", "At night.", {"model": "openai:3@2", "inputs": {"videoId": "video_1"}}),
        (
            "veo-3.1",
            "{prompt: At night., model: aleph-2.0}",
            {"model": "runway:aleph@2.0", "inputs": {"video": VIDEO_UUID}},
        ),
        (
            "veo-3.1",
            "{prompt: Then it rains., mode: extend}",
            {"model": "google:3@2", "inputs": {"video": VIDEO_UUID}, "duration": 7},
        ),
        (
            "veo-3.1",
            "{prompt: At night., model: seedance-2.5}",
            {
                "model": "bytedance:seedance@2.5",
                "inputs": {"video": VIDEO_UUID},
                "duration": "auto",
                "resolution": "720p",
                "settings": {"operation": "edit"},
            },
        ),
        (
            "veo-3.1",
            "{prompt: At night in Video 1., model: wan-3.0, settings: {promptExtend: false}}",
            {
                "model": "alibaba:wan@3.0",
                "inputs": {"referenceVideos": [VIDEO_UUID]},
                "duration": 8,
                "resolution": "720p",
                "settings": {"promptExtend": False},
            },
        ),
        (
            "veo-3.1",
            "{prompt: It rains., mode: extend, model: wan-3.0, duration: 10}",
            {
                "model": "alibaba:wan@3.0",
                "inputs": {"referenceVideos": [VIDEO_UUID]},
                "duration": 10,
                "resolution": "720p",
            },
        ),
    ],
)
def test_a_remix_is_sent_as_its_mode_says(
    write: Write, model: str, recipe: str, request_json: dict[str, Any]
) -> None:
    dataset = dataset_of(write, recipe, model=model)
    spec = remix_spec(dataset.clip("a"), dataset.recipe("night"), CATALOGUE)
    is_by_id = "videoId" in request_json["inputs"]
    assert sent(spec, parent_video="video_1" if is_by_id else VIDEO_UUID) == request_json


@pytest.mark.parametrize(
    ("model", "shape"),
    [
        ("veo-3.1", {"resolution": "720p"}),
        ("wan-3.0", {"resolution": "720p"}),
        ("grok-imagine-1.5", {"resolution": "720p"}),
        # It requires a size even beside a frame.
        ("gen-4.5", {"width": 1280, "height": 720}),
        ("ltx-2.5-fast", {"width": 1280, "height": 720}),
        ("sora-2-pro", {}),
        ("kling-3.0-pro", {}),
    ],
)
def test_a_continuation_keeps_the_size_of_its_parent_as_its_model_allows(
    model: str, shape: dict[str, Any]
) -> None:
    parent = ClipSpec(clip_id="a", prompt="A lake", model="google:3@2")
    recipe = Recipe("after", "It rains.", model=model, mode="continue")
    request_json = sent(remix_spec(parent, recipe, CATALOGUE), size=(1272, 716))
    assert request_json.pop("inputs") == {"frameImages": [VIDEO_UUID]}
    sizes = {name: request_json.get(name) for name in ("width", "height", "resolution")}
    assert {name: value for name, value in sizes.items() if value is not None} == shape


@pytest.mark.parametrize(
    ("model", "recipe_model", "mode"),
    [
        ("sora-2-pro", None, "remix"),
        ("sora-2-pro", "sora-2", "remix"),
        ("sora-2-pro", "seedance-2.5", "edit"),
        # A video of Veo has no id that Sora could remix.
        ("veo-3.1", "sora-2-pro", "continue"),
        ("veo-3.1", None, "continue"),
        ("veo-3.1", "aleph-2.0", "edit"),
    ],
)
def test_the_default_mode_is_the_first_that_the_models_can_do(
    model: str, recipe_model: str | None, mode: str
) -> None:
    parent = ClipSpec(clip_id="a", prompt="A lake", model=CATALOGUE.get(model).air)
    recipe = Recipe("night", "At night.", model=recipe_model)
    assert remix_spec(parent, recipe, CATALOGUE).mode == mode


def test_the_fingerprint_has_the_mode_unless_it_is_a_remix_by_sora() -> None:
    spec = ClipSpec(clip_id="a", prompt="At night.")
    by_sora = spec.model_copy(update={"mode": "remix"})
    assert by_sora.fingerprint == spec.fingerprint
    modes = ("edit", "extend", "continue")
    of_modes = {spec.model_copy(update={"mode": mode}).fingerprint for mode in modes}
    assert len(of_modes | {spec.fingerprint}) == 4


def test_the_parents_size_and_length_do_not_change_the_fingerprint_of_a_remix() -> None:
    recipe = Recipe("night", "At night.", model="seedance-2.5", mode="edit")
    small = ClipSpec(clip_id="a", prompt="x", size=FrameSize(1280, 720), duration_seconds=4)
    large = ClipSpec(clip_id="a", prompt="x", size=FrameSize(1920, 1080), duration_seconds=8)
    assert (
        remix_spec(small, recipe, CATALOGUE).fingerprint
        == remix_spec(large, recipe, CATALOGUE).fingerprint
    )


def test_a_remix_keeps_the_container_of_its_parent_where_its_model_delivers_it() -> None:
    parent = ClipSpec(clip_id="a", prompt="A lake", output_format="WEBM")
    recipe = Recipe("night", "At night.", model="acme:2@1", mode="edit")
    only_mp4 = CATALOGUE.get("aleph-2.0").model_copy(
        update={"air": "acme:2@1", "short_name": "only-mp4", "output_formats": ("MP4",)}
    )
    assert remix_spec(parent, recipe, CATALOGUE.extended([only_mp4])).output_format == "MP4"
    by_aleph = Recipe("night", "At night.", model="aleph-2.0")
    assert remix_spec(parent, by_aleph, CATALOGUE).output_format == "WEBM"


@pytest.mark.parametrize(
    ("model", "recipe", "message"),
    [
        (
            "veo-3.1",
            "{prompt: At night., mode: remix}",
            "p.yaml:2: column 'recipes': recipe 'night': Veo 3.1 (google:3@2) cannot make a remix "
            "by 'remix'; its modes: continue, extend; models that can: none of the catalogue",
        ),
        (
            "veo-3.1",
            "{prompt: At night., model: sora-2-pro, mode: remix}",
            "p.yaml:2: column 'recipes': recipe 'night': Sora 2 Pro (openai:3@2) cannot make a "
            "remix by 'remix' from a video of Veo 3.1, which has no videoId; its modes: continue; "
            "models that can: none of the catalogue",
        ),
        (
            "veo-3.1",
            "{prompt: At night., model: gen-4.5, mode: edit}",
            "p.yaml:4: column 'mode': Runway Gen-4.5 (runway:1@2) cannot make a remix by 'edit'; "
            "its modes: continue; models that can: gemini-omni-flash-1.1, grok-imagine-1.0, "
            "kling-3.0-omni-pro, ray-3.2, minimax-h3 and 3 more",
        ),
        (
            "veo-3.1",
            "{prompt: At night., model: aleph-3}",
            "p.yaml:4: column 'model': 'aleph-3' is not in the catalogue (did you mean "
            "'aleph-2.0'?); allowed: ",
        ),
        (
            "veo-3.1",
            "{prompt: At night., mode: redo}",
            "p.yaml:4: column 'mode': 'redo' is not a mode; allowed: remix, edit, extend, continue",
        ),
        (
            "veo-3.1",
            "{prompt: At night., style: dark}",
            "p.yaml:4: column 'style': recipe 'night' has no such field; allowed: prompt, model, "
            "mode, settings, duration, audio",
        ),
        (
            "veo-3.1",
            "{model: aleph-2.0}",
            "p.yaml:4: recipe 'night' has no prompt; add one",
        ),
        (
            "veo-3.1",
            f"{{prompt: {'x' * 1001}, model: aleph-2.0}}",
            f"p.yaml:4: recipe 'night': the prompt '{'x' * 40}",
        ),
        (
            "veo-3.1",
            "{prompt: At night., model: seedance-2.5, settings: {operation: extend}}",
            "p.yaml:4: recipe 'night': settings.operation is 'extend'; mode edit sets it to "
            "'edit'. Remove it, or choose another mode",
        ),
        (
            "veo-3.1",
            "{prompt: At night., model: seedance-2.5, settings: {tempo: 3}}",
            "p.yaml:4: column 'settings': Seedance 2.5 (bytedance:seedance@2.5) has no setting "
            "'tempo'; allowed: audio, operation",
        ),
        (
            "veo-3.1",
            "{prompt: At night., settings: {tempo: 3}}",
            "p.yaml:4: recipe 'night': settings.tempo: this is not a setting of Veo 3.1; ",
        ),
        (
            "veo-3.1",
            "{prompt: At night., model: aleph-2.0, settings: [1]}",
            "p.yaml:4: column 'settings': ['1'] is not a mapping; allowed: names with values, ",
        ),
        (
            "veo-3.1",
            "{prompt: At night., model: aleph-2.0, duration: 5}",
            "p.yaml:4: recipe 'night': the duration is 5 seconds, but Runway Aleph 2.0 "
            "(runway:aleph@2.0) takes no duration; remove it or choose another model",
        ),
        (
            "grok-imagine-1.5",
            "{prompt: At night., model: aleph-2.0}",
            "p.yaml:2: column 'recipes': recipe 'night': the clip's video is 1 s long; allowed: "
            "2 to 30 seconds for a remix by Runway Aleph 2.0",
        ),
        (
            "grok-imagine-1.5",
            "{prompt: At night., model: grok-imagine-1.0}",
            "p.yaml:2: column 'recipes': recipe 'night': duration is 1; allowed: 2 to 10 with "
            "inputs.video for Grok Imagine 1.0",
        ),
    ],
)
def test_a_recipe_that_a_model_cannot_make_is_a_problem_of_the_dataset(
    write: Write, model: str, recipe: str, message: str
) -> None:
    row = ", duration: 1" if model == "grok-imagine-1.5" else ""
    path = write(
        "p.yaml",
        f"clips:\n  - {{id: a, prompt: A lake, model: '{model}', recipes: night{row}}}\n"
        f"recipes:\n  night: {recipe}\n",
    )
    [problem] = error_of(path).problems
    assert str(problem).startswith(message)


def test_each_problem_of_several_recipes_is_reported_once(write: Write, tmp_path: Path) -> None:
    path = write(
        "p.yaml",
        "clips:\n"
        "  - {id: a, prompt: A lake, model: veo-3.1, recipes: [night, snow]}\n"
        "  - {id: b, prompt: A road, model: veo-3.1, recipes: [night, snow]}\n"
        "recipes:\n"
        "  night: {prompt: At night., model: aleph-2.0, mode: continue}\n"
        "  snow: {prompt: S, model: aleph-2.0}\n",
    )
    assert [(problem.line, problem.column) for problem in error_of(path).problems] == [
        (5, "mode"),
        (6, None),
    ]


def test_an_edit_is_priced_with_its_input_video() -> None:
    parent = ClipSpec(
        clip_id="a",
        prompt="A lake",
        model="google:3@2",
        size=FrameSize(1280, 720),
        duration_seconds=4,
    )
    price = planned_remix_price(parent, Recipe("night", "x", model="seedance-2.5"), CATALOGUE)
    assert price.usd is not None
    # 4 seconds at 720p with an input video, not the 30 that `auto` could be.
    assert price.usd - price.margin == pytest.approx(4 * 0.295)
