"""All errors of the Runware API and of requests to it.

    RunwareError                     the API refused, failed, or could not be reached
      AuthenticationError            the key is missing, wrong or not permitted
      QuotaError                     no balance left
      RateLimitError                 too many requests, or the queue is full       (retryable)
      RequestRefusedError            a field or its value is not accepted
        ConflictError                a task with this UUID is already running
      ModelUnavailableError          the model is unknown, disabled or retired
      SafetyError                    the content check refused the prompt, image or video
      ProviderError                  the provider behind Runware failed            (retryable)
      TaskTimeoutError               the task took too long at Runware             (retryable)
      NotFoundError                  the task, or something it names, is unknown
      ServerError                    Runware itself failed                         (retryable)
        UnreadableResponseError        the answer is not the API's JSON              (retryable)
      ConnectionFailedError          no connection, or it broke                    (retryable)
      SubmissionTooLateError         the sender was delayed, so nothing was posted (retryable)
    ValueError
      InvalidRequestError            a request breaks a documented rule; nothing was sent
      UnknownModelError              a model has no catalogue entry
      MissingKeyError                there is no API key

"Retryable" means that another try may succeed. Whether to try is another question: a submission
that may have been accepted is paid for.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from pydantic import BaseModel, ConfigDict

from sora_dagster.runware.error_codes import ErrorKind, kind_of_error
from sora_dagster.runware.redaction import without_url_queries


class ErrorRecord(BaseModel):
    """An error in stored records, made by `RunwareError.to_record`.

    Arguments:
        kind: its class, such as `safety` or `validation`.
        code: the code of the API. Default: none.
        message: what was wrong.
        parameter: the parameter that the API names. Default: none.
        documentation: URL of the API's documentation of the error. Default: none.
        retryable: whether another attempt may succeed. Default: false.
    """

    model_config = ConfigDict(frozen=True)

    kind: str
    code: str | None = None
    message: str
    parameter: str | None = None
    documentation: str | None = None
    retryable: bool = False

    @property
    def sentence(self) -> str:
        """Human-readable summary: kind, message, and the details of the API."""
        return _sentence(
            f"{self.kind}: {self.message}",
            {"parameter": self.parameter, "code": self.code, "see": self.documentation},
        )


class RunwareError(Exception):
    """The API refused a request, failed at it, or could not be reached.

    Arguments:
        message: what was wrong, in the API's words if it gave any. Queries of URLs are removed,
            since presigned URLs and webhook URLs have secrets there.
        code: raw code of the API; it varies by provider, so use `kind` to tell errors apart.
        parameter: dotted name of the wrong field, such as ``inputs.videoId``.
        task_type: type of the failed task.
        task_uuid: UUID of the failed task. None: the whole request failed.
        documentation: page of the API about this error.
        status_code: HTTP status of the answer.
        retry_after_seconds: wait that the API requested, in seconds.
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
        sentence = _sentence(
            self.message,
            {
                "parameter": self.parameter,
                "code": self.code,
                "HTTP status": self.status_code,
                "task": self.task_uuid,
                "see": self.documentation,
            },
        )
        return f"{sentence} {self.advice}".rstrip()

    def to_record(self) -> ErrorRecord:
        """The error as data for stored records."""
        return ErrorRecord(
            kind=self.kind,
            code=self.code,
            message=self.message,
            parameter=self.parameter,
            documentation=self.documentation,
            retryable=self.retryable,
        )


def _sentence(message: str, details: Mapping[str, object]) -> str:
    sentence = message.rstrip()
    if listed := ", ".join(f"{name} {value}" for name, value in details.items() if value):
        sentence = f"{sentence.rstrip('.')} ({listed})"
    return sentence if sentence.endswith((".", "!", "?")) else f"{sentence}."


class AuthenticationError(RunwareError):
    """The key is missing, wrong, or not permitted to do this."""

    kind = "authentication"
    advice = "Check RUNWARE_API_KEY; create keys at https://my.runware.ai/keys."


class QuotaError(RunwareError):
    """The account has no balance left, or has reached its limit."""

    kind = "quota"
    advice = "Add credits to the Runware account, then try again."


class RateLimitError(RunwareError):
    """Too many requests at once, or the queue at Runware is full."""

    kind = "rate_limit"
    retryable = True
    advice = "Try again later, with fewer requests at once."


class RequestRefusedError(RunwareError):
    """The API does not accept a field of the request, or its value."""

    kind: ClassVar[ErrorKind] = "validation"


class ConflictError(RequestRefusedError):
    """A task with this UUID is already running, so this one was not started."""

    kind = "conflict"


class ModelUnavailableError(RunwareError):
    """The model is unknown to Runware, disabled or retired."""

    kind = "model"
    advice = (
        "Choose another videoInference model: find its AIR id at https://runware.ai/models and set "
        "it as the clip's model. If it has no catalogue entry yet, write one in the YAML file that "
        "SORA_MODELS names."
    )


class SafetyError(RunwareError):
    """The content check, of Runware or of the provider, refused the prompt, image or video."""

    kind = "safety"
    advice = "Change the prompt or the image; the same request will be refused again."


class ProviderError(RunwareError):
    """The provider behind Runware failed."""

    kind = "provider"
    retryable = True


class TaskTimeoutError(RunwareError):
    """The task took too long at Runware."""

    kind = "timeout"
    retryable = True


class NotFoundError(RunwareError):
    """The task, or something that the request names, is unknown to Runware."""

    kind = "not_found"


class ServerError(RunwareError):
    """Runware itself failed."""

    kind = "server"
    retryable = True


class UnreadableResponseError(ServerError):
    """An answer that is not the API's JSON."""


class ConnectionFailedError(RunwareError):
    """There was no connection to the API, or it broke.

    Arguments:
        sent: false only if the connection was never made, so nothing can have arrived. Default:
            true.
    """

    kind = "connection"
    retryable = True

    def __init__(self, message: str, *, sent: bool = True, **facts: Any) -> None:
        super().__init__(message, **facts)
        self.sent = sent


class SubmissionTooLateError(RunwareError):
    """The sender was delayed after it claimed its tasks, so it did not post them.

    Another process may have taken them over by now, so their state is unknown.
    """

    kind = "connection"
    retryable = True


_CLASSES: Mapping[ErrorKind, type[RunwareError]] = {
    "authentication": AuthenticationError,
    "quota": QuotaError,
    "rate_limit": RateLimitError,
    "validation": RequestRefusedError,
    "conflict": ConflictError,
    "model": ModelUnavailableError,
    "safety": SafetyError,
    "provider": ProviderError,
    "timeout": TaskTimeoutError,
    "not_found": NotFoundError,
    "server": ServerError,
    "connection": ConnectionFailedError,
    "unknown": RunwareError,
}


def error_from_payload(
    payload: Mapping[str, Any],
    *,
    status_code: int | None = None,
    retry_after_seconds: float | None = None,
) -> RunwareError:
    """Create the error that an error object of the API describes.

    Arguments:
        payload: the object: `code`, `message`, `parameter`, `taskType`, `taskUUID` and
            `documentation`, any of which may be missing (Runware documentation).
        status_code: HTTP status of the answer; decides if the code says nothing. Default: none.
        retry_after_seconds: wait that the answer requested, in seconds. Default: none.
    """
    code = _text(payload.get("code"))
    # Rules between fields name a list of fields (official SDK).
    parameter = _text(payload.get("parameter"), separator=", ")
    message = _text(payload.get("message"))
    if message is None:
        message = (
            f"Runware reported an error with {f'code {code}' if code else 'no code'} and no message"
        )
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


def _text(value: object, *, separator: str = "; ") -> str | None:
    """A value as text, since providers sometimes send numbers as codes and lists as messages."""
    if isinstance(value, (list, tuple)):
        value = separator.join(map(str, value))
    return None if value is None or value == "" else str(value)


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

    @property
    def is_missing(self) -> bool:
        """Whether the rule requires a field that the request does not set."""
        return self.value == "not given"

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
        return f"{which} was not sent:{listed}"


class UnknownModelError(ValueError):
    """A model has no catalogue entry, so its limits and its price are unknown."""


class MissingKeyError(ValueError):
    """There is no API key."""

    def __init__(self) -> None:
        super().__init__(
            "there is no Runware API key: create one at https://my.runware.ai/keys and set "
            "RUNWARE_API_KEY to it, or run `make demo`, which needs none"
        )

    def __reduce__(self) -> tuple[type[MissingKeyError], tuple[()]]:
        return (MissingKeyError, ())
