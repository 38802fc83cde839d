"""The Runware API: requests, results, errors, the model catalogue, and a client.

Independent of clips, storage and Dagster; it can be used alone:

    from uuid import uuid4

    from sora_dagster.runware import RunwareClient, VideoInference

    request = VideoInference.build(
        task_uuid=str(uuid4()), positive_prompt="a lighthouse in fog", width=1280, height=720
    )
    with RunwareClient.from_environment() as client:
        [submission] = client.submit([request])
        status = client.poll([request.task_uuid])[request.task_uuid]
"""

from sora_dagster.runware.account import AccountStatus
from sora_dagster.runware.catalogue import (
    DEFAULT_MODEL,
    Catalogue,
    FrameSize,
    OutputFormat,
    SafetyMode,
    Size,
    VideoModel,
    parse_size,
)
from sora_dagster.runware.client import RunwareClient
from sora_dagster.runware.errors import (
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
    SubmissionTooLateError,
    TaskTimeoutError,
    UnknownModelError,
    UnreadableResponseError,
    error_from_payload,
)
from sora_dagster.runware.requests import FrameImage, Inputs, Safety, VideoInference
from sora_dagster.runware.responses import ApiResponse, parse_response
from sora_dagster.runware.results import TaskStatus, VideoResult, archived_status, task_status
from sora_dagster.runware.rules import broken_rules, check_request
from sora_dagster.runware.submissions import Submission, SubmissionState
from sora_dagster.runware.transport import DEFAULT_BASE_URL, DRY_RUN_HEADER, PostCounts

__all__ = [
    "DEFAULT_BASE_URL",
    "DEFAULT_MODEL",
    "DRY_RUN_HEADER",
    "AccountStatus",
    "ApiResponse",
    "AuthenticationError",
    "Catalogue",
    "ConflictError",
    "ConnectionFailedError",
    "ErrorRecord",
    "FrameImage",
    "FrameSize",
    "Inputs",
    "InvalidRequestError",
    "MissingKeyError",
    "ModelUnavailableError",
    "NotFoundError",
    "OutputFormat",
    "PostCounts",
    "Problem",
    "ProviderError",
    "QuotaError",
    "RateLimitError",
    "RequestRefusedError",
    "RunwareClient",
    "RunwareError",
    "Safety",
    "SafetyError",
    "SafetyMode",
    "ServerError",
    "Size",
    "Submission",
    "SubmissionState",
    "SubmissionTooLateError",
    "TaskStatus",
    "TaskTimeoutError",
    "UnknownModelError",
    "UnreadableResponseError",
    "VideoInference",
    "VideoModel",
    "VideoResult",
    "archived_status",
    "broken_rules",
    "check_request",
    "error_from_payload",
    "parse_response",
    "parse_size",
    "task_status",
]
