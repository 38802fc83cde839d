"""Warnings about retired models: when definitions load, and in the runs that request clips."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest

from sora_dagster import Catalogue, VideoDataset, build_clip_assets, build_storyboard_assets
from sora_dagster.prompts.retired_models import RetiredModelWarning
from tests.dagster_face.stack import Stack

RETIRED = "Sora 2 Pro (openai:3@2) was retired on 2026-09-24"


def test_definitions_warn_if_the_default_model_was_retired() -> None:
    with pytest.warns(RetiredModelWarning) as found:
        build_clip_assets(VideoDataset("prompts.yaml"))
    [warning] = [str(one.message) for one in found]
    assert warning.startswith(RETIRED)
    assert "it is the model of rows that name none" in warning


def test_definitions_with_a_live_default_model_give_no_warning() -> None:
    live = Catalogue.builtin().with_default("veo-3.1")
    with warnings.catch_warnings():
        warnings.simplefilter("error", RetiredModelWarning)
        build_clip_assets(VideoDataset("prompts.yaml", catalogue=live))


def test_a_storyboard_warns_once_for_its_shots(tmp_path: Path) -> None:
    path = tmp_path / "glade.yaml"
    path.write_text("shots: [{id: dawn, prompt: a glade}, {id: dusk, prompt: a glade}]")
    with pytest.warns(RetiredModelWarning) as found:
        build_storyboard_assets(path)
    [warning] = [str(one.message) for one in found]
    assert warning.startswith(f"storyboard glade: {RETIRED}")
    assert "2 shots use it" in warning


def test_a_run_that_requests_clips_warns_once(stack: Stack) -> None:
    stack.write(*[{"id": f"clip-{number}"} for number in range(3)])
    result = stack.run_job("request_clips")
    assert result.success
    log = stack.log_of(result.run_id)
    assert log.count(RETIRED) == 1
    assert "3 clips use it. Available models for what is asked: " in log
