"""Settings from the environment: one storage root for every process, and nothing bought by default.

An API that may cost money has no default for the storage root and for the dataset; definitions
load all the same, and say what to set when something runs.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from dagster._core.remote_representation.external_data import RepositorySnap

from sora_dagster.dataset import VideoDataset
from sora_dagster.definitions import build_definitions
from sora_dagster.environment.limits import parse_limit
from sora_dagster.environment.values import SettingsError
from sora_dagster.prompts.boards import load_board
from sora_dagster.prompts.dataset import DatasetError
from sora_dagster.resources import ClipStorageResource, RunwareResource
from sora_dagster.runware.transport import DEFAULT_BASE_URL, is_local_api
from sora_dagster.settings import Settings
from sora_dagster.storage import StorageError
from sora_dagster.submission import RequestConfig
from tests.dagster_face.stack import Stack, definitions_of, failure_text
from tests.sandbox_server import KEY

SANDBOX = {"RUNWARE_BASE_URL": "http://127.0.0.1:8787/v1"}
# The name is reserved, so that nothing can be sent by mistake.
PAID = {"RUNWARE_BASE_URL": "https://runware.invalid/v1", "RUNWARE_API_KEY": "key-0123456789"}


def root_url(**environment: str) -> str:
    return Settings.from_environment({**SANDBOX, **environment}).storage_root_url()


# --- paths


def test_relative_paths_are_read_once_and_mean_the_same_in_other_working_directories(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path)
    settings = Settings.from_environment(
        {
            "SORA_PROMPTS": "prompts.yaml",
            "SORA_BOARDS": "a.yaml, boards/b.yaml",
            "SORA_STORAGE": "clips",
            "SORA_MODELS": "models.yaml",
        }
    )
    monkeypatch.chdir(tmp_path / "work")
    child = Settings.from_environment(settings.to_environment())
    assert child == settings
    assert child.prompts_path == str(tmp_path / "prompts.yaml")
    assert child.boards == (str(tmp_path / "a.yaml"), str(tmp_path / "boards" / "b.yaml"))
    assert child.storage_url == (tmp_path / "clips").resolve().as_uri()
    assert child.models_path == str(tmp_path / "models.yaml")


@pytest.mark.parametrize("url", ["s3://bucket/clips", "memory://", "ftp://host/clips"])
def test_a_storage_url_is_not_changed(url: str) -> None:
    assert root_url(SORA_STORAGE=url) == url


def test_a_resource_refuses_a_folder_that_depends_on_the_working_directory() -> None:
    with pytest.raises(StorageError, match="give an absolute folder"):
        ClipStorageResource(url="clips").root()


# --- the storage root by default


def test_the_same_dataset_has_one_root_in_every_working_directory(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "data").mkdir()
    (tmp_path / "link").symlink_to("data")
    found = set()
    for folder, prompts in [(".", "data/p.yaml"), ("data", "p.yaml"), ("data", "../link/p.yaml")]:
        monkeypatch.chdir(tmp_path / folder)
        found.add(root_url(SORA_PROMPTS=prompts))
    assert found == {(tmp_path / "data" / ".sora" / "storage").resolve().as_uri()}


def test_a_dataset_that_is_a_link_has_its_root_beside_the_link(tmp_path: Path) -> None:
    # As a mounted configuration has it, whose files are links to the folder of its version.
    (tmp_path / "version-1").mkdir()
    (tmp_path / "version-1" / "p.yaml").touch()
    (tmp_path / "p.yaml").symlink_to("version-1/p.yaml")
    expected = (tmp_path / ".sora" / "storage").resolve().as_uri()
    assert root_url(SORA_PROMPTS=str(tmp_path / "p.yaml")) == expected


def test_without_a_dataset_the_root_is_in_the_dagster_instance(tmp_path: Path) -> None:
    expected = (tmp_path / ".sora" / "storage").resolve().as_uri()
    assert root_url(DAGSTER_HOME=str(tmp_path)) == expected


def test_without_a_dataset_and_an_instance_there_is_no_root() -> None:
    with pytest.raises(SettingsError, match="Set SORA_STORAGE"):
        root_url()


@pytest.mark.parametrize(
    ("base_url", "is_local"),
    [
        (DEFAULT_BASE_URL, False),
        ("https://localhost.example.com/v1", False),
        ("http://10.0.0.7:8787/v1", False),
        ("http://sandbox:8787/v1", False),
        ("http://[half", False),
        ("", False),
        ("http://127.0.0.1:8787/v1", True),
        ("http://localhost:8787/v1", True),
        ("http://[::1]:8787/v1", True),
        ("http://0.0.0.0:8787/v1", True),
    ],
)
def test_only_an_api_on_this_machine_is_known_to_cost_nothing(
    base_url: str, is_local: bool
) -> None:
    assert is_local_api(base_url) is is_local


# --- an API that costs money


def test_a_paid_api_has_no_default_root_and_no_example_dataset(tmp_path: Path) -> None:
    settings = Settings.from_environment({**PAID, "DAGSTER_HOME": str(tmp_path)})
    with pytest.raises(SettingsError, match="Set SORA_STORAGE"):
        settings.storage_root_url()
    with pytest.raises(StorageError, match="Set SORA_STORAGE"):
        settings.storage().root()
    with pytest.raises(DatasetError, match="Set SORA_PROMPTS"):
        settings.dataset().load_prompts()
    assert settings.board_paths() == ()


def test_with_a_root_and_a_dataset_a_paid_api_is_used(tmp_path: Path) -> None:
    (tmp_path / "p.yaml").write_text("- {id: fox, prompt: a fox}")
    settings = Settings.from_environment(
        {**PAID, "SORA_STORAGE": "memory://", "SORA_PROMPTS": str(tmp_path / "p.yaml")}
    )
    assert settings.storage().root().url == "memory://"
    assert settings.dataset().load_prompts().clip_ids == ("fox",)


@pytest.mark.parametrize(
    ("environment", "variable"),
    [
        ({}, "SORA_PROMPTS"),
        ({"SORA_STORAGE": "memory://"}, "SORA_PROMPTS"),
        ({"SORA_PROMPTS": "p.yaml"}, "SORA_STORAGE"),
    ],
    ids=["nothing", "no dataset", "no storage root"],
)
def test_definitions_load_and_a_run_says_which_variable_to_set(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    environment: dict[str, str],
    variable: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RUNWARE_API_KEY", PAID["RUNWARE_API_KEY"])
    (tmp_path / "p.yaml").write_text("- {id: fox, prompt: a fox}")
    definitions = definitions_of(Settings.from_environment({**PAID, **environment}))
    dg.Definitions.validate_loadable(definitions)
    with dg.DagsterInstance.ephemeral() as instance:
        result = definitions.resolve_job_def("request_clips").execute_in_process(
            instance=instance, raise_on_error=False
        )
    assert not result.success
    assert f"Set {variable}" in failure_text(result)
    assert [path.name for path in tmp_path.iterdir()] == ["p.yaml"]


def test_sensors_wait_and_say_which_variable_to_set() -> None:
    definitions = definitions_of(Settings.from_environment(PAID))
    with dg.DagsterInstance.ephemeral() as instance:
        for sensor, variable in [
            ("dataset_sensor", "SORA_PROMPTS"),
            ("completion_sensor", "SORA_STORAGE"),
        ]:
            with dg.build_sensor_context(
                instance=instance,
                definitions=definitions,
                resources={"clip_storage": definitions.resources["clip_storage"]},  # type: ignore[index]
            ) as context:
                tick = definitions.get_sensor_def(sensor).evaluate_tick(context)
            assert f"Set {variable}" in str(tick.skip_message)


def test_a_run_logs_its_storage_root(stack: Stack) -> None:
    stack.write({"id": "fox"})
    result = stack.run_job("request_clips", dry_run=True)
    logged = [entry.user_message for entry in stack.instance.all_logs(result.run_id)]
    assert f"storage root: {stack.root.url}" in logged


# --- values that are not allowed


@pytest.mark.parametrize(
    ("field", "value", "allowed"),
    [
        ("timeout_seconds", 0, "greater than 0"),
        ("submit_batch_size", 0, "greater than or equal to 1"),
        ("hosted_seconds", 59, "greater than or equal to 60"),
        ("max_usd_per_run", -1, "greater than or equal to 0"),
        ("max_usd_per_day", float("inf"), "finite"),
        ("max_attempts", 0, "greater than or equal to 1"),
    ],
)
def test_a_number_that_is_not_allowed_is_refused_when_definitions_load(
    field: str, value: float, allowed: str
) -> None:
    with pytest.raises(ValueError, match=allowed) as caught:
        RunwareResource(**{field: value})
    assert field in str(caught.value)
    assert str(value) in str(caught.value)


def test_a_limit_and_no_limit_at_once_are_refused() -> None:
    with pytest.raises(ValueError, match="max_usd_per_run is 5 and unlimited is true"):
        RunwareResource(max_usd_per_run=5, unlimited=True)
    with pytest.raises(ValueError, match="max_usd is 5 and unlimited is true"):
        RequestConfig(max_usd=5, unlimited=True)


@pytest.mark.parametrize(
    ("environment", "limit_usd"),
    [({}, 25.0), ({"SORA_MAX_USD": "7.50"}, 7.5), ({"SORA_MAX_USD": "unlimited"}, None)],
)
def test_the_spending_limit_of_the_environment_is_that_of_the_resource(
    environment: dict[str, str], limit_usd: float | None
) -> None:
    assert Settings.from_environment(environment).runware().run_limit_usd() == limit_usd


def test_the_run_config_overrides_the_limit_of_the_resource() -> None:
    assert RequestConfig().run_limit_usd(25.0) == 25.0
    assert RequestConfig(max_usd=3).run_limit_usd(25.0) == 3.0
    assert RequestConfig(unlimited=True).run_limit_usd(25.0) is None


def test_a_number_can_come_from_an_environment_variable() -> None:
    assert RunwareResource(submit_batch_size=dg.EnvVar.int("BATCH"))


# --- secrets


@pytest.mark.parametrize(
    "resource",
    [
        RunwareResource(api_key=PAID["RUNWARE_API_KEY"]),
        RunwareResource(webhook_secret=PAID["RUNWARE_API_KEY"]),
        ClipStorageResource(azure_account_key=PAID["RUNWARE_API_KEY"]),
    ],
)
def test_a_secret_given_as_text_is_refused_when_definitions_load(
    resource: dg.ConfigurableResource[Any],
) -> None:
    with pytest.raises(ValueError, match=r"pass dg\.EnvVar") as caught:
        dg.Definitions.validate_loadable(dg.Definitions(resources={"resource": resource}))
    assert PAID["RUNWARE_API_KEY"] not in str(caught.value) + repr(resource) + str(resource)


def test_a_secret_from_a_variable_is_used_and_shows_nowhere(
    stack: Stack, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    # The names say nothing of the values, which are searched for.
    monkeypatch.delenv("RUNWARE_API_KEY")
    monkeypatch.setenv("TEAM_KEY", KEY)
    monkeypatch.setenv("TEAM_SECRET", "a-secret-of-the-webhooks-0123456789")
    stack.settings_changes |= {
        "api_key": dg.EnvVar("TEAM_KEY"),
        "webhook_secret": dg.EnvVar("TEAM_SECRET"),
        "webhook_url": "http://127.0.0.1:9/hook",
    }
    stack.write({"id": "fox"})
    requested = stack.run_job("request_clips")
    assert requested.success, failure_text(requested)
    resource = (stack.definitions.resources or {})["runware"]
    shown = [repr(resource), str(resource), str(resource.get_resource_definition().config_schema)]
    shown.append(
        dg.serialize_value(RepositorySnap.from_def(stack.definitions.get_repository_def()))
    )
    shown += [repr(entry) for entry in stack.instance.all_logs(requested.run_id)]
    shown += [repr(record) for record in stack.instance.get_run_records()]
    shown += capfd.readouterr()
    shown += [stack.root.read(info.key).decode(errors="replace") for info in stack.root.list("")]
    for secret in (KEY, "a-secret-of-the-webhooks-0123456789"):
        assert not [text for text in shown if secret in text]


# --- the default model


def test_the_model_of_the_environment_is_that_of_rows_and_shots_that_name_none(
    tmp_path: Path,
) -> None:
    (tmp_path / "prompts.yaml").write_text("- {id: a, prompt: A lake}")
    (tmp_path / "board.yaml").write_text("shots: [{id: b, prompt: A hill}]")
    settings = Settings.from_environment(
        {
            **SANDBOX,
            "SORA_PROMPTS": str(tmp_path / "prompts.yaml"),
            "SORA_BOARDS": str(tmp_path / "board.yaml"),
            "SORA_MODEL": "veo-3.1",
        }
    )
    child = Settings.from_environment(settings.to_environment())
    assert child.dataset().load_prompts().clip("a").model == "google:3@2"
    [shot] = load_board(child.board_paths()[0], catalogue=child.catalogue()).shots
    assert shot.spec.model == "google:3@2"


@pytest.mark.parametrize(
    ("model", "part"),
    [
        ("veo-9", "SORA_MODEL is 'veo-9', which is not in the catalogue; allowed: sora-2-pro, "),
        ("aleph-2.0", "Runway Aleph 2.0 makes a video only from an earlier one; allowed: "),
    ],
)
def test_a_model_that_rows_cannot_have_is_refused_when_definitions_load(
    model: str, part: str
) -> None:
    with pytest.raises(SettingsError) as caught:
        definitions_of(Settings.from_environment({**SANDBOX, "SORA_MODEL": model}))
    assert part in str(caught.value)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("ftp://host/clips", "scheme 'ftp' is not supported"),
        ("s3://", "has no bucket"),
        ("clips", "depends on the working directory"),
    ],
)
def test_a_storage_root_that_cannot_be_one_fails_when_definitions_load(
    url: str, message: str
) -> None:
    storage = ClipStorageResource(url=url)
    with pytest.raises(StorageError, match=message):
        build_definitions(VideoDataset("prompts.yaml"), storage=storage)


@pytest.mark.parametrize(
    ("text", "limit"),
    [(None, 25.0), ("", 25.0), ("7.50", 7.5), ("unlimited", None), ("Unlimited ", None)],
)
def test_limits_are_read(text: str | None, limit: float | None) -> None:
    assert parse_limit(text) == limit


@pytest.mark.parametrize("text", ["none", "-1", "1e400", "nan", "5 USD"])
def test_what_is_no_limit_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="unlimited"):
        parse_limit(text)
