from __future__ import annotations

from typing import Any

import httpx
import pytest

from sora_dagster.runware import (
    AuthenticationError,
    Catalogue,
    ConflictError,
    ConnectionFailedError,
    FrameSize,
    InvalidRequestError,
    ModelUnavailableError,
    QuotaError,
    RateLimitError,
    RequestRefusedError,
    RunwareClient,
    RunwareError,
    ServerError,
    SubmissionTooLateError,
    UnknownModelError,
    UnreadableResponseError,
    VideoModel,
)
from sora_dagster.runware.catalogue.numbers import Durations
from sora_dagster.runware.catalogue.parts import Setting
from sora_dagster.runware.catalogue.prices import Prices, Rate
from tests.runware.conftest import KEY
from tests.runware.examples import FIRST, FOURTH, SECOND, THIRD, remix, request
from tests.runware.scripted_api import (
    Answer,
    Breakage,
    Broken,
    ScriptedApi,
    acknowledged,
    refusing_url,
)


def refusal(code: str, task_uuid: str | None = FIRST, **fields: Any) -> dict[str, Any]:
    scope = {} if task_uuid is None else {"taskUUID": task_uuid, "taskType": "videoInference"}
    return {"code": code, "message": "m", **scope, **fields}


def test_many_requests_go_in_one_post_as_a_list(api: ScriptedApi, client: RunwareClient) -> None:
    api.will(Answer(acknowledged))
    requests = [request(FIRST), remix(SECOND)]
    submissions = client.submit(requests)
    assert [submission.state for submission in submissions] == ["accepted", "accepted"]
    [post] = api.received
    assert post.tasks == [request.to_wire() for request in requests]


def test_one_request_goes_as_a_list_too(api: ScriptedApi, client: RunwareClient) -> None:
    api.will(Answer(acknowledged))
    client.submit([request()])
    assert api.received[0].tasks == [request().to_wire()]


def test_the_key_goes_as_a_bearer_token(api: ScriptedApi, client: RunwareClient) -> None:
    api.will(Answer(acknowledged))
    client.submit([request()])
    assert api.received[0].headers["Authorization"] == f"Bearer {KEY}"
    assert "X-Runware-Dry-Run" not in api.received[0].headers


def test_nothing_to_submit_is_no_post(api: ScriptedApi, client: RunwareClient) -> None:
    assert client.submit([]) == []
    assert api.received == []


def test_answers_are_matched_by_task_never_by_position(
    api: ScriptedApi, client: RunwareClient
) -> None:
    api.will(
        Answer(
            {
                "data": [{"taskUUID": THIRD, "cost": 0.4}, {"taskUUID": FIRST, "cost": 1.2}],
                "errors": [refusal("invalidDuration", SECOND)],
            }
        )
    )
    submissions = client.submit([request(FIRST), request(SECOND), request(THIRD)])
    assert [(one.task_uuid, one.state, one.cost_usd) for one in submissions] == [
        (FIRST, "accepted", 1.2),
        (SECOND, "refused", None),
        (THIRD, "accepted", 0.4),
    ]


@pytest.mark.parametrize("status", [200, 400])
def test_some_tasks_may_be_accepted_and_others_refused(
    api: ScriptedApi, client: RunwareClient, status: int
) -> None:
    body = {
        "data": [{"taskType": "videoInference", "taskUUID": SECOND}],
        "errors": [refusal("invalidDuration", FIRST), refusal("conflictTaskUUID", THIRD)],
    }
    api.will(Answer(body, status))
    first, second, third = client.submit([request(FIRST), request(SECOND), request(THIRD)])
    assert (first.state, type(first.error)) == ("refused", RequestRefusedError)
    assert (second.state, second.error) == ("accepted", None)
    assert (third.state, type(third.error)) == ("conflict", ConflictError)


@pytest.mark.parametrize("status", [200, 400, 409, 429])
def test_a_conflict_means_that_the_task_is_running(
    api: ScriptedApi, client: RunwareClient, status: int
) -> None:
    api.will(Answer({"data": [], "errors": [refusal("conflictTaskUUID")]}, status))
    [submission] = client.submit([request()])
    assert submission.state == "conflict"
    assert len(api.received) == 1


def test_an_unavailable_model_is_refused_with_the_way_out(
    api: ScriptedApi, client: RunwareClient
) -> None:
    api.will(Answer({"errors": [refusal("unknownModel", parameter="model")]}, 400))
    [submission] = client.submit([request()])
    assert submission.state == "refused"
    assert isinstance(submission.error, ModelUnavailableError)
    assert "SORA_MODELS" in str(submission.error)


@pytest.mark.parametrize(
    ("status", "code", "expected"),
    [
        (400, "invalidRequest", RequestRefusedError),
        (401, "invalidApiKey", AuthenticationError),
        (402, "insufficientCredits", QuotaError),
        (403, "forbidden", AuthenticationError),
        (404, None, RunwareError),
    ],
)
def test_a_refusal_of_the_whole_refuses_every_task(
    api: ScriptedApi,
    client: RunwareClient,
    status: int,
    code: str | None,
    expected: type[RunwareError],
) -> None:
    body = {"errors": [refusal(code, None)]} if code else b"<html>no</html>"
    api.will(Answer(body, status))
    submissions = client.submit([request(FIRST), request(SECOND)])
    assert [submission.state for submission in submissions] == ["refused", "refused"]
    assert all(isinstance(submission.error, expected) for submission in submissions)
    assert len(api.received) == 1


@pytest.mark.parametrize("code", ["invalidApiKey", "insufficientCredits"])
def test_without_key_or_balance_nothing_is_started_whatever_the_status(
    api: ScriptedApi, client: RunwareClient, code: str
) -> None:
    api.will(Answer({"errors": [refusal(code, None)]}))
    [submission] = client.submit([request()])
    assert submission.state == "refused"


@pytest.mark.parametrize("status", [400, 401, 429])
def test_a_refusal_beside_an_accepted_task_proves_nothing_of_the_others(
    api: ScriptedApi, client: RunwareClient, status: int
) -> None:
    api.will(Answer({"data": [{"taskUUID": FIRST}], "errors": [refusal("busy", None)]}, status))
    first, second = client.submit([request(FIRST), request(SECOND)])
    assert (first.state, second.state) == ("accepted", "uncertain")
    assert len(api.received) == 1


@pytest.mark.parametrize("body", [{"data": []}, {}, {"data": [{"taskUUID": SECOND}]}])
def test_an_answer_that_does_not_name_a_task_leaves_it_uncertain(
    api: ScriptedApi, client: RunwareClient, body: Any
) -> None:
    api.will(Answer(body))
    [submission] = client.submit([request(FIRST)])
    assert submission.state == "uncertain"
    assert submission.error is not None
    assert "unknown whether it was accepted" in str(submission.error)


@pytest.mark.parametrize("status", [500, 502, 503, 504])
@pytest.mark.parametrize("body", [b"", {"errors": [refusal("providerError")]}])
def test_a_failing_server_leaves_every_task_uncertain_after_one_post(
    api: ScriptedApi, client: RunwareClient, status: int, body: Any
) -> None:
    api.will(Answer(body, status))
    submissions = client.submit([request(FIRST), request(SECOND)])
    assert [submission.state for submission in submissions] == ["uncertain", "uncertain"]
    assert len(api.received) == 1


@pytest.mark.parametrize("code", ["internalServerError", "timeoutProvider"])
def test_a_task_over_which_the_server_failed_is_uncertain(
    api: ScriptedApi, client: RunwareClient, code: str
) -> None:
    api.will(Answer({"errors": [refusal(code)]}, 400))
    [submission] = client.submit([request()])
    assert submission.state == "uncertain"


def test_a_500_that_names_a_task_as_accepted_is_believed_for_it(
    api: ScriptedApi, client: RunwareClient
) -> None:
    api.will(Answer({"data": [{"taskUUID": FIRST}]}, 500))
    first, second = client.submit([request(FIRST), request(SECOND)])
    assert (first.state, second.state) == ("accepted", "uncertain")


@pytest.mark.parametrize("body", [b"<html>hello</html>", b"", b'{"data": ['])
def test_an_unreadable_answer_leaves_a_task_uncertain(
    api: ScriptedApi, client: RunwareClient, body: bytes
) -> None:
    api.will(Answer(body))
    [submission] = client.submit([request()])
    assert submission.state == "uncertain"
    assert isinstance(submission.error, UnreadableResponseError)


def test_a_redirect_is_not_followed_with_a_paid_request(
    api: ScriptedApi, client: RunwareClient
) -> None:
    api.will(Answer(b"", 307, {"Location": api.url}))
    [submission] = client.submit([request()])
    assert submission.state == "uncertain"
    assert len(api.received) == 1


@pytest.mark.parametrize("how", ["close", "reset", "truncate"])
def test_a_connection_lost_after_the_request_leaves_it_uncertain_after_one_post(
    api: ScriptedApi, client: RunwareClient, how: Any
) -> None:
    api.will(Broken(how))
    [submission] = client.submit([request()])
    assert submission.state == "uncertain"
    assert isinstance(submission.error, ConnectionFailedError)
    assert submission.error.sent
    assert len(api.received) == 1
    assert client.posts.submissions == 1


@pytest.mark.parametrize("how", ["silence", "trickle"])
def test_no_answer_in_time_leaves_a_task_uncertain_after_one_post(
    api: ScriptedApi, how: Breakage
) -> None:
    api.will(Broken(how))
    with RunwareClient(KEY, base_url=api.url, timeout_seconds=0.2) as client:
        [submission] = client.submit([request()])
    assert submission.state == "uncertain"
    assert len(api.received) == 1


def test_a_connection_that_is_refused_leaves_a_task_unsent() -> None:
    with RunwareClient(KEY, base_url=refusing_url()) as client:
        [submission] = client.submit([request()])
        assert client.posts.total == 0
    assert submission.state == "unsent"
    assert isinstance(submission.error, ConnectionFailedError)
    assert not submission.error.sent


def test_a_connection_that_is_made_at_last_carries_the_request_once(api: ScriptedApi) -> None:
    class LateNetwork(httpx.HTTPTransport):
        refusals = 2

        def handle_request(self, request: httpx.Request) -> httpx.Response:
            if self.refusals:
                self.refusals -= 1
                raise httpx.ConnectError("connection refused", request=request)
            return super().handle_request(request)

    api.will(Answer(acknowledged))
    with RunwareClient(KEY, base_url=api.url, transport=LateNetwork()) as client:
        [submission] = client.submit([request()])
        assert client.posts.submissions == 1
    assert submission.state == "accepted"
    assert len(api.received) == 1


def test_a_full_queue_is_tried_again_under_the_same_uuids(
    api: ScriptedApi, client: RunwareClient
) -> None:
    busy = Answer({"errors": [refusal("rateLimitExceeded", None)]}, 429, {"Retry-After": "1"})
    api.will(busy, busy, Answer(acknowledged))
    [submission] = client.submit([request()])
    assert submission.state == "accepted"
    assert client.posts.submissions == 3
    assert {post.tasks[0]["taskUUID"] for post in api.received} == {FIRST}


def test_a_queue_that_stays_full_refuses_and_says_how_long_to_wait(api: ScriptedApi) -> None:
    api.will(*[Answer(b"", 429, {"Retry-After": "7"})] * 3)
    with RunwareClient(KEY, base_url=api.url, retry_attempts=3) as client:
        [submission] = client.submit([request()])
    assert submission.state == "refused"
    assert isinstance(submission.error, RateLimitError)
    assert submission.error.retry_after_seconds == 7
    assert len(api.received) == 3


def test_a_longer_wait_than_retries_may_take_is_left_to_the_caller(api: ScriptedApi) -> None:
    api.will(Answer(b"", 429, {"Retry-After": "3600"}))
    with RunwareClient(KEY, base_url=api.url, retry_timeout_seconds=60) as client:
        [submission] = client.submit([request()])
    assert submission.error is not None
    assert submission.error.retry_after_seconds == 3600
    assert len(api.received) == 1


def test_a_server_that_fails_after_a_full_queue_ends_the_retries(
    api: ScriptedApi, client: RunwareClient
) -> None:
    api.will(Answer(b"", 429), Answer(b"", 503))
    [submission] = client.submit([request()])
    assert submission.state == "uncertain"
    assert isinstance(submission.error, ServerError)
    assert len(api.received) == 2


def test_a_batch_that_is_too_large_is_sent_in_halves(
    api: ScriptedApi, client: RunwareClient
) -> None:
    too_large = Answer(b"<html>413</html>", 413)
    api.will(too_large, too_large, *[Answer(acknowledged)] * 3)
    submissions = client.submit([request(FIRST), request(SECOND), request(THIRD), request(FOURTH)])
    assert [(one.task_uuid, one.state) for one in submissions] == [
        (FIRST, "accepted"),
        (SECOND, "accepted"),
        (THIRD, "accepted"),
        (FOURTH, "accepted"),
    ]
    assert [len(post.tasks) for post in api.received] == [4, 2, 1, 1, 2]


def test_a_task_that_is_too_large_by_itself_is_refused_and_the_others_are_sent(
    api: ScriptedApi, client: RunwareClient
) -> None:
    too_large = Answer({"errors": [refusal("payloadTooLarge", None)]}, 413)
    api.will(too_large, too_large, Answer(acknowledged))
    submissions = client.submit([request(FIRST), request(SECOND)])
    assert [one.state for one in submissions] == ["refused", "accepted"]


def too_late() -> None:
    raise SubmissionTooLateError("too late")


def test_a_sender_that_is_too_late_posts_nothing_and_is_not_sure(
    api: ScriptedApi, client: RunwareClient
) -> None:
    [submission] = client.submit([request()], before_post=too_late)
    assert submission.state == "uncertain"
    assert isinstance(submission.error, SubmissionTooLateError)
    assert api.received == []


def test_a_sender_that_is_too_late_for_a_retry_does_not_post_again(
    api: ScriptedApi, client: RunwareClient
) -> None:
    checks = [lambda: None, too_late]
    api.will(Answer(b"", 429), Answer(acknowledged))
    [submission] = client.submit([request()], before_post=lambda: checks.pop(0)())
    assert submission.state == "uncertain"
    assert len(api.received) == 1


def test_a_broken_rule_keeps_every_request_from_being_sent(
    api: ScriptedApi, client: RunwareClient
) -> None:
    with pytest.raises(InvalidRequestError, match="duration"):
        client.submit([request(FIRST), request(SECOND, duration=5)])
    assert api.received == []


def test_a_model_without_an_entry_keeps_every_request_from_being_sent(
    api: ScriptedApi, client: RunwareClient
) -> None:
    with pytest.raises(UnknownModelError):
        client.submit([request(FIRST), request(SECOND, model="openai:4@1")])
    assert api.received == []


def test_the_same_task_twice_is_not_sent(api: ScriptedApi, client: RunwareClient) -> None:
    with pytest.raises(InvalidRequestError, match="taskUUID"):
        client.submit([request(FIRST), request(FIRST)])
    assert api.received == []


def test_more_requests_than_a_submission_takes_are_not_sent(api: ScriptedApi) -> None:
    with (
        RunwareClient(KEY, base_url=api.url, submit_batch_size=1) as client,
        pytest.raises(ValueError, match=r"allowed: 1 \(submit_batch_size\)"),
    ):
        client.submit([request(FIRST), request(SECOND)])
    assert api.received == []


def test_the_models_own_parameters_are_sent_with_each_request(api: ScriptedApi) -> None:
    veo = VideoModel(
        air="google:3@2",
        name="Veo 3.1",
        sizes={"720p": (FrameSize(1280, 720),)},
        default_size=FrameSize(1280, 720),
        durations=Durations(values=(4, 8), default=8),
        settings={"generateAudio": Setting(at="providerSettings.google", type="boolean")},
        prices=Prices(certainty="published", rates=(Rate(usd_per_second=0.2),)),
    )
    api.will(Answer(acknowledged))
    catalogue = Catalogue.builtin().extended([veo])
    with RunwareClient(KEY, base_url=api.url, catalogue=catalogue) as client:
        client.submit(
            [request(model="google:3@2", provider_settings={"google": {"generateAudio": False}})]
        )
    [task] = api.received[0].tasks
    assert task["providerSettings"] == {"google": {"generateAudio": False}}
