"""How runs report the clips they wait for: one event for each, whichever run stored it."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import dagster as dg
import pytest

from sora_dagster.dataset import VideoDataset
from sora_dagster.generation.collecting.collection import Collection
from sora_dagster.generation.collecting.settings import CollectionLimits
from sora_dagster.generation.collecting.tracked import FinishedTask
from sora_dagster.generation.generator import Generator
from sora_dagster.generation.library.clip_checks import ClipChecks
from sora_dagster.generation.protocol.spending_log import BudgetEntry
from sora_dagster.reporting.clip_reporter import ClipReporter
from sora_dagster.reporting.runs import is_launched_by_a_person
from sora_dagster.runware.catalogue import Catalogue
from tests.dagster_face.conftest import FaultyStack
from tests.dagster_face.stack import RANGE_END, RANGE_START, Stack, failure_text, shown_checks
from tests.sandbox_server import Sandbox

FOUR = ["ant", "bee", "cat", "dog"]
LIMITS = CollectionLimits(max_wait_seconds=60)


def generator_of(stack: Stack) -> Generator:
    resources = stack.definitions.resources
    assert resources is not None
    made: Generator = resources["runware"].generator(resources["clip_storage"])
    return made


def ask_for(stack: Stack, *clips: str) -> None:
    stack.write(*({"id": clip} for clip in clips))
    stack.tick_dataset_sensor()
    assert stack.materialize(["clip_requests"], clips).success


def check_evaluations(stack: Stack, run_id: str) -> list[tuple[str, str | None]]:
    found = [entry.asset_check_evaluation for entry in stack.instance.all_logs(run_id)]
    return [(item.check_name, item.partition) for item in found if item is not None]


def test_four_materialized_clips_have_one_event_each(stack: Stack) -> None:
    ask_for(stack, *FOUR)
    result = stack.materialize(["clips"], FOUR)
    assert result.success, failure_text(result)
    for clip in FOUR:
        [request] = stack.events("clip_requests", clip)
        [event] = stack.events("clips", clip)
        manifest = stack.ledger.latest_manifest("clips", clip)
        assert manifest is not None
        assert event.metadata["task_uuid"].value == manifest.task_uuid
        tags = event.tags or {}
        assert tags["dagster/data_version"] == manifest.content_hash
        assert tags["dagster/input_data_version/prompts"] == manifest.fingerprint
        assert tags["dagster/input_data_version/clip_requests"] == manifest.task_uuid
        assert (request.tags or {})["dagster/data_version"] == manifest.task_uuid
    by_clip = [clip for name, clip in check_evaluations(stack, result.run_id) if clip is not None]
    assert sorted(by_clip) == FOUR
    assert stack.stale("clip_requests", "clips") == set()


def test_dagsters_log_is_read_once_for_a_batch_of_clips(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask_for(stack, *FOUR)
    ended: list[FinishedTask] = []
    with (
        generator_of(stack) as generator,
        generator.collection(LIMITS, holder="a test", datasets=["default"]) as collection,
    ):
        while not collection.is_done:
            ended += collection.wait()
    fetch, reads = dg.DagsterInstance.fetch_materializations, []

    def counted(instance: dg.DagsterInstance, *arguments: Any, **settings: Any) -> Any:
        reads.append(arguments[0])
        return fetch(instance, *arguments, **settings)

    @dg.op
    def report(context: dg.OpExecutionContext) -> None:
        reporter = ClipReporter(
            context,
            VideoDataset(stack.prompts_path),
            stack.root,
            checks=ClipChecks(),
            catalogue=Catalogue.builtin(),
        )
        monkeypatch.setattr(dg.DagsterInstance, "fetch_materializations", counted)
        reporter.report(ended)
        monkeypatch.undo()
        reporter.sum_up()
        assert sorted(reporter.stored) == FOUR
        assert reporter.costs_usd == [pytest.approx(1.2)] * 4

    @dg.job
    def reporting() -> None:
        report()

    assert reporting.execute_in_process(instance=stack.instance).success
    # Their rows at the time of the request, their submissions, and the targets of their checks.
    assert len(reads) == 3
    assert all(len(stack.events("clips", clip)) == 1 for clip in FOUR)


@contextmanager
def another_run_collects(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Another process collects the dataset, and ends as soon as this one waits for it."""
    wait, started, awaited = Collection.wait, threading.Event(), threading.Event()

    def noted(collection: Collection) -> list[FinishedTask]:
        found = wait(collection)
        if threading.current_thread() is threading.main_thread():
            awaited.set()
        return found

    def collect() -> None:
        with (
            generator_of(stack) as generator,
            generator.collection(LIMITS, holder="another", datasets=["default"]) as other,
        ):
            started.set()
            assert awaited.wait(60)
            while not other.is_done:
                for finished in other.wait():
                    other.close(finished)

    monkeypatch.setattr(Collection, "wait", noted)
    thread = threading.Thread(target=collect)
    thread.start()
    try:
        assert started.wait(60)
        yield
    finally:
        awaited.set()
        thread.join()


def test_a_materialization_waits_for_the_collecting_run_and_reports_nothing_twice(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask_for(stack, "ant", "bee")
    with another_run_collects(stack, monkeypatch):
        result = stack.materialize(["clips"], ["ant", "bee"])
    assert result.success, failure_text(result)
    assert stack.ledger.latest_manifest("clips", "ant") is not None
    assert not stack.events("clips", "ant")
    assert check_evaluations(stack, result.run_id) == []


def test_a_backfill_logs_its_own_events_for_clips_that_another_run_collected(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Dagster counts a partition of a backfill by an event of one of the backfill's runs.
    ask_for(stack, "ant", "bee")
    with another_run_collects(stack, monkeypatch):
        result = stack.materialize(
            ["clips"], ["ant", "bee"], tags={"dagster/backfill": "a-backfill"}
        )
    assert result.success, failure_text(result)
    assert len(stack.events("clips", "ant")) == len(stack.events("clips", "bee")) == 1


def test_the_checks_of_a_backfill_are_shown_although_another_run_also_ran_them(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    ask_for(stack, "ant", "bee")
    wait, started, awaited = Collection.wait, threading.Event(), threading.Event()

    def ordered(collection: Collection) -> list[FinishedTask]:
        if threading.current_thread() is threading.main_thread():
            found = wait(collection)
            awaited.set()
            return found
        started.set()
        assert awaited.wait(60)
        return wait(collection)

    monkeypatch.setattr(Collection, "wait", ordered)
    collecting: list[dg.ExecuteInProcessResult] = []
    thread = threading.Thread(target=lambda: collecting.append(stack.run_job("collect_clips")))
    thread.start()
    try:
        assert started.wait(60)
        result = stack.materialize(
            ["clips"], ["ant", "bee"], tags={"dagster/backfill": "a-backfill"}
        )
    finally:
        awaited.set()
        thread.join()
    assert result.success, failure_text(result)
    assert collecting[0].success, failure_text(collecting[0])
    # Both runs have reported both clips, the backfill's last.
    assert len(stack.events("clips", "ant")) == len(stack.events("clips", "bee")) == 2
    assert shown_checks(stack, "clips") == {"ant": {True}, "bee": {True}}


@pytest.mark.parametrize("clips", [["ant"], ["ant", "bee"]])
def test_a_later_step_of_the_run_has_the_clips(stack: Stack, clips: list[str]) -> None:
    ask_for(stack, *clips)
    poster = dg.AssetKey("poster")
    seen: list[str] = []

    @dg.asset(
        key=poster,
        deps=[dg.AssetKey("clips")],
        partitions_def=dg.DynamicPartitionsDefinition(name="clips"),
    )
    def make_poster(context: dg.AssetExecutionContext) -> None:
        seen.extend(context.partition_keys)

    definitions = dg.Definitions.merge(stack.definitions, dg.Definitions(assets=[make_poster]))
    is_range = len(clips) > 1
    result = definitions.resolve_implicit_global_asset_job_def().execute_in_process(
        instance=stack.instance,
        asset_selection=[dg.AssetKey("clips"), poster],
        partition_key=None if is_range else clips[0],
        tags={RANGE_START: clips[0], RANGE_END: clips[-1]} if is_range else {},
        raise_on_error=False,
    )
    assert result.success, failure_text(result)
    assert seen == clips
    for clip in clips:
        manifest = stack.ledger.latest_manifest("clips", clip)
        assert manifest is not None
        newest = stack.events("clips", clip)[0]
        assert newest.metadata["task_uuid"].value == manifest.task_uuid
    assert stack.stale("clips") == set()


def test_a_materialization_leaves_the_remixes_to_the_next_collecting_run(
    stack: Stack,
) -> None:
    stack.write({"id": "fox", "recipes": ["night"]}, {"id": "owl"}, recipes={"night": "at night"})
    stack.tick_dataset_sensor()
    assert stack.materialize(["clip_requests", "clips"], ["fox", "owl"]).success
    manifest = stack.ledger.latest_manifest("clips", "fox")
    assert manifest is not None
    assert stack.ledger.pending.outstanding("default").remixes_due == (manifest.task_uuid,)


def test_an_asset_run_settles_each_task_once(stack: Stack) -> None:
    stack.write({"id": "fox"}, {"id": "owl"}, {"id": "yak"})
    stack.tick_dataset_sensor()
    assert stack.materialize(["clip_requests", "clips"], ["fox", "yak"]).success
    settled: dict[bool, list[str]] = {True: [], False: []}
    for info in stack.root.list("budget"):
        is_of_run = info.key.startswith("budget/runs/")
        entry = BudgetEntry.model_validate_json(stack.root.read(info.key))
        settled[is_of_run] += entry.costs_usd
    tasks = sorted(
        stack.ledger.takes("clips", clip_id)[-1].latest.task_uuid
        for clip_id in ("fox", "owl", "yak")
    )
    assert (sorted(settled[True]), sorted(settled[False])) == (tasks, tasks)


def test_a_video_that_cannot_be_fetched_at_first_is_fetched_within_the_run(
    faulty: FaultyStack,
) -> None:
    stack, sandbox = faulty({"fault": "download_gone", "times": 2, "status": 404})
    stack.write({"id": "fox"}, {"id": "owl"}, {"id": "yak"})
    stack.tick_dataset_sensor()
    result = stack.materialize(["clip_requests", "clips"], ["fox", "yak"])
    assert result.success, failure_text(result)
    logged = [entry.user_message for entry in stack.instance.all_logs(result.run_id)]
    assert any("it was generated and cannot be stored yet" in message for message in logged)
    assert all(stack.events("clips", clip) for clip in ("fox", "owl", "yak"))
    assert len(sandbox.ledger()["charges"]) == 3
    assert list(stack.root.list("pending")) == []


def test_a_changed_row_is_kept_by_a_range_run_and_bought_by_a_run_of_it_alone(
    stack: Stack, sandbox: Sandbox
) -> None:
    ask_for(stack, "ant", "bee")
    assert stack.materialize(["clips"], ["ant", "bee"]).success
    stack.write({"id": "ant", "prompt": "a red ant"}, {"id": "bee"})
    stack.tick_dataset_sensor()
    before = sandbox.charged()
    ranged = stack.materialize(["clip_requests"], ["ant", "bee"])
    assert ranged.success, failure_text(ranged)
    event = stack.events("clip_requests", "ant")[0]
    assert event.metadata["state"].value == "changed"
    assert event.metadata["new_take_usd"].value == pytest.approx(1.2)
    logged = [entry.user_message for entry in stack.instance.all_logs(ranged.run_id)]
    assert any("1 changed" in line and "1.20 USD" in line for line in logged)
    assert stack.stale("clip_requests", "clips") == {"clip_requests/ant", "clips/ant"}
    backfilled = stack.materialize(
        ["clip_requests"], ["ant"], tags={"dagster/backfill": "a-backfill"}
    )
    assert backfilled.success
    assert sandbox.charged() == before
    assert stack.materialize(["clip_requests", "clips"], ["ant"]).success
    assert len(sandbox.charged() - before) == 1
    assert stack.stale("clip_requests", "clips") == set()


@pytest.mark.parametrize(
    ("tags", "is_by_a_person"),
    [
        ({}, True),
        ({"dagster/partition": "fox"}, True),
        ({"dagster/schedule_name": "nightly"}, False),
        ({"dagster/sensor_name": "completion"}, False),
        ({"dagster/backfill": "abc"}, False),
        ({"dagster/from_automation_condition": "true"}, False),
        ({"dagster/parent_run_id": "abc", "dagster/root_run_id": "abc"}, False),
    ],
)
def test_a_run_with_a_tag_of_dagster_is_not_launched_by_a_person(
    tags: dict[str, str], is_by_a_person: bool
) -> None:
    run = dg.DagsterRun(job_name="__ASSET_JOB", tags=tags)
    assert is_launched_by_a_person(run) is is_by_a_person
