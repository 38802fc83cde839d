"""Checks of stored clips: run by the run that stores them, and used to block remixes."""

from __future__ import annotations

from collections.abc import Mapping

import dagster as dg
import pytest

from sora_dagster.generation.library.clip_checks import CustomCheck, build_clip_checks
from sora_dagster.generation.library.stored_clip import StoredClip
from sora_dagster.media.checks import CHECKS, CheckThresholds, Figure
from tests.dagster_face.stack import Stack, failure_text


def evaluations(
    stack: Stack, result: dg.ExecuteInProcessResult
) -> dict[tuple[str, str | None], dg.AssetCheckEvaluation]:
    """The results of a run's checks, by name and partition."""
    found = [
        entry.asset_check_evaluation
        for entry in stack.instance.all_logs(result.run_id)
        if entry.asset_check_evaluation is not None
    ]
    return {(item.check_name, item.partition): item for item in found}


def table(evaluation: dg.AssetCheckEvaluation) -> dict[str, Mapping[str, object]]:
    """The rows of a clip's list of checks, by check."""
    value = evaluation.metadata["checks"]
    assert isinstance(value, dg.TableMetadataValue)
    return {str(row.data["check"]): row.data for row in value.records}


def no_logo(_clip: StoredClip) -> tuple[bool, str, Mapping[str, Figure]]:
    return False, "There is no logo in it.", {"logos": 0}


def test_the_collecting_run_checks_every_clip_and_sums_up(stack: Stack) -> None:
    stack.write({"id": "fox", "recipes": ["night"]}, {"id": "owl"}, recipes={"night": "at night"})
    stack.run_job("request_clips")
    result = stack.run_job("collect_clips")
    assert result.success
    found = evaluations(stack, result)
    for partition in ("fox", "owl", "fox|night"):
        assert found["clip_checks", partition].passed
        rows = table(found["clip_checks", partition])
        assert list(rows) == list(CHECKS)
        assert rows["not_black"]["result"] == "passed"
        assert "black_fraction=" in str(rows["not_black"]["figures"])
    assert found["quality", None].passed


def test_a_check_that_was_not_evaluated_is_listed_as_such_and_not_as_passed(stack: Stack) -> None:
    stack.write({"id": "fox"})
    stack.run_job("request_clips")
    result = stack.run_job("collect_clips")
    found = evaluations(stack, result)
    row = table(found["clip_checks", "fox"])["not_flagged"]
    assert row["result"] == "not evaluated"
    assert "the content was not checked" in str(row["found"])
    assert "1 not evaluated" in str(found["clip_checks", "fox"].description)
    assert ("not_flagged", "fox") not in found
    assert found["quality", None].metadata["unevaluated_checks"].value == 1


def test_a_materialization_runs_the_same_checks(stack: Stack) -> None:
    stack.write({"id": "fox"}, {"id": "owl"})
    stack.tick_dataset_sensor()
    result = stack.materialize(["clip_requests", "clips"], ["fox", "owl"])
    assert result.success
    found = evaluations(stack, result)
    # One evaluation for each clip that is fine, and the one that sums up the run.
    assert set(found) == {("clip_checks", "fox"), ("clip_checks", "owl"), ("quality", None)}
    assert all(item.passed for item in found.values())


def test_dagster_knows_the_newest_result_of_each_partition(stack: Stack) -> None:
    stack.write({"id": "fox"}, {"id": "owl"})
    stack.run_job("request_clips")
    stack.run_job("collect_clips")
    key = dg.AssetCheckKey(dg.AssetKey("clips"), "clip_checks")
    [record] = stack.instance.event_log_storage.get_asset_check_execution_history(
        check_key=key, limit=10, partition_filter=None
    )[:1]
    evaluation = record.evaluation
    assert evaluation is not None
    assert evaluation.partition in ("fox", "owl")
    assert "checks" in evaluation.metadata


def test_a_failed_check_says_what_was_found_and_lets_the_run_go_on(stack: Stack) -> None:
    stack.checks = build_clip_checks(thresholds=CheckThresholds(min_loudness_dbfs=0.0))
    stack.write({"id": "fox"})
    stack.run_job("request_clips")
    result = stack.run_job("collect_clips")
    assert result.success
    assert not evaluations(stack, result)["clip_checks", "fox"].passed
    silent = evaluations(stack, result)["not_silent", "fox"]
    assert not silent.passed
    assert silent.severity is dg.AssetCheckSeverity.WARN
    assert "dBFS" in str(silent.description)
    assert float(str(silent.metadata["loudness_dbfs"].value)) < 0
    quality = evaluations(stack, result)["quality", None]
    assert not quality.passed
    records = quality.metadata["failed_checks"].value.records  # type: ignore[union-attr]
    assert [(record.data["clip"], record.data["check"]) for record in records] == [
        ("fox", "not_silent")
    ]


def test_a_check_that_failed_for_an_earlier_take_is_logged_for_the_next_one(stack: Stack) -> None:
    stack.checks = build_clip_checks(thresholds=CheckThresholds(min_loudness_dbfs=0.0))
    stack.write({"id": "fox"})
    stack.run_job("request_clips")
    first = stack.run_job("collect_clips")
    assert not evaluations(stack, first)["not_silent", "fox"].passed
    stack.write({"id": "fox", "take": 2})
    stack.run_job("request_clips")
    second = evaluations(stack, stack.run_job("collect_clips"))
    assert {name for name, clip in second if clip == "fox"} == {"clip_checks", "not_silent"}


def test_a_blocking_check_is_logged_by_its_name_even_if_it_passes(stack: Stack) -> None:
    stack.checks = build_clip_checks(blocking=["decodes"])
    stack.write({"id": "fox"})
    stack.run_job("request_clips")
    found = evaluations(stack, stack.run_job("collect_clips"))
    assert found["decodes", "fox"].passed
    assert found["decodes", "fox"].blocking
    assert set(found) == {("decodes", "fox"), ("clip_checks", "fox"), ("quality", None)}


def test_remixes_of_a_clip_that_failed_a_blocking_check_are_not_bought(stack: Stack) -> None:
    stack.checks = build_clip_checks(
        custom={"has_logo": CustomCheck(no_logo)}, blocking=["has_logo"]
    )
    stack.write({"id": "fox", "recipes": ["night"]}, recipes={"night": "at night"})
    stack.run_job("request_clips")
    result = stack.run_job("collect_clips")
    assert evaluations(stack, result)["has_logo", "fox"].passed is False
    assert "no logo" in failure_text(result)
    assert "Raise its take" in failure_text(result)
    assert stack.events("clips", "fox")
    assert stack.ledger.latest_manifest("remixes", "fox|night") is None
    assert stack.ledger.takes("remixes", "fox|night") == ()


def test_a_materialization_fails_on_a_blocking_check_and_keeps_the_clip(stack: Stack) -> None:
    stack.checks = build_clip_checks(
        custom={"has_logo": CustomCheck(no_logo)}, blocking=["has_logo"]
    )
    stack.write({"id": "fox"})
    stack.tick_dataset_sensor()
    result = stack.materialize(["clip_requests", "clips"], ["fox"])
    assert not result.success
    assert "has_logo: There is no logo in it." in failure_text(result)
    assert stack.events("clips", "fox")


def test_a_custom_check_that_raises_is_reported_and_loses_nothing(stack: Stack) -> None:
    def broken(_clip: StoredClip) -> tuple[bool, str, Mapping[str, Figure]]:
        raise ZeroDivisionError("no scale")

    stack.checks = build_clip_checks(custom={"is_sharp": CustomCheck(broken, severity="warn")})
    stack.write({"id": "fox"})
    stack.run_job("request_clips")
    result = stack.run_job("collect_clips")
    assert result.success
    found = evaluations(stack, result)["is_sharp", "fox"]
    assert not found.passed
    assert "no scale" in str(found.description)


def test_checks_can_be_run_again_without_generating_anything(stack: Stack) -> None:
    stack.write({"id": "fox"}, {"id": "owl"})
    for result in (
        stack.run_job("request_clips", clip_ids=["fox"]),
        stack.run_job("collect_clips"),
    ):
        assert result.success, failure_text(result)
    stack.checks = build_clip_checks(thresholds=CheckThresholds(min_loudness_dbfs=0.0))
    events = len(stack.events("clips", "fox"))
    again = dg.define_asset_job("again", dg.AssetSelection.checks_for_assets("clips"))
    definitions = dg.Definitions.merge(stack.definitions, dg.Definitions(jobs=[again]))
    result = definitions.resolve_job_def("again").execute_in_process(instance=stack.instance)
    assert result.success
    found = evaluations(stack, result)
    assert ("not_silent", "fox") in found, stack.log_of(result.run_id)
    assert not found["not_silent", "fox"].passed
    assert len(stack.events("clips", "fox")) == events


def test_a_storyboards_run_checks_its_shots_and_makes_no_remix_of_a_blocked_one(
    stack: Stack,
) -> None:
    stack.write({"id": "fox"})
    stack.write_board(
        {"id": "dawn", "prompt": "dawn", "remixes": [{"id": "noon", "prompt": "noon"}]}
    )
    stack.checks = build_clip_checks(
        custom={"has_logo": CustomCheck(no_logo)}, blocking=["has_logo"]
    )
    result = stack.materialize_shots()
    found = evaluations(stack, result)
    assert not found["clip_checks", None].passed
    assert not found["has_logo", None].passed
    assert "There is no logo in it." in failure_text(result)
    assert stack.ledger.latest_manifest("glade/dawn", "dawn") is not None
    assert stack.ledger.takes("glade/noon", "noon") == ()
    stack.checks = None
    assert stack.materialize_shots().success
    assert stack.ledger.latest_manifest("glade/noon", "noon") is not None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"exclude": ["not_blakc"]}, "not_blakc"),
        ({"blocking": ["has_logo"]}, "has_logo"),
        ({"custom": {"decodes": CustomCheck(no_logo)}}, "decodes"),
        ({"custom": {"clip_checks": CustomCheck(no_logo)}}, "clip_checks"),
        ({"exclude": ["not_black"], "blocking": ["not_black"]}, "not_black"),
    ],
)
def test_a_name_that_is_no_check_is_refused(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        build_clip_checks(**arguments)  # type: ignore[arg-type]
