"""The jobs that prune and verify the storage root, and the same commands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from click.testing import CliRunner

from sora_dagster.cli.storage import prune_command, verify_command
from sora_dagster.generation.protocol.ledger import Ledger
from sora_dagster.settings import Settings
from sora_dagster.storage import StorageRoot
from tests.dagster_face.stack import Stack, definitions_of, failure_text
from tests.generation.stored_takes import keys, stored_take


@pytest.fixture
def ledger(stack: Stack) -> Ledger:
    stack.write({"id": "fox"})
    ledger = stack.ledger
    ledger.bind(api_base_url=stack.base_url, account=None)
    return ledger


def run(stack: Stack, job: str, op: str, **config: Any) -> dg.ExecuteInProcessResult:
    return stack.definitions.resolve_job_def(job).execute_in_process(
        instance=stack.instance,
        run_config={"ops": {op: {"config": config}}},
        raise_on_error=False,
    )


def output_metadata(result: dg.ExecuteInProcessResult) -> dict[str, Any]:
    [event] = [
        event.step_output_data
        for event in result.all_events
        if event.event_type is dg.DagsterEventType.STEP_OUTPUT
    ]
    return {
        name: value.records if isinstance(value, dg.TableMetadataValue) else value.value
        for name, value in event.metadata.items()
    }


def test_pruning_is_a_dry_run_by_default(stack: Stack, ledger: Ledger) -> None:
    for take in (1, 2):
        stored_take(ledger, "fox", take)
    before = keys(ledger)
    result = run(stack, "prune_storage", "prune", keep_takes=1)
    assert result.success
    assert keys(ledger) == before
    metadata = output_metadata(result)
    assert (metadata["dry_run"], metadata["objects"]) == (True, 6)
    assert "would be removed" in metadata["summary"]
    rows = [record.data for record in metadata["removed"]]
    assert {row["kind"] for row in rows} == {"older take"}
    assert all(
        str(row["key"]).startswith(("clips/clips/fox/take-1/", "stored/default/fox/1."))
        for row in rows
    )


def test_pruning_keeps_every_take_by_default(stack: Stack, ledger: Ledger) -> None:
    for take in (1, 2):
        stored_take(ledger, "fox", take)
    before = keys(ledger)
    result = run(stack, "prune_storage", "prune", dry_run=False)
    assert result.success
    assert keys(ledger) == before


def test_pruning_removes_older_takes(stack: Stack, ledger: Ledger) -> None:
    for take in (1, 2, 3):
        stored_take(ledger, "fox", take)
    result = run(stack, "prune_storage", "prune", keep_takes=1, dry_run=False)
    assert result.success
    assert output_metadata(result)["objects"] == 12
    assert ledger.manifest("clips", "fox", 2) is None
    assert ledger.manifest("clips", "fox", 3) is not None


def test_a_wrong_number_fails_the_run_with_what_is_allowed(stack: Stack, ledger: Ledger) -> None:
    stored_take(ledger, "fox", 1)
    result = run(stack, "prune_storage", "prune", keep_takes=0, dry_run=False)
    assert not result.success
    assert "keep_takes" in failure_text(result)
    assert "greater than or equal to 1" in failure_text(result)
    assert ledger.manifest("clips", "fox", 1) is not None


def test_verifying_reports_how_much_was_checked(stack: Stack, ledger: Ledger) -> None:
    stored_take(ledger, "fox", 1)
    result = run(stack, "verify_storage", "verify", deep=True)
    assert result.success
    metadata = output_metadata(result)
    assert (metadata["takes"], metadata["objects"], metadata["damaged"]) == (1, 4, 0)


def test_damage_fails_the_run_and_is_shown_on_the_clip(stack: Stack, ledger: Ledger) -> None:
    manifest = stored_take(ledger, "fox", 1)
    stored_take(ledger, "owl", 1)
    ledger.root.delete(manifest.videos[0].key)
    ledger.root.delete(manifest.poster_key)
    result = run(stack, "verify_storage", "verify")
    assert not result.success
    text = failure_text(result)
    assert manifest.videos[0].key in text
    assert "Request the clip again" in text
    [failure] = [
        event.step_failure_data.user_failure_data
        for event in result.all_events
        if event.event_type is dg.DagsterEventType.STEP_FAILURE
    ]
    assert failure is not None
    assert failure.metadata["damaged"].value == 2
    observed = stack.instance.fetch_observations(dg.AssetKey("clips"), limit=10).records
    [observation] = [record.asset_observation for record in observed]
    assert observation is not None
    assert observation.partition == "fox"
    assert set(observation.metadata["damaged"].value) == {  # type: ignore[arg-type]
        manifest.videos[0].key,
        manifest.poster_key,
    }


def test_the_jobs_of_a_second_dataset_have_different_names(tmp_path: Path) -> None:
    from sora_dagster import VideoDataset, build_prune_job, build_verify_job

    dataset = VideoDataset("prompts.yaml", "spring")
    assert build_prune_job(dataset).name == "spring_prune_storage"
    assert build_verify_job(dataset).name == "spring_verify_storage"
    names = {job.name for job in definitions_of(Settings(storage_url="memory://")).jobs or ()}
    assert {"prune_storage", "verify_storage"} <= names


def test_the_commands_do_the_same(tmp_path: Path) -> None:
    ledger = Ledger(StorageRoot(tmp_path / "clips"))
    ledger.bind(api_base_url="https://api.example.com/v1", account=None)
    for take in (1, 2):
        manifest = stored_take(ledger, "fox", take)
    storage = f"--storage={ledger.root.url}"
    whole = CliRunner().invoke(verify_command, [storage, "--deep"])
    assert (whole.exit_code, "2 takes with 8 objects" in whole.output) == (0, True)
    dry = CliRunner().invoke(prune_command, [storage, "--keep-takes=1"])
    assert "Run this again with --apply" in dry.output
    assert ledger.manifest("clips", "fox", 1) is not None
    done = CliRunner().invoke(prune_command, [storage, "--keep-takes=1", "--apply"])
    assert "older take: 6 objects" in done.output
    assert ledger.manifest("clips", "fox", 1) is None
    ledger.root.delete(manifest.videos[0].key)
    damaged = CliRunner().invoke(verify_command, [storage])
    assert damaged.exit_code == 1
    assert manifest.videos[0].key in damaged.output


@pytest.mark.parametrize("command", [verify_command, prune_command])
def test_a_folder_that_is_not_a_storage_root_is_reported(tmp_path: Path, command: Any) -> None:
    result = CliRunner().invoke(command, [f"--storage={tmp_path}"])
    assert result.exit_code == 1
    assert "root.json" in result.output
    assert "Traceback" not in result.output
