"""The sensors: what changed is logged, what is outstanding is collected, and nothing else."""

from __future__ import annotations

import os
import time
from datetime import UTC, datetime, timedelta

import dagster as dg
import pytest
import stamina
from dagster._core.definitions.sensor_definition import SensorExecutionData

from sora_dagster.dataset import VideoDataset
from sora_dagster.generation.protocol.markers import write_marker
from sora_dagster.jobs.collect import build_collect_job
from sora_dagster.reporting.collect_run_history import ADVANCED_TAG, reason_to_wait
from sora_dagster.sensors import build_completion_sensor
from tests.dagster_face.conftest import FaultyStack
from tests.dagster_face.stack import Stack, failure_text, live_claim
from tests.generation.stored_takes import claim


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
    assert stack.tick_dataset_sensor() == ["fox"]
    assert set(stack.instance.get_dynamic_partitions("clips")) == {"fox", "owl"}


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


def evaluate(
    stack: Stack, *, poll_after_seconds: float = 0.0, cursor: str | None = None
) -> SensorExecutionData:
    """Evaluate the completion sensor of the dataset and of the storyboard `glade`."""
    definitions = stack.definitions
    sensor = build_completion_sensor(
        VideoDataset(stack.prompts_path),
        definitions.resolve_job_def("collect_clips"),
        boards=["glade"],
        poll_after_seconds=poll_after_seconds,
    )
    with dg.build_sensor_context(
        instance=stack.instance,
        cursor=cursor,
        resources={"clip_storage": definitions.resources["clip_storage"]},  # type: ignore[index]
    ) as context:
        return sensor.evaluate_tick(context)


def tick(stack: Stack, *, poll_after_seconds: float = 0.0) -> int:
    """Evaluate the completion sensor; returns the number of runs it requests."""
    return len(evaluate(stack, poll_after_seconds=poll_after_seconds).run_requests or [])


def test_nothing_outstanding_starts_nothing(stack: Stack) -> None:
    assert tick(stack) == 0


def test_an_overdue_clip_starts_one_run(stack: Stack) -> None:
    stack.write({"id": "fox"})
    stack.run_job("request_clips")
    assert tick(stack) == 1


def test_a_young_clip_without_a_marker_starts_no_run(stack: Stack) -> None:
    stack.write({"id": "fox"})
    stack.run_job("request_clips")
    assert tick(stack, poll_after_seconds=600.0) == 0


def test_a_marker_starts_a_run_at_once(stack: Stack) -> None:
    stack.write({"id": "fox"})
    stack.run_job("request_clips")
    [task_uuid] = stack.ledger.pending.tasks("default")
    write_marker(stack.root, "default", task_uuid, b"{}")
    assert tick(stack, poll_after_seconds=600.0) == 1


def test_an_outstanding_shot_of_a_storyboard_starts_a_run(stack: Stack) -> None:
    stack.ledger.bind(api_base_url=stack.base_url, account=None)
    claim(stack.ledger, asset="glade/dawn", dataset="glade")
    assert tick(stack) == 1


def test_while_a_run_collects_no_other_is_started(stack: Stack) -> None:
    stack.write({"id": "fox"})
    stack.run_job("request_clips")
    with live_claim(stack.ledger, "default"):
        assert tick(stack) == 0
    assert tick(stack) == 1


def test_while_a_run_waits_for_all_that_is_outstanding_no_other_is_started(stack: Stack) -> None:
    stack.write({"id": "fox"})
    stack.run_job("request_clips")
    with live_claim(stack.ledger, "default", *stack.ledger.pending.tasks("default")):
        assert tick(stack) == 0


@pytest.mark.parametrize(
    "status",
    [
        dg.DagsterRunStatus.NOT_STARTED,
        dg.DagsterRunStatus.STARTING,
        dg.DagsterRunStatus.STARTED,
    ],
)
def test_while_a_run_is_starting_no_other_is_started(
    stack: Stack, status: dg.DagsterRunStatus
) -> None:
    stack.write({"id": "fox"})
    stack.run_job("request_clips")
    stack.instance.add_run(dg.DagsterRun(job_name="collect_clips", status=status))
    assert tick(stack) == 0


def test_a_run_counts_as_alive_before_it_starts_and_shortly_after(
    stack: Stack,
) -> None:
    later = datetime.now(UTC) + timedelta(hours=1)
    started = dg.DagsterRun(job_name="collect_clips", status=dg.DagsterRunStatus.STARTED)
    stack.instance.add_run(started)
    assert reason_to_wait(stack.instance, "collect_clips", now=later) is None
    starting = dg.DagsterRun(job_name="collect_clips", status=dg.DagsterRunStatus.STARTING)
    stack.instance.add_run(starting)
    assert reason_to_wait(stack.instance, "collect_clips", now=later) is not None


def failing_run(stack: Stack, *, advanced: int = 0) -> datetime:
    """A collecting run that fails; returns when it ended."""

    @dg.op
    def fail() -> None:
        raise dg.Failure(description="it fails")

    @dg.job
    def collect_clips() -> None:
        fail()

    result = collect_clips.execute_in_process(
        instance=stack.instance,
        raise_on_error=False,
        tags={ADVANCED_TAG: str(advanced)} if advanced else None,
    )
    [record] = stack.instance.get_run_records(dg.RunsFilter(run_ids=[result.run_id]))
    assert record.end_time is not None
    return datetime.fromtimestamp(record.end_time, UTC)


def waits(stack: Stack, now: datetime) -> bool:
    return reason_to_wait(stack.instance, "collect_clips", now=now) is not None


@pytest.mark.parametrize(
    ("failures", "seconds"), [(1, 30), (2, 60), (3, 120), (7, 1800), (9, 1800)]
)
def test_the_wait_grows_with_each_failure_in_a_row(
    stack: Stack, failures: int, seconds: float
) -> None:
    for _ in range(failures):
        ended = failing_run(stack)
    assert waits(stack, ended + timedelta(seconds=seconds - 1))
    assert not waits(stack, ended + timedelta(seconds=seconds + 1))


def test_a_failed_run_with_progress_resets_the_wait(stack: Stack) -> None:
    failing_run(stack)
    ended = failing_run(stack, advanced=3)
    assert not waits(stack, ended)
    ended = failing_run(stack)
    assert waits(stack, ended + timedelta(seconds=29))
    assert not waits(stack, ended + timedelta(seconds=31))


def test_after_a_failed_run_without_progress_the_next_one_waits(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack.write({"id": "fox"})
    stack.run_job("request_clips")
    monkeypatch.setenv("RUNWARE_API_KEY", "wrong-key")
    assert not stack.run_job("collect_clips").success
    data = evaluate(stack)
    assert not data.run_requests
    assert "collect_clips failed 1 time without progress" in str(data.skip_message)


def test_a_marker_of_a_task_that_is_not_outstanding_is_removed(stack: Stack) -> None:
    stack.write({"id": "fox"})
    stack.run_job("request_clips")
    stack.run_job("collect_clips")
    write_marker(stack.root, "default", "00000000-0000-4000-8000-000000000000", b"{}")
    assert tick(stack) == 1
    stack.run_job("collect_clips")
    assert list(stack.root.list("inbox")) == []


def test_the_next_tick_continues_reading_where_this_one_stopped(stack: Stack) -> None:
    ledger = stack.ledger
    ledger.bind(api_base_url=stack.base_url, account=None)
    for number in range(12):
        attempt = claim(ledger, f"slow-{number}")
        ledger.pending.leave(ledger.pending.tasks("default")[attempt.task_uuid])
    claim(ledger, "fox")
    cursor: str | None = None
    started: list[dg.RunRequest] = []
    for _ in range(3):
        data = evaluate(stack, cursor=cursor)
        cursor = data.cursor
        started += data.run_requests or []
    assert started


def test_outstanding_clips_that_no_sensor_collects_are_reported(
    stack: Stack, capsys: pytest.CaptureFixture[str]
) -> None:
    stack.ledger.bind(api_base_url=stack.base_url, account=None)
    claim(stack.ledger)
    old = time.time() - 3600
    for dataset in ("trailers", "films"):
        attempt = claim(stack.ledger, "owl", asset=f"{dataset}/clips", dataset=dataset)
        entry = stack.ledger.pending.tasks(dataset)[attempt.task_uuid]
        os.utime(stack.folder / "storage" / entry.key, (old, old))
    definitions = stack.definitions
    resources = {"clip_storage": (definitions.resources or {})["clip_storage"]}
    films = VideoDataset(stack.prompts_path, "films")
    collect = definitions.resolve_job_def("collect_clips")
    sensor = build_completion_sensor(
        VideoDataset(stack.prompts_path), collect, poll_after_seconds=0.0
    )
    both = dg.Definitions(
        sensors=[sensor, build_completion_sensor(films, build_collect_job(films))],
        jobs=[collect],
        resources=definitions.resources,
    )
    with dg.build_sensor_context(
        instance=stack.instance, definitions=both, resources=resources
    ) as context:
        assert len(sensor.evaluate_tick(context).run_requests or []) == 1
    logged = capsys.readouterr().err
    assert "pending/trailers holds outstanding clips" in logged
    assert "pending/films" not in logged


def test_a_marker_whose_task_cannot_be_polled_does_not_start_a_run_at_every_tick(
    faulty: FaultyStack,
) -> None:
    stack, sandbox = faulty({"fault": "fail", "error": "safety"})
    stack.write({"id": "fox"})
    stack.run_job("request_clips")
    [task_uuid] = stack.ledger.pending.tasks("default")
    stack.run_job("collect_clips")
    write_marker(stack.root, "default", task_uuid, b"{}")
    assert tick(stack) == 1
    sandbox.set_faults({"fault": "status", "status": 503, "event": "poll"})
    with stamina.set_testing(True, attempts=1):
        result = stack.run_job("collect_clips")
    assert not result.success
    assert "its webhook arrived, but it could not be polled" in failure_text(result)
    assert tick(stack) == 0
