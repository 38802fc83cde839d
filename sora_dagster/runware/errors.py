"""All errors of the Runware API and of requests to it.

    RunwareError                     the API refused, failed, or could not be reached
      AuthenticationError            the key is missing, wrong or not permitted
      QuotaError                     no balance left
      RateLimitError                 too many requests, or the queue is full       (retryable)
      RequestRefusedError            a field or its value is not accepted
        ConflictError                a task with this UUID is running already
      ModelUnavailableError          the model is unknown, disabled or retired
      SafetyError                    the content check refused the prompt, image or video
      ProviderError                  the provider behind Runware failed            (retryable)
      TaskTimeoutError               the task took too long at Runware             (retryable)
      NotFoundError                  the task, or something it names, is not known
      ServerError                    Runware itself failed                         (retryable)
        UnreadableAnswerError        the answer is not the API's JSON              (retryable)
      ConnectionFailedError          no connection, or it broke                    (retryable)
      SubmissionTooLateError         the sender was delayed, so nothing was posted (retryable)
    ValueError
      InvalidRequestError            a request breaks a documented rule; nothing was sent
      UnknownModelError              a model has no catalogue entry
      MissingKeyError                there is no API key

"Retryable" means that a new try may succeed. Whether a try may be made is another question: a
submission that may have been accepted is paid for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict

from sora_dagster.runware.error_codes import ErrorKind, kind_of_error
from sora_dagster.runware.redaction import without_url_queries


class ErrorRecord(BaseModel):
    """An error as it is stored: what `RunwareError.to_record` gives."""

    model_config = ConfigDict(frozen=True)

    kind: str
    code: str | None = None
    message: str
    parameter: str | None = None
    documentation: str | None = None
    retryable: bool = False

    @property
    def sentence(self) -> str:
        """The error for people: class, message, and what the API says of it."""
        facts = [
            f"{label} {value}"
            for label, value in (
                ("parameter", self.parameter),
                ("code", self.code),
                ("see", self.documentation),
            )
            if value is not None
        ]
        text = f"{self.kind}: {self.message.rstrip().rstrip('.')}"
        return f"{text} ({', '.join(facts)})." if facts else f"{text}."


class RunwareError(Exception):
    """The API refused a request, failed at it, or could not be reached.

    Arguments:
        message: what was wrong, in the API's words where it gave any. Queries of URLs are left
            out, since presigned URLs and webhook URLs carry secrets there.
        code: the raw code of the API; it varies by provider, so switch on `kind`.
        parameter: the field that is wrong, dotted, such as ``inputs.videoId``.
        task_type: type of the task that failed.
        task_uuid: the task that failed; none where the whole request did.
        documentation: page of the API about this error.
        status_code: HTTP status of the answer.
        retry_after_seconds: how long the API asked to wait.
    """

    kind: ClassVar[ErrorKind] = "unknown"
    retryable: ClassVar[bool] = False
    advice: ClassVar[str] = ""

    def __init__(
        self,
        message: str,
        *,
        code: str | None = None,
        parameter: str | None = None,
        task_type: str | None = None,
        task_uuid: str | None = None,
        documentation: str | None = None,
        status_code: int | None = None,
        retry_after_seconds: float | None = None,
    ) -> None:
        message = without_url_queries(message)
        super().__init__(message)
        self.message = message
        self.code = code
        self.parameter = parameter
        self.task_type = task_type
        self.task_uuid = task_uuid
        self.documentation = documentation
        self.status_code = status_code
        self.retry_after_seconds = retry_after_seconds

    def __str__(self) -> str:
        facts = [
            f"{label} {value}"
            for label, value in (
                ("parameter", self.parameter),
                ("code", self.code),
                ("HTTP status", self.status_code),
                ("task", self.task_uuid),
                ("see", self.documentation),
            )
            if value is not None
        ]
        sentence = self.message.rstrip()
        if facts:
            sentence = f"{sentence.rstrip('.')} ({', '.join(facts)})"
        if not sentence.endswith((".", "!", "?")):
            sentence += "."
        return f"{sentence} {self.advice}".rstrip()

    def to_record(self) -> ErrorRecord:
        """The error as plain data, for storing it."""
        return ErrorRecord(
            kind=self.kind,
            code=self.code,
            message=self.message,
            parameter=self.parameter,
            documentation=self.documentation,
            retryable=self.retryable,
        )


class AuthenticationError(RunwareError):
    """The key is missing, wrong, or not permitted to do this."""

    kind = "authentication"
    advice = "Check RUNWARE_API_KEY; keys are made at https://my.runware.ai/keys."


class QuotaError(RunwareError):
    """The account has no balance left, or has reached a limit of its own."""

    kind = "quota"
    advice = "Add credits to the Runware account, then ask again."


class RateLimitError(RunwareError):
    """Too many requests at once, or the queue at Runware is full."""

    kind = "rate_limit"
    retryable = True
    advice = "Ask again a little later, with fewer requests at once."


class RequestRefusedError(RunwareError):
    """The API does not accept a field of the request, or its value."""

    kind: ClassVar[ErrorKind] = "validation"


class ConflictError(RequestRefusedError):
    """A task with this UUID is running already, so this one was not started."""

    kind = "conflict"


class ModelUnavailableError(RunwareError):
    """The model is unknown to Runware, disabled or retired."""

    kind = "model"
    advice = (
        "Choose another videoInference model: find its AIR id at https://runware.ai/models, set "
        "it as the clip's model, and if it has no catalogue entry yet, write one in the YAML file "
        "that SORA_MODELS names."
    )


class SafetyError(RunwareError):
    """The content check, of Runware or of the provider, refused the prompt, image or video."""

    kind = "safety"
    advice = "Change the prompt or the image: the same request will be refused again."


class ProviderError(RunwareError):
    """The provider behind Runware failed."""

    kind = "provider"
    retryable = True


class TaskTimeoutError(RunwareError):
    """The task took too long at Runware."""

    kind = "timeout"
    retryable = True


class NotFoundError(RunwareError):
    """The task, or something that the request names, is not known at Runware."""

    kind = "not_found"


class ServerError(RunwareError):
    """Runware itself failed."""

    kind = "server"
    retryable = True


class UnreadableAnswerError(ServerError):
    """An answer that is not the API's JSON."""


class ConnectionFailedError(RunwareError):
    """There was no connection to the API, or it broke.

    Arguments:
        sent: false only where the connection was never made, so that nothing can have arrived.
    """

    kind = "connection"
    retryable = True

    def __init__(self, message: str, *, sent: bool = True, **facts: Any) -> None:
        super().__init__(message, **facts)
        self.sent = sent


class SubmissionTooLateError(RunwareError):
    """The sender was delayed after it took the right to send, so it did not post the tasks.

    By now others may have decided about them, so it is not known how the tasks stand.
    """

    kind = "connection"
    retryable = True


_CLASSES: Mapping[ErrorKind, type[RunwareError]] = {
    error_class.kind: error_class
    for error_class in (
        RunwareError,
        AuthenticationError,
        QuotaError,
        RateLimitError,
        RequestRefusedError,
        ConflictError,
        ModelUnavailableError,
        SafetyError,
        ProviderError,
        TaskTimeoutError,
        NotFoundError,
        ServerError,
        ConnectionFailedError,
    )
}


def error_from_payload(
    payload: Mapping[str, Any],
    *,
    status_code: int | None = None,
    retry_after_seconds: float | None = None,
) -> RunwareError:
    """The error that one error object of the API stands for.

    Arguments:
        payload: the object: `code`, `message`, `parameter`, `taskType`, `taskUUID` and
            `documentation`, any of which may be missing (Runware documentation).
        status_code: HTTP status of the answer it came in; decides where the code says nothing.
        retry_after_seconds: how long the answer asked to wait.
    """
    code = _text(payload.get("code"))
    parameter = _parameter(payload.get("parameter"))
    message = _text(payload.get("message"))
    if message is None:
        told = f"code {code}" if code else "no code"
        message = f"Runware reported an error with {told} and no message"
    return _CLASSES[kind_of_error(code, status_code, parameter)](
        message,
        code=code,
        parameter=parameter,
        task_type=_text(payload.get("taskType")),
        task_uuid=_text(payload.get("taskUUID")),
        documentation=_text(payload.get("documentation")),
        status_code=status_code,
        retry_after_seconds=retry_after_seconds,
    )


def _text(value: object) -> str | None:
    """A value as text; providers send numbers as codes and lists as messages now and then."""
    if value is None or value == "":
        return None
    if isinstance(value, (list, tuple)):
        return "; ".join(str(item) for item in value) or None
    return str(value)


def _parameter(value: object) -> str | None:
    # Rules between fields come as a list of the fields (official SDK).
    if isinstance(value, (list, tuple)):
        return ", ".join(str(item) for item in value) or None
    return _text(value)


@dataclass(frozen=True)
class Problem:
    """A rule that a request breaks.

    Arguments:
        field: dotted name of the field in the API's JSON, such as ``inputs.videoId``.
        value: the value as text, shortened and without secrets.
        message: a sentence: what is wrong, what is allowed, what to do.
    """

    field: str
    value: str
    message: str

    def __str__(self) -> str:
        return f"{self.field}: {self.message}"


class InvalidRequestError(ValueError):
    """A request breaks rules of the API; nothing was sent and nothing is charged.

    Arguments:
        problems: every broken rule.
        task_uuid: the request's task UUID. Default: none.
    """

    def __init__(self, problems: Sequence[Problem], task_uuid: str | None = None) -> None:
        self.problems = tuple(problems)
        self.task_uuid = task_uuid
        super().__init__(self.problems, task_uuid)

    def __str__(self) -> str:
        which = f"request {self.task_uuid}" if self.task_uuid else "the request"
        listed = "".join(f"\n  - {problem}" for problem in self.problems)
        return f"{which} was not sent, because of:{listed}"


class UnknownModelError(ValueError):
    """A model has no catalogue entry, so its limits and its price are not known."""


class MissingKeyError(ValueError):
    """There is no API key."""

    def __init__(self) -> None:
        super().__init__(
            "there is no Runware API key: make one at https://my.runware.ai/keys and set "
            "RUNWARE_API_KEY to it, or run `make demo`, which needs none"
        )

    def __reduce__(self) -> tuple[type[MissingKeyError], tuple[()]]:
        return (MissingKeyError, ())
