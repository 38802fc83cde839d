"""What Dagster shows of checks: the results of each partition's newest materialization."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import dagster as dg
import pytest

from sora_dagster.checks import RunChecks
from sora_dagster.clip_stream import Arrival, ClipStream
from sora_dagster.generation.collector import Collector, Round
from sora_dagster.media.verdicts import CHECKS
from tests.dagster_face.stack import Stack


def shown(stack: Stack, asset: str) -> dict[str | None, set[bool]]:
    """Whether each partition's newest checks count for its newest materialization."""
    keys = [dg.AssetCheckKey(dg.AssetKey(asset.split("/")), name) for name in CHECKS]
    found: dict[str | None, set[bool]] = {}
    for info in stack.instance.event_log_storage.get_asset_check_partition_info(keys):
        found.setdefault(info.partition_key, set()).add(info.is_current)
    return found


def newest_quality_run(stack: Stack) -> str:
    [record] = stack.instance.event_log_storage.get_asset_check_execution_history(
        dg.AssetCheckKey(dg.AssetKey("clips"), "quality"), limit=1
    )
    return record.run_id


def test_the_checks_of_the_collecting_run_are_shown(stack: Stack) -> None:
    stack.write({"id": "fox", "recipes": ["night"]}, {"id": "owl"}, recipes={"night": "at night"})
    stack.run_job("request_clips")
    stack.run_job("collect_clips")
    assert shown(stack, "clips") == {"fox": {True}, "owl": {True}}
    assert shown(stack, "remixes") == {"fox|night": {True}}


def test_a_new_take_is_shown_with_its_own_checks(stack: Stack) -> None:
    for prompt in ("a fox", "another fox"):
        stack.write({"id": "fox", "prompt": prompt})
        stack.run_job("request_clips")
        stack.run_job("collect_clips")
        assert shown(stack, "clips") == {"fox": {True}}, prompt


def test_the_checks_of_a_storyboard_are_shown_though_another_run_collected_a_shot(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack.write_board({"id": "pond", "prompt": "a pond"})
    look = Collector.look
    collected = []

    def overtaken(collector: Collector, *arguments: Any) -> Round:
        if not collected:
            collected.append(None)
            collected[0] = stack.run_job("collect_clips")
        return look(collector, *arguments)

    monkeypatch.setattr(Collector, "look", overtaken)
    assert stack.materialize_shots().success
    assert [result.success for result in collected] == [True]
    assert len(stack.shot_events("pond")) == 2
    assert shown(stack, "glade/pond") == {None: {True}}


@pytest.mark.parametrize("clips", [["fox"], ["fox", "owl"]])
def test_the_checks_of_a_run_by_hand_are_shown_though_another_collected_meanwhile(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, clips: list[str]
) -> None:
    stack.write(*({"id": clip} for clip in clips))
    stack.tick_dataset_sensor()
    stack.run_job("request_clips")
    store = ClipStream.store
    collected = []

    def overtaken(stream: ClipStream, *, parallel_clips: int) -> Iterator[Arrival]:
        collected.append(stack.run_job("collect_clips"))
        yield from store(stream, parallel_clips=parallel_clips)

    monkeypatch.setattr(ClipStream, "store", overtaken)
    assert stack.materialize(["clips"], clips).success
    assert [result.success for result in collected] == [True]
    assert shown(stack, "clips") == {clip: {True} for clip in clips}
    assert newest_quality_run(stack) != collected[0].run_id


def test_checks_that_a_run_did_not_come_to_are_made_by_the_next(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack.write({"id": "fox"})
    stack.run_job("request_clips")

    def ended(*_arguments: Any) -> None:
        raise RuntimeError("the run ends here")

    with monkeypatch.context() as patch:
        patch.setattr(RunChecks, "judge", ended)
        assert not stack.run_job("collect_clips").success
    assert len(stack.events("clips", "fox")) == 1
    assert shown(stack, "clips") == {}
    assert stack.run_job("collect_clips").success
    assert len(stack.events("clips", "fox")) == 1
    assert shown(stack, "clips") == {"fox": {True}}
