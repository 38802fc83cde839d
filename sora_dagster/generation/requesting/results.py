"""What became of asking for a clip."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from sora_dagster.prompts.clips import ClipRequest
from sora_dagster.runware.errors import ErrorRecord


class RequestState(Enum):
    """What became of asking for a clip.

    STORED: it was generated before. OUTSTANDING: it was submitted before. SUBMITTED: submitted
    now. UNCONFIRMED: sent, without a clear answer. CHANGED: its row changed, and the take there is
    is kept. OVER_LIMIT: a spending limit does not allow it. NOT_SENT: this run stopped submitting
    before it came to it. REFUSED: not accepted now. FAILED: failed before, and is not tried again.
    """

    STORED = "stored"
    OUTSTANDING = "outstanding"
    SUBMITTED = "submitted"
    UNCONFIRMED = "unconfirmed"
    CHANGED = "changed"
    OVER_LIMIT = "over_limit"
    NOT_SENT = "not_sent"
    REFUSED = "refused"
    FAILED = "failed"


_NOT_OK = (
    RequestState.OVER_LIMIT,
    RequestState.NOT_SENT,
    RequestState.REFUSED,
    RequestState.FAILED,
)


@dataclass(frozen=True)
class RequestResult:
    """What became of asking for one clip.

    Arguments:
        request: the clip asked for.
        state: what became of it.
        take: number of the take meant; of a changed clip, of the take that is kept.
        attempt: number of the attempt meant.
        task_uuid: the task; None if there is none.
        estimate_usd: what this call committed to spend, 0 if nothing was sent.
        new_take_usd: what a new take of a changed clip would cost; nothing was spent.
        kept: of a changed clip, how the take that is kept stands: STORED, OUTSTANDING or FAILED.
        restored_videos: how many videos of a stored clip were missing or damaged and were fetched
            again.
        error: why it was refused or failed.
        detail: the same as a sentence for people.
    """

    request: ClipRequest
    state: RequestState
    take: int
    attempt: int
    task_uuid: str | None
    estimate_usd: float = 0.0
    new_take_usd: float = 0.0
    kept: RequestState | None = None
    restored_videos: int = 0
    error: ErrorRecord | None = None
    detail: str = ""

    @property
    def standing(self) -> RequestState:
        """How the clip stands: its state, and of a changed clip that of the take that is kept."""
        return self.kept or self.state

    @property
    def ok(self) -> bool:
        """Whether the clip is stored or on its way, as far as is known."""
        return self.standing not in _NOT_OK

    @property
    def is_clear(self) -> bool:
        """Whether it is known what became of it; if not, the run that asked must fail."""
        return self.state is not RequestState.UNCONFIRMED


def failure_reasons(results: Iterable[RequestResult]) -> dict[str, str]:
    """Why clips are neither stored nor surely on their way, by the clip's name.

    A run with any of these must fail and report them.
    """
    return {
        result.request.name: result.detail
        for result in results
        if not (result.ok and result.is_clear)
    }
