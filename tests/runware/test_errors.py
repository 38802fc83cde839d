from __future__ import annotations

import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sora_dagster.runware import (
    AuthenticationError,
    ConflictError,
    ConnectionFailedError,
    ErrorRecord,
    InvalidRequestError,
    MissingKeyError,
    ModelUnavailableError,
    NotFoundError,
    Problem,
    ProviderError,
    QuotaError,
    RateLimitError,
    RequestRefusedError,
    RunwareError,
    SafetyError,
    ServerError,
    TaskTimeoutError,
    UnreadableResponseError,
    error_from_payload,
)

CODES: list[tuple[str, type[RunwareError]]] = [
    ("invalidApiKey", AuthenticationError),
    ("missingApiKey", AuthenticationError),
    ("unauthorized", AuthenticationError),
    ("forbidden", AuthenticationError),
    ("insufficientPermissions", AuthenticationError),
    ("tokenExpired", AuthenticationError),
    ("accountSuspended", AuthenticationError),
    ("authTimeout", AuthenticationError),
    ("insufficientCredits", QuotaError),
    ("quotaExceeded", QuotaError),
    ("paymentRequired", QuotaError),
    ("insufficientBalance", QuotaError),
    ("rateLimitExceeded", RateLimitError),
    ("inferenceRateLimitExceeded", RateLimitError),
    ("invalidPositivePrompt", RequestRefusedError),
    ("missingPositivePrompt", RequestRefusedError),
    ("unsupportedParameter", RequestRefusedError),
    ("unsupportedDuration", RequestRefusedError),
    ("valueTooLarge", RequestRefusedError),
    ("arrayTooSmall", RequestRefusedError),
    ("unknownParameter", RequestRefusedError),
    ("incompatibleParameters", RequestRefusedError),
    ("invalidSafetyMode", RequestRefusedError),
    ("maxTokensExceeded", RequestRefusedError),
    ("conflictTaskUUID", ConflictError),
    ("unknownModel", ModelUnavailableError),
    ("modelNotFound", ModelUnavailableError),
    ("modelDisabled", ModelUnavailableError),
    ("modelUnavailable", ModelUnavailableError),
    ("invalidModel", ModelUnavailableError),
    ("contentPolicyViolation", SafetyError),
    ("providerContentPolicyViolation", SafetyError),
    ("nsfwContentDetected", SafetyError),
    ("promptBlocked", SafetyError),
    ("invalidProviderContent", SafetyError),
    ("providerError", ProviderError),
    ("providerAuthenticationFailed", ProviderError),
    ("providerInvalidRequest", ProviderError),
    ("inferenceError", ProviderError),
    ("modelNotReady", ProviderError),
    ("timeoutProvider", TaskTimeoutError),
    ("providerGatewayTimeout", TaskTimeoutError),
    ("taskNotFound", NotFoundError),
    ("mediaExpired", NotFoundError),
    ("internalServerError", ServerError),
    ("serviceUnavailable", ServerError),
]

STATUSES: list[tuple[int, type[RunwareError]]] = [
    (400, RequestRefusedError),
    (401, AuthenticationError),
    (402, QuotaError),
    (403, AuthenticationError),
    (404, NotFoundError),
    (408, TaskTimeoutError),
    (413, RequestRefusedError),
    (418, RequestRefusedError),
    (429, RateLimitError),
    (500, ServerError),
    (503, ServerError),
    (504, TaskTimeoutError),
]

RETRYABLE = {
    RateLimitError,
    ProviderError,
    TaskTimeoutError,
    ServerError,
    UnreadableResponseError,
    ConnectionFailedError,
}


@pytest.mark.parametrize(("code", "expected"), CODES)
@pytest.mark.parametrize("status_code", [None, 200, 400])
def test_a_raw_code_decides_the_class(
    code: str, expected: type[RunwareError], status_code: int | None
) -> None:
    error = error_from_payload({"code": code, "message": "m"}, status_code=status_code)
    assert type(error) is expected
    assert error.code == code


@pytest.mark.parametrize(("status_code", "expected"), STATUSES)
@pytest.mark.parametrize("payload", [{}, {"code": "somethingNew", "message": "m"}])
def test_the_http_status_decides_where_the_code_says_nothing(
    payload: dict[str, str], status_code: int, expected: type[RunwareError]
) -> None:
    assert type(error_from_payload(payload, status_code=status_code)) is expected


def test_what_nothing_is_known_of_is_not_retryable() -> None:
    error = error_from_payload({"code": "somethingNew", "message": "m"}, status_code=200)
    assert type(error) is RunwareError
    assert error.kind == "unknown"
    assert not error.retryable


@pytest.mark.parametrize("code", ["invalidValue", "unsupportedValue"])
def test_a_refused_value_of_the_parameter_model_is_about_the_model(code: str) -> None:
    error = error_from_payload({"code": code, "message": "m", "parameter": "model"})
    assert type(error) is ModelUnavailableError


def test_an_unavailable_model_comes_with_how_to_choose_another() -> None:
    text = str(error_from_payload({"code": "unknownModel", "message": "No model openai:3@2"}))
    assert "No model openai:3@2" in text
    assert "SORA_MODELS" in text
    assert "https://runware.ai/models" in text


@pytest.mark.parametrize("error_class", [error for _, error in CODES + STATUSES])
def test_only_what_may_pass_is_retryable(error_class: type[RunwareError]) -> None:
    assert error_class.retryable is (error_class in RETRYABLE)


def test_an_error_shows_parameter_raw_code_and_documentation() -> None:
    text = str(
        error_from_payload(
            {
                "code": "invalidVideoId",
                "message": "There is no such video.",
                "parameter": "inputs.videoId",
                "taskUUID": "u",
                "documentation": "https://runware.ai/docs/errors",
            },
            status_code=400,
        )
    )
    assert text == (
        "There is no such video (parameter inputs.videoId, code invalidVideoId, HTTP status 400, "
        "task u, see https://runware.ai/docs/errors)."
    )


def test_an_error_becomes_a_record() -> None:
    error = error_from_payload(
        {"code": "timeoutProvider", "message": "m", "parameter": "p", "documentation": "d"}
    )
    assert error.to_record() == ErrorRecord(
        kind="timeout",
        code="timeoutProvider",
        message="m",
        parameter="p",
        documentation="d",
        retryable=True,
    )


def test_a_list_of_parameters_is_shown_completely() -> None:
    assert error_from_payload({"parameter": ["width", "height"]}).parameter == "width, height"


@pytest.mark.parametrize(
    "text",
    [
        "PUT https://bucket.example/key?X-Amz-Signature=5ec2e7 failed",
        r'{"url": "https:\/\/bucket.example\/key?X-Amz-Signature=5ec2e7"}',
        "bad address https%3A%2F%2Fbucket.example%2Fkey%3FX-Amz-Signature%3D5ec2e7",
        "bad query X-Amz-Algorithm=AWS4&X-Amz-Signature=5ec2e7&x=1",
        "bad query sv=2024&sig=5ec2e7%3D",
        "X-Goog-Signature=5ec2e7 does not match",
        "GET https://user:5ec2e7@bucket.example/key failed",
        r'{"url": "https:\/\/user:5ec2e7@bucket.example\/key?x=1"}',
        "bad address https%3A%2F%2Fuser:5ec2e7%40bucket.example%2Fkey",
    ],
)
def test_the_secrets_of_an_address_are_left_out_however_it_is_repeated(text: str) -> None:
    error = RunwareError(text)
    assert "5ec2e7" not in str(error)
    assert "5ec2e7" not in error.to_record().message


def test_queries_of_urls_are_left_out_of_what_errors_say() -> None:
    message = "PUT https://bucket.s3.amazonaws.com/clip.mp4?X-Amz-Signature=abc failed with 403"
    error = error_from_payload({"code": "uploadFailed", "message": message})
    assert error.message == "PUT https://bucket.s3.amazonaws.com/clip.mp4?… failed with 403"
    assert "abc" not in error.to_record().model_dump_json()


@given(
    st.dictionaries(
        st.sampled_from(["code", "message", "parameter", "taskUUID", "taskType", "documentation"]),
        st.none() | st.text() | st.integers() | st.lists(st.text()) | st.just({"a": 1}),
    ),
    st.none() | st.integers(100, 599),
)
def test_any_error_object_becomes_an_error_with_something_to_say(
    payload: dict[str, Any], status_code: int | None
) -> None:
    error = error_from_payload(payload, status_code=status_code)
    assert str(error)
    assert error.to_record().kind == error.kind


@pytest.mark.parametrize(
    "error",
    [
        error_from_payload({"code": "invalidWidth", "message": "m"}, retry_after_seconds=3),
        ConnectionFailedError("no route", sent=False),
        InvalidRequestError([Problem("width", "1", "m")], "u"),
        MissingKeyError(),
    ],
)
def test_an_error_keeps_its_details_between_processes(error: Exception) -> None:
    copied = pickle.loads(pickle.dumps(error))
    assert type(copied) is type(error)
    assert str(copied) == str(error)
    assert vars(copied) == vars(error)


def test_a_missing_key_comes_with_the_three_ways_out() -> None:
    text = str(MissingKeyError())
    assert "https://my.runware.ai/keys" in text
    assert "RUNWARE_API_KEY" in text
    assert "make demo" in text
