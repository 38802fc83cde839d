"""Rows that change, go and return; and rows of an upstream asset."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from click.testing import CliRunner
from dagster._core.definitions.data_version import CachingStaleStatusResolver, StaleStatus
from dagster._core.loader import LoadingContextForTest

import sora_dagster as sora
from sora_dagster.cli.main import cli
from sora_dagster.generation.library.removed_rows import RemovedRows
from sora_dagster.reporting.dataset_rows import REMOVED_TAG
from sora_dagster.reporting.dataset_sync import DatasetSync, SyncState
from sora_dagster.storage import StorageRoot
from tests.dagster_face.stack import Stack, failure_text
from tests.sandbox_server import KEY, Sandbox

CLIP = {"model": "sora-2-pro", "size": "1280x720", "duration": 4}


@pytest.fixture
def stack(stack: Stack) -> Stack:
    stack.write(
        {"id": "fox", **CLIP, "recipes": ["night"]},
        {"id": "owl", **CLIP},
        recipes={"night": "At night"},
    )
    return stack


def newest(stack: Stack, asset: str, partition: str) -> dg.AssetMaterialization:
    [record] = stack.instance.fetch_materializations(
        dg.AssetRecordsFilter(asset_key=dg.AssetKey(asset), asset_partitions=[partition]), limit=1
    ).records
    assert record.asset_materialization is not None
    return record.asset_materialization


def clips_of(stack: Stack) -> set[str]:
    return set(stack.instance.get_dynamic_partitions("clips"))


def test_a_row_that_goes_is_marked_once_and_makes_nothing_stale(stack: Stack) -> None:
    stack.tick_dataset_sensor()
    version = (newest(stack, "prompts", "owl").tags or {})["dagster/data_version"]
    stack.write({"id": "fox", **CLIP, "recipes": ["night"]}, recipes={"night": "At night"})
    assert stack.tick_dataset_sensor() == ["owl"]
    event = newest(stack, "prompts", "owl")
    assert event.metadata["removed"].value is True
    assert (event.tags or {})["dagster/data_version"] == version
    assert stack.tick_dataset_sensor() == []
    assert clips_of(stack) == {"fox", "owl"}
    assert "owl" in RemovedRows(stack.root).of_asset("clips")
    # A reset cursor logs nothing again.
    stack.cursor = None
    assert stack.tick_dataset_sensor() == []


def test_a_row_that_returns_is_no_longer_marked(stack: Stack) -> None:
    stack.tick_dataset_sensor()
    both = stack.prompts_path.read_text()
    stack.write({"id": "owl", **CLIP})
    assert set(stack.tick_dataset_sensor()) == {"fox", "fox|night"}
    assert "fox|night" in RemovedRows(stack.root).of_asset("remixes")
    stack.prompts_path.write_text(both)
    assert set(stack.tick_dataset_sensor()) == {"fox", "fox|night"}
    assert REMOVED_TAG not in (newest(stack, "prompts", "fox").tags or {})
    assert not RemovedRows(stack.root).of_asset("clips")
    assert not RemovedRows(stack.root).of_asset("remixes")


def test_a_dataset_that_cannot_be_read_removes_nothing(stack: Stack) -> None:
    stack.tick_dataset_sensor()
    stack.prompts_path.write_text("clips: []")
    with pytest.raises(dg.Failure, match="no clips"):
        stack.tick_dataset_sensor()
    assert not RemovedRows(stack.root).of_asset("clips")


def test_the_partition_of_a_removed_row_is_deleted_only_if_the_dataset_says_so(
    stack: Stack,
) -> None:
    stack.delete_removed_partitions = True
    stack.tick_dataset_sensor()
    stack.write({"id": "fox", **CLIP})
    stack.tick_dataset_sensor()
    assert clips_of(stack) == {"fox"}
    assert stack.tick_dataset_sensor() == []


def test_clips_of_removed_rows_are_not_in_inputs_of_several_partitions(stack: Stack) -> None:
    stack.tick_dataset_sensor()
    assert stack.materialize(["clip_requests", "clips"], ["fox", "owl"]).success
    stack.write({"id": "fox", **CLIP})
    stack.tick_dataset_sensor()

    def loaded(metadata: dict[str, Any]) -> list[str]:
        @dg.asset(ins={"clips": dg.AssetIn("clips", metadata=metadata)})
        def reel(clips: dict[str, sora.StoredClip]) -> dg.MaterializeResult[Any]:
            return dg.MaterializeResult(metadata={"clips": sorted(clips)})

        definitions = dg.Definitions.merge(stack.definitions, dg.Definitions(assets=[reel]))
        result = definitions.resolve_implicit_global_asset_job_def().execute_in_process(
            instance=stack.instance, asset_selection=[reel.key]
        )
        [event] = result.asset_materializations_for_node("reel")
        return list(event.metadata["clips"].value)  # type: ignore[arg-type]

    assert loaded({}) == ["fox"]
    assert loaded({"include_removed": True}) == ["fox", "owl"]


def test_the_gallery_marks_clips_of_removed_rows(stack: Stack) -> None:
    stack.tick_dataset_sensor()
    assert stack.materialize(["clip_requests", "clips"], ["owl"]).success
    stack.write({"id": "fox", **CLIP})
    stack.tick_dataset_sensor()
    result = stack.definitions.resolve_implicit_global_asset_job_def().execute_in_process(
        instance=stack.instance, asset_selection=[dg.AssetKey("gallery")]
    )
    [event] = result.asset_materializations_for_node("reports")
    assert event.metadata["removed"].value == 1
    [info] = stack.root.list("gallery")
    assert b'"removed":true' in stack.root.read(info.key)


def test_the_job_does_at_once_what_the_sensor_does_in_ticks(stack: Stack) -> None:
    job = stack.definitions.resolve_job_def("sync_dataset")
    assert job.execute_in_process(instance=stack.instance).success
    assert clips_of(stack) == {"fox", "owl"}
    assert stack.tick_dataset_sensor() == []
    stack.prompts_path.write_text("clips: [{id: fox, prompt: 3}]")
    broken = job.execute_in_process(instance=stack.instance, raise_on_error=False)
    assert "prompts.yaml has" in failure_text(broken)


def test_an_update_that_ends_early_goes_on_and_logs_nothing_twice(tmp_path: Path) -> None:
    rows = [{"id": f"clip-{number}", "prompt": f"Clip {number}"} for number in range(300)]
    dataset = sora.VideoDataset(lambda: rows)
    with dg.DagsterInstance.ephemeral() as instance:
        seen: list[str] = []
        cursor: str | None = None
        for _ in range(100):
            state = SyncState.from_cursor(cursor)
            sync = DatasetSync(instance, dataset, dataset.load_prompts(), None)
            report = sync.update(state, max_events=20)
            for event in report.events:
                instance.report_runless_asset_event(event)
            seen += [str(event.partition) for event in report.events]
            cursor = state.to_cursor()
            if not report.left:
                break
        assert len(cursor or "") < 4000
        assert sorted(seen) == sorted(row["id"] for row in rows)
        # From an empty cursor all rows are compared again, and none is logged.
        again = DatasetSync(instance, dataset, dataset.load_prompts(), None)
        state = SyncState()
        left = again.update(state, max_rows=100).left
        assert 0 < left < 300
        assert again.update(state).events == []


def test_the_source_is_read_again_only_when_its_version_changes(stack: Stack) -> None:
    read: list[str] = []
    version = ["1"]

    def rows() -> list[dict[str, Any]]:
        read.append(version[0])
        return [{"id": "fox", "prompt": "A fox"}]

    dataset = sora.VideoDataset(sora.FunctionPrompts(rows, version=lambda: version[0]))
    sensor = sora.build_dataset_sensor(dataset)
    cursor = None
    for wanted in (["1"], ["1"], ["1", "2"]):
        if wanted[-1] == "2":
            version[0] = "2"
        with dg.build_sensor_context(
            instance=stack.instance,
            cursor=cursor,
            resources={"clip_storage": sora.ClipStorageResource(url=stack.root.url)},
        ) as context:
            cursor = sensor.evaluate_tick(context).cursor
        assert read == wanted


@pytest.fixture
def environment(tmp_path: Path, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("RUNWARE_API_KEY", KEY)
    monkeypatch.setenv("RUNWARE_BASE_URL", sandbox.base_url)
    monkeypatch.setenv("SORA_STORAGE", str(tmp_path / "storage"))
    return tmp_path


def test_rows_of_an_upstream_asset_are_its_dataset(environment: Path) -> None:
    table = [{"id": "fox", "prompt": "A fox", **CLIP}]

    @dg.asset(key=["marketing", "briefs"])
    def briefs() -> list[dict[str, Any]]:
        return table

    dataset = sora.VideoDataset(sora.AssetPrompts("marketing/briefs"))
    definitions = dg.Definitions.merge(
        sora.build_definitions(dataset), dg.Definitions(assets=[briefs])
    )
    graph = definitions.resolve_asset_graph()
    assert graph.get(dataset.prompts).parent_keys == {dataset.prompt_rows}
    assert graph.get(dataset.prompt_rows).parent_keys == {briefs.key}
    job = definitions.resolve_implicit_global_asset_job_def()
    with dg.DagsterInstance.ephemeral() as instance:

        def load() -> dg.ExecuteInProcessResult:
            return job.execute_in_process(
                instance=instance,
                asset_selection=[briefs.key, dataset.prompt_rows],
                raise_on_error=False,
            )

        def request() -> dg.ExecuteInProcessResult:
            return definitions.resolve_job_def("request_clips").execute_in_process(
                instance=instance, run_config=REQUEST_ALL, raise_on_error=False
            )

        assert "materialize prompt_rows of the dataset" in failure_text(request())
        with dg.build_sensor_context(
            instance=instance, resources={"clip_storage": sora.ClipStorageResource()}
        ) as context:
            tick = sora.build_dataset_sensor(dataset).evaluate_tick(context)
        assert "materialize prompt_rows of the dataset" in (tick.skip_message or "")
        result = load()
        assert result.success, failure_text(result)
        assert instance.get_dynamic_partitions("clips") == ["fox"]
        result = request()
        assert result.success, failure_text(result)
        # Loading the same rows again makes nothing stale.
        assert load().success
        assert stale_partitions(definitions, instance, dataset.prompts, dataset.clip_requests) == []
        # A table with a mistake changes nothing.
        table[:] = [{"id": "owl"}]
        assert "column 'prompt': the column is missing" in failure_text(load())
        assert dataset.load_prompts(sora.ClipStorageResource()).clip_ids == ("fox",)


REQUEST_ALL = {"ops": {"request": {"config": {"everything": True}}}}


def test_a_dataset_that_moves_to_a_database_buys_nothing(environment: Path) -> None:
    from tests.prompts.test_sources import in_sqlite

    rows = [
        {"id": "fox", "prompt": "A fox", "model": "sora-2-pro", "duration": 4, "size": "1280x720"}
    ]
    (environment / "prompts.csv").write_text(
        "id,prompt,model,duration,size\nfox,A fox,sora-2-pro,4,1280x720\n"
    )
    in_csv = sora.VideoDataset(environment / "prompts.csv")
    in_table = sora.VideoDataset(in_sqlite(environment / "p.sqlite", rows))
    posts = []
    with dg.DagsterInstance.ephemeral() as instance:
        for dataset in (in_csv, in_table):
            job = sora.build_definitions(dataset).resolve_job_def("request_clips")
            result = job.execute_in_process(
                instance=instance, run_config=REQUEST_ALL, raise_on_error=False
            )
            assert result.success, failure_text(result)
            run = instance.get_run_by_id(result.run_id)
            assert run is not None
            posts.append(int(run.tags["sora_dagster/submission_posts"]))
    assert posts == [1, 0]
    root = StorageRoot(environment / "storage")
    assert len(list(root.list("slots"))) == 1


def test_the_command_updates_the_instance(
    environment: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (environment / "prompts.csv").write_text("id,prompt\nfox,A fox\nowl,An owl\n")
    arguments = ["sync", str(environment / "prompts.csv")]
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    refused = CliRunner().invoke(cli, arguments)
    assert refused.exit_code == 1
    assert "DAGSTER_HOME is not set" in refused.output
    monkeypatch.setenv("DAGSTER_HOME", str(environment / "home"))
    (environment / "home").mkdir()
    first = CliRunner().invoke(cli, arguments)
    assert first.exit_code == 0, first.output
    assert "2 new or changed: fox, owl\n2 rows and remixes are up to date" in first.output
    with dg.DagsterInstance.get() as instance:
        assert set(instance.get_dynamic_partitions("clips")) == {"fox", "owl"}
    (environment / "prompts.csv").write_text("id,prompt\nfox,A fox\n")
    second = CliRunner().invoke(cli, arguments)
    assert "1 no longer in the dataset; what was generated is kept: owl" in second.output


def stale_partitions(
    definitions: dg.Definitions, instance: dg.DagsterInstance, *keys: dg.AssetKey
) -> list[tuple[dg.AssetKey, str]]:
    resolver = CachingStaleStatusResolver(
        instance, definitions.resolve_asset_graph(), LoadingContextForTest(instance)
    )
    return [
        (key, partition)
        for key in keys
        for partition in instance.get_materialized_partitions(key)
        if resolver.get_status(key, partition) != StaleStatus.FRESH
    ]
