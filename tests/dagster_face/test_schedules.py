"""Scheduled generation: so many clips, or so many dollars' worth, oldest first."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from sora_dagster.dataset import VideoDataset
from sora_dagster.generation.protocol import layout
from sora_dagster.schedules import build_generation_schedule
from tests.dagster_face.stack import Stack
from tests.sandbox_server import KEY, Sandbox


@pytest.fixture
def stack(sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stack]:
    """A stack on disk: a schedule's context opens the instance again."""
    monkeypatch.setenv("RUNWARE_API_KEY", KEY)
    (tmp_path / "dagster").mkdir()
    (tmp_path / "dagster" / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    with dg.DagsterInstance.from_config(str(tmp_path / "dagster")) as instance:
        yield Stack(tmp_path, sandbox.base_url, instance)


def tick(stack: Stack, **limits: Any) -> dg.RunRequest | dg.SkipReason:
    dataset = VideoDataset(stack.prompts_path)
    schedule = build_generation_schedule(dataset, cron_schedule="0 6 * * *", **limits)
    with dg.build_schedule_context(
        instance=stack.instance,
        resources={"clip_storage": stack.definitions.resources["clip_storage"]},  # type: ignore[index]
    ) as context:
        try:
            data = schedule.evaluate_tick(context)
        except dg.DagsterError as error:
            # Dagster shows the error inside of its own.
            raise (error.__cause__ or error) from None
    requests = data.run_requests or []
    assert len(requests) <= 1
    return requests[0] if requests else dg.SkipReason(data.skip_message)


def run(stack: Stack, request: dg.RunRequest | dg.SkipReason) -> list[str]:
    assert isinstance(request, dg.RunRequest)
    config = request.run_config["ops"]["request"]["config"]
    assert stack.run_job("request_clips", **config).success
    chosen: list[str] = config["clip_ids"]
    return chosen


def test_each_tick_requests_the_oldest_clips_that_were_never_requested(stack: Stack) -> None:
    stack.write({"id": "yak"}, {"id": "fox"})
    stack.tick_dataset_sensor()
    stack.write({"id": "ant"}, {"id": "fox"}, {"id": "yak"})
    stack.tick_dataset_sensor()
    assert run(stack, tick(stack, max_clips=2)) == ["yak", "fox"]
    assert run(stack, tick(stack, max_clips=2)) == ["ant"]
    skipped = tick(stack, max_clips=2)
    assert isinstance(skipped, dg.SkipReason)
    assert "all 3 clips" in str(skipped.skip_message)


def test_a_tick_observes_its_limit_including_remixes(stack: Stack) -> None:
    stack.write(
        {"id": "fox", "recipes": ["night"]},  # 4 s at 0.30 USD, twice
        {"id": "owl"},
        {"id": "yak"},
        recipes={"night": "the same at night"},
    )
    request = tick(stack, max_usd=4.0)
    assert isinstance(request, dg.RunRequest)
    config = request.run_config["ops"]["request"]["config"]
    assert config == {"clip_ids": ["fox", "owl"], "max_usd": 4.0, "regenerate_changed": False}


def test_a_clip_over_the_limit_of_a_tick_is_named_and_skipped(stack: Stack) -> None:
    stack.write({"id": "fox", "duration": 20}, {"id": "owl"})
    assert run(stack, tick(stack, max_usd=2.0)) == ["owl"]
    skipped = tick(stack, max_usd=2.0)
    assert isinstance(skipped, dg.SkipReason)
    assert "fox" in str(skipped.skip_message)
    assert "Raise max_usd" in str(skipped.skip_message)


def test_a_clip_of_unknown_price_is_named_and_left_out_of_a_tick_with_a_limit(
    stack: Stack,
) -> None:
    stack.write({"id": "fox", "model": "ray-3.2"}, {"id": "owl"})
    request = tick(stack, max_usd=2.0)
    assert isinstance(request, dg.RunRequest)
    assert request.run_config["ops"]["request"]["config"]["clip_ids"] == ["owl"]
    stack.write({"id": "fox", "model": "ray-3.2"})
    skipped = tick(stack, max_usd=2.0)
    assert isinstance(skipped, dg.SkipReason)
    assert "the price of the clip or of a remix is not known" in str(skipped.skip_message)
    assert "fox. Set the prices" in str(skipped.skip_message)


def test_a_clip_that_exceeded_a_limit_is_requested_by_a_later_tick(stack: Stack) -> None:
    stack.write({"id": "fox"})
    assert not stack.run_job("request_clips", max_usd=0.5).success
    assert run(stack, tick(stack, max_clips=1)) == ["fox"]


def test_a_clip_whose_record_cannot_be_read_is_skipped(stack: Stack) -> None:
    stack.write({"id": "fox"}, {"id": "owl"})
    stack.run_job("request_clips", clip_ids=["fox"])
    stack.root.write(layout.attempt_key("clips", "fox", 1, 1), b"{")
    assert run(stack, tick(stack, max_clips=5)) == ["owl"]


def test_failed_and_changed_clips_are_not_requested(stack: Stack) -> None:
    stack.write({"id": "fox"})
    stack.run_job("request_clips")
    stack.run_job("collect_clips")
    stack.write({"id": "fox", "prompt": "another fox"})
    assert isinstance(tick(stack, max_clips=5), dg.SkipReason)


def test_a_broken_dataset_fails_the_tick_and_says_why(stack: Stack) -> None:
    stack.prompts_path.write_text("clips: [{id: fox}]")
    with pytest.raises(dg.Failure, match="prompt"):
        tick(stack, max_clips=1)


@pytest.mark.parametrize("limits", [{}, {"max_clips": 0}, {"max_usd": -1}])
def test_a_schedule_needs_a_limit(limits: dict[str, Any]) -> None:
    dataset = VideoDataset("prompts.yaml")
    with pytest.raises(ValueError, match="max_clips"):
        build_generation_schedule(dataset, cron_schedule="0 6 * * *", **limits)
