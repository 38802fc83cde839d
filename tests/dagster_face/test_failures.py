"""Generations that fail: what is tried again, what is not, and what people see of it."""

from __future__ import annotations

import dagster as dg

from tests.dagster_face.conftest import FaultyStack
from tests.dagster_face.stack import Stack, failure_text


def failures(stack: Stack, partition: str) -> list[dg.AssetObservation]:
    records = stack.instance.fetch_observations(
        dg.AssetRecordsFilter(asset_key=dg.AssetKey("clips"), asset_partitions=[partition]),
        limit=10,
    ).records
    return [record.asset_observation for record in records if record.asset_observation]


def test_a_provider_error_is_tried_again_by_the_collecting_run(faulty: FaultyStack) -> None:
    stack, sandbox = faulty({"fault": "fail", "error": "provider", "nth": [1]})
    stack.write({"id": "fox"})
    assert stack.run_job("request_clips").success
    assert stack.run_job("collect_clips").success
    assert len(sandbox.ledger()["charges"]) == 2
    manifest = stack.ledger.latest_manifest("clips", "fox")
    assert manifest is not None
    assert (manifest.take, manifest.attempt) == (1, 2)
    assert stack.events("clips", "fox")
    assert list(stack.root.list("pending")) == []


def test_a_provider_error_is_tried_again_by_an_asset_run(faulty: FaultyStack) -> None:
    stack, sandbox = faulty({"fault": "fail", "error": "provider", "nth": [1]})
    stack.write({"id": "fox"}, {"id": "owl"})
    stack.tick_dataset_sensor()
    assert stack.materialize(["clip_requests", "clips"], ["fox", "owl"]).success
    assert len(sandbox.ledger()["charges"]) == 3
    assert stack.events("clips", "fox")
    assert stack.events("clips", "owl")


def test_attempts_end_at_the_maximum(faulty: FaultyStack) -> None:
    stack, sandbox = faulty({"fault": "fail", "error": "provider"})
    stack.write({"id": "fox"})
    stack.run_job("request_clips")
    result = stack.run_job("collect_clips")
    assert not result.success
    assert "fox" in failure_text(result)
    assert len(sandbox.ledger()["charges"]) == 3
    assert list(stack.root.list("pending")) == []


def test_a_refusal_for_safety_is_not_tried_again_and_says_why(faulty: FaultyStack) -> None:
    stack, sandbox = faulty({"fault": "fail", "error": "safety"})
    stack.write({"id": "fox"})
    stack.run_job("request_clips")
    result = stack.run_job("collect_clips")
    assert not result.success
    assert len(sandbox.ledger()["charges"]) == 1
    [failure] = failures(stack, "fox")
    assert failure.metadata["error_kind"].value == "safety"
    assert failure.metadata["error_code"].value
    assert str(failure.metadata["error_code"].value) in failure_text(result)
    # It stays failed, at no cost, until the spec changes or the user requests it.
    again = stack.run_job("request_clips")
    assert "retry_failed" in failure_text(again)
    assert len(sandbox.ledger()["charges"]) == 1


def test_a_failed_clip_is_generated_when_the_user_requests_it(faulty: FaultyStack) -> None:
    stack, sandbox = faulty({"fault": "fail", "error": "safety", "nth": [1]})
    stack.write({"id": "fox"})
    stack.run_job("request_clips")
    stack.run_job("collect_clips")
    assert stack.run_job("request_clips", retry_failed=True).success
    assert stack.run_job("collect_clips").success
    assert stack.events("clips", "fox")
    assert len(sandbox.ledger()["charges"]) == 2


def test_after_a_partial_success_the_videos_are_kept_and_the_failure_is_shown(
    faulty: FaultyStack,
) -> None:
    stack, _ = faulty({"fault": "fail", "error": "provider", "nth": [2]})
    stack.write({"id": "fox", "number_results": 3})
    stack.run_job("request_clips")
    result = stack.run_job("collect_clips")
    assert not result.success
    event = stack.events("clips", "fox")[0]
    assert event.metadata["missing_videos"].value == 1
    manifest = stack.ledger.latest_manifest("clips", "fox")
    assert manifest is not None
    assert (manifest.state, len(manifest.videos)) == ("partial", 2)


def test_a_failed_clip_leaves_the_others_of_its_range_materialized(faulty: FaultyStack) -> None:
    stack, _ = faulty({"fault": "fail", "error": "safety", "prompt_contains": "owl"})
    stack.write({"id": "fox"}, {"id": "owl"}, {"id": "yak"})
    stack.tick_dataset_sensor()
    result = stack.materialize(["clip_requests", "clips"], ["fox", "yak"])
    assert not result.success
    assert "owl" in failure_text(result)
    assert stack.events("clips", "fox")
    assert stack.events("clips", "yak")
    assert not stack.events("clips", "owl")
    assert "safety" in str(failures(stack, "owl")[0].metadata["failure"].value)


def test_a_lost_response_is_resolved_within_the_request(faulty: FaultyStack) -> None:
    stack, sandbox = faulty({"fault": "lose_answer", "nth": [1]})
    stack.write({"id": "fox"}, {"id": "owl"})
    assert stack.run_job("request_clips").success
    assert stack.run_job("collect_clips").success
    charged = [charge["taskUUID"] for charge in sandbox.ledger()["charges"]]
    assert len(charged) == len(set(charged)) == 2


def test_remixes_of_a_late_clip_are_requested_in_the_same_run(faulty: FaultyStack) -> None:
    stack, sandbox = faulty({"fault": "download_gone", "times": 1, "status": 404})
    stack.write({"id": "fox", "recipes": ["night"]}, recipes={"night": "at night"})
    stack.run_job("request_clips")
    assert stack.run_job("collect_clips").success
    assert stack.events("remixes", "fox|night")
    assert len(sandbox.ledger()["charges"]) == 2
