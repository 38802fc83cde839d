from __future__ import annotations

import logging
import re
from typing import Any

import pytest
import stamina
from stamina.instrumentation import RetryDetails, set_on_retry_hooks

from sora_dagster.runware import (
    AuthenticationError,
    ConnectionFailedError,
    NotFoundError,
    QuotaError,
    RateLimitError,
    RequestRefusedError,
    RunwareClient,
    RunwareError,
    ServerError,
    UnreadableResponseError,
)
from sora_dagster.runware.retry_log import log_retries_as_sentences
from tests.runware.conftest import KEY
from tests.runware.examples import FIRST, SECOND, THIRD, running_row, video_row
from tests.runware.scripted_api import Answer, Broken, ScriptedApi, refusing_url


def asked_for(api: ScriptedApi) -> list[list[str]]:
    """The tasks of each poll."""
    return [[task["taskUUID"] for task in post.tasks] for post in api.received]


def unscoped(code: str) -> dict[str, Any]:
    return {"errors": [{"code": code, "message": "m"}]}


def test_many_tasks_are_polled_in_one_post(api: ScriptedApi, client: RunwareClient) -> None:
    api.will(Answer({"data": [video_row(SECOND), running_row(FIRST, progress=10)]}))
    statuses = client.poll([FIRST, SECOND, THIRD])
    assert list(statuses) == [FIRST, SECOND, THIRD]
    assert statuses[FIRST].processing == 1
    assert [result.video_id for result in statuses[SECOND].results] == ["video_a"]
    assert not statuses[THIRD].is_known
    assert api.received[0].tasks == [
        {"taskType": "getResponse", "taskUUID": uuid} for uuid in (FIRST, SECOND, THIRD)
    ]


def test_more_tasks_than_a_poll_takes_go_in_several_posts(api: ScriptedApi) -> None:
    api.will(Answer({"data": []}), Answer({"data": []}))
    with RunwareClient(KEY, base_url=api.url, poll_batch_size=2) as client:
        client.poll([FIRST, SECOND, THIRD])
        assert client.posts.polls == 2
    assert asked_for(api) == [[FIRST, SECOND], [THIRD]]


def test_no_task_is_no_post(api: ScriptedApi, client: RunwareClient) -> None:
    assert client.poll([]) == {}
    assert api.received == []


def test_a_task_named_twice_is_polled_once(api: ScriptedApi, client: RunwareClient) -> None:
    api.will(Answer({"data": [running_row()]}))
    assert list(client.poll([FIRST, FIRST])) == [FIRST]
    assert asked_for(api) == [[FIRST]]


@pytest.mark.parametrize("status", [200, 400])
def test_failed_and_finished_tasks_are_read_from_one_answer(
    api: ScriptedApi, client: RunwareClient, status: int
) -> None:
    error = {
        "code": "contentPolicyViolation",
        "message": "m",
        "taskUUID": FIRST,
        "taskType": "videoInference",
    }
    api.will(Answer({"data": [video_row(SECOND)], "errors": [error]}, status))
    statuses = client.poll([FIRST, SECOND])
    assert [error.kind for error in statuses[FIRST].errors] == ["safety"]
    assert statuses[SECOND].is_over(1)
    assert len(api.received) == 1


@pytest.mark.parametrize(
    "step",
    [
        Answer(b"", 503),
        Answer(b"", 429),
        Answer(b"<html>"),
        Broken("reset"),
        Broken("close"),
        Broken("truncate"),
    ],
)
def test_a_poll_that_failed_is_repeated(
    api: ScriptedApi, client: RunwareClient, step: Answer | Broken
) -> None:
    api.will(step, Answer({"data": [running_row()]}))
    assert client.poll([FIRST])[FIRST].is_known
    assert client.posts.polls == 2


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        (Answer(b"", 503), ServerError),
        (Answer(b"", 429), RateLimitError),
        (Answer(b"<html>"), UnreadableResponseError),
        (Broken("reset"), ConnectionFailedError),
    ],
)
def test_a_poll_that_keeps_failing_raises(
    api: ScriptedApi, step: Answer | Broken, expected: type[RunwareError]
) -> None:
    api.will(step, step)
    with (
        RunwareClient(KEY, base_url=api.url, retry_attempts=2) as client,
        pytest.raises(expected),
    ):
        client.poll([FIRST, SECOND])
    assert len(api.received) == 2


def test_a_poll_without_a_connection_raises() -> None:
    with (
        RunwareClient(KEY, base_url=refusing_url(), retry_attempts=2) as client,
        pytest.raises(ConnectionFailedError) as failure,
    ):
        client.poll([FIRST])
    assert not failure.value.sent


@pytest.mark.parametrize("status", [200, 400, 401])
@pytest.mark.parametrize("scope", [{}, {"taskUUID": FIRST, "taskType": "getResponse"}])
def test_a_wrong_key_raises_at_once(
    api: ScriptedApi, client: RunwareClient, status: int, scope: dict[str, str]
) -> None:
    api.will(Answer({"errors": [{"code": "invalidApiKey", "message": "m", **scope}]}, status))
    with pytest.raises(AuthenticationError):
        client.poll([FIRST, SECOND])
    assert len(api.received) == 1


def test_an_empty_account_raises(api: ScriptedApi, client: RunwareClient) -> None:
    api.will(Answer(unscoped("insufficientCredits"), 402))
    with pytest.raises(QuotaError):
        client.poll([FIRST])


@pytest.mark.parametrize("step", [Answer(unscoped("arrayTooLarge"), 400), Answer(b"", 413)])
def test_after_a_refused_batch_each_task_is_polled_alone(
    api: ScriptedApi, client: RunwareClient, step: Answer
) -> None:
    api.will(step, *[Answer(lambda tasks: {"data": [running_row(tasks[0]["taskUUID"])]})] * 4)
    first = client.poll([FIRST, SECOND])
    second = client.poll([FIRST, SECOND])
    assert all(status.is_known for status in (*first.values(), *second.values()))
    assert asked_for(api) == [[FIRST, SECOND], [FIRST], [SECOND], [FIRST], [SECOND]]


def test_a_batch_refused_by_way_of_its_first_task_does_not_fail_that_task(
    api: ScriptedApi, client: RunwareClient
) -> None:
    blamed = {"code": "invalidRequest", "message": "one task only", "taskUUID": FIRST}
    api.will(
        Answer({"errors": [blamed]}, 400),
        Answer({"data": [running_row(FIRST)]}),
        Answer({"data": [running_row(SECOND)]}),
    )
    statuses = client.poll([FIRST, SECOND])
    assert statuses[FIRST].errors == ()
    assert statuses[SECOND].is_known


def test_after_a_partial_answer_only_the_rest_is_polled_again(
    api: ScriptedApi, client: RunwareClient
) -> None:
    api.will(
        Answer({"data": [running_row(FIRST)], "errors": [{"code": "busy", "message": "m"}]}),
        Answer({"data": [running_row(SECOND)]}),
        Answer({"data": []}),
    )
    assert client.poll([FIRST, SECOND])[SECOND].is_known
    client.poll([FIRST, SECOND])
    assert asked_for(api) == [[FIRST, SECOND], [SECOND], [FIRST, SECOND]]


def test_a_refused_poll_of_one_task_is_reported_and_does_not_end_it(
    api: ScriptedApi, client: RunwareClient
) -> None:
    api.will(Answer(unscoped("invalidRequest"), 400))
    status = client.poll([FIRST])[FIRST]
    assert isinstance(status.poll_error, RequestRefusedError)
    assert not status.is_over(1)


@pytest.mark.parametrize("scope", [{}, {"taskUUID": FIRST}])
@pytest.mark.parametrize("status", [200, 400, 404])
def test_a_task_that_the_api_does_not_know_is_reported_as_unknown(
    api: ScriptedApi, client: RunwareClient, status: int, scope: dict[str, str]
) -> None:
    api.will(Answer({"errors": [{"code": "taskNotFound", "message": "m", **scope}]}, status))
    answered = client.poll([FIRST])[FIRST]
    assert isinstance(answered.not_found, NotFoundError)
    assert answered.errors == ()


def test_a_404_of_something_in_between_does_not_make_a_task_unknown(
    api: ScriptedApi, client: RunwareClient
) -> None:
    api.will(Answer(b"<html>not here</html>", 404))
    with pytest.raises(NotFoundError):
        client.poll([FIRST])


def test_a_failure_that_only_a_task_can_have_is_its_own_if_one_was_polled(
    api: ScriptedApi, client: RunwareClient
) -> None:
    api.will(Answer(unscoped("contentPolicyViolation"), 400))
    status = client.poll([FIRST])[FIRST]
    assert [error.kind for error in status.errors] == ["safety"]
    assert status.is_over(1)


def test_the_wait_that_an_answer_requests_is_made(api: ScriptedApi, client: RunwareClient) -> None:
    waits: list[float] = []

    def note(details: RetryDetails) -> None:
        waits.append(details.wait_for)

    api.will(Answer(b"", 429, {"Retry-After": "0.02"}), Answer({"data": [running_row()]}))
    set_on_retry_hooks([note])
    try:
        with stamina.set_testing(False):
            client.poll([FIRST])
    finally:
        set_on_retry_hooks(None)
    assert waits == [0.02]


def test_a_retry_is_logged_as_a_sentence_and_nothing_is_printed(
    api: ScriptedApi,
    client: RunwareClient,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.INFO)
    api.will(Answer(b"", 503), Answer({"data": [running_row()]}))
    with stamina.set_testing(False):
        client.poll([FIRST])
    [record] = [item for item in caplog.records if item.name.endswith("retry_log")]
    assert re.fullmatch(r".*HTTP 503.*\. Trying again in \d\.\d s\.", record.getMessage())
    assert "stamina" not in caplog.text
    assert capfd.readouterr() == ("", "")


def test_hooks_of_others_are_called_as_before() -> None:
    noted: list[str] = []

    def note(details: RetryDetails) -> None:
        noted.append(str(details.caused_by))

    set_on_retry_hooks([note])
    try:
        log_retries_as_sentences()
        with stamina.set_testing(True, attempts=2), pytest.raises(OSError, match="theirs"):
            for attempt in stamina.retry_context(on=OSError):
                with attempt:
                    raise OSError("theirs")
    finally:
        set_on_retry_hooks(None)
    assert noted == ["theirs"]


def test_the_archive_knows_an_old_task(api: ScriptedApi, client: RunwareClient) -> None:
    row = {
        "taskType": "getTaskDetails",
        "taskUUID": FIRST,
        "request": [{"taskType": "videoInference"}],
        "response": {"data": [video_row()]},
    }
    api.will(Answer({"data": [row]}))
    assert client.task_details(FIRST).is_over(1)
    assert api.received[0].tasks == [{"taskType": "getTaskDetails", "taskUUID": FIRST}]


def test_the_archive_may_not_know_a_task(api: ScriptedApi, client: RunwareClient) -> None:
    api.will(Answer(unscoped("taskNotFound"), 400))
    assert client.task_details(FIRST).not_found is not None


def test_the_archive_may_be_silent(api: ScriptedApi, client: RunwareClient) -> None:
    api.will(Answer({"data": []}))
    status = client.task_details(FIRST)
    assert not status.is_known
    assert status.not_found is None
