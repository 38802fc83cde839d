"""A retired model is named once, with its date and the live models that can do what is asked."""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

import pytest

from sora_dagster.prompts.clips import ClipSpec
from sora_dagster.prompts.dataset import load_dataset
from sora_dagster.prompts.retired_models import (
    dataset_warnings,
    default_model_warning,
    retired_model_warnings,
)
from sora_dagster.runware import Catalogue, VideoModel


def model(short_name: str, **fields: Any) -> VideoModel:
    return VideoModel.model_validate(
        {
            "air": f"maker:{short_name}@1",
            "name": short_name.upper(),
            "sizes": {"720p": ["1280x720"]},
            "default_size": "1280x720",
            "durations": {"values": [4, 8], "default": 4},
            "audio": "always",
            "inputs": {"frameImages": {}, "video": {}},
            "remix": {"edit": {"input": "video"}},
            "prices": {"certainty": "published", "rates": [{"usd_per_second": 1}]},
            **fields,
        }
    )


OLD = model("old", retired=date(2026, 9, 24))
LIVE = model("live")


def clip(clip_id: str = "fox", **fields: Any) -> ClipSpec:
    return ClipSpec(clip_id=clip_id, prompt="a fox", model=OLD.air, **fields)


def named(*others: VideoModel, **asked: Any) -> str:
    """The models that the warning about a clip names."""
    [warning] = retired_model_warnings([clip(**asked)], Catalogue([OLD, *others]))
    return warning.partition("what is asked: ")[2].partition(". Set")[0]


def test_one_warning_for_all_clips_of_a_model() -> None:
    clips = [clip("a"), clip("b"), ClipSpec(clip_id="c", prompt="a fox", model=LIVE.air)]
    assert retired_model_warnings(clips, Catalogue([OLD, LIVE])) == [
        "OLD (maker:old@1) was retired on 2026-09-24: Runware does not generate with it any more; "
        "2 clips use it. Available models for what is asked: LIVE (live). Set the model of the "
        "rows, or SORA_MODEL for rows that name none"
    ]


def test_remixes_count_for_the_model_that_makes_them(tmp_path: Path) -> None:
    catalogue = Catalogue([OLD, LIVE, model("silent", audio="never", remix={})])
    path = tmp_path / "prompts.yaml"
    path.write_text(
        "clips: [{id: fox, prompt: a fox, model: live, recipes: [snow, night]},"
        " {id: owl, prompt: an owl, model: old, recipes: [snow, night]}]\n"
        "recipes: {snow: {prompt: in snow, model: old}, night: {prompt: at night, model: live}}"
    )
    [warning] = dataset_warnings(load_dataset(path, catalogue=catalogue), catalogue)
    assert (
        "1 clip and 2 remixes use it. Available models for what is asked: LIVE (live); " in warning
    )
    assert "SILENT (silent, but not sound, changing an earlier video)" in warning


def test_no_warning_about_live_models() -> None:
    spec = ClipSpec(clip_id="c", prompt="a fox", model=LIVE.air)
    assert retired_model_warnings([spec], Catalogue([OLD, LIVE])) == []


def test_at_most_three_models_are_named_the_ablest_first() -> None:
    silent = model("silent", audio="never")
    others = [model(name) for name in ("a", "b", "c")]
    assert named(silent, *others) == "A (a); B (b); C (c)"


@pytest.mark.parametrize(
    ("other", "asked", "miss"),
    [
        ({"sizes": {"4K": ["3840x2160"]}, "default_size": None}, {"size": "1280x720"}, "1280x720"),
        ({}, {"duration_seconds": 6}, "6 seconds"),
        ({"audio": "never"}, {}, "sound"),
        ({"inputs": {"frameImages": {}}, "remix": {}}, {"mode": "edit"}, "changing an"),
        ({"remix": {}}, {"mode": "extend"}, "extend"),
    ],
)
def test_what_a_model_cannot_do_is_said(
    other: dict[str, Any], asked: dict[str, Any], miss: str
) -> None:
    answer = named(model("other", **other), **asked)
    assert answer.startswith("OTHER (other, but not ")
    assert miss in answer


@pytest.mark.parametrize(
    ("other", "asked"),
    [
        ({"rules": [{"require": ["inputs.video"]}]}, {}),
        ({"inputs": {}, "remix": {}}, {"first_frame": "https://example.com/a.png"}),
        ({"retired": date(2026, 10, 1)}, {}),
    ],
)
def test_models_that_cannot_take_the_request_are_not_named(
    other: dict[str, Any], asked: dict[str, Any]
) -> None:
    [warning] = retired_model_warnings([clip(**asked)], Catalogue([OLD, model("no", **other)]))
    assert "No model of the catalogue can do what is asked" in warning


def test_the_default_model_is_warned_about_if_it_was_retired() -> None:
    warning = default_model_warning(Catalogue([OLD, LIVE], default="old"))
    assert warning is not None
    assert "it is the model of rows that name none. Available models" in warning
    assert "LIVE (live)" in warning
    assert default_model_warning(Catalogue([OLD, LIVE], default="live")) is None


def test_every_builtin_alternative_is_live() -> None:
    catalogue = Catalogue.builtin()
    warning = default_model_warning(catalogue)
    assert warning is not None
    for entry in catalogue.entries:
        assert f"({entry.short_name})" not in warning or entry.retired is None
