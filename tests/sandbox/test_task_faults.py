"""Faults of single tasks: refused submissions, look-ups that know too little, known UUIDs."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from uuid import uuid4

import pytest

from sora_dagster.sandbox.server import running_sandbox
from sora_dagster.sandbox.settings import SandboxSettings
from tests.sandbox.api import SandboxApi, until, video_task


@pytest.fixture
def api(start: Callable[..., SandboxApi]) -> SandboxApi:
    """A sandbox for one test, which can check its ledger."""
    return start()


@pytest.mark.parametrize(
    ("error", "code"),
    [
        ("provider", "inferenceError"),
        ("validation", "invalidPositivePrompt"),
        ("safety", "contentPolicyViolation"),
        ("model", "modelDisabled"),
    ],
)
def test_a_task_of_a_batch_is_refused_and_the_others_accepted(
    api: SandboxApi, error: str, code: str
) -> None:
    tasks = [video_task(), video_task(), video_task()]
    api.set_faults({"fault": "refuse", "error": error, "positions": [1]})
    answer = api.post(*tasks)
    assert answer.status_code == 200
    assert [row["taskUUID"] for row in answer.json()["data"]] == [
        tasks[0]["taskUUID"],
        tasks[2]["taskUUID"],
    ]
    (refusal,) = answer.json()["errors"]
    assert (refusal["code"], refusal["taskUUID"]) == (code, tasks[1]["taskUUID"])
    assert api.charged() == [tasks[0]["taskUUID"], tasks[2]["taskUUID"]]


def test_the_tasks_to_refuse_can_be_chosen_by_prompt(api: SandboxApi) -> None:
    volcano = video_task(positivePrompt="A volcano erupts")
    api.set_faults({"fault": "refuse", "prompt_contains": "volcano", "code": "own", "message": "m"})
    refusal = api.refusal(volcano)
    assert (refusal["code"], refusal["message"]) == ("own", "m")
    assert api.post(video_task()).status_code == 200


def test_refusals_are_counted_by_task_not_by_post(api: SandboxApi) -> None:
    api.set_faults({"fault": "refuse", "nth": [2, 3]})
    first = api.post(video_task(), video_task()).json()
    second = api.post(video_task(), video_task()).json()
    assert [len(answer["errors"]) for answer in (first, second)] == [1, 1]


def test_an_accepted_task_is_not_known_during_its_first_polls(api: SandboxApi) -> None:
    api.set_faults({"fault": "not_yet_known", "polls": 2})
    task = video_task()
    api.post(task)
    assert api.details(task["taskUUID"]).status_code == 400
    statuses = [api.poll(task["taskUUID"]).status_code for _ in range(3)]
    assert statuses == [400, 400, 200]
    assert api.details(task["taskUUID"]).status_code == 200


def test_an_accepted_task_is_not_known_during_its_first_seconds() -> None:
    now = [1_000_000.0]
    settings = SandboxSettings(latency_seconds=1000, reuse_rendered=True)
    with running_sandbox(settings, clock=lambda: now[0]) as base_url:
        api = SandboxApi(base_url)
        api.set_faults({"fault": "not_yet_known", "seconds": 5, "event": "poll"})
        task = video_task()
        api.post(task)
        now[0] += 4.9
        assert api.poll(task["taskUUID"]).status_code == 400
        assert api.details(task["taskUUID"]).status_code == 200
        now[0] += 0.1
        assert api.poll(task["taskUUID"]).status_code == 200


def test_a_task_is_forgotten_some_polls_after_its_end(api: SandboxApi) -> None:
    task = video_task()
    api.post(task)
    until(lambda: api.ledger()["charges"][0]["outcome"] == "done", what="the end")
    api.set_faults({"fault": "forgotten", "polls": 2})
    statuses = [api.poll(task["taskUUID"]).status_code for _ in range(4)]
    assert statuses == [200, 200, 400, 400]
    assert api.details(task["taskUUID"]).status_code == 400


def test_a_running_task_is_not_forgotten(start: Callable[..., SandboxApi]) -> None:
    api = start(latency_seconds=1000)
    api.set_faults({"fault": "forgotten", "polls": 0})
    task = video_task()
    api.post(task)
    assert [api.poll(task["taskUUID"]).status_code for _ in range(3)] == [200] * 3


def test_a_task_is_forgotten_some_seconds_after_its_end(
    render_cache: Path,
) -> None:
    now = [1_000_000.0]
    settings = SandboxSettings.model_validate(
        {"latency_seconds": 0, "reuse_rendered": True, "render_cache_dir": render_cache}
    )
    with running_sandbox(settings, clock=lambda: now[0]) as base_url:
        api = SandboxApi(base_url)
        task_uuid = api.video()["taskUUID"]
        api.set_faults({"fault": "forgotten", "seconds": 60})
        now[0] += 59.9
        assert api.poll(task_uuid).status_code == 200
        now[0] += 0.1
        assert api.poll(task_uuid).status_code == 400
        assert api.details(task_uuid).status_code == 400


def test_the_archive_alone_can_be_without_a_task(api: SandboxApi) -> None:
    task_uuid = api.video()["taskUUID"]
    api.set_faults({"fault": "unknown", "event": "details"})
    assert api.details(task_uuid).json()["errors"][0]["code"] == "taskFailedOrNotFound"
    assert api.poll(task_uuid).status_code == 200


def test_task_details_report_the_refusal_of_a_replay(api: SandboxApi) -> None:
    task = video_task()
    api.post(task)
    api.results(task["taskUUID"])
    api.set_faults({"fault": "archived_refusal"})
    before = api.details(task["taskUUID"]).json()["data"][0]["response"]
    refusal = api.refusal(task)
    after = api.details(task["taskUUID"]).json()["data"][0]["response"]
    assert "errors" not in before
    assert after == {"errors": [refusal]}


@pytest.mark.parametrize(
    ("mode", "unknown_status", "running_rows"),
    [("error", 400, 1), ("silent", 200, 1), ("silent_running", 200, 0)],
)
def test_the_plan_says_how_unknown_and_running_tasks_are_polled(
    start: Callable[..., SandboxApi], mode: str, unknown_status: int, running_rows: int
) -> None:
    api = start(latency_seconds=1000)
    api.set_faults(unknown_polls=mode)
    task = video_task()
    api.post(task)
    assert api.poll(str(uuid4())).status_code == unknown_status
    assert len(api.rows(task["taskUUID"])) == running_rows


def test_a_sandbox_silent_about_running_tasks_reports_finished_ones(api: SandboxApi) -> None:
    api.set_faults(unknown_polls="silent_running")
    assert api.video()["status"] == "success"


def test_a_known_uuid_can_be_refused_only_while_its_task_runs(
    start: Callable[..., SandboxApi],
) -> None:
    api = start(latency_seconds=1000)
    api.set_faults(known_uuids="refused_while_running")
    task = video_task()
    api.post(task)
    assert api.refusal(task)["code"] == "conflictTaskUUID"
    assert len(api.charged()) == 1


def test_a_known_uuid_is_then_made_and_charged_again_after_its_tasks_end(api: SandboxApi) -> None:
    api.set_faults(known_uuids="refused_while_running")
    task = video_task()
    api.post(task)
    (first,) = api.results(task["taskUUID"])
    assert api.post(task).status_code == 200
    (second,) = api.results(task["taskUUID"])
    assert first["videoUUID"] != second["videoUUID"]
    assert [
        (charge["taskUUID"], charge["attempt"], charge["cost"])
        for charge in api.ledger()["charges"]
    ] == [(task["taskUUID"], 1, 1.2), (task["taskUUID"], 2, 1.2)]


def test_a_uuid_that_was_charged_twice_is_restored_twice(
    start: Callable[..., SandboxApi], tmp_path: Path
) -> None:
    api = start(data_dir=tmp_path)
    api.set_faults(known_uuids="charged_again")
    task = video_task()
    api.post(task, task)
    assert start(data_dir=tmp_path).charged() == [task["taskUUID"]] * 2


def test_a_known_uuid_can_be_charged_again_while_its_task_runs(
    start: Callable[..., SandboxApi],
) -> None:
    api = start(latency_seconds=1000)
    api.set_faults(known_uuids="charged_again")
    task = video_task()
    assert [api.post(task).status_code for _ in range(3)] == [200] * 3
    assert api.charged() == [task["taskUUID"]] * 3
    assert api.ledger()["total_usd"] == 3.6
