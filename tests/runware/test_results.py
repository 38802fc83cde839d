from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sora_dagster.runware import (
    ConflictError,
    NotFoundError,
    ProviderError,
    RequestRefusedError,
    SafetyError,
    ServerError,
    TaskStatus,
    VideoResult,
    archived_status,
    parse_response,
    task_status,
)
from tests.runware.examples import FIRST, SECOND, running_row, video_row
from tests.runware.test_responses import JSON


def status_of(body: Any, status_code: int = 200, task_uuid: str = FIRST) -> TaskStatus:
    return task_status(task_uuid, parse_response(status_code, json.dumps(body).encode()))


def failed(code: str = "providerError", task_uuid: str = FIRST, **fields: Any) -> dict[str, Any]:
    return {
        "code": code,
        "message": "m",
        "taskUUID": task_uuid,
        "taskType": "videoInference",
        **fields,
    }


def test_the_reference_pages_result_is_read_whole() -> None:
    page: dict[str, Any] = {
        "taskType": "videoInference",
        "taskUUID": "982c01aa-813a-4434-aa42-3e512808fd94",
        "videoUUID": "93666777-2328-4441-a0d4-b6df40eb0a1a",
        "videoURL": (
            "https://vm.runware.ai/video/os/a04d20/ws/5/vi/93666777-2328-4441-a0d4-b6df40eb0a1a.mp4"
        ),
        "seed": 443404476,
        "cost": 4,
        "outputs": {"videoId": "video_69c581a1a7688190bf24a177278b6187000b0b6342cde7b3"},
    }
    [result] = status_of({"data": [page]}, task_uuid=page["taskUUID"]).results
    assert result == VideoResult(
        task_uuid="982c01aa-813a-4434-aa42-3e512808fd94",
        video_uuid="93666777-2328-4441-a0d4-b6df40eb0a1a",
        video_url=page["videoURL"],
        seed=443404476,
        cost_usd=4.0,
        video_id="video_69c581a1a7688190bf24a177278b6187000b0b6342cde7b3",
        nsfw=None,
    )


@pytest.mark.parametrize(
    ("cost", "expected"), [(4, 4.0), (0.3, 0.3), (0, None), (None, None), ("4", None), (-1, None)]
)
def test_a_cost_of_zero_is_a_cost_that_is_not_known(cost: Any, expected: float | None) -> None:
    [result] = status_of({"data": [video_row(cost=cost)]}).results
    assert result.cost_usd == expected


@pytest.mark.parametrize("flag", [True, False])
def test_the_content_checks_flag_is_kept(flag: bool) -> None:
    [result] = status_of({"data": [video_row(NSFWContent=flag)]}).results
    assert result.nsfw is flag


@pytest.mark.parametrize("word", ["processing", "pending", "queued"])
def test_a_running_generation_is_counted(word: str) -> None:
    status = status_of({"data": [running_row(status=word, progress=40)]})
    assert status.processing == 1
    assert status.is_known
    assert not status.is_over(1)


def test_a_running_generation_that_has_its_uuid_already_is_no_result() -> None:
    row = running_row(videoUUID="93666777-2328-4441-a0d4-b6df40eb0a1a")
    status = status_of({"data": [row]})
    assert status.results == ()
    assert status.processing == 1
    del row["status"]
    assert status_of({"data": [row]}).results == ()


def test_a_success_that_cannot_be_named_is_waited_for() -> None:
    status = status_of({"data": [running_row(status="success")]})
    assert not status.is_over(1)


def test_a_success_without_a_url_is_a_result_delivered_elsewhere() -> None:
    row = video_row()
    del row["videoURL"]
    [result] = status_of({"data": [row]}).results
    assert result.video_url is None


def test_a_video_without_its_uuid_is_named_after_its_url_whatever_the_signature() -> None:
    def named(url: str) -> str:
        row = video_row(videoURL=url)
        del row["videoUUID"]
        return status_of({"data": [row]}).results[0].video_uuid

    assert (
        named("https://vm.runware.ai/93666777-2328-4441-a0d4-b6df40eb0a1a.mp4?s=1")
        == "93666777-2328-4441-a0d4-b6df40eb0a1a"
    )
    assert named("https://vm.runware.ai/a.mp4?s=1") == named("https://vm.runware.ai/a.mp4?s=2")
    assert named("https://vm.runware.ai/a.mp4") != named("https://vm.runware.ai/b.mp4")


def test_a_repeated_result_counts_once_and_keeps_the_values_of_both_rows() -> None:
    without_cost = video_row(cost=None)
    without_seed = video_row(seed=None)
    [result] = status_of({"data": [without_cost, without_seed]}).results
    assert (result.cost_usd, result.seed) == (4.0, 443404476)


@given(st.permutations(["a", "b", "c", "d"]))
def test_results_are_ordered_by_their_uuid_whatever_the_order_they_came_in(order: Any) -> None:
    results = status_of({"data": [video_row(video=video) for video in order]}).results
    assert [result.video_id for result in results] == ["video_a", "video_b", "video_c", "video_d"]


def test_rows_of_other_tasks_are_not_this_tasks() -> None:
    body = {"data": [video_row(SECOND), running_row(SECOND)], "errors": [failed(task_uuid=SECOND)]}
    assert status_of(body) == TaskStatus(FIRST)


def test_silence_is_neither_known_nor_unknown() -> None:
    status = status_of({"data": []})
    assert not status.is_known
    assert status.not_found is None
    assert not status.is_over(1)


def test_the_echo_of_the_question_proves_nothing() -> None:
    status = status_of({"data": [{"taskType": "getResponse", "taskUUID": FIRST}]})
    assert not status.is_known


@pytest.mark.parametrize("code", ["taskNotFound", "taskFailedOrNotFound", "notFound"])
def test_the_apis_word_that_it_does_not_know_a_task_is_no_failure(code: str) -> None:
    status = status_of({"errors": [failed(code)]}, 404)
    assert isinstance(status.not_found, NotFoundError)
    assert status.errors == ()
    assert not status.is_known


@pytest.mark.parametrize("code", ["taskExpired", "imageNotFound", "mediaExpired"])
def test_that_something_else_is_not_found_is_a_failure_of_the_task(code: str) -> None:
    status = status_of({"errors": [failed(code)]}, 400)
    assert status.not_found is None
    assert [error.code for error in status.errors] == [code]


@pytest.mark.parametrize("status_code", [401, 429, 500, 503])
def test_not_found_is_not_believed_beside_a_failing_status(status_code: int) -> None:
    assert status_of({"errors": [failed("taskNotFound")]}, status_code).not_found is None


@pytest.mark.parametrize("status_code", [200, 400])
def test_a_failed_generation_ends_a_task_of_one(status_code: int) -> None:
    status = status_of({"errors": [failed("contentPolicyViolation")]}, status_code)
    assert isinstance(status.errors[0], SafetyError)
    assert status.is_known
    assert status.is_over(1)


@pytest.mark.parametrize(
    ("error", "status_code"),
    [
        (failed("internalServerError", taskType="getResponse"), 200),
        (failed("rateLimitExceeded", taskType="getResponse"), 200),
        (failed("invalidApiKey", taskType="getResponse"), 400),
        (failed("providerError"), 503),
        (failed("providerError"), 429),
        (failed("conflictTaskUUID"), 400),
    ],
)
def test_what_went_wrong_with_the_question_does_not_end_the_task(
    error: dict[str, Any], status_code: int
) -> None:
    status = status_of({"errors": [error]}, status_code)
    assert status.errors == ()
    assert status.poll_error is not None
    assert not status.is_over(1)


def test_a_failure_among_the_data_is_believed_whatever_its_kind() -> None:
    row = {"taskUUID": FIRST, "status": "error", "error": {"code": "internalServerError"}}
    status = status_of({"data": [row]})
    assert isinstance(status.errors[0], ServerError)
    assert status.is_over(1)


def test_generations_that_fail_alike_all_count() -> None:
    status = status_of({"data": [video_row()], "errors": [failed(), failed()]})
    assert len(status.errors) == 2
    assert status.is_over(3)


def test_a_failure_in_both_lists_counts_once() -> None:
    row = {"taskUUID": FIRST, "status": "error", "error": {"code": "providerError", "message": "m"}}
    status = status_of({"data": [row, video_row(), running_row()], "errors": [failed()]})
    assert len(status.errors) == 1
    assert not status.is_over(3)


@pytest.mark.parametrize(
    ("rows", "errors", "number_results", "over"),
    [
        ([video_row()], [], 1, True),
        ([video_row()], [], 2, False),
        ([video_row(), running_row()], [], 2, False),
        ([video_row(), video_row(video="b")], [], 2, True),
        ([video_row(), running_row()], [failed()], 2, False),
        ([video_row()], [failed()], 2, True),
        ([video_row()], [failed()], 3, False),
        ([], [failed()], 4, True),
        ([running_row()], [failed()], 4, False),
        ([], [], 1, False),
    ],
)
def test_a_task_is_over_when_nothing_more_will_come(
    rows: list[Any], errors: list[Any], number_results: int, over: bool
) -> None:
    assert status_of({"data": rows, "errors": errors}).is_over(number_results) is over


def archived(response: Any) -> TaskStatus:
    row = {
        "taskType": "getTaskDetails",
        "taskUUID": FIRST,
        "request": [{"taskType": "videoInference", "taskUUID": FIRST}],
        "response": response,
    }
    return archived_status(FIRST, parse_response(200, json.dumps({"data": [row]}).encode()))


@pytest.mark.parametrize(
    "response", [{"data": [video_row()]}, [video_row()], video_row(), {"data": video_row()}]
)
def test_the_archives_result_is_read_from_every_form(response: Any) -> None:
    assert archived(response).results == status_of({"data": [video_row()]}).results


@pytest.mark.parametrize(
    "response",
    [
        {"data": [{"taskType": "videoInference", "taskUUID": FIRST}]},
        {"data": []},
        {"errors": [failed("conflictTaskUUID")]},
        None,
    ],
)
def test_an_archived_task_without_an_outcome_is_known_and_not_over(response: Any) -> None:
    status = archived(response)
    assert status.is_known
    assert status.errors == ()
    assert not status.is_over(1)


@pytest.mark.parametrize("scope", [{"taskUUID": FIRST}, {}])
def test_the_archives_refusal_is_an_error_of_the_task(scope: dict[str, str]) -> None:
    status = archived({"errors": [{"code": "invalidWidth", "message": "m", **scope}]})
    assert isinstance(status.errors[0], RequestRefusedError)


def test_the_archives_word_that_it_does_not_know_a_task_is_kept() -> None:
    answer = parse_response(404, json.dumps({"errors": [failed("taskNotFound")]}).encode())
    status = archived_status(FIRST, answer)
    assert status.not_found is not None
    assert not status.is_known


@given(JSON, st.integers(200, 599), st.integers(1, 4))
def test_no_answer_whatever_breaks_the_reading_of_a_task(
    body: Any, status_code: int, number_results: int
) -> None:
    rows = body if isinstance(body, list) else [body]
    named = [{**row, "taskUUID": FIRST} if isinstance(row, dict) else row for row in rows]
    for answer in (
        parse_response(status_code, {"data": named}),
        parse_response(status_code, {"errors": named}),
        parse_response(200, {"data": [{"taskUUID": FIRST, "response": body}]}),
    ):
        for status in (task_status(FIRST, answer), archived_status(FIRST, answer)):
            assert not (status.is_over(number_results) and not status.is_known)
            assert not any(isinstance(error, ConflictError) for error in status.errors)
            assert isinstance(status.errors, tuple)


def test_a_provider_failure_is_retryable() -> None:
    [error] = status_of({"errors": [failed()]}).errors
    assert isinstance(error, ProviderError)
    assert error.retryable
