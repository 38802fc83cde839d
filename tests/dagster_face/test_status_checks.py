"""The checks of generation_costs about money, Runware and collecting."""

from __future__ import annotations

import dagster as dg
import pytest

from sora_dagster.assets.status_checks import SUBJECTS
from sora_dagster.generation.protocol import layout
from tests.dagster_face.stack import Stack

COSTS = dg.AssetKey("generation_costs")


def tick(
    stack: Stack, cursor: str | None = None
) -> tuple[dict[str, dg.AssetCheckEvaluation], str | None]:
    """Evaluate the sensor; gives its evaluations by check, and its cursor."""
    definitions = stack.definitions
    resources = definitions.resources or {}
    with dg.build_sensor_context(
        instance=stack.instance,
        cursor=cursor,
        definitions=definitions,
        resources={name: resources[name] for name in ("runware", "clip_storage")},
    ) as context:
        data = definitions.get_sensor_def("status_sensor").evaluate_tick(context)
    events = [event for event in data.asset_events if isinstance(event, dg.AssetCheckEvaluation)]
    assert all(event.asset_key == COSTS for event in events)
    return {event.check_name: event for event in events}, data.cursor


def test_checks_that_pass_are_logged_and_not_repeated_at_once(stack: Stack) -> None:
    stack.write({"id": "fox"})
    found, cursor = tick(stack)
    assert set(found) == set(SUBJECTS)
    assert all(event.passed for event in found.values())
    assert tick(stack, cursor)[0] == {}


def test_a_check_that_begins_to_fail_is_logged_with_what_to_do(stack: Stack) -> None:
    stack.write({"id": "fox"})
    stack.run_job("request_clips")
    _, cursor = tick(stack)
    stack.root.write(layout.attempt_key("clips", "fox", 1, 1), b"{")
    stack.run_job("collect_clips")
    found, _ = tick(stack, cursor)
    assert list(found) == ["no_clip_needs_a_decision"]
    failed = found["no_clip_needs_a_decision"]
    assert not failed.passed
    assert failed.severity is dg.AssetCheckSeverity.ERROR
    assert "sora-dagster resolve fox --asset clips --retry" in (failed.description or "")


def test_the_budget_warns_before_it_is_used_up(stack: Stack) -> None:
    stack.write({"id": "fox"})
    stack.run_job("request_clips")
    used = stack.generator()._budget.spent_usd()
    for limit, severity in (
        (used / 0.9, dg.AssetCheckSeverity.WARN),
        (used, dg.AssetCheckSeverity.ERROR),
    ):
        stack.settings_changes = {"max_usd_per_day": limit}
        event = tick(stack)[0]["budget_use"]
        assert not event.passed
        assert event.severity is severity


def test_an_api_that_cannot_be_reached_turns_a_check_red(stack: Stack) -> None:
    stack.write({"id": "fox"})
    stack.base_url = "http://127.0.0.1:9/v1"
    event = tick(stack)[0]["runware_works"]
    assert not event.passed
    assert "did not answer" in (event.description or "")


def test_a_check_that_fails_for_another_reason_is_logged_again(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    stack.write({"id": "fox"})
    with monkeypatch.context() as environment:
        environment.setenv("RUNWARE_API_KEY", "a-key-that-was-revoked")
        found, cursor = tick(stack)
        assert "Runware refused the API key" in (found["runware_works"].description or "")
        assert tick(stack, cursor)[0] == {}
    stack.base_url = "http://127.0.0.1:9/v1"
    found, _ = tick(stack, cursor)
    assert list(found) == ["runware_works"]
    assert "Runware did not answer" in (found["runware_works"].description or "")


def test_the_checks_can_be_run_by_hand(stack: Stack) -> None:
    stack.write({"id": "fox"})
    checks = dg.define_asset_job("checks", dg.AssetSelection.checks_for_assets(COSTS))
    definitions = dg.Definitions.merge(stack.definitions, dg.Definitions(jobs=[checks]))
    result = definitions.resolve_job_def("checks").execute_in_process(
        instance=stack.instance, raise_on_error=False
    )
    assert result.success
    assert {event.check_name for event in result.get_asset_check_evaluations()} == set(SUBJECTS)


def test_one_check_can_be_run_alone(stack: Stack) -> None:
    stack.write({"id": "fox"})
    [one, *_] = SUBJECTS
    check = dg.define_asset_job(
        "check", dg.AssetSelection.checks(dg.AssetCheckKey(COSTS, name=one))
    )
    definitions = dg.Definitions.merge(stack.definitions, dg.Definitions(jobs=[check]))
    result = definitions.resolve_job_def("check").execute_in_process(instance=stack.instance)
    assert {event.check_name for event in result.get_asset_check_evaluations()} == {one}
