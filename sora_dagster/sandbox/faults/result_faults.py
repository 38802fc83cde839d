"""Faults of results: generations, webhooks, downloads and uploads."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, field_validator

from sora_dagster.sandbox.faults.rules import Delay, Event, FailureKind, OneOrMore, ResultRule

Share = Annotated[float, Field(ge=0, lt=1)]


class GenerationFault(ResultRule):
    """A fault of one result, decided when its task is accepted."""

    is_final: ClassVar[bool] = False

    event: Annotated[tuple[Literal["generation"], ...], OneOrMore] = ("generation",)


class Fail(GenerationFault):
    """The generation fails when it is due.

    Arguments:
        error: kind of the error.
        code: raw error code. Default: that of the kind.
        message: the error's message. Default: that of the kind.
        reported_in: whether polls report it in `errors`, or as a row of `data` with status `error`.
    """

    is_final: ClassVar[bool] = True

    fault: Literal["fail"]
    error: FailureKind = "provider"
    code: str | None = None
    message: str | None = None
    reported_in: Literal["errors", "data"] = "errors"


class NeverEnds(GenerationFault):
    """The generation stays in processing forever."""

    is_final: ClassVar[bool] = True

    fault: Literal["never_ends"]


class LateResult(GenerationFault):
    """The generation takes `delay_seconds` longer."""

    fault: Literal["late_result"]
    delay_seconds: Delay


class Nsfw(GenerationFault):
    """The result has `NSFWContent` true, whether or not it was checked."""

    fault: Literal["nsfw"]


class WrongCost(GenerationFault):
    """The result's cost is omitted (`missing`) or reported as 0 (`zero`), though it was charged."""

    fault: Literal["wrong_cost"]
    reported: Literal["missing", "zero"] = "missing"


class WebhookFault(ResultRule):
    """A fault of the webhook for one result; several can apply at once."""

    is_final: ClassVar[bool] = False

    event: Annotated[tuple[Literal["webhook"], ...], OneOrMore] = ("webhook",)


class WebhookLost(WebhookFault):
    """The webhook is never sent."""

    is_final: ClassVar[bool] = True

    fault: Literal["webhook_lost"]


class WebhookLate(WebhookFault):
    """The webhook is sent `delay_seconds` later."""

    fault: Literal["webhook_late"]
    delay_seconds: Delay


class WebhookRepeated(WebhookFault):
    """The webhook is sent again after it was delivered: `copies` times in total."""

    fault: Literal["webhook_repeated"]
    copies: int = Field(default=2, ge=2)


class WebhookOutOfOrder(WebhookFault):
    """The webhooks of a task wait until all its results have ended; the last result goes first."""

    fault: Literal["webhook_out_of_order"]


class WebhookMalformed(WebhookFault):
    """The webhook has a `body` that is not a result."""

    fault: Literal["webhook_malformed"]
    body: str = '{"taskType": "videoInference", "taskUUID": '


class WebhookFailure(WebhookFault):
    """A failure is reported in one of the forms that a failure's webhook may have.

    Arguments:
        form: `flat` for the error itself, `error` for `{"error": …}`, `errors` for
            `{"errors": […]}`.
        of: `failed` strikes failed results only; `all` falsely reports finished ones as failed too.
    """

    fault: Literal["webhook_failure"]
    form: Literal["flat", "error", "errors"] = "flat"
    of: Literal["failed", "all"] = "failed"

    def matches(self, event: Event) -> bool:
        return (event.is_failure or self.of == "all") and super().matches(event)


class DownloadFault(ResultRule):
    """A fault of a GET of a finished video."""

    event: Annotated[tuple[Literal["download"], ...], OneOrMore] = ("download",)


class DownloadGone(DownloadFault):
    """The URL is gone (`status` 404 or 410)."""

    fault: Literal["download_gone"]
    status: Literal[404, 410] = 404


class DownloadTruncated(DownloadFault):
    """The announced length is correct, but only a `share` (0 to less than 1) of it is sent."""

    fault: Literal["download_truncated"]
    share: Share = 0.5


class DownloadWrongLength(DownloadFault):
    """The whole video is sent with a wrong `Content-Length`; then the connection is closed.

    Arguments:
        off_by_bytes: announced minus actual length: above 0 the body is shorter than announced,
            below 0 it is longer.
    """

    fault: Literal["download_wrong_length"]
    off_by_bytes: int = 1000

    @field_validator("off_by_bytes")
    @classmethod
    def _is_off(cls, off_by_bytes: int) -> int:
        if off_by_bytes == 0:
            raise ValueError("must not be 0, which is the correct length")
        return off_by_bytes


class DownloadCorrupt(DownloadFault):
    """The length is correct, but a third of the content (`part`), or all of it, is noise."""

    is_final: ClassVar[bool] = False

    fault: Literal["download_corrupt"]
    part: Literal["start", "middle", "end", "all"] = "middle"


class DownloadSlow(DownloadFault):
    """The video is sent slowly, at `bytes_per_second`."""

    is_final: ClassVar[bool] = False

    fault: Literal["download_slow"]
    bytes_per_second: float = Field(gt=0)


class DownloadRedirected(DownloadFault):
    """The URL redirects (302) to another host, which does not redirect again.

    Arguments:
        to: target URL. Default: the same video under the sandbox's other name (`localhost` for
            `127.0.0.1` and vice versa).
    """

    fault: Literal["download_redirected"]
    to: str | None = Field(default=None, pattern=r"^https?://")

    def matches(self, event: Event) -> bool:
        return not event.is_redirected and super().matches(event)


class UploadFault(ResultRule):
    """A fault of the upload of a finished video to its `uploadEndpoint`."""

    event: Annotated[tuple[Literal["upload"], ...], OneOrMore] = ("upload",)


class UploadLost(UploadFault):
    """The video is never uploaded."""

    fault: Literal["upload_lost"]


class UploadLate(UploadFault):
    """The video is uploaded `delay_seconds` after it is finished and its result is reported."""

    is_final: ClassVar[bool] = False

    fault: Literal["upload_late"]
    delay_seconds: Delay


class UploadAlone(UploadFault):
    """The result is reported without a URL, as if uploaded videos were not hosted."""

    is_final: ClassVar[bool] = False

    fault: Literal["upload_alone"]


class UploadTruncated(UploadFault):
    """Only the first `share` (0 to less than 1) of the video is uploaded, as if complete."""

    fault: Literal["upload_truncated"]
    share: Share = 0.5


ResultFault = (
    Fail
    | NeverEnds
    | LateResult
    | Nsfw
    | WrongCost
    | WebhookLost
    | WebhookLate
    | WebhookRepeated
    | WebhookOutOfOrder
    | WebhookMalformed
    | WebhookFailure
    | DownloadGone
    | DownloadTruncated
    | DownloadWrongLength
    | DownloadCorrupt
    | DownloadSlow
    | DownloadRedirected
    | UploadLost
    | UploadLate
    | UploadAlone
    | UploadTruncated
)
