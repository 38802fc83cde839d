"""What became of asking for a clip."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from sora_dagster.generation.clips import ClipRequest
from sora_dagster.runware.errors import ErrorRecord


class RequestState(Enum):
    """What became of asking for a clip."""

    STORED = "stored"
    OUTSTANDING = "outstanding"
    SUBMITTED = "submitted"
    UNCONFIRMED = "unconfirmed"
    STALE = "stale"
    OVER_LIMIT = "over_limit"
    REFUSED = "refused"
    FAILED = "failed"


@dataclass(frozen=True)
class Requested:
    """What became of asking for one clip.

    Arguments:
        request: the clip asked for.
        state: stored before (free), outstanding before (joined), submitted now, submitted without
            an answer (unconfirmed), stale and left as it is, over the spending limit, refused now,
            or failed before and not tried again.
        take: number of the take meant.
        attempt: number of the attempt meant.
        task_uuid: the task, where there is one.
        estimate_usd: what this call committed to spend, 0 where nothing was sent.
        error: why it was refused or failed.
        detail: the same as a sentence for people.
    """

    request: ClipRequest
    state: RequestState
    take: int
    attempt: int
    task_uuid: str | None
    estimate_usd: float = 0.0
    error: ErrorRecord | None = None
    detail: str = ""

    @property
    def ok(self) -> bool:
        """Whether the clip is stored or on its way."""
        return self.state not in (
            RequestState.OVER_LIMIT,
            RequestState.REFUSED,
            RequestState.FAILED,
        )
