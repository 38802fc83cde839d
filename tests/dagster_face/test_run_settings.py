"""A run whose process lacks a setting that its code location has stops before anything is sent."""

from __future__ import annotations

import pytest

from sora_dagster.resources.run_settings import SETTINGS_TAG
from tests.dagster_face.conftest import FaultyStack
from tests.dagster_face.stack import Stack


def test_runs_carry_the_names_of_the_settings_and_no_value(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SORA_MAX_USD_PER_DAY", "77.25")
    stack.write({"id": "fox"})
    run = stack.run_job("request_clips", dry_run=True).dagster_run
    assert {"RUNWARE_API_KEY", "SORA_MAX_USD_PER_DAY"} <= set(run.tags[SETTINGS_TAG].split(","))
    assert "77.25" not in str(run.tags)


@pytest.mark.parametrize("variable", ["SORA_MAX_USD_PER_DAY", "SORA_WEBHOOK_URL"])
def test_a_run_without_a_setting_of_its_code_location_sends_nothing(
    faulty: FaultyStack, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv("SORA_MAX_USD_PER_DAY", "77")
    monkeypatch.setenv("SORA_WEBHOOK_URL", "https://hooks.example.com/runware")
    monkeypatch.setenv("SORA_WEBHOOK_SECRET", "a secret of the receiver")
    stack, sandbox = faulty()
    stack.write({"id": "fox"})
    # The code location has loaded its definitions; the run is executed without the variable.
    assert stack.definitions.resolve_job_def("request_clips").tags[SETTINGS_TAG]
    monkeypatch.delenv(variable)
    result = stack.run_job("request_clips")
    assert not result.success
    assert f"the process of this run has no {variable}" in str(
        [event.event_specific_data for event in result.all_events]
    )
    assert sandbox.charged() == set()
    assert list(stack.root.list("slots")) == []


@pytest.mark.parametrize("asset", ["clip_requests", "clips"])
def test_a_run_of_assets_without_a_setting_of_its_code_location_stops(
    faulty: FaultyStack, monkeypatch: pytest.MonkeyPatch, asset: str
) -> None:
    monkeypatch.setenv("SORA_MAX_USD_PER_DAY", "77")
    stack, sandbox = faulty()
    stack.write({"id": "fox"})
    stack.tick_dataset_sensor()
    assert stack.definitions.resolve_implicit_global_asset_job_def()
    monkeypatch.delenv("SORA_MAX_USD_PER_DAY")
    result = stack.materialize([asset], ["fox"])
    assert not result.success
    errors = str([event.event_specific_data for event in result.all_events])
    assert "the process of this run has no SORA_MAX_USD_PER_DAY" in errors
    assert sandbox.charged() == set()
    assert list(stack.root.list("slots")) == []


def test_a_setting_that_a_resource_has_in_python_is_not_needed(
    faulty: FaultyStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SORA_MAX_USD_PER_DAY", "77")
    stack, sandbox = faulty()
    stack.settings_changes["max_usd_per_day"] = 50
    stack.write({"id": "fox"})
    assert stack.definitions.resolve_job_def("request_clips").tags[SETTINGS_TAG]
    monkeypatch.delenv("SORA_MAX_USD_PER_DAY")
    assert stack.run_job("request_clips").success
    assert len(sandbox.charged()) == 1
