"""Several datasets: in one code location, and in two."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

import sora_dagster as sora
from sora_dagster.generation.protocol.ledger import Ledger
from sora_dagster.reporting.partition_owner import SharedPartitionsError, require_own_partitions
from sora_dagster.storage import StorageRoot
from tests.dagster_face.stack import failure_text
from tests.sandbox_server import KEY, Sandbox

START = datetime(2026, 1, 1, tzinfo=UTC)


def dataset(folder: Path, name: str, **fields: Any) -> sora.VideoDataset:
    path = folder / f"{name}.yaml"
    path.write_text("- {id: fox, prompt: a fox, model: sora-2-pro, size: 1280x720, duration: 4}\n")
    return sora.VideoDataset(path, name=name, **fields)


def request(
    definitions: dg.Definitions, job: str, instance: dg.DagsterInstance
) -> dg.ExecuteInProcessResult:
    config = {"ops": {job.removesuffix("_clips"): {"config": {"everything": True}}}}
    return definitions.resolve_job_def(job).execute_in_process(
        instance=instance, run_config=config, raise_on_error=False
    )


def test_two_datasets_with_the_default_resources_are_one_code_location(tmp_path: Path) -> None:
    merged = dg.Definitions.merge(
        sora.build_definitions(dataset(tmp_path, "ads")),
        sora.build_definitions(dataset(tmp_path, "trailers")),
    )
    dg.Definitions.validate_loadable(merged)
    assert set(merged.resources or ()) == {"runware", "clip_storage", "clip_io_manager"}
    sensors = [sensor.name for sensor in merged.sensors or ()]
    assert len(sensors) == len(set(sensors)) == 8


def test_two_datasets_with_one_storage_resource_are_one_code_location(tmp_path: Path) -> None:
    storage = sora.ClipStorageResource(url=str(tmp_path / "storage"))
    dg.Definitions.validate_loadable(
        dg.Definitions.merge(
            sora.build_definitions(dataset(tmp_path, "ads"), storage=storage),
            sora.build_definitions(dataset(tmp_path, "trailers"), storage=storage),
        )
    )


def test_a_dataset_with_other_resource_keys_has_another_key_limit_and_bucket(
    tmp_path: Path, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNWARE_BASE_URL", sandbox.base_url)
    monkeypatch.setenv("TRAILERS_KEY", KEY)
    monkeypatch.delenv("RUNWARE_API_KEY", raising=False)
    trailers = dataset(
        tmp_path, "trailers", resource_keys=sora.ResourceKeys.with_prefix("trailers")
    )
    merged = dg.Definitions.merge(
        sora.build_definitions(
            dataset(tmp_path, "ads"),
            runware=sora.RunwareResource(api_key=dg.EnvVar("TRAILERS_KEY"), max_usd_per_run=0.5),
            storage=sora.ClipStorageResource(url=str(tmp_path / "ads")),
        ),
        sora.build_definitions(
            trailers,
            runware=sora.RunwareResource(api_key=dg.EnvVar("TRAILERS_KEY"), max_usd_per_run=40),
            storage=sora.ClipStorageResource(url=str(tmp_path / "trailers")),
        ),
    )
    with dg.DagsterInstance.ephemeral() as instance:
        refused = request(merged, "ads_request_clips", instance)
        bought = request(merged, "trailers_request_clips", instance)
        assert bought.success, failure_text(bought)
        stored = merged.resolve_implicit_global_asset_job_def().execute_in_process(
            instance=instance,
            asset_selection=[trailers.clips],
            partition_key="fox",
            raise_on_error=False,
        )
    assert "0.50 USD" in failure_text(refused)
    assert stored.success, failure_text(stored)
    assert not Ledger(StorageRoot(tmp_path / "ads")).takes("ads/clips", "fox")
    assert len(Ledger(StorageRoot(tmp_path / "trailers")).takes("trailers/clips", "fox")) == 1


def test_datasets_of_one_root_have_daily_budgets_of_their_own(
    tmp_path: Path, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNWARE_BASE_URL", sandbox.base_url)
    monkeypatch.setenv("RUNWARE_API_KEY", KEY)
    monkeypatch.setenv("SORA_STORAGE", str(tmp_path / "storage"))
    ads = dataset(tmp_path, "ads", max_usd_per_day=0.5)
    trailers = dataset(tmp_path, "trailers", max_usd_per_day=40)
    merged = dg.Definitions.merge(sora.build_definitions(ads), sora.build_definitions(trailers))
    before = sandbox.charged()
    with dg.DagsterInstance.ephemeral() as instance:
        bought = request(merged, "trailers_request_clips", instance)
        refused = request(merged, "ads_request_clips", instance)
    assert bought.success, failure_text(bought)
    assert "0.00 USD of dataset ads's daily spending limit of 0.50 USD" in failure_text(refused)
    assert len(sandbox.charged() - before) == 1


@pytest.mark.parametrize("limit", [-1, float("nan"), float("inf")])
def test_a_daily_budget_that_is_no_amount_is_refused(tmp_path: Path, limit: float) -> None:
    with pytest.raises(ValueError, match="max_usd_per_day of dataset ads"):
        dataset(tmp_path, "ads", max_usd_per_day=limit)


def test_a_resource_of_another_class_is_named(tmp_path: Path) -> None:
    definitions = sora.build_definitions(dataset(tmp_path, "ads"))
    job = dg.Definitions(
        jobs=[sora.build_request_job(dataset(tmp_path, "ads"))],
        resources={**(definitions.resources or {}), "clip_storage": sora.RunwareResource()},
    ).resolve_job_def("ads_request_clips")
    result = job.execute_in_process(raise_on_error=False)
    assert "'clip_storage' is a RunwareResource" in failure_text(result)


def test_two_code_locations_cannot_share_partitions(tmp_path: Path) -> None:
    (tmp_path / "marketing").mkdir()
    datasets = {
        "film": dataset(tmp_path, "ads"),
        "marketing": dataset(tmp_path / "marketing", "ads"),
    }
    with dg.DagsterInstance.ephemeral() as instance:

        def tick(location: str, minutes: float, *, renews: bool = True) -> None:
            require_own_partitions(
                instance,
                datasets[location],
                location,
                is_renewing=renews,
                now=lambda: START + timedelta(minutes=minutes),
            )

        tick("film", 0)
        tick("film", 3)
        with pytest.raises(SharedPartitionsError, match=r"ads/clips.*'film'.*VideoDataset\(name"):
            tick("marketing", 4)
        with pytest.raises(SharedPartitionsError):
            tick("marketing", 7, renews=False)
        # The other code location was removed: its entry is not renewed.
        tick("marketing", 9)
        with pytest.raises(SharedPartitionsError, match="'marketing'"):
            tick("film", 10)


def test_a_code_location_with_another_name_has_the_same_dataset(tmp_path: Path) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        for location in ("film", "film-green"):
            require_own_partitions(instance, dataset(tmp_path, "ads"), location, is_renewing=True)


def test_a_dataset_with_another_name_has_other_partitions(tmp_path: Path) -> None:
    with dg.DagsterInstance.ephemeral() as instance:
        require_own_partitions(instance, dataset(tmp_path, "ads"), "film", is_renewing=True)
        require_own_partitions(instance, dataset(tmp_path, "trailers"), "marketing")
