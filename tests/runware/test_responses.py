from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sora_dagster.runware import (
    ApiResponse,
    AuthenticationError,
    NotFoundError,
    ProviderError,
    RequestRefusedError,
    RunwareError,
    ServerError,
    UnreadableResponseError,
    parse_response,
)
from sora_dagster.runware.responses import retry_after_seconds
from tests.runware.examples import FIRST, SECOND, running_row, video_row

ERROR = {"code": "providerError", "message": "upstream failed", "taskUUID": FIRST}
SCOPE = {"taskUUID": FIRST, "taskType": "videoInference"}


def parsed(body: Any, status_code: int = 200) -> ApiResponse:
    return parse_response(status_code, json.dumps(body).encode())


def failures(answer: ApiResponse) -> list[RunwareError]:
    return [*answer.errors, *answer.row_errors]


@pytest.mark.parametrize("status_code", [200, 400, 500])
@pytest.mark.parametrize(
    "body",
    [
        {"errors": [ERROR]},
        {"data": [], "errors": [ERROR]},
        {"data": None, "errors": [ERROR]},
        {"errors": ERROR},
        {"error": ERROR},
        {"error": {"code": "providerError", "message": "upstream failed"}, **SCOPE},
        [ERROR],
        ERROR,
        {"data": [{"status": "error", "error": ERROR, **SCOPE}]},
        {"data": [{"status": "error", "error": {"code": "providerError"}, **SCOPE}]},
        {"data": [{"status": "error", "code": "providerError", "message": "m", **SCOPE}]},
        {"data": [{"errors": [{"code": "providerError", "message": "m"}], **SCOPE}]},
        {"data": {"status": "error", "error": ERROR, **SCOPE}},
        {"status": "error", "code": "providerError", "message": "m", **SCOPE},
        {"status": "error", "error": ERROR, **SCOPE},
        {"errors": [{"code": "providerError", "message": "m"}], **SCOPE},
    ],
)
def test_an_error_is_read_from_every_form_with_its_task(body: Any, status_code: int) -> None:
    [error] = failures(parsed(body, status_code))
    assert type(error) is ProviderError
    assert error.task_uuid == FIRST
    assert error.status_code == status_code


@pytest.mark.parametrize(
    "body",
    [
        {"data": [video_row()]},
        {"data": [video_row()], "errors": []},
        {"data": video_row()},
        [video_row()],
        video_row(),
        {"data": [{**video_row(), "error": None}]},
    ],
)
def test_a_result_is_read_from_every_form(body: Any) -> None:
    answer = parsed(body)
    assert [row["videoURL"] for row in answer.rows_of(FIRST)] == [video_row()["videoURL"]]
    assert failures(answer) == []


@pytest.mark.parametrize("status_code", [200, 400])
def test_success_and_failure_stand_side_by_side_whatever_the_status(status_code: int) -> None:
    answer = parsed({"data": [running_row(SECOND)], "errors": [ERROR]}, status_code)
    assert answer.rows_of(SECOND)
    assert not answer.rows_of(FIRST)
    assert [error.task_uuid for error in answer.errors] == [FIRST]
    assert answer.names(FIRST)
    assert answer.names(SECOND)


def test_tasks_are_matched_without_regard_to_case() -> None:
    answer = parsed({"data": [{"taskUUID": "ABCDEFAB-0000-4000-8000-000000000000"}]})
    assert answer.rows_of("abcdefab-0000-4000-8000-000000000000")


def test_a_text_in_place_of_an_error_object_is_its_message() -> None:
    [error] = parsed({"error": "no such endpoint"}, 404).errors
    assert type(error) is NotFoundError
    assert error.message == "no such endpoint"


@pytest.mark.parametrize("body", [{"data": []}, {}, [], {"data": None}, {"errors": []}])
def test_an_empty_answer_is_not_a_failure(body: Any) -> None:
    answer = parsed(body)
    assert answer.rows == ()
    assert failures(answer) == []


@pytest.mark.parametrize(
    "body", [b"", b"<html>hello</html>", b"null", b"7", b'"ok"', b"{", b"\xff\xfe", b'["a"]']
)
def test_what_is_not_the_apis_json_is_unreadable(body: bytes) -> None:
    [error] = parse_response(200, body).errors
    assert type(error) is UnreadableResponseError
    assert "RUNWARE_BASE_URL" in str(error)


def test_nesting_without_end_is_unreadable() -> None:
    [error] = parse_response(200, b"[" * 200_000).errors
    assert type(error) is UnreadableResponseError


def test_json_of_another_service_is_unreadable() -> None:
    [error] = parsed({"hello": "world"}).errors
    assert type(error) is UnreadableResponseError


@pytest.mark.parametrize(
    ("status_code", "expected"),
    [
        (400, RequestRefusedError),
        (401, AuthenticationError),
        (404, NotFoundError),
        (502, ServerError),
    ],
)
@pytest.mark.parametrize("body", [b"", b"<html>oh no</html>", b'{"data": []}', b"[]"])
def test_a_failing_status_is_an_error_even_if_the_body_has_none(
    body: bytes, status_code: int, expected: type[RunwareError]
) -> None:
    [error] = parse_response(status_code, body).errors
    assert type(error) is expected
    assert error.task_uuid is None


def test_a_byte_order_mark_does_no_harm() -> None:
    assert parse_response(200, b"\xef\xbb\xbf" + json.dumps([video_row()]).encode()).rows


def test_secrets_are_left_out_of_what_errors_say() -> None:
    body = {"errors": [{"code": "invalidApiKey", "message": "rw-1 is wrong", "parameter": "rw-1"}]}
    [error] = parse_response(401, json.dumps(body).encode(), secrets=["rw-1"]).errors
    assert "rw-1" not in str(error)
    [error] = parse_response(200, b"you sent rw-1", secrets=["rw-1"]).errors
    assert "rw-1" not in str(error)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        ({"Retry-After": "7"}, 7.0),
        ({"retry-after": "1.5"}, 1.5),
        ({"Retry-After": "soon"}, None),
        ({"Retry-After": "-3"}, None),
        (
            {
                "Retry-After": "Wed, 21 Oct 2026 07:28:30 GMT",
                "Date": "Wed, 21 Oct 2026 07:28:00 GMT",
            },
            30.0,
        ),
        ({"Retry-After": "Wed, 21 Oct 2026 07:29:00 GMT"}, 60.0),
        ({"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}, 0.0),
    ],
)
def test_retry_after_is_read_as_seconds_or_as_a_date(
    headers: dict[str, str], expected: float | None
) -> None:
    now = datetime(2026, 10, 21, 7, 28, 0, tzinfo=UTC)
    assert retry_after_seconds(headers, now) == expected


def test_errors_have_the_wait_that_the_answer_requested() -> None:
    answer = parse_response(429, b"{}", headers={"Retry-After": "7"})
    assert answer.errors[0].retry_after_seconds == 7


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                [
                    "data",
                    "errors",
                    "error",
                    "code",
                    "message",
                    "taskUUID",
                    "taskType",
                    "status",
                    "videoURL",
                    "videoUUID",
                    "cost",
                    "progress",
                    "outputs",
                ]
            ),
            inner,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(JSON, st.integers(200, 599))
def test_no_json_whatever_breaks_the_reader(body: Any, status_code: int) -> None:
    answer = parsed(body, status_code)
    for error in failures(answer):
        assert str(error)


@given(st.binary(max_size=60), st.integers(200, 599))
def test_no_bytes_whatever_break_the_reader(body: bytes, status_code: int) -> None:
    assert parse_response(status_code, body).status_code == status_code
