from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sora_dagster.runware import (
    Catalogue,
    FrameSize,
    UnknownModelError,
    VideoModel,
    parse_size,
)
from sora_dagster.runware.pricing import price_of
from sora_dagster.runware.rules import broken_rules
from tests.runware.examples import FIRST, SORA_2, SORA_2_PRO, request

VEO = """
- air: google:3@2
  name: Veo 3.1
  sizes: {720p: [1280x720], 1080p: [1920x1080]}
  default_size: 1280x720
  durations: {values: [4, 6, 8], default: 8}
  prices:
    certainty: published
    rates:
      - {if: {tier: 720p}, usd_per_second: 0.20}
      - {if: {tier: 1080p}, usd_per_second: 0.40}
"""


@given(st.integers(10, 99999), st.integers(10, 99999))
def test_a_size_is_read_back_from_its_text(width: int, height: int) -> None:
    assert parse_size(str(FrameSize(width, height))) == FrameSize(width, height)


@pytest.mark.parametrize(
    "text", ["", "1280", "1280x", "1280*720", "wide", "1280x720x3", "-1280x720", "00x00"]
)
def test_what_is_no_size_is_refused_with_how_to_write_one(text: str) -> None:
    with pytest.raises(ValueError, match="WIDTHxHEIGHT"):
        parse_size(text)


def test_the_reference_pages_example_costs_what_the_page_says() -> None:
    price = price_of(request(width=1792, height=1024, duration=8), SORA_2_PRO)
    assert (price.usd, price.certainty) == (4, "published")


@pytest.mark.parametrize("size", SORA_2_PRO.allowed_sizes)
def test_an_unknown_size_is_never_estimated_below_a_known_one(size: FrameSize) -> None:
    fields = {"duration": 8, "number_results": 2}
    known = price_of(request(width=size.width, height=size.height, **fields), SORA_2_PRO)
    unknown = price_of(
        request(width=None, height=None, inputs={"frame_images": [FIRST]}, **fields), SORA_2_PRO
    )
    assert known.usd is not None
    assert unknown.usd is not None
    assert unknown.usd >= known.usd


def test_an_unknown_duration_is_estimated_at_the_longest() -> None:
    price = price_of(request(model="openai:3@1", width=1280, height=720, duration=None), SORA_2)
    assert price.usd == pytest.approx(2.0)


def test_a_model_without_an_entry_is_refused_with_an_entry_to_copy() -> None:
    with pytest.raises(UnknownModelError) as refusal:
        Catalogue.builtin().get("acme:1@2")
    assert "air: acme:1@2" in str(refusal.value)
    assert "SORA_MODELS" in str(refusal.value)


def test_the_entry_to_copy_is_one(tmp_path: Path) -> None:
    with pytest.raises(UnknownModelError) as refusal:
        Catalogue.builtin().get("acme:1@2")
    path = tmp_path / "models.yaml"
    path.write_text(str(refusal.value).partition("to that file:\n\n")[2], encoding="utf-8")
    assert Catalogue.from_yaml(path).get("acme:1@2").default_size == FrameSize(1280, 720)


def test_a_yaml_file_adds_models_beside_the_built_in_ones(tmp_path: Path) -> None:
    path = tmp_path / "models.yaml"
    path.write_text(VEO, encoding="utf-8")
    catalogue = Catalogue.from_yaml(path)
    assert catalogue.get("google:3@2").allowed_sizes == (
        FrameSize(1280, 720),
        FrameSize(1920, 1080),
    )
    assert catalogue.get("openai:3@2") == SORA_2_PRO


def test_a_yaml_entry_replaces_the_built_in_one_of_its_id(tmp_path: Path) -> None:
    path = tmp_path / "models.yaml"
    path.write_text(VEO.replace("name: Veo 3.1", "name: My Veo"), encoding="utf-8")
    catalogue = Catalogue.from_yaml(path)
    assert catalogue.get("google:3@2").name == "My Veo"
    assert catalogue.find("veo-3.1") is None


def test_an_entry_survives_being_stored_as_json() -> None:
    assert VideoModel.model_validate_json(SORA_2_PRO.model_dump_json()) == SORA_2_PRO


def test_a_rule_may_name_sizes() -> None:
    rules = [
        {"allow": {"size": ["1280x720"]}, "if": {"seed": "given"}},
        {"forbid": ["fps"], "if": {"size": ["1280x720"]}},
    ]
    entry = SORA_2_PRO.model_validate(
        SORA_2_PRO.model_dump(by_alias=True)
        | {"rules": rules, "seed": {"min": 0, "max": 9}, "fps": {"values": [24]}}
    )
    small, large = {"width": 1280, "height": 720}, {"width": 1920, "height": 1080}
    assert broken_rules(request(seed=1, **small), entry) == []
    assert broken_rules(request(fps=24, **large), entry) == []
    [problem] = broken_rules(request(seed=1, **large), entry)
    assert problem.field == "width"
    assert problem.message == ("size is 1920x1080; allowed: 1280x720 with seed for Sora 2 Pro")
    [problem] = broken_rules(request(fps=24, **small), entry)
    assert problem.message == "fps is not allowed with size 1280x720 for Sora 2 Pro; remove it"


def test_an_editor_that_takes_frames_beside_its_video_does_not_continue_clips() -> None:
    aleph = Catalogue.builtin().get("aleph-2.0")
    frames = {**aleph.inputs["frameImages"].model_dump(), "positions": ["first", "last"]}
    inputs = {**aleph.model_dump()["inputs"], "frameImages": frames}
    entry = VideoModel.model_validate({**aleph.model_dump(by_alias=True), "inputs": inputs})
    assert entry.remix_modes == ("edit",)


def test_a_remix_that_needs_a_setting_is_not_the_default() -> None:
    assert Catalogue.builtin().get("ray-3.2").remix_modes == ("continue", "edit")
    assert Catalogue.builtin().get("seedance-2.5").remix_modes == ("edit", "continue", "extend")
