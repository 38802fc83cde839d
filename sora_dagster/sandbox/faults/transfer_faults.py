"""Faults of videos on their way: downloads from the sandbox, and uploads by it."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, field_validator

from sora_dagster.sandbox.faults.events import Event
from sora_dagster.sandbox.faults.rules import OneOrMore, ResultRule


class DownloadFault(ResultRule):
    """A fault of a GET of a finished video."""

    event: Annotated[tuple[Literal["download"], ...], OneOrMore] = ("download",)


class DownloadGone(DownloadFault):
    """The URL is gone.

    Arguments:
        status: 404 or 410.
    """

    fault: Literal["download_gone"]
    status: Literal[404, 410] = 404


class DownloadTruncated(DownloadFault):
    """The announced length is right, but the connection is cut before the end.

    Arguments:
        share: how much of the body is sent, 0 to less than 1.
    """

    fault: Literal["download_truncated"]
    share: float = Field(default=0.5, ge=0, lt=1)


class DownloadWrongLength(DownloadFault):
    """The whole video is sent under a wrong `Content-Length`; then the connection is closed.

    Arguments:
        off_by_bytes: announced length less the real one: above 0 the body is shorter than
            announced, below 0 it is longer.
    """

    fault: Literal["download_wrong_length"]
    off_by_bytes: int = 1000

    @field_validator("off_by_bytes")
    @classmethod
    def _is_off(cls, off_by_bytes: int) -> int:
        if off_by_bytes == 0:
            raise ValueError("must not be 0, which is the right length")
        return off_by_bytes


class DownloadCorrupt(DownloadFault):
    """The length is right, but part of the content is noise.

    Arguments:
        part: which third of the file is noise, or all of it.
    """

    is_final: ClassVar[bool] = False

    fault: Literal["download_corrupt"]
    part: Literal["start", "middle", "end", "all"] = "middle"


class DownloadSlow(DownloadFault):
    """The video comes slowly.

    Arguments:
        bytes_per_second: how slowly.
    """

    is_final: ClassVar[bool] = False

    fault: Literal["download_slow"]
    bytes_per_second: float = Field(gt=0)


class DownloadRedirected(DownloadFault):
    """The URL redirects (302) to another host, which is struck by no redirection again.

    Arguments:
        to: URL that it redirects to; by default the same video under the sandbox's other name
            (`localhost` for `127.0.0.1`, and the other way round).
    """

    fault: Literal["download_redirected"]
    to: str | None = Field(default=None, pattern=r"^https?://")

    def matches(self, event: Event) -> bool:
        return not event.is_redirected and super().matches(event)


class UploadFault(ResultRule):
    """A fault of putting a finished video to its `uploadEndpoint`."""

    event: Annotated[tuple[Literal["upload"], ...], OneOrMore] = ("upload",)


class UploadLost(UploadFault):
    """The video is never put."""

    fault: Literal["upload_lost"]


class UploadLate(UploadFault):
    """The video is put some time after its result is told.

    Arguments:
        delay_seconds: how long after it is finished.
    """

    is_final: ClassVar[bool] = False

    fault: Literal["upload_late"]
    delay_seconds: float = Field(gt=0)


class UploadAlone(UploadFault):
    """The result is told without a URL, as if a video that is put were not hosted."""

    is_final: ClassVar[bool] = False

    fault: Literal["upload_alone"]


class UploadTruncated(UploadFault):
    """Only the beginning of the video is put, as if it were all.

    Arguments:
        share: how much of it, 0 to less than 1.
    """

    fault: Literal["upload_truncated"]
    share: float = Field(default=0.5, ge=0, lt=1)
