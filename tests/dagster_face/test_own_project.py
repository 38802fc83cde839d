"""A project of the user's, with its own definitions: settings mean what they mean everywhere."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

import sora_dagster as sora
from sora_dagster.environment.values import SettingsError
from sora_dagster.generation.protocol.ledger import Ledger
from sora_dagster.storage import StorageRoot
from tests.dagster_face.stack import failure_text
from tests.sandbox_server import KEY, Sandbox

# Nothing can be sent to it by mistake: the name is reserved.
NO_API = "https://runware.invalid/v1"


@dataclass
class Project:
    """A dataset of one clip of 1.20 USD, and definitions that leave the settings out."""

    folder: Path
    instance: dg.DagsterInstance

    def definitions(self, **fields: Any) -> dg.Definitions:
        dataset = sora.VideoDataset()
        request = sora.build_request_job(dataset)
        storage = sora.ClipStorageResource()
        return dg.Definitions(
            assets=sora.build_clip_assets(dataset),
            jobs=[request],
            resources={
                "runware": sora.RunwareResource(**fields),
                "clip_storage": storage,
                "clip_io_manager": sora.ClipIOManager(storage=storage),
            },
        )

    def request(
        self, *, runware_config: dict[str, Any] | None = None, **fields: Any
    ) -> dg.ExecuteInProcessResult:
        job = self.definitions(**fields).resolve_job_def("request_clips")
        config: dict[str, Any] = {"ops": {"request": {"config": {"everything": True}}}}
        if runware_config:
            config["resources"] = {"runware": {"config": runware_config}}
        return job.execute_in_process(
            instance=self.instance, run_config=config, raise_on_error=False
        )

    @property
    def models_sent(self) -> list[str]:
        ledger = Ledger(StorageRoot(self.folder / "storage"))
        return [
            attempt.request.spec.model
            for take in ledger.takes("clips", "fox")
            for attempt in take.attempts
        ]


@pytest.fixture
def project(tmp_path: Path, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Iterator[Project]:
    (tmp_path / "prompts.yaml").write_text(
        "- {id: fox, prompt: a fox, model: sora-2-pro, size: 1280x720, duration: 4}\n"
    )
    for name, value in {
        "RUNWARE_API_KEY": KEY,
        "RUNWARE_BASE_URL": sandbox.base_url,
        "SORA_PROMPTS": str(tmp_path / "prompts.yaml"),
        "SORA_STORAGE": str(tmp_path / "storage"),
    }.items():
        monkeypatch.setenv(name, value)
    with dg.DagsterInstance.ephemeral() as instance:
        yield Project(tmp_path, instance)


def sent(project: Project) -> bool:
    return bool(project.models_sent)


def test_the_limit_of_the_environment_stops_a_clip_that_costs_more(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SORA_MAX_USD", "0.50")
    result = project.request()
    assert not result.success
    assert "0.50 USD" in failure_text(result)
    assert not sent(project)


def test_the_day_limit_of_the_environment_stops_a_clip_that_costs_more(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SORA_MAX_USD_PER_DAY", "0.50")
    assert not project.request().success
    assert not sent(project)


@pytest.mark.parametrize("variable", ["SORA_MAX_USD", "SORA_MAX_USD_PER_DAY"])
def test_no_limit_can_be_said_against_a_limit_of_the_environment(
    project: Project, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, "0.50")
    field = "unlimited" if variable == "SORA_MAX_USD" else "unlimited_per_day"
    result = project.request(**{field: True})
    assert result.success, failure_text(result)
    assert sent(project)


def test_a_limit_of_the_resource_wins_over_that_of_the_environment(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SORA_MAX_USD", "unlimited")
    assert not project.request(max_usd_per_run=0.5).success
    assert not sent(project)


def test_a_run_config_that_names_another_field_keeps_the_settings_of_the_environment(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SORA_MAX_USD", "0.50")
    # Address, key and storage root count too: the limit is read only once they are right.
    result = project.request(runware_config={"timeout_seconds": 30})
    assert not result.success
    assert "0.50 USD" in failure_text(result)
    assert not sent(project)


def test_a_run_config_that_names_another_field_keeps_the_values_in_python(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TEAM_KEY", KEY)
    monkeypatch.delenv("RUNWARE_API_KEY")
    fields = {"api_key": dg.EnvVar("TEAM_KEY"), "max_usd_per_run": 0.5}
    result = project.request(runware_config={"timeout_seconds": 30}, **fields)
    assert not result.success
    assert "0.50 USD" in failure_text(result)
    assert not sent(project)
    result = project.request(runware_config={"unlimited": True}, **fields)
    assert result.success, failure_text(result)
    assert sent(project)


def test_a_run_config_of_the_storage_root_keeps_its_url_in_python(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SORA_STORAGE")
    url = str(project.folder / "kept")

    @dg.op
    def print_root(clip_storage: sora.ClipStorageResource) -> str:
        return clip_storage.root().url

    @dg.job(resource_defs={"clip_storage": sora.ClipStorageResource(url=url)})
    def print_root_job() -> None:
        print_root()

    config = {"clip_storage": {"config": {"viewer_url": "https://viewer.example.com"}}}
    result = print_root_job.execute_in_process(run_config={"resources": config})
    assert result.output_for_node("print_root") == StorageRoot(url).url


def test_the_address_of_the_environment_is_used_and_an_explicit_one_wins(
    project: Project, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNWARE_BASE_URL", NO_API)
    assert "runware.invalid" in failure_text(project.request())
    result = project.request(base_url=sandbox.base_url)
    assert result.success, failure_text(result)


def test_models_and_the_default_model_of_the_environment_are_used(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    (project.folder / "prompts.yaml").write_text("- {id: fox, prompt: a fox}\n")
    (project.folder / "models.yaml").write_text(
        "- {air: 'acme:fox@1', name: Acme Fox, sizes: {720p: [1280x720]},"
        " default_size: 1280x720, durations: {values: [4], default: 4}, audio: never,"
        " prices: {certainty: approximate, rates: [{usd_per_second: 0.01}]}}\n"
    )
    monkeypatch.setenv("SORA_MODELS", str(project.folder / "models.yaml"))
    monkeypatch.setenv("SORA_MODEL", "acme:fox@1")
    result = project.request(runware_config={"timeout_seconds": 30})
    # The sandbox has no such model: its refusal shows that the request was sent.
    assert "not in the catalogue" not in failure_text(result)
    assert project.models_sent == ["acme:fox@1"]


@pytest.mark.parametrize(
    ("variable", "value", "allowed"),
    [
        ("SORA_MAX_USD", "much", "write USD such as 25 or 7.50, or 'unlimited'"),
        ("SORA_MAX_USD_PER_DAY", "-1", "write USD such as 25 or 7.50, or 'unlimited'"),
        ("SORA_DELIVERY", "pigeon", "download"),
        ("SORA_SCHEMA_CHECK", "maybe", "'off', 'warn' or 'refuse'"),
        ("SORA_RESULT_NETWORKS", "everywhere", "CIDR"),
    ],
)
def test_a_wrong_value_of_a_variable_stops_the_run_before_anything_is_sent(
    project: Project, monkeypatch: pytest.MonkeyPatch, variable: str, value: str, allowed: str
) -> None:
    monkeypatch.setenv(variable, value)
    result = project.request()
    assert not result.success
    text = failure_text(result)
    assert variable in text
    assert value in text
    assert allowed in text
    assert not sent(project)


def test_a_file_of_models_that_cannot_be_read_is_an_error_that_names_the_variable(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SORA_MODELS", str(project.folder / "missing.yaml"))
    with pytest.raises(SettingsError, match=r"SORA_MODELS .*missing\.yaml"):
        project.definitions()


def test_a_relative_storage_root_of_the_environment_is_refused(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SORA_STORAGE", "storage")
    assert "depends on the working directory" in failure_text(project.request())


def test_settings_in_python_take_the_rest_from_the_environment(
    project: Project, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SORA_MAX_USD", "0.50")
    settings = sora.Settings(max_usd_per_day="9")
    assert settings.storage_url == (project.folder / "storage").as_uri()
    assert settings.runware().run_limit_usd() == 0.5
    assert settings.runware().day_limit_usd() == 9.0
    assert sora.Settings(max_usd="unlimited").runware().run_limit_usd() is None
