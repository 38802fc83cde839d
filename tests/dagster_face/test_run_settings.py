"""The settings of a code location in runs whose process lacks them."""

from __future__ import annotations

import json
from typing import Any

import dagster as dg
import pytest

from sora_dagster.resources.run_settings import SETTINGS_TAG, settings_tag
from tests.dagster_face.conftest import FaultyStack
from tests.dagster_face.stack import Stack, failure_text

SECRET = "a secret of the receiver"


def errors_of(result: dg.ExecuteInProcessResult) -> str:
    return str([event.event_specific_data for event in result.all_events])


def test_secrets_and_paths_do_not_travel() -> None:
    [value] = settings_tag(
        {
            "RUNWARE_API_KEY": "a-key",
            "SORA_WEBHOOK_SECRET": SECRET,
            "SORA_WEBHOOK_URL": "https://hooks.example.com/runware",
            "RUNWARE_BASE_URL": "https://user:word@proxy.example.com/v1",
            "SORA_MAX_USD": "40",
            "SORA_MAX_USD_PER_DAY": " ",
            "SORA_MODELS": "/models",
            "SORA_STORAGE": "/clips",
            "OTHER": "x",
        }
    ).values()
    assert json.loads(value) == {
        "RUNWARE_API_KEY": None,
        "RUNWARE_BASE_URL": None,
        "SORA_STORAGE": None,
        "SORA_MAX_USD": "40",
        "SORA_WEBHOOK_URL": "https://hooks.example.com/runware",
        "SORA_WEBHOOK_SECRET": None,
        "SORA_MODELS": None,
    }
    [value] = settings_tag({"SORA_STORAGE": "s3://bucket/clips"}).values()
    assert json.loads(value) == {"SORA_STORAGE": "s3://bucket/clips"}
    assert settings_tag({"OTHER": "x"}) == {}


@pytest.mark.parametrize("asset", [None, "clip_requests"])
def test_a_run_without_a_limit_of_its_code_location_has_that_limit(
    faulty: FaultyStack, monkeypatch: pytest.MonkeyPatch, asset: str | None
) -> None:
    monkeypatch.setenv("SORA_MAX_USD_PER_DAY", "0.25")
    stack, sandbox = faulty()
    stack.write({"id": "fox"})
    stack.tick_dataset_sensor()
    # The code location has loaded its definitions; the run is executed without the variable.
    assert stack.definitions.resolve_implicit_global_asset_job_def()
    monkeypatch.delenv("SORA_MAX_USD_PER_DAY")
    result = (
        stack.run_job("request_clips") if asset is None else stack.materialize([asset], ["fox"])
    )
    assert "the daily spending limit of 0.25 USD" in failure_text(result)
    assert sandbox.charged() == set()


@pytest.mark.parametrize("run", ["request_clips", "clip_requests", "clips"])
def test_a_run_without_a_secret_of_its_code_location_stops(
    faulty: FaultyStack, monkeypatch: pytest.MonkeyPatch, run: str
) -> None:
    monkeypatch.setenv("SORA_WEBHOOK_URL", "https://hooks.example.com/runware")
    monkeypatch.setenv("SORA_WEBHOOK_SECRET", SECRET)
    stack, sandbox = faulty()
    stack.write({"id": "fox"})
    stack.tick_dataset_sensor()
    assert stack.definitions.resolve_implicit_global_asset_job_def()
    monkeypatch.delenv("SORA_WEBHOOK_SECRET")
    is_job = run == "request_clips"
    result = stack.run_job(run) if is_job else stack.materialize([run], ["fox"])
    assert not result.success
    assert "the process of this run has no SORA_WEBHOOK_SECRET" in errors_of(result)
    assert sandbox.charged() == set()
    assert list(stack.root.list("slots")) == []


def test_no_secret_is_in_what_dagster_keeps_of_a_run(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SORA_WEBHOOK_URL", "https://hooks.example.com/runware")
    monkeypatch.setenv("SORA_WEBHOOK_SECRET", SECRET)
    stack.write({"id": "fox"})
    run = stack.run_job("request_clips", dry_run=True).dagster_run
    snapshot: Any = stack.instance.get_job_snapshot(str(run.job_snapshot_id))
    assert SETTINGS_TAG in str(snapshot)
    assert SECRET not in str(snapshot) + str(run)


def test_a_setting_that_a_resource_has_in_python_is_not_needed(
    faulty: FaultyStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SORA_MAX_USD_PER_DAY", "0.25")
    stack, sandbox = faulty()
    stack.settings_changes["max_usd_per_day"] = 50
    stack.write({"id": "fox"})
    assert stack.definitions
    monkeypatch.delenv("SORA_MAX_USD_PER_DAY")
    assert stack.run_job("request_clips").success
    assert len(sandbox.charged()) == 1
