"""Columns that only some models know: their values, defaults and mistakes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sora_dagster.prompts.boards import load_board
from sora_dagster.prompts.clips import ClipSpec
from sora_dagster.prompts.dataset import DatasetError, load_dataset
from sora_dagster.runware import VideoInference
from sora_dagster.runware.catalogue import Catalogue, FrameSize
from sora_dagster.runware.catalogue.parts import Setting
from sora_dagster.runware.rules import broken_rules
from sora_dagster.user_files.problems import FileProblem
from tests.prompts.dataset_files import (
    FORMATS,
    Write,
    csv_text,
    data_uri,
    error_of,
    image_bytes,
    jsonl,
    load,
    only_problem_of,
    sent_images,
    write_as,
)
from tests.runware.examples import FIRST, SECOND, THIRD

BUILTIN = Catalogue.builtin()
FRAME = "https://example.com/frame.png"


def clip_of(write: Write, **columns: object) -> ClipSpec:
    row = {"id": "a", "prompt": "A lake in the fog", **columns}
    [clip] = load(write("prompts.jsonl", jsonl(row))).clips
    return clip


def message_of(write: Write, **columns: object) -> str:
    row = {"id": "a", "prompt": "A lake in the fog", **columns}
    return only_problem_of(write("prompts.jsonl", jsonl(row))).message


def wire_of(clip: ClipSpec) -> dict[str, Any]:
    """What is sent, after a check that the model accepts it."""
    entry = BUILTIN.get(clip.model)
    request = VideoInference.build(task_uuid=FIRST, **clip.request_fields(entry))
    assert broken_rules(request, entry) == []
    return request.to_wire()


# --- values


@pytest.mark.parametrize("extension", FORMATS)
def test_the_columns_of_live_models_are_read_from_every_format(
    tmp_path: Path, extension: str
) -> None:
    rows = [
        {
            "id": "wan",
            "prompt": "A lake",
            "model": "wan-3.0",
            "resolution": "720P",
            "duration": "auto",
            "fps": None,
            "seed": 7,
            "audio": False,
            "first_frame": FIRST,
            "last_frame": SECOND,
            "reference_images": [],
            "settings": {"promptExtend": False},
        },
        {
            "id": "ltx",
            "prompt": "A lake",
            "model": "lightricks:ltx@2.5-fast",
            "resolution": None,
            "duration": "8",
            "fps": 48,
            "seed": None,
            "audio": None,
            "first_frame": None,
            "last_frame": None,
            "reference_images": None,
            "settings": {"cameraMovement": "dolly in"},
        },
        {
            "id": "veo",
            "prompt": "A lake",
            "model": "Veo-3.1",
            "resolution": None,
            "duration": None,
            "fps": None,
            "seed": None,
            "audio": True,
            "first_frame": None,
            "last_frame": None,
            "reference_images": [SECOND, "https://example.com/a.png?size=full"],
            "settings": None,
        },
    ]
    assert load(write_as(tmp_path, extension, rows)).clips == (
        ClipSpec(
            clip_id="wan",
            prompt="A lake",
            model="alibaba:wan@3.0",
            resolution="720p",
            duration_seconds="auto",
            seed=7,
            audio=False,
            first_frame=FIRST,
            last_frame=SECOND,
            settings={"promptExtend": False},
        ),
        ClipSpec(
            clip_id="ltx",
            prompt="A lake",
            model="lightricks:ltx@2.5-fast",
            size=FrameSize(1280, 720),
            duration_seconds=8,
            fps=48,
            settings={"cameraMovement": "dolly in"},
        ),
        ClipSpec(
            clip_id="veo",
            prompt="A lake",
            model="google:3@2",
            size=FrameSize(1280, 720),
            duration_seconds=4,
            audio=True,
            at_default=("audio",),
            reference_images=(SECOND, "https://example.com/a.png?size=full"),
        ),
    )


@pytest.mark.parametrize(
    "text",
    [
        "temperature=0.5; topP = 1",
        '{"topP": 1.0, "temperature": 0.5}',
        "temperature = 5e-1;topP=1;",
    ],
)
def test_the_settings_in_a_cell_are_json_or_a_list_of_names_and_values(
    write: Write, text: str
) -> None:
    row = {"id": "a", "prompt": "A lake", "model": "gemini-omni-flash-1.1", "settings": text}
    [clip] = load(write("prompts.csv", csv_text([row]))).clips
    assert clip.settings == {"temperature": 0.5, "topP": 1}


def test_the_settings_of_parquet_may_be_a_column_of_maps(tmp_path: Path) -> None:
    rows = {
        "id": ["a", "b"],
        "prompt": ["A lake", "A hill"],
        "model": ["gemini-omni-flash-1.1"] * 2,
        "settings": pyarrow.array(
            [[("temperature", 0.5), ("topP", 1.0)], []],
            pyarrow.map_(pyarrow.string(), pyarrow.float64()),
        ),
    }
    path = tmp_path / "prompts.parquet"
    pyarrow.parquet.write_table(pyarrow.table(rows), path)
    first, second = load(path).clips
    assert (first.settings, second.settings) == ({"temperature": 0.5, "topP": 1}, {})


@pytest.mark.parametrize(
    ("extension", "text"),
    [
        (".yaml", "- {id: a, prompt: A lake, model: wan-3.0, audio: off}"),
        (".yaml", "- {id: a, prompt: A lake, model: wan-3.0, settings: {audio: no}}"),
        (".jsonl", '{"id": "a", "prompt": "A lake", "model": "wan-3.0", "audio": "FALSE"}'),
        (".csv", "id,prompt,model,settings\na,A lake,wan-3.0,audio=false\n"),
    ],
)
def test_sound_is_switched_by_the_column_or_by_the_models_own_setting(
    write: Write, extension: str, text: str
) -> None:
    [clip] = load(write(f"prompts{extension}", text)).clips
    assert (clip.audio, clip.settings) == (False, {})


def test_data_uris_are_kept_whole_in_a_list_of_one_cell(write: Write) -> None:
    images = [data_uri(image_bytes(300, 300)), FRAME, data_uri(image_bytes(301, 300))]
    row = {"id": "a", "prompt": "A lake", "model": "veo-3.1", "reference_images": "; ".join(images)}
    [clip] = load(write("prompts.csv", csv_text([row]))).clips
    assert list(clip.reference_images) == images


def test_each_image_may_be_a_file_beside_the_dataset(write: Write) -> None:
    content = image_bytes(400, 300)
    write("lake.png", content)
    clip = clip_of(write, model="veo-3.1", first_frame="lake.png", last_frame="lake.png")
    assert sent_images(clip) == [data_uri(content), data_uri(content)]
    clip = clip_of(write, model="veo-3.1", reference_images=["lake.png", FRAME])
    assert sent_images(clip) == [data_uri(content), FRAME]


# --- what is sent


def test_each_model_gets_its_sound_and_settings_at_their_places(write: Write) -> None:
    veo = wire_of(clip_of(write, model="veo-3.1", audio=False, seed=5))
    assert veo["providerSettings"] == {"google": {"generateAudio": False}}
    assert (veo["seed"], "settings" in veo) == (5, False)
    kling = wire_of(clip_of(write, model="kling-3.0-pro", audio=True, negative_prompt="text"))
    assert kling["providerSettings"] == {"klingai": {"sound": True}}
    assert kling["negativePrompt"] == "text"
    seedance = wire_of(clip_of(write, model="seedance-2.5", audio=False, duration="auto"))
    assert (seedance["settings"], seedance["duration"]) == ({"audio": False}, "auto")
    sora = wire_of(clip_of(write, audio=True))
    assert not sora.keys() & {"settings", "providerSettings", "audio"}


def test_frames_are_sent_with_their_places_only_if_there_is_a_last_one(write: Write) -> None:
    both = wire_of(clip_of(write, model="veo-3.1", first_frame=FIRST, last_frame=SECOND))
    assert both["inputs"]["frameImages"] == [
        {"image": FIRST, "frame": "first"},
        {"image": SECOND, "frame": "last"},
    ]
    last = wire_of(clip_of(write, model="veo-3.1", last_frame=SECOND))
    assert last["inputs"]["frameImages"] == [{"image": SECOND, "frame": "last"}]
    first = wire_of(clip_of(write, model="veo-3.1", first_frame=FIRST))
    assert first["inputs"] == {"frameImages": [FIRST]}
    references = wire_of(clip_of(write, model="veo-3.1", reference_images=[SECOND, THIRD]))
    assert references["inputs"] == {"referenceImages": [SECOND, THIRD]}


# --- defaults


@pytest.mark.parametrize(
    ("columns", "size"),
    [
        ({"model": "veo-3.1"}, "1280x720"),
        ({"model": "veo-3.1", "first_frame": FRAME}, None),
        ({"model": "veo-3.1", "last_frame": FRAME}, None),
        ({"model": "veo-3.1", "reference_images": [FRAME]}, "1280x720"),
        ({"model": "veo-3.1", "resolution": "1080p", "first_frame": FRAME}, None),
        ({"model": "gen-4.5", "first_frame": FRAME}, "1280x720"),
        ({"model": "wan-3.0", "resolution": "480p", "reference_images": [FRAME]}, None),
    ],
)
def test_the_default_size_is_filled_in_where_the_rules_of_the_model_want_it(
    write: Write, columns: dict[str, object], size: str | None
) -> None:
    clip = clip_of(write, **columns)
    assert (None if clip.size is None else str(clip.size)) == size
    wire_of(clip)


@pytest.mark.parametrize(
    ("model", "explicit"),
    [
        ("veo-3.1", {"audio": True}),
        ("veo-3.1", {"settings": {"generateAudio": True}}),
        ("kling-3.0-pro", {"audio": False}),
        ("sora-2-pro", {"audio": True}),
        ("gen-4.5", {"audio": False}),
        ("wan-3.0", {"settings": {"promptExtend": True}}),
        ("wan-3.0", {"duration": 5, "size": "832x480"}),
        ("wan-3.0", {"resolution": "1080p", "first_frame": FRAME}),
    ],
)
def test_a_row_that_states_a_default_of_its_model_is_the_row_that_leaves_it_out(
    write: Write, model: str, explicit: dict[str, object]
) -> None:
    frame = {name: value for name, value in explicit.items() if name == "first_frame"}
    brief = clip_of(write, model=model, **frame)
    assert clip_of(write, model=model, **explicit).fingerprint == brief.fingerprint


def test_a_default_that_is_stated_is_sent(write: Write) -> None:
    wire = wire_of(clip_of(write, model="veo-3.1", audio=True))
    assert wire["providerSettings"] == {"google": {"generateAudio": True}}


def test_the_default_model_of_the_catalogue_is_that_of_rows_that_name_none(write: Write) -> None:
    path = write("prompts.jsonl", jsonl({"id": "a", "prompt": "A lake", "seed": 3}))
    [clip] = load_dataset(path, catalogue=BUILTIN.with_default("veo-3.1")).clips
    assert (clip.model, clip.duration_seconds) == ("google:3@2", 4)


# --- storyboards


def test_defaults_of_a_storyboard_are_for_the_shots_whose_model_allows_them(write: Write) -> None:
    path = write(
        "board.yaml",
        f"""
defaults: {{size: 1920x1080, duration: 8, seed: 4, model: veo-3.1}}
shots:
  - {{id: plain, prompt: A lake}}
  - {{id: framed, prompt: A lake, first_frame: "{FRAME}", resolution: 1080p}}
  - {{id: small, prompt: A lake, size: 1280x720, audio: false}}
  - {{id: guided, prompt: A lake, model: wan-3.0, reference_images: ["{FRAME}"], resolution: 720p}}
""",
    )
    shots = {shot.id: shot.spec for shot in load_board(path, catalogue=BUILTIN).shots}
    assert [(name, str(spec.size), spec.resolution) for name, spec in shots.items()] == [
        ("plain", "1920x1080", None),
        ("framed", "None", "1080p"),
        ("small", "1280x720", None),
        ("guided", "None", "720p"),
    ]
    assert {(spec.seed, spec.duration_seconds) for spec in shots.values()} == {(4, 8)}
    assert shots["small"].audio is False


def test_a_default_size_of_a_storyboard_is_kept_beside_a_frame_by_a_model_that_wants_both(
    write: Write,
) -> None:
    shot = f'{{id: a, prompt: A lake, model: gen-4.5, first_frame: "{FRAME}"}}'
    path = write("board.yaml", f"defaults: {{size: 960x960}}\nshots: [{shot}]\n")
    [read] = load_board(path, catalogue=BUILTIN).shots
    assert str(read.spec.size) == "960x960"


# --- mistakes


def test_one_error_lists_the_mistakes_of_all_rows_with_what_each_model_allows(
    write: Write,
) -> None:
    mistakes: list[tuple[dict[str, object], str, str]] = [
        (
            {"model": "veo-3.1", "duration": 5},
            "duration",
            "the duration is 5 seconds; allowed: 4, 6, 7, 8 seconds for Veo 3.1; nearest: 4 "
            "seconds",
        ),
        (
            {"model": "veo-3.1", "size": "1280x720", "first_frame": FRAME},
            "size",
            "size cannot be combined with first_frame for Veo 3.1; remove one of the two",
        ),
        (
            {"model": "sora-2-pro", "seed": 7},
            "seed",
            "Sora 2 Pro (openai:3@2) takes no seed; remove it, or choose a model that does: "
            + ", ".join(entry.short_name for entry in BUILTIN.entries if entry.seed is not None),
        ),
        (
            {"model": "seedance-2.5", "negative_prompt": "text"},
            "negative_prompt",
            "Seedance 2.5 (bytedance:seedance@2.5) takes no negative prompt; remove it, or choose "
            "a model that does: kling-3.0-pro",
        ),
        (
            {"model": "seedance-2.5", "size": "1280x700"},
            "size",
            "; nearest: 1280x720",
        ),
        (
            {"model": "wan-3.0", "resolution": "720p"},
            "resolution",
            "resolution is not allowed without inputs for Wan 3.0; remove it; sizes of 720p: "
            "1280x720, 720x1280, 960x960, 1104x832, 832x1104",
        ),
        (
            {"model": "ltx-2.5-fast", "fps": 30},
            "fps",
            "the frame rate is 30; allowed: 24, 25, 48, 50 for LTX-2.5 Fast; nearest: 25",
        ),
        (
            {"model": "ltx-2.5-fast", "fps": 50, "duration": 14},
            "duration",
            "duration is 14; allowed: 6, 8, 10 with fps 48 or 50 for LTX-2.5 Fast; nearest: 10",
        ),
        (
            {"model": "gen-4.5", "last_frame": FRAME},
            "last_frame",
            "Runway Gen-4.5 (runway:1@2) takes no last frame; remove it, or choose a model that "
            "does: ",
        ),
        (
            {"model": "gen-4.5", "audio": True},
            "audio",
            "audio is true, but Runway Gen-4.5 (runway:1@2) cannot switch sound: its videos have "
            "no sound; remove it or choose another model: ",
        ),
        (
            {"model": "aleph-2.0", "duration": 5, "first_frame": FRAME},
            "model",
            "Runway Aleph 2.0 (runway:aleph@2.0) makes a video only from an earlier one, so it can "
            "be used only in recipes; models for this row: ",
        ),
        (
            {"model": "grok-imagine-1.5", "settings": {"voice": "a"}},
            "settings",
            "Grok Imagine 1.5 (xai:grok-imagine@video-1.5) has no setting 'voice'",
        ),
    ]
    rows = [
        {"id": f"clip-{index}", "prompt": "A lake in the fog", **columns}
        for index, (columns, _, _) in enumerate(mistakes)
    ]
    error = error_of(write("prompts.jsonl", jsonl(*rows)))
    assert [(problem.line, problem.column) for problem in error.problems] == [
        (line, column) for line, (_, column, _) in enumerate(mistakes, start=1)
    ]
    for problem, (_, _, expected) in zip(error.problems, mistakes, strict=True):
        assert expected in problem.message
    assert len(str(error).splitlines()) == 1 + len(mistakes)


@pytest.mark.parametrize(
    ("columns", "part"),
    [
        ({"model": "sora-2-pro", "audio": False}, "all its videos have sound"),
        ({"model": "veo-3.1", "audio": "loud"}, "'loud' is not a boolean; allowed: true, false"),
        ({"model": "veo-3.1", "seed": 1.5}, "1.5 is not a whole number; allowed: 0 to 2147483647"),
        ({"model": "veo-3.1", "seed": -1}, "nearest: 0"),
        ({"model": "veo-3.1", "duration": "auto"}, "allowed: 4, 6, 7, 8 seconds"),
        ({"model": "veo-3.1", "duration": 7}, "duration is 7; allowed: 4, 6, 8"),
        ({"model": "wan-3.0", "resolution": "4K", "first_frame": FRAME}, "480p, 720p, 1080p"),
        ({"model": "veo-3.1", "reference_images": [FRAME] * 4}, "4 reference images are given"),
        ({"model": "veo-3.1", "last_frame": "none.png"}, "'none.png' cannot be read"),
        ({"model": "veo-3.1", "reference_images": [FRAME, "ftp://a/b"]}, "cannot be an image"),
        ({"model": "veo-3.1", "settings": "fast"}, "'fast' is not a mapping; allowed: names with"),
        ({"model": "veo-3.1", "settings": '{"a": 1'}, "is not a mapping: this is not JSON"),
        ({"model": "veo-3.1", "settings": {"seed": 1}}, "write it into the column 'seed'"),
        ({"model": "veo-3.1", "settings": {"generateAudio": 3}}, "allowed: true, false"),
        (
            {"model": "wan-3.0", "settings": {"promptExtnd": True}},
            "(did you mean 'promptExtend'?); allowed: audio, promptExtend",
        ),
        (
            {"model": "veo-3.1", "audio": True, "settings": {"generateAudio": False}},
            "audio is true, but the setting generateAudio is false",
        ),
        ({"model": "veo3.1"}, "did you mean 'veo-3.1'?"),
    ],
)
def test_a_value_that_the_model_does_not_allow_is_a_problem(
    write: Write, columns: dict[str, object], part: str
) -> None:
    assert part in message_of(write, **columns)


def test_a_number_of_a_setting_has_the_limits_of_its_entry(write: Write) -> None:
    entry = BUILTIN.get("wan-3.0").model_copy(
        update={"settings": {"strength": Setting(type="number", min=0, max=2)}, "audio": "always"}
    )
    row = {"id": "a", "prompt": "A lake", "model": "wan-3.0", "settings": {"strength": 9}}
    with pytest.raises(DatasetError) as caught:
        load_dataset(write("p.jsonl", jsonl(row)), catalogue=BUILTIN.extended([entry]))
    assert [problem.message for problem in caught.value.problems] == [
        "the setting strength is 9; allowed: a number from 0 to 2 for Wan 3.0; nearest: 2"
    ]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (
            "p.yaml",
            "- {id: a, prompt: A lake, model: wan-3.0, settings: {audio: yes, audio: no}}\n",
        ),
        (
            "p.jsonl",
            '{"id": "a", "prompt": "A", "model": "wan-3.0", "settings": '
            '{"audio": true, "audio": false}}\n',
        ),
        ("p.csv", "id,prompt,model,settings\na,A lake,wan-3.0,audio=true;audio=false\n"),
    ],
)
def test_a_setting_that_is_given_twice_is_a_problem(write: Write, name: str, text: str) -> None:
    assert "twice" in str(error_of(write(name, text)))


def test_aliases_cannot_make_a_small_file_endless(write: Write) -> None:
    levels = "".join(
        f"  l{level}: &l{level} {json.dumps([f'*l{level - 1}'] * 40).replace(chr(34), '')}\n"
        for level in range(1, 8)
    )
    text = f"- id: a\n  prompt: A lake\n  model: wan-3.0\n  settings:\n    l0: &l0 [1]\n{levels}"
    text = text.replace("\n  l", "\n    l")
    assert "nested too deeply, or has too many values" in str(error_of(write("p.yaml", text)))


# --- every model

COLUMN_VALUES: dict[str, st.SearchStrategy[object]] = {
    "size": st.sampled_from(["1280x720", "1920x1080", "832x480", "7x7", "big"]),
    "resolution": st.sampled_from(["480p", "720P", "4K", "huge"]),
    "duration": st.sampled_from([2, 4, 5, 8, 10, 30, "auto", "long"]),
    "fps": st.sampled_from([24, 48, 30]),
    "seed": st.sampled_from([0, 7, 2**40, -1, 1.5]),
    "negative_prompt": st.just("text"),
    "audio": st.booleans(),
    "number_results": st.sampled_from([1, 4, 9]),
    "output_format": st.sampled_from(["MP4", "webm"]),
    "first_frame": st.sampled_from([FRAME, FIRST, "missing.png"]),
    "last_frame": st.just(SECOND),
    "reference_images": st.lists(st.sampled_from([FRAME, THIRD]), max_size=3),
    "settings": st.dictionaries(
        st.sampled_from(["audio", "generateAudio", "sound", "operation", "promptExtend", "x"]),
        st.sampled_from([True, False, "edit", 1, None, [1]]),
        max_size=2,
    ),
}


def read_or_problems(path: Path) -> tuple[Sequence[ClipSpec], Sequence[FileProblem]]:
    try:
        return load(path).clips, ()
    except DatasetError as error:
        return (), error.problems


@settings(deadline=None, max_examples=300)
@given(
    model=st.sampled_from([entry.short_name for entry in BUILTIN.entries]),
    columns=st.fixed_dictionaries({}, optional=COLUMN_VALUES),
)
def test_a_row_of_any_model_is_a_request_that_the_model_accepts_or_a_problem_of_its_line(
    tmp_path_factory: pytest.TempPathFactory, model: str, columns: dict[str, object]
) -> None:
    path = tmp_path_factory.getbasetemp() / "any.jsonl"
    path.write_text(jsonl({"id": "a", "prompt": "A lake in the fog", "model": model, **columns}))
    clips, problems = read_or_problems(path)
    assert {problem.line for problem in problems} <= {1}
    assert all(problem.column for problem in problems)
    assert bool(clips) != bool(problems)
    for clip in clips:
        wire_of(clip)
        assert ClipSpec.model_validate_json(clip.model_dump_json()) == clip
