"""The result of requesting a clip."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from sora_dagster.generation.protocol.records import ClipManifest
from sora_dagster.prompts.clips import ClipRequest
from sora_dagster.runware.errors import ErrorRecord
from sora_dagster.runware.pricing import Price


class RequestState(Enum):
    """The state of a requested clip.

    STORED: generated before. OUTSTANDING: submitted before. SUBMITTED: submitted now. UNCONFIRMED:
    sent without a clear response. CHANGED: its row changed, and its latest take is kept.
    OVER_LIMIT: a spending limit does not allow it. NOT_SENT: this run stopped submitting first.
    REFUSED: not accepted now. FAILED: failed before, and is not tried again.
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
    """The result of requesting one clip.

    Arguments:
        request: the requested clip.
        state: its state.
        take: number of the take; of a changed clip, of the take that is kept.
        attempt: number of the attempt.
        task_uuid: the task; None if there is none.
        price: expected price of what was sent. None: nothing was.
        new_take_price: expected price of a new take of a changed clip; nothing was spent. None: it
            is not a changed clip, or its model has no catalogue entry.
        kept: of a changed clip, the state of the take that is kept: STORED, OUTSTANDING or FAILED.
        restored_videos: how many videos of a stored clip were missing or damaged and were fetched
            again.
        error: why it was refused or failed.
        detail: human-readable summary.
        manifest: record of the stored clip; None if it is not stored, or only listings were read.
    """

    request: ClipRequest
    state: RequestState
    take: int
    attempt: int
    task_uuid: str | None
    price: Price | None = None
    new_take_price: Price | None = None
    kept: RequestState | None = None
    restored_videos: int = 0
    error: ErrorRecord | None = None
    detail: str = ""
    manifest: ClipManifest | None = None

    @property
    def clip_state(self) -> RequestState:
        """The state of the clip; of a changed clip, that of the take that is kept."""
        return self.kept or self.state

    @property
    def ok(self) -> bool:
        """Whether the clip is stored or being generated, as far as is known."""
        return self.clip_state not in _NOT_OK

    @property
    def is_clear(self) -> bool:
        """Whether its state is known for sure; if not, the run that requested it must fail."""
        return self.state is not RequestState.UNCONFIRMED


def failure_reasons(results: Iterable[RequestResult]) -> dict[str, str]:
    """Why clips are neither stored nor surely being generated, by the clip's name.

    A run with any of these must fail and report them.
    """
    return {
        result.request.name: result.detail
        for result in results
        if not (result.ok and result.is_clear)
    }
