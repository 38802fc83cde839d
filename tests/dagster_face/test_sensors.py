"""The sensors: what changed is logged, what is outstanding is collected, and nothing else."""

from __future__ import annotations

import dagster as dg
import pytest

from sora_dagster.generation.lease import Lease
from sora_dagster.generation.markers import drop_marker
from sora_dagster.graph import VideoGraph
from sora_dagster.sensors import build_completion_sensor
from tests.dagster_face.stack import Stack


def test_new_rows_become_partitions_and_materializations(stack: Stack) -> None:
    stack.write({"id": "fox", "recipes": ["night"]}, {"id": "owl"}, recipes={"night": "at night"})
    assert set(stack.tick_dataset_sensor()) == {"fox", "owl", "fox|night"}
    assert set(stack.instance.get_dynamic_partitions("clips")) == {"fox", "owl"}
    assert stack.instance.get_dynamic_partitions("recipes") == ["night"]


def test_an_unchanged_dataset_is_skipped(stack: Stack) -> None:
    stack.write({"id": "fox"})
    stack.tick_dataset_sensor()
    assert stack.tick_dataset_sensor() == []


def test_only_changed_rows_are_logged(stack: Stack) -> None:
    stack.write({"id": "fox"}, {"id": "owl"})
    stack.tick_dataset_sensor()
    stack.write({"id": "fox", "prompt": "a red fox"}, {"id": "owl"}, {"id": "bee"})
    assert stack.tick_dataset_sensor() == ["fox", "bee"]


def test_a_removed_row_keeps_its_partition(stack: Stack) -> None:
    stack.write({"id": "fox"}, {"id": "owl"})
    stack.tick_dataset_sensor()
    stack.write({"id": "owl"})
    assert stack.tick_dataset_sensor() == []
    assert set(stack.instance.get_dynamic_partitions("clips")) == {"fox", "owl"}


def test_a_row_that_comes_back_unchanged_is_not_new(stack: Stack) -> None:
    stack.write({"id": "fox"}, {"id": "owl"})
    stack.tick_dataset_sensor()
    stack.write({"id": "owl"})
    stack.tick_dataset_sensor()
    stack.write({"id": "fox"}, {"id": "owl"})
    assert stack.tick_dataset_sensor() == []


def test_a_large_dataset_is_registered_over_several_ticks(stack: Stack) -> None:
    stack.write(*[{"id": f"clip-{number:04}"} for number in range(510)])
    first, second = stack.tick_dataset_sensor(), stack.tick_dataset_sensor()
    assert len(first) + len(second) == 510
    assert second
    assert stack.tick_dataset_sensor() == []


def test_a_broken_dataset_fails_the_tick_and_names_the_problem(stack: Stack) -> None:
    stack.write({"id": "fox", "size": "1x1"})
    with pytest.raises(dg.Failure, match="'1x1'"):
        stack.tick_dataset_sensor()


def tick(stack: Stack, *, poll_after_seconds: float = 0.0) -> list[dg.RunRequest]:
    """Evaluate the completion sensor; gives the runs it asks for."""
    definitions = stack.definitions
    sensor = build_completion_sensor(
        VideoGraph(stack.prompts_path),
        definitions.resolve_job_def("collect_clips"),
        poll_after_seconds=poll_after_seconds,
    )
    with dg.build_sensor_context(
        instance=stack.instance,
        resources={"clip_storage": definitions.resources["clip_storage"]},  # type: ignore[index]
    ) as context:
        return list(sensor.evaluate_tick(context).run_requests or [])


def test_nothing_outstanding_starts_nothing(stack: Stack) -> None:
    assert tick(stack) == []


def test_what_is_overdue_starts_one_run(stack: Stack) -> None:
    stack.write({"id": "fox"})
    stack.run_job("request_clips")
    assert len(tick(stack)) == 1


def test_what_is_young_and_unmarked_is_left_alone(stack: Stack) -> None:
    stack.write({"id": "fox"})
    stack.run_job("request_clips")
    assert tick(stack, poll_after_seconds=600.0) == []


def test_a_marker_starts_a_run_at_once(stack: Stack) -> None:
    stack.write({"id": "fox"})
    stack.run_job("request_clips")
    [task_uuid] = stack.ledger.pending()
    drop_marker(stack.root, task_uuid, b"{}")
    assert len(tick(stack, poll_after_seconds=600.0)) == 1


def test_while_a_run_collects_no_other_is_started(stack: Stack) -> None:
    stack.write({"id": "fox"})
    stack.run_job("request_clips")
    lease = Lease(stack.ledger, "a run")
    lease.take()
    assert tick(stack) == []
    lease.release()
    assert len(tick(stack)) == 1


def test_while_a_young_run_is_starting_no_other_is_started(stack: Stack) -> None:
    stack.write({"id": "fox"})
    stack.run_job("request_clips")
    stack.instance.add_run(
        dg.DagsterRun(job_name="collect_clips", status=dg.DagsterRunStatus.STARTED)
    )
    assert tick(stack) == []


def test_a_marker_of_a_task_that_is_not_outstanding_is_put_away(stack: Stack) -> None:
    stack.write({"id": "fox"})
    stack.run_job("request_clips")
    stack.run_job("collect_clips")
    drop_marker(stack.root, "00000000-0000-4000-8000-000000000000", b"{}")
    assert len(tick(stack)) == 1
    stack.run_job("collect_clips")
    assert list(stack.root.list("inbox")) == []
    assert len(list(stack.root.list("quarantine"))) == 1
