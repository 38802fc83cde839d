"""The component of `dg`: its YAML, and what is wrong in it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import dagster as dg
import pytest
from dagster.components.testing import create_defs_folder_sandbox

from sora_dagster import VideoDatasetComponent
from sora_dagster.generation.protocol.ledger import Ledger
from sora_dagster.storage import StorageRoot
from tests.component_reference import PAGE, page
from tests.dagster_face.stack import failure_text
from tests.sandbox_server import KEY, Sandbox

TYPE = "sora_dagster.VideoDatasetComponent"
EVERYTHING: dict[str, Any] = {
    "source": {
        "sql": {
            "url": {"env": "WAREHOUSE_URL"},
            "query": "SELECT * FROM prompts",
            "version_query": "SELECT count(*) FROM prompts",
        },
        "recipes": {"night": {"prompt": "At night", "model": "aleph-2.0", "mode": "edit"}},
    },
    "name": "trailers",
    "group_name": "film",
    "owners": ["team:video"],
    "tags": {"domain": "media"},
    "max_usd_per_day": 200,
    "checks": {"blocking": ["not_black"], "thresholds": {"max_black_fraction": 0.2}},
    "schedules": [{"cron_schedule": "0 6 * * *", "max_usd": 40, "running": True}],
    "request_new_rows": True,
    "delete_removed_partitions": True,
    "runware": {"api_key": {"env": "TRAILERS_KEY"}, "max_usd_per_run": 100, "timeout_seconds": 30},
    "storage": {"url": "s3://bucket/clips", "s3": {"region_name": "eu-central-1"}},
    "dataset_interval_seconds": 300,
    "completion_interval_seconds": 20,
    "parallel_clips": 8,
    "resource_prefix": "trailers",
    "translation": {
        "key": "media/{{ asset }}",
        "group_name": "{{ spec.group_name }}_clips",
        "description": "The asset {{ asset }}",
        "tags": {"tier": "gold"},
    },
}


@contextmanager
def definitions_of(attributes: dict[str, Any], files: dict[str, str]) -> Iterator[dg.Definitions]:
    with create_defs_folder_sandbox() as sandbox:
        path = sandbox.scaffold_component(
            component_cls=VideoDatasetComponent,
            defs_path="clips",
            defs_yaml_contents={"type": TYPE, "attributes": attributes},
        )
        for name, text in files.items():
            (path / name).write_text(text)
        with sandbox.load_component_and_build_defs(defs_path=path) as (_, definitions):
            dg.Definitions.validate_loadable(definitions)
            yield definitions


@pytest.mark.filterwarnings("error::dagster.PreviewWarning")
def test_every_setting_of_the_python_face_can_be_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TRAILERS_KEY", "key")
    with definitions_of(EVERYTHING, {}) as definitions:
        specs = {spec.key.to_user_string(): spec for spec in definitions.resolve_all_asset_specs()}
        clips = specs["media/clips"]
        assert len(specs) == 9
        assert (clips.group_name, clips.description) == ("film_clips", "The asset clips")
        assert (list(clips.owners), clips.tags["domain"], clips.tags["tier"]) == (
            ["team:video"],
            "media",
            "gold",
        )
        assert specs["media/clip_requests"].automation_condition is not None
        resources = definitions.resources or {}
        assert resources["trailers_runware"].run_limit_usd() == 100
        assert resources["trailers_clip_storage"].s3.region_name == "eu-central-1"
        assert resources["trailers_clip_io_manager"].parallel_clips == 8
        intervals = {
            sensor.name: sensor.minimum_interval_seconds for sensor in definitions.sensors or ()
        }
        assert intervals["trailers_dataset_sensor"] == 300
        assert intervals["trailers_completion_sensor"] == 20
        [schedule] = definitions.schedules or ()
        assert schedule.default_status is dg.DefaultScheduleStatus.RUNNING  # type: ignore[union-attr]
        graph = definitions.resolve_asset_graph()
        assert graph.get(dg.AssetKey(["media", "clips"])).parent_keys == {
            dg.AssetKey(["media", "clip_requests"]),
            dg.AssetKey(["media", "prompts"]),
        }


def test_every_field_of_the_dataset_is_in_the_component() -> None:
    """`models` and `default_model` make the catalogue, `resource_prefix` the resource keys."""
    from dataclasses import fields

    from sora_dagster import VideoDataset

    known = set(VideoDatasetComponent.get_model_cls().model_fields)
    wanted = {field.name for field in fields(VideoDataset)} - {"catalogue", "resource_keys"}
    assert wanted <= known


def test_the_page_of_the_fields_is_that_of_the_code() -> None:
    """`python -m tests.component_reference` writes it again."""
    assert PAGE.read_text() == page()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"nam": "a"}, r"attributes.nam .*Extra inputs are not permitted"),
        ({"source": {}}, "none of its fields; set exactly one of sql, asset and function"),
        (
            {"source": {"asset": "a", "function": "m.f"}},
            "source has asset, function; set exactly one",
        ),
        (
            {"source": {"sql": {"url": "postgresql://a:hunter2@host/db", "query": "SELECT 1"}}},
            r"has a password.*\{env: NAME\}",
        ),
        ({"checks": {"thresholds": {"max_blck": 1}}}, "has max_blck; allowed: max_black_fraction"),
        ({"checks": {"blocking": ["beautiful"]}}, "beautiful"),
        ({"runware": {"api_key": "text"}}, r"api_key of RunwareResource is given as text"),
        ({"runware": {"max_usd_per_run": -1}}, "max_usd_per_run"),
        ({"schedules": [{"cron_schedule": "0 6 * * *"}]}, "set max_clips, max_usd, or both"),
        ({"default_model": "sora-9"}, "sora-9"),
        ({"source": ""}, "source is empty; write the path"),
        ({"source": {"asset": ""}}, "source.asset is empty; write an asset key"),
        ({"source": {"sqll": {}}}, "unknown: sqll; allowed: sql, asset, function, recipes"),
        ({"source": {"function": "rows"}}, "source.function is 'rows'; write module.function"),
        ({"source": {"function": ".rows.load"}}, "there is no module .*rows; start with a dot"),
        ({"source": {"function": "os.sep"}}, "os has no function 'sep'"),
        ({"checks": {"custom": {"long": {"function": "os.sep"}}}}, r"checks.custom.long.function"),
        ({"runware": {"max_usd": 1}}, "unknown: max_usd; allowed: .*max_usd_per_run"),
        ({"runware": {"models_path": "m.yaml"}}, "unknown: models_path; allowed"),
        ({"runware": {"max_usd_per_run": {"env": "A"}}}, "max_usd_per_run"),
        (
            {"storage": {"s3": {"aws_secret_access_key": "hunter2"}}},
            r"storage.s3.aws_secret_access_key is given as text.*\{env: NAME\}",
        ),
        (
            {"storage": {"url": "{{ env.SORA_TEST_UNSET }}"}},
            "storage.url: the template {{ env.SORA_TEST_UNSET }} gives no value",
        ),
        ({"resource_prefix": "film-ads"}, "resource key is 'film-ads_runware'; use letters"),
        ({"dataset_interval_seconds": 0}, "dataset_interval_seconds"),
        (
            {"translation": {"key": "media"}},
            "translation gives the assets prompts and prompt_rows the same key media",
        ),
        ({"name": "my clips"}, "use letters, digits and _ only"),
    ],
)
def test_what_is_wrong_in_the_yaml_is_named(changes: dict[str, Any], message: str) -> None:
    attributes = {"source": "prompts.yaml", **changes}
    with pytest.raises(Exception) as error, definitions_of(attributes, {}):  # noqa: PT011
        pass
    texts = [str(error.value)]
    while (cause := error.value.__cause__) is not None and len(texts) < 9:
        texts.append(str(cause))
        error = pytest.ExceptionInfo.from_exception(cause)  # type: ignore[type-var]
    import re

    assert re.search(f"(?s){message}", "\n".join(texts))
    assert "hunter2" not in "\n".join(texts)


def test_the_rows_of_a_function_beside_the_yaml_are_read() -> None:
    rows = 'def load():\n    return [{"id": "fox", "prompt": "A fox"}]\n'
    attributes = {"source": {"function": ".rows.load"}, "name": "ads"}
    with (
        definitions_of(attributes, {"rows.py": rows}) as definitions,
        dg.DagsterInstance.ephemeral() as instance,
    ):
        job = definitions.resolve_job_def("ads_sync_dataset")
        assert job.execute_in_process(instance=instance).success
        assert instance.get_dynamic_partitions("ads_clips") == ["fox"]


def test_templates_in_nested_fields_are_rendered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEPLOYMENT", "staging")
    monkeypatch.setenv("LIMIT", "0.5")
    attributes = {
        "source": {"function": ".{{ env.DEPLOYMENT }}.load"},
        "runware": {"max_usd_per_run": "{{ env.LIMIT }}", "unlimited": "{{ 1 > 2 }}"},
        "storage": {"url": "s3://bucket/{{ env.DEPLOYMENT }}"},
        "schedules": [{"cron_schedule": "0 6 * * *", "max_clips": "{{ 2 * 3 }}"}],
    }
    with definitions_of(attributes, {"staging.py": "def load():\n    return []\n"}) as definitions:
        resources = definitions.resources or {}
        assert resources["runware"].max_usd_per_run == 0.5
        assert resources["clip_storage"].url == "s3://bucket/staging"
        [schedule] = definitions.schedules or ()
        assert "at most 6 clips" in str(schedule.description)  # type: ignore[union-attr]


def test_paths_are_relative_to_the_folder_of_the_yaml() -> None:
    attributes = {
        "source": "prompts.yaml",
        "runware": {"schemas_path": "schemas"},
        "storage": {"url": "stored", "gcs_service_account_path": "../key.json"},
    }
    with definitions_of(attributes, {}) as definitions:
        resources = definitions.resources or {}
        storage, schemas = resources["clip_storage"], resources["runware"].schemas_path
        assert storage.url.endswith("/defs/clips/stored")
        assert storage.gcs_service_account_path.endswith("/defs/key.json")
        assert schemas.endswith("/defs/clips/schemas")


def test_components_with_equal_settings_share_their_resources() -> None:
    settings = {
        "runware": {"max_usd_per_run": 40, "api_key": {"env": "TEAM_KEY"}},
        "storage": {"url": "s3://bucket/clips", "s3": {"region_name": "eu-central-1"}},
        "parallel_clips": 8,
    }
    with create_defs_folder_sandbox() as sandbox:
        for name in ("ads", "trailers"):
            sandbox.scaffold_component(
                component_cls=VideoDatasetComponent,
                defs_path=name,
                defs_yaml_contents={
                    "type": TYPE,
                    "attributes": {"source": "prompts.yaml", "name": name, **settings},
                },
            )
        with sandbox.build_all_defs() as definitions:
            dg.Definitions.validate_loadable(definitions)
            keys = {key.to_user_string() for key in definitions.resolve_all_asset_keys()}
            assert {"ads/clips", "trailers/clips"} <= keys


@pytest.mark.parametrize("scaffold_format", ["yaml", "python"])
def test_a_scaffolded_component_loads_as_it_is(scaffold_format: Any) -> None:
    with create_defs_folder_sandbox() as sandbox:
        sandbox.scaffold_component(
            component_cls=VideoDatasetComponent,
            defs_path="my-clips",
            scaffold_format=scaffold_format,
        )
        assert (sandbox.defs_folder_path / "my-clips" / "prompts.yaml").exists()
        with sandbox.build_all_defs() as definitions:
            dg.Definitions.validate_loadable(definitions)
            keys = {key.to_user_string() for key in definitions.resolve_all_asset_keys()}
            assert "my_clips/clips" in keys


def test_clips_with_translated_keys_and_checks_of_the_user_are_generated(
    sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNWARE_API_KEY", KEY)
    monkeypatch.setenv("RUNWARE_BASE_URL", sandbox.base_url)
    attributes = {
        "source": "prompts.yaml",
        "name": "ads",
        "storage": {"url": "stored"},
        "checks": {"custom": {"is_long": {"function": ".quality.is_long", "severity": "warn"}}},
        "translation": {"key": "media/{{ asset }}_of_ads", "group_name": "media"},
    }
    files = {
        "prompts.yaml": "- {id: fox, prompt: a fox, model: veo-3.1, duration: 4}\n",
        "quality.py": "def is_long(clip):\n    return False, 'It is short.', {}\n",
    }
    clips = dg.AssetKey(["media", "clips_of_ads"])
    with (
        definitions_of(attributes, files) as definitions,
        dg.DagsterInstance.ephemeral() as instance,
    ):
        storage = (definitions.resources or {})["clip_storage"]
        for job, op, config in (
            ("ads_sync_dataset", None, {}),
            ("ads_request_clips", "ads_request", {"clip_ids": ["fox"]}),
            ("ads_collect_clips", None, {}),
        ):
            result = definitions.resolve_job_def(job).execute_in_process(
                instance=instance,
                run_config={"ops": {op: {"config": config}}} if op else {},
                raise_on_error=False,
            )
            assert result.success, failure_text(result)
        records = instance.fetch_materializations(clips, limit=10).records
        assert [record.partition_key for record in records] == ["fox"]
        assert Ledger(StorageRoot(storage.url)).latest_manifest("media/clips_of_ads", "fox")
