"""Properties of every dataset, and the dataset that is shipped as an example."""

import doctest
import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from sora_dagster.generation.requesting.payloads import build_inference
from sora_dagster.prompts import dataset as prompts
from sora_dagster.prompts.clips import ClipRequest, ClipSpec
from sora_dagster.prompts.dataset import (
    DatasetError,
    PromptDataset,
    load_dataset,
)
from sora_dagster.prompts.files import COLUMNS
from sora_dagster.runware.catalogue import Catalogue, FrameSize
from tests.prompts.dataset_files import (
    EXAMPLE,
    FORMATS,
    RECIPES,
    load,
    problems_of,
    write_as,
)
from tests.runware.examples import SECOND, SORA_2, SORA_2_PRO

WAN = Catalogue.builtin().get("wan-3.0")

# --- properties

CLIP_IDS = st.text(
    st.sampled_from("abcXYZ019._- äß中\u093f\u0e4c"), min_size=1, max_size=12
).filter(lambda text: text[0].isalnum() and ".." not in text and not text.endswith(" "))
ANY_TEXT = st.text(st.characters(exclude_categories=["Cs", "Cc"], include_characters="\t\n\r")).map(
    str.strip
)
TAGS = ANY_TEXT.filter(lambda text: bool(text) and ";" not in text)


@st.composite
def wan_fields(draw: st.DrawFn, has_first_frame: bool) -> dict[str, Any]:
    """The fields that Sora does not know."""
    images = st.sampled_from(["https://example.com/a.png?size=full", SECOND])
    of_frames = {
        "last_frame": draw(st.none() | images),
        "resolution": draw(st.none() | st.sampled_from(WAN.resolutions)),
    }
    return {
        "seed": draw(st.none() | st.integers(0, 2**31 - 1)),
        "audio": draw(st.none() | st.booleans()),
        "settings": draw(st.dictionaries(st.just("promptExtend"), st.booleans())),
        **(of_frames if has_first_frame else {"reference_images": draw(st.lists(images))[:10]}),
    }


@st.composite
def clip_specs(draw: st.DrawFn) -> ClipSpec:
    model = draw(st.sampled_from([SORA_2_PRO, SORA_2, WAN]))
    has_first_frame = draw(st.booleans())
    return ClipSpec(
        **(draw(wan_fields(has_first_frame)) if model is WAN else {}),
        clip_id=draw(CLIP_IDS),
        prompt=f"A {draw(ANY_TEXT)} lake",
        model=model.air,
        size=None if has_first_frame else draw(st.sampled_from(model.allowed_sizes)),
        duration_seconds=draw(st.sampled_from((4.0, 8.0, 20.0))),
        number_results=draw(st.integers(1, 4)),
        output_format=draw(st.sampled_from(["MP4", "WEBM", "MOV"])),
        output_quality=draw(st.none() | st.integers(20, 99)),
        first_frame="https://example.com/first.png" if has_first_frame else None,
        safety=draw(st.sampled_from(["none", "fast", "full"])),
        take=draw(st.integers(1, 1_000)),
        recipes=tuple(draw(st.lists(st.sampled_from(["night", "snow"]), unique=True)))
        if "videoId" in model.inputs
        else (),
        tags=tuple(draw(st.lists(TAGS, max_size=3))),
    )


def row_of(spec: ClipSpec) -> dict[str, object]:
    row = spec.model_dump(mode="json")
    row |= {"id": row["clip_id"], "duration": row["duration_seconds"]}
    # Parquet has no mappings without names.
    row["settings"] = row["settings"] or None
    return {name: row[name] for name in COLUMNS}


@pytest.mark.parametrize("extension", [".jsonl", ".csv", ".parquet"])
@settings(deadline=None, max_examples=50)
@given(specs=st.lists(clip_specs(), min_size=1, max_size=4, unique_by=lambda spec: spec.clip_id))
def test_clips_written_to_a_file_are_read_back_as_they_were(
    tmp_path_factory: pytest.TempPathFactory, extension: str, specs: list[ClipSpec]
) -> None:
    folder = tmp_path_factory.mktemp("dataset")
    (folder / "recipes.yaml").write_text(RECIPES)
    dataset = load(write_as(folder, extension, [row_of(spec) for spec in specs]))
    read = [clip.model_copy(update={"at_default": ()}) for clip in dataset.clips]
    assert read == specs


@settings(deadline=None, max_examples=50)
@given(content=st.binary(max_size=200), extension=st.sampled_from(FORMATS))
def test_a_file_of_any_bytes_is_a_dataset_error_and_no_other(
    tmp_path_factory: pytest.TempPathFactory, content: bytes, extension: str
) -> None:
    path = tmp_path_factory.mktemp("dataset") / f"p{extension}"
    path.write_bytes(content)
    with pytest.raises(DatasetError):
        load(path)


# YAML reads JSON's escapes but for the pairs of them that stand for one character.
SHORT_TEXTS = st.text(st.characters(max_codepoint=0xD7FF), max_size=6)
JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats(allow_nan=False, allow_infinity=False)
    | SHORT_TEXTS,
    lambda values: st.lists(values, max_size=3) | st.dictionaries(SHORT_TEXTS, values, max_size=2),
    max_leaves=4,
)
COLUMN_NAMES = st.sampled_from(["prompt", "model", "size", "duration", "take", "recipes", "tags"])


@settings(deadline=None, max_examples=50)
@given(
    row=st.dictionaries(COLUMN_NAMES | SHORT_TEXTS, JSON_VALUES),
    start=st.sampled_from([("p.jsonl", ""), ("p.yaml", "- ")]),
)
def test_whatever_a_row_holds_its_problems_have_a_line(
    tmp_path_factory: pytest.TempPathFactory, row: dict[str, object], start: tuple[str, str]
) -> None:
    name, before = start
    path = tmp_path_factory.mktemp("dataset") / name
    # The id is never usable, so that the row has at least one problem.
    path.write_text(before + json.dumps({**row, "id": "a|b"}) + "\n", encoding="utf-8")
    found = problems_of(path)
    assert {problem.line for problem in found} == {1}
    assert "id" in {problem.column for problem in found}


# --- the shipped dataset


@pytest.fixture(scope="module")
def example() -> PromptDataset:
    return load_dataset(EXAMPLE, catalogue=Catalogue.builtin())


def test_the_example_begins_with_the_clip_of_the_reference_page(example: PromptDataset) -> None:
    clip = example.clips[0]
    assert (clip.clip_id, clip.model) == ("mangrove-monsoon", "openai:3@2")
    assert (clip.size, clip.duration_seconds) == (FrameSize(1792, 1024), 8.0)
    assert clip.prompt == (
        "A cinematic wide shot drifting slowly through a flooded mangrove forest at twilight "
        "during a warm monsoon rain. The tangled roots rise from mirror-dark water, and every "
        "raindrop disturbs glowing turquoise bioluminescent algae that ripple outward in delicate "
        "rings. Small lantern-like jelly insects hover between branches, casting soft teal and "
        "amber light. A narrow wooden skiff sits half-hidden among the roots, covered in wet woven "
        "baskets, seashell charms, and a dim oil lamp. In the distance, thunderclouds pulse with "
        "silent violet lightning behind layers of mist. The camera glides forward at water level "
        "with subtle parallax through leaves and hanging vines, revealing tiny tree frogs, "
        "drifting pollen, and rain sliding from glossy foliage. Soundscape: dense rainfall on "
        "leaves and water, soft insect chorus, distant thunder, creaking wood, gentle water "
        "lapping. Ultra-detailed, naturalistic cinematic fantasy, precise reflections, volumetric "
        "mist, moody color contrast, believable physics, cohesive atmosphere, premium production "
        "quality."
    )


def test_the_example_shows_what_a_dataset_can_request(example: PromptDataset) -> None:
    clips = example.clips
    assert len(clips) == 7
    assert {str(clip.size) for clip in clips if clip.size} >= {"1280x720", "720x1280", "1920x1080"}
    assert {clip.duration_seconds for clip in clips} == {4.0, 5.0, 8.0}
    assert {clip.output_format for clip in clips} == {"MP4", "WEBM", "MOV"}
    makers = {clip.model.partition(":")[0] for clip in clips}
    assert makers == {"openai", "google", "klingai", "bytedance"}
    assert [clip.number_results for clip in clips].count(2) == 1
    assert len([clip for clip in clips if clip.first_frame]) == 1
    assert all(clip.tags for clip in clips)


def test_the_example_remixes_edits_and_continues_several_clips(example: PromptDataset) -> None:
    ways = {recipe.name: (recipe.model, recipe.mode) for recipe in example.recipes}
    assert ways == {
        "night": (None, None),
        "snowfall": ("runway:aleph@2.0", "edit"),
        "closing-time": (None, "continue"),
    }
    assert 4 <= len(example.remix_cells) <= 6
    assert len({clip_id for clip_id, _ in example.remix_cells}) >= 3
    assert {recipe for _, recipe in example.remix_cells} == set(ways)


def test_each_clip_of_the_example_makes_a_request_that_the_api_takes(
    example: PromptDataset,
) -> None:
    for clip in example.clips:
        inference = build_inference(
            ClipRequest(asset="clips", clip=clip.clip_id, spec=clip),
            task_uuid="982c01aa-813a-4434-aa42-3e512808fd94",
            catalogue=Catalogue.builtin(),
            webhook=None,
            hosted_seconds=None,
        )
        assert inference.positive_prompt == clip.prompt


def test_the_example_of_the_docstring_holds(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(EXAMPLE.parents[1])
    results = doctest.testmod(prompts)
    assert (results.failed, results.attempted > 0) == (0, True)
