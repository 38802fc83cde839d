"""The collecting run: remixes are requested once, and each failure is reported once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml

from sora_dagster.dataset import VideoDataset
from sora_dagster.generation.collecting.settings import CollectionLimits
from sora_dagster.generation.library.clip_checks import CustomCheck, build_clip_checks
from sora_dagster.generation.protocol import layout
from sora_dagster.generation.requesting.options import RequestOptions
from sora_dagster.generation.storyboards.shot_requests import shot_request
from sora_dagster.jobs.collect import build_collect_job
from sora_dagster.jobs.request import build_request_job
from sora_dagster.prompts.boards import load_board
from sora_dagster.runware.catalogue import Catalogue
from tests.dagster_face.conftest import FaultyStack
from tests.dagster_face.stack import Stack, failure_metadata, failure_text
from tests.sandbox_server import Sandbox

RECIPES = {"night": "at night", "snow": "in snow"}


def store_by_hand(stack: Stack, *clips: str) -> None:
    """Materialize clips by hand; such a run requests no remixes."""
    result = stack.materialize(["clips"], clips)
    assert result.success, failure_text(result)


def remixes_due(stack: Stack) -> int:
    return len(stack.ledger.pending.outstanding("default").remixes_due)


# --- remixes


def test_remixes_of_materialized_clips_are_requested_by_one_run_in_one_post(
    stack: Stack, sandbox: Sandbox
) -> None:
    stack.write(
        {"id": "fox", "recipes": ["night", "snow"]},
        {"id": "owl", "recipes": ["night"]},
        {"id": "bee"},
        recipes=RECIPES,
    )
    stack.run_job("request_clips")
    store_by_hand(stack, "fox", "owl", "bee")
    assert remixes_due(stack) == 2
    before = sandbox.charged()
    assert len(stack.tick_completion_sensor()) == 1
    result = stack.run_job("collect_clips")
    assert result.success
    assert stack.submission_posts(result.run_id) == 1
    assert len(sandbox.charged() - before) == 3
    assert stack.events("remixes", "fox|snow")
    assert remixes_due(stack) == 0
    assert stack.tick_completion_sensor() == []


def test_remixes_by_live_models_are_requested_once_and_stale_after_a_change_of_their_mode(
    stack: Stack, sandbox: Sandbox
) -> None:
    clip = {
        "id": "fox",
        "model": "wan-3.0",
        "size": "832x480",
        "duration": 2,
        "recipes": ["night", "after"],
    }
    recipes = {
        "night": {"prompt": "the same at night", "model": "aleph-2.0"},
        "after": {"prompt": "it runs away", "mode": "continue", "duration": 2},
    }
    stack.write(clip, recipes=recipes)
    stack.tick_dataset_sensor()
    before = sandbox.charged()
    assert stack.run_job("request_clips", clip_ids=["fox"]).success
    assert stack.run_job("collect_clips").success
    assert stack.run_job("collect_clips").success
    assert len(sandbox.charged() - before) == 3
    night, after = (stack.events("remixes", f"fox|{name}")[0] for name in ("night", "after"))
    assert (night.metadata["remix_mode"].value, after.metadata["remix_mode"].value) == (
        "edit",
        "continue",
    )
    assert stack.stale("remix_requests", "remixes") == set()

    stack.write(clip, recipes={**recipes, "after": {**recipes["after"], "mode": "extend"}})
    assert stack.tick_dataset_sensor() == ["fox|after"]
    assert "remixes/fox|after" in stack.stale("remixes")
    assert stack.run_job("request_clips", clip_ids=["fox"]).success
    assert len(sandbox.charged() - before) == 3


def test_remixes_of_materialized_clips_are_paid_within_the_limit_of_the_clips_run(
    stack: Stack, sandbox: Sandbox
) -> None:
    stack.write({"id": "fox", "recipes": ["night", "snow"]}, recipes=RECIPES)
    stack.run_job("request_clips", max_usd=2.5)
    store_by_hand(stack, "fox")
    before = sandbox.charged()
    result = stack.run_job("collect_clips")
    assert "spending limit" in failure_text(result)
    assert len(sandbox.charged() - before) == 1


def test_a_refused_remix_is_not_requested_automatically_again(
    stack: Stack, sandbox: Sandbox
) -> None:
    stack.write({"id": "fox", "recipes": ["night"]}, recipes=RECIPES)
    stack.run_job("request_clips", max_usd=1.5)
    assert not stack.run_job("collect_clips").success
    stack.ledger.remixes.mark_due(stack.ledger.takes("clips", "fox")[-1].latest)
    before = sandbox.charged()
    assert stack.run_job("collect_clips").success
    assert sandbox.charged() == before
    # A person who requests it has another limit.
    assert stack.run_job("request_clips").success
    assert len(sandbox.charged() - before) == 1


def test_a_recipe_that_is_added_to_a_stored_clip_is_not_bought_by_the_collecting_run(
    stack: Stack, sandbox: Sandbox
) -> None:
    stack.write({"id": "fox"}, recipes=RECIPES)
    stack.run_job("request_clips")
    stack.run_job("collect_clips")
    stack.write({"id": "fox", "recipes": ["night"]}, {"id": "owl"}, recipes=RECIPES)
    before = sandbox.charged()
    assert stack.tick_completion_sensor() == []
    stack.run_job("collect_clips")
    assert sandbox.charged() == before


def test_a_new_take_of_a_clip_lists_what_its_remixes_would_cost_and_buys_none(
    stack: Stack, sandbox: Sandbox
) -> None:
    stack.write({"id": "fox", "recipes": ["night"]}, recipes=RECIPES)
    stack.run_job("request_clips")
    stack.run_job("collect_clips")
    stack.write({"id": "fox", "recipes": ["night"], "take": 2}, recipes=RECIPES)
    before = sandbox.charged()
    assert stack.run_job("request_clips").success
    result = stack.run_job("collect_clips")
    assert result.success
    assert len(sandbox.charged() - before) == 1
    log = stack.log_of(result.run_id)
    assert "fox|night" in log
    assert "1.20 USD" in log


def test_remixes_are_left_to_the_next_run_while_the_dataset_is_broken(
    stack: Stack, sandbox: Sandbox
) -> None:
    stack.write({"id": "fox", "recipes": ["night"]}, recipes=RECIPES)
    stack.run_job("request_clips")
    good = stack.prompts_path.read_text()
    stack.prompts_path.write_text("clips: [{id: fox, prompt: 3}]")
    result = stack.run_job("collect_clips")
    assert not result.success
    assert "left to the next run" in failure_text(result)
    assert stack.events("clips", "fox")
    stack.prompts_path.write_text(good)
    assert stack.run_job("collect_clips").success
    assert stack.events("remixes", "fox|night")
    assert remixes_due(stack) == 0


def test_remixes_of_an_interrupted_run_are_requested_by_the_next(
    stack: Stack, sandbox: Sandbox
) -> None:
    stack.write({"id": "fox", "recipes": ["night"]}, recipes=RECIPES)
    stack.run_job("request_clips")
    with stack.generator() as generator:
        limits = CollectionLimits(max_wait_seconds=60)
        with generator.collection(limits, holder="killed", datasets=["default"]) as collection:
            while not collection.wait():
                assert not collection.is_done
    assert stack.run_job("collect_clips").success
    assert stack.events("remixes", "fox|night")


# --- what is changed


def test_a_changed_row_is_listed_with_what_a_new_take_costs_and_not_bought(
    stack: Stack, sandbox: Sandbox
) -> None:
    stack.write({"id": "fox"}, {"id": "owl"})
    stack.run_job("request_clips")
    stack.run_job("collect_clips")
    stack.write({"id": "fox", "prompt": "a red fox", "duration": 8}, {"id": "owl"})
    before = sandbox.charged()
    result = stack.run_job("request_clips")
    assert result.success
    assert sandbox.charged() == before
    assert "2.40 USD" in stack.log_of(result.run_id)
    [record] = stack.instance.fetch_observations(
        dg.AssetRecordsFilter(asset_key=dg.AssetKey("clip_requests"), asset_partitions=["fox"]),
        limit=5,
    ).records
    assert record.asset_observation is not None
    assert "2.40 USD" in str(record.asset_observation.metadata["detail"].value)
    assert stack.run_job("request_clips", regenerate_changed=True).success
    assert len(sandbox.charged() - before) == 1


def test_one_changed_clip_is_bought_by_the_job_only_with_regenerate_changed(
    stack: Stack, sandbox: Sandbox
) -> None:
    stack.write({"id": "fox"})
    stack.run_job("request_clips")
    stack.run_job("collect_clips")
    stack.write({"id": "fox", "prompt": "a red fox"})
    before = sandbox.charged()
    stack.run_job("request_clips", clip_ids=["fox"])
    assert sandbox.charged() == before


def test_a_raised_take_is_bought(stack: Stack, sandbox: Sandbox) -> None:
    stack.write({"id": "fox"})
    stack.run_job("request_clips")
    stack.run_job("collect_clips")
    stack.write({"id": "fox", "take": 2})
    before = sandbox.charged()
    assert stack.run_job("request_clips").success
    assert len(sandbox.charged() - before) == 1


def test_requesting_stored_clips_again_logs_no_events(stack: Stack) -> None:
    stack.write({"id": "fox", "recipes": ["night"]}, recipes=RECIPES)
    stack.run_job("request_clips")
    stack.run_job("collect_clips")
    result = stack.run_job("request_clips")
    assert result.success
    assert len(stack.events("clip_requests", "fox")) == 1
    assert len(stack.events("remix_requests", "fox|night")) == 1
    assert "stored and unchanged: 1 clip and 1 remix" in stack.log_of(result.run_id)


# --- failures


def test_a_request_without_a_clear_answer_fails_the_run(faulty: FaultyStack) -> None:
    stack, _ = faulty(
        {"fault": "status", "event": "submission", "status": 503},
        {"fault": "empty_data", "event": "poll"},
    )
    stack.write({"id": "fox"})
    stack.settings_changes["replays"] = False
    result = stack.run_job("request_clips")
    assert not result.success
    assert "without a clear response" in failure_text(result)


def test_clips_that_were_not_sent_fail_the_run_and_cost_nothing(faulty: FaultyStack) -> None:
    stack, sandbox = faulty({"fault": "status", "event": "submission", "status": 402})
    stack.write({"id": "fox"}, {"id": "owl"})
    stack.settings_changes["submit_batch_size"] = 1
    result = stack.run_job("request_clips")
    text = failure_text(result)
    assert "- fox: " in text
    assert "- owl: not sent, nothing paid" in text
    assert sandbox.charged() == set()


def test_a_run_that_never_reached_the_api_fails_and_loses_nothing(faulty: FaultyStack) -> None:
    # A wait that long is left to the next request, so the poll fails at once.
    stack, _ = faulty(
        {"fault": "status", "event": "poll", "status": 503, "retry_after_seconds": 3600}
    )
    stack.write({"id": "fox"})
    stack.run_job("request_clips")
    result = stack.run_job("collect_clips", max_wait_minutes=0.1)
    assert not result.success
    text = failure_text(result)
    assert "every poll of Runware failed in this run" in text
    assert "1 clip is outstanding" in text
    metadata = failure_metadata(result)
    assert metadata["outstanding"].value == 1
    assert "unreachable_minutes" in metadata
    assert len(stack.ledger.pending.tasks("default")) == 1
    assert stack.tick_completion_sensor() == []


def test_a_record_that_cannot_be_read_fails_the_run_once_and_no_other_clip(stack: Stack) -> None:
    stack.write({"id": "fox"}, {"id": "owl"})
    stack.run_job("request_clips")
    stack.root.write(layout.attempt_key("clips", "fox", 1, 1), b"{")
    result = stack.run_job("collect_clips")
    assert "- fox: one of its records cannot be read" in failure_text(result)
    assert stack.events("clips", "owl")
    assert stack.run_job("collect_clips").success


def test_a_slow_clip_blocks_no_run_and_is_not_a_failure(faulty: FaultyStack) -> None:
    stack, _ = faulty({"fault": "never_ends", "prompt_contains": "slow"})
    stack.settings_changes["generation_minutes"] = 0.01
    stack.write({"id": "slow"})
    stack.run_job("request_clips")
    result = stack.run_job("collect_clips")
    assert result.success, failure_text(result)
    assert "slow is left to a later run" in stack.log_of(result.run_id)
    [outputs] = [
        event.step_output_data
        for event in result.all_events
        if event.event_type is dg.DagsterEventType.STEP_OUTPUT
    ]
    assert outputs.metadata["outstanding"].value == 1
    # It is not due again before five minutes have passed.
    assert stack.tick_completion_sensor() == []


def test_outstanding_shots_of_a_storyboard_are_also_collected(stack: Stack) -> None:
    stack.write({"id": "fox"})
    stack.write_board({"id": "dawn", "prompt": "a fox at dawn"})
    board = load_board(stack.boards[0], catalogue=Catalogue.builtin())
    with stack.generator() as generator:
        generator.request([shot_request(board, board.shots[0], None)], RequestOptions("run", None))
    result = stack.run_job("collect_clips")
    assert result.success, failure_text(result)
    assert len(stack.shot_events("dawn")) == 1
    assert list(stack.root.list("pending")) == []


# --- several datasets on one root


class TwoDatasets:
    """Two datasets of one code location on one storage root."""

    def __init__(self, stack: Stack, folder: Path) -> None:
        self.stack = stack
        self.datasets: dict[str, VideoDataset] = {}
        for name in ("films", "trailers"):
            path = folder / f"{name}-prompts.yaml"
            path.write_text(
                yaml.safe_dump(
                    {
                        "clips": [{"id": "fox", "prompt": name, "recipes": ["night"]}],
                        "recipes": RECIPES,
                    }
                )
            )
            self.datasets[name] = VideoDataset(path, name)

    def run(self, name: str, job: str) -> dg.ExecuteInProcessResult:
        resources: dict[str, Any] = dict(self.stack.definitions.resources or {})
        dataset = self.datasets[name]
        jobs = [build_request_job(dataset), build_collect_job(dataset)]
        everything = {"ops": {f"{name}_request": {"config": {"everything": True}}}}
        return (
            dg.Definitions(
                jobs=jobs,
                resources={key: resources[key] for key in ("runware", "clip_storage")},
            )
            .resolve_job_def(f"{name}_{job}")
            .execute_in_process(
                instance=self.stack.instance,
                run_config=everything if job == "request_clips" else {},
                raise_on_error=False,
            )
        )


def test_each_dataset_collects_its_clips_and_requests_its_remixes(
    stack: Stack, tmp_path: Path
) -> None:
    both = TwoDatasets(stack, tmp_path)
    for name in both.datasets:
        assert both.run(name, "request_clips").success
    assert both.run("trailers", "collect_clips").success
    for asset in ("clips", "remixes"):
        partition = "fox" if asset == "clips" else "fox|night"
        assert len(stack.events(f"trailers/{asset}", partition)) == 1
        assert stack.events(f"films/{asset}", partition) == []
    assert list(stack.ledger.pending.tasks("trailers")) == []
    assert len(stack.ledger.pending.tasks("films")) == 1
    assert both.run("films", "collect_clips").success
    assert len(stack.events("films/remixes", "fox|night")) == 1
    assert len(stack.events("trailers/clips", "fox")) == 1


def test_a_blocking_check_of_the_owner_is_evaluated_by_its_own_run(
    stack: Stack, sandbox: Sandbox, tmp_path: Path
) -> None:
    both = TwoDatasets(stack, tmp_path)
    refused = CustomCheck(lambda _: (False, "It is refused.", {}))
    checks = build_clip_checks(custom={"is_accepted": refused}, blocking=["is_accepted"])
    films = both.datasets["films"]
    both.datasets["films"] = replace(films, checks=checks)
    before = sandbox.charged()
    for job in ("request_clips", "collect_clips"):
        for name in ("trailers", "films"):
            result = both.run(name, job)
    assert "failed a blocking check" in failure_text(result)
    assert stack.events("films/clips", "fox")
    assert stack.events("trailers/remixes", "fox|night")
    assert len(sandbox.charged() - before) == 3


def test_two_datasets_of_one_name_are_refused(stack: Stack, tmp_path: Path) -> None:
    both = TwoDatasets(stack, tmp_path)
    assert both.run("films", "request_clips").success
    films = both.datasets["films"]
    both.datasets["films"] = replace(films, key_prefix="cinema")
    result = both.run("films", "request_clips")
    assert not result.success
    assert "the dataset name 'films' is taken" in failure_text(result)


def test_two_datasets_with_the_same_asset_keys_are_refused(stack: Stack, tmp_path: Path) -> None:
    both = TwoDatasets(stack, tmp_path)
    assert both.run("films", "request_clips").success
    both.datasets["trailers"] = replace(both.datasets["trailers"], key_prefix="films")
    result = both.run("trailers", "request_clips")
    assert not result.success
    assert "films/clips, films/remixes belong to the dataset 'films'" in failure_text(result)


@pytest.mark.parametrize("settings", [{"name": "my films"}, {"key_prefix": ["team", "a/b"]}])
def test_names_that_cannot_be_used_are_refused_when_the_dataset_is_made(
    settings: dict[str, Any],
) -> None:
    with pytest.raises(ValueError, match="letters, digits"):
        VideoDataset("prompts.yaml", **settings)


def test_the_key_prefix_of_a_dataset_can_differ_from_its_name() -> None:
    dataset = VideoDataset("prompts.yaml", "films", key_prefix=["team", "video"])
    assert dataset.clips == dg.AssetKey(["team", "video", "clips"])
    assert VideoDataset("prompts.yaml", "films", key_prefix=()).clips == dg.AssetKey("clips")
    assert VideoDataset("prompts.yaml").clips == dg.AssetKey("clips")
    assert build_collect_job(dataset).name == "films_collect_clips"
