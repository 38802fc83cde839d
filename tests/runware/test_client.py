from __future__ import annotations

import logging
import subprocess
import sys
import uuid
from typing import Any

import pytest

from sora_dagster.runware import (
    AuthenticationError,
    ConnectionFailedError,
    InvalidRequestError,
    MissingKeyError,
    PostCounts,
    RequestRefusedError,
    RunwareClient,
    RunwareError,
    UnreadableResponseError,
)
from tests.runware.conftest import KEY
from tests.runware.examples import FIRST, SECOND, request, running_row
from tests.runware.scripted_api import Answer, Broken, ScriptedApi, acknowledged, refusing_url


def priced(*costs: Any) -> Any:
    """Acknowledges each task with a cost."""
    return lambda tasks: {
        "data": [
            {"taskType": task["taskType"], "taskUUID": task["taskUUID"], "cost": cost}
            for task, cost in zip(tasks, costs, strict=True)
        ]
    }


def test_a_price_is_requested_as_a_dry_run(api: ScriptedApi, client: RunwareClient) -> None:
    api.will(Answer(priced(4, 0.4)))
    assert client.price([request(FIRST), request(SECOND)]) == {FIRST: 4.0, SECOND: 0.4}
    assert api.received[0].headers["X-Runware-Dry-Run"] == "1"


def test_a_price_is_never_requested_under_the_uuid_of_the_task(
    api: ScriptedApi, client: RunwareClient
) -> None:
    api.will(Answer(priced(4)), Answer(priced(4)))
    client.price([request(FIRST)])
    client.price([request(FIRST)])
    used = [post.tasks[0]["taskUUID"] for post in api.received]
    assert len({FIRST, *used}) == 3
    assert all(uuid.UUID(one).version == 4 for one in used)


def test_a_price_is_requested_without_webhook_and_upload(
    api: ScriptedApi, client: RunwareClient
) -> None:
    api.will(Answer(priced(4)))
    url = "https://example.com/x"
    client.price([request(webhook_url=url, upload_endpoint=url)])
    assert {"webhookURL", "uploadEndpoint"}.isdisjoint(api.received[0].tasks[0])


def test_a_missing_price_is_none(api: ScriptedApi, client: RunwareClient) -> None:
    api.will(Answer({"data": []}))
    assert client.price([request()]) == {FIRST: None}


def test_prices_are_matched_by_task_never_by_position(
    api: ScriptedApi, client: RunwareClient
) -> None:
    def reversed_prices(tasks: list[dict[str, Any]]) -> dict[str, Any]:
        return {"data": priced(1, 2)(tasks)["data"][::-1]}

    api.will(Answer(reversed_prices))
    assert client.price([request(FIRST), request(SECOND)]) == {FIRST: 1.0, SECOND: 2.0}


def test_many_prices_are_requested_in_several_posts(api: ScriptedApi) -> None:
    api.will(Answer(priced(1)), Answer(priced(2)))
    with RunwareClient(KEY, base_url=api.url, submit_batch_size=1) as client:
        assert client.price([request(FIRST), request(SECOND)]) == {FIRST: 1.0, SECOND: 2.0}
        assert client.posts == PostCounts(other=2)


def test_a_refused_dry_run_raises_under_the_tasks_own_uuid(
    api: ScriptedApi, client: RunwareClient
) -> None:
    def refused(tasks: list[dict[str, Any]]) -> dict[str, Any]:
        task_uuid = tasks[0]["taskUUID"]
        return {"errors": [{"code": "invalidWidth", "message": "m", "taskUUID": task_uuid}]}

    api.will(Answer(refused, 400))
    with pytest.raises(RequestRefusedError) as refusal:
        client.price([request()])
    assert refusal.value.task_uuid == FIRST


def test_a_dry_run_of_a_broken_request_is_not_sent(api: ScriptedApi, client: RunwareClient) -> None:
    with pytest.raises(InvalidRequestError):
        client.price([request(duration=5)])
    assert api.received == []


@pytest.mark.parametrize(
    ("balance", "expected"),
    [
        (12.5, 12.5),
        ("12.50", 12.5),
        ({"amount": 12.5, "currency": "USD"}, 12.5),
        ({"currency": "USD", "balance": {"available": "12.5"}}, 12.5),
        ({"currency": "USD"}, None),
        (None, None),
        (0, 0.0),
    ],
)
def test_the_accounts_balance_is_read_from_whatever_form(
    api: ScriptedApi, client: RunwareClient, balance: Any, expected: float | None
) -> None:
    api.will(
        Answer(
            lambda tasks: {
                "data": [
                    {
                        **tasks[0],
                        "organizationName": "Clips Ltd",
                        "organizationUUID": SECOND,
                        "balance": balance,
                        "apiKeys": [{"key": "rw-other"}],
                        "team": [],
                    }
                ]
            }
        )
    )
    account = client.account()
    assert account.balance_usd == expected
    assert account.organization_uuid == SECOND
    assert "rw-other" not in repr(account)
    assert api.received[0].tasks[0]["operation"] == "getDetails"


def test_a_missing_account_raises(api: ScriptedApi, client: RunwareClient) -> None:
    api.will(Answer({"data": []}))
    with pytest.raises(UnreadableResponseError):
        client.account()


def test_a_ping_passes_where_the_api_answers(api: ScriptedApi, client: RunwareClient) -> None:
    api.will(Answer({"data": [{"taskType": "ping", "pong": True}]}))
    client.ping()
    assert api.received[0].tasks == [{"taskType": "ping", "ping": True}]


def test_a_ping_reports_a_wrong_key(api: ScriptedApi, client: RunwareClient) -> None:
    api.will(Answer({"errors": [{"code": "invalidApiKey", "message": "m"}]}, 401))
    with pytest.raises(AuthenticationError, match="RUNWARE_API_KEY"):
        client.ping()


def test_posts_are_counted_by_what_they_were_for(api: ScriptedApi, client: RunwareClient) -> None:
    api.will(
        Answer(b"", 429),
        Answer(acknowledged),
        Answer(b"", 503),
        Broken("reset"),
        Answer({"data": [running_row()]}),
        Answer({"data": [{"taskType": "ping", "pong": True}]}),
    )
    client.submit([request()])
    client.poll([FIRST])
    client.ping()
    assert client.posts == PostCounts(submissions=2, polls=3, other=1)
    assert client.posts.total == len(api.received)


def test_the_key_and_the_address_come_from_the_environment(api: ScriptedApi) -> None:
    api.will(Answer({"data": [{"taskType": "ping", "pong": True}]}))
    environ = {"RUNWARE_API_KEY": f" {KEY}\n", "RUNWARE_BASE_URL": f"{api.url}/"}
    with RunwareClient.from_environment(environ) as client:
        client.ping()
        assert client.base_url == api.url
    assert api.received[0].headers["Authorization"] == f"Bearer {KEY}"


def test_the_address_is_runwares_where_none_is_set() -> None:
    with RunwareClient.from_environment({"RUNWARE_API_KEY": KEY}) as client:
        assert client.base_url == "https://api.runware.ai/v1"


@pytest.mark.parametrize("environ", [{}, {"RUNWARE_API_KEY": ""}, {"RUNWARE_API_KEY": "  "}])
def test_without_a_key_there_is_no_client(environ: dict[str, str]) -> None:
    with pytest.raises(MissingKeyError):
        RunwareClient.from_environment(environ)


@pytest.mark.parametrize("key", ["rw secret", "rw-secret\nX: 1", "rw-sécret"])
def test_a_key_that_cannot_be_one_is_refused_without_showing_it(key: str) -> None:
    with pytest.raises(ValueError, match="copy it again") as refusal:
        RunwareClient(key)
    assert key not in str(refusal.value)


@pytest.mark.parametrize(
    "base_url",
    ["api.runware.ai/v1", "ftp://api.runware.ai", "https://", "https://u:p@h/v1", "http://h/?a=b"],
)
def test_an_address_that_cannot_be_one_is_refused(base_url: str) -> None:
    with pytest.raises(ValueError, match="RUNWARE_BASE_URL"):
        RunwareClient(KEY, base_url=base_url)


@pytest.mark.parametrize("setting", ["submit_batch_size", "poll_batch_size", "retry_attempts"])
def test_settings_below_one_are_refused(setting: str) -> None:
    with pytest.raises(ValueError, match=setting):
        RunwareClient.from_environment({"RUNWARE_API_KEY": KEY}, **{setting: 0})


def test_the_key_is_in_no_log_line_and_in_no_text_of_the_client(
    api: ScriptedApi, client: RunwareClient, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    for name in ("httpx", "httpcore", "stamina"):
        caplog.set_level(logging.DEBUG, logger=name)
    echo = {"errors": [{"code": "invalidApiKey", "message": f"{KEY} is no key", "parameter": KEY}]}
    api.will(Answer(b"", 503), Broken("reset"), Answer(echo, 401), Answer(echo, 401))
    with pytest.raises(AuthenticationError) as failure:
        client.poll([FIRST, SECOND])
    [submission] = client.submit([request()])

    assert any(record.name.startswith("httpcore") for record in caplog.records)
    texts = [
        caplog.text,
        repr(client),
        repr(vars(client)),
        str(failure.value),
        repr(failure.value),
        failure.value.to_record().model_dump_json(),
        repr(submission),
        str(submission.error),
    ]
    assert not [text for text in texts if KEY in text]


@pytest.mark.parametrize(
    "step", [Answer(f"no: {KEY}".encode()), Answer(f"no: {KEY}".encode(), 400)]
)
def test_an_unreadable_answer_that_repeats_the_key_is_reported_without_it(
    api: ScriptedApi, step: Answer
) -> None:
    api.will(step)
    with (
        RunwareClient(KEY, base_url=api.url, retry_attempts=1) as client,
        pytest.raises(RunwareError) as failure,
    ):
        client.ping()
    assert KEY not in str(failure.value)
    assert "no: " in str(failure.value)


def test_a_failed_connection_is_reported_with_its_address() -> None:
    url = refusing_url()
    with (
        RunwareClient(KEY, base_url=url, retry_attempts=1) as client,
        pytest.raises(ConnectionFailedError) as failure,
    ):
        client.ping()
    assert url in str(failure.value)


def test_importing_the_client_loads_nothing_heavy() -> None:
    heavy = ["av", "numpy", "uvicorn", "boto3", "pyarrow", "PIL", "dagster", "obstore"]
    program = (
        "import sys, sora_dagster.runware; "
        f"print([name for name in {heavy!r} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
