"""What Dagster shows of checks: the results of each partition's newest materialization."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import dagster as dg
import pytest
from dagster._core.loader import LoadingContextForTest

from sora_dagster.generation.generator import Generator
from sora_dagster.reporting.checks import RunChecks
from sora_dagster.resources import RunwareResource
from tests.dagster_face.stack import Stack, failure_text, shown_checks


def is_quality_shown(stack: Stack) -> bool:
    """Whether the newest summary counts for the newest materialization, as the UI asks."""
    [record] = stack.instance.event_log_storage.get_asset_check_execution_history(
        dg.AssetCheckKey(dg.AssetKey("clips"), "quality"), limit=1
    )
    loading = LoadingContextForTest(stack.instance)
    return asyncio.run(record.targets_latest_materialization(loading))


def test_the_checks_of_the_collecting_run_are_shown(stack: Stack) -> None:
    stack.write({"id": "fox", "recipes": ["night"]}, {"id": "owl"}, recipes={"night": "at night"})
    stack.run_job("request_clips")
    stack.run_job("collect_clips")
    assert shown_checks(stack, "clips") == {"fox": {True}, "owl": {True}}
    assert shown_checks(stack, "remixes") == {"fox|night": {True}}


def test_a_new_take_is_shown_with_its_own_checks(stack: Stack) -> None:
    for take in (1, 2):
        stack.write({"id": "fox", "take": take})
        stack.run_job("request_clips")
        stack.run_job("collect_clips")
        assert shown_checks(stack, "clips") == {"fox": {True}}, take


def test_the_checks_of_a_storyboard_are_shown(stack: Stack) -> None:
    stack.write_board({"id": "pond", "prompt": "a pond"})
    assert stack.materialize_shots().success
    assert shown_checks(stack, "glade/pond") == {None: {True}}


@pytest.mark.parametrize("clips", [["fox"], ["fox", "owl"]])
def test_the_checks_of_a_materialization_are_shown_after_another_run_collected(
    stack: Stack, clips: list[str]
) -> None:
    stack.write(*({"id": clip} for clip in clips))
    stack.tick_dataset_sensor()
    stack.run_job("request_clips")
    assert stack.run_job("collect_clips").success
    for _ in range(4):
        by_hand = stack.materialize(["clips"], clips)
        assert by_hand.success, failure_text(by_hand)
        assert shown_checks(stack, "clips") == {clip: {True} for clip in clips}
    assert is_quality_shown(stack)


def test_the_checks_of_a_run_planned_before_another_run_collected_are_shown(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack.write({"id": "fox"}, {"id": "owl"})
    stack.tick_dataset_sensor()
    stack.run_job("request_clips")
    collected: list[dg.ExecuteInProcessResult] = []
    make_generator = RunwareResource.generator

    def collect_first(*arguments: Any, **options: Any) -> Generator:
        if threading.current_thread() is threading.main_thread():
            other = threading.Thread(
                target=lambda: collected.append(stack.run_job("collect_clips"))
            )
            other.start()
            other.join()
        return make_generator(*arguments, **options)

    monkeypatch.setattr(RunwareResource, "generator", collect_first)
    planned = stack.materialize(["clips"], ["fox", "owl"], tags={"dagster/backfill": "a-backfill"})
    assert collected[0].success
    assert planned.success
    assert len(stack.events("clips", "fox")) == 2
    assert shown_checks(stack, "clips") == {"fox": {True}, "owl": {True}}
    assert is_quality_shown(stack)

    # The same once more. Dagster keeps one result without a run for each partition.
    stack.write({"id": "fox", "take": 2}, {"id": "owl", "take": 2})
    stack.run_job("request_clips")
    again = stack.materialize(["clips"], ["fox", "owl"], tags={"dagster/backfill": "another"})
    assert again.success, failure_text(again)
    assert len(stack.events("clips", "fox")) == 4


def test_checks_that_a_run_did_not_reach_are_run_by_the_next(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack.write({"id": "fox"})
    stack.run_job("request_clips")

    def ended(*_arguments: Any, **_settings: Any) -> None:
        raise RuntimeError("the run ends here")

    with monkeypatch.context() as patch:
        patch.setattr(RunChecks, "evaluate", ended)
        assert not stack.run_job("collect_clips").success
    assert len(stack.events("clips", "fox")) == 1
    assert shown_checks(stack, "clips") == {}
    assert stack.run_job("collect_clips").success
    assert len(stack.events("clips", "fox")) == 1
    assert shown_checks(stack, "clips") == {"fox": {True}}
