"""How far clips are, and what would be bought: the words for it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum

from sora_dagster.runware.pricing import Price


class ClipState(Enum):
    """How far one clip is.

    WAITING: not requested yet. GENERATING: requested, and not stored yet. STORED: stored as its row
    says. CHANGED: stored, and its row changed since. FAILED: there is no video.
    """

    WAITING = "waiting"
    GENERATING = "generating"
    STORED = "stored"
    CHANGED = "changed"
    FAILED = "failed"


class Purchase(Enum):
    """Why a clip would be bought.

    NEW: there is none yet. RAISED_TAKE: its row requests a further take. CHANGED: its row, recipe
    or parent video changed. FOLLOWS: it is a remix, and its clip gets a new video; these two are
    bought only with `regenerate_changed`. RETRY: it failed; bought only with `retry_failed`.
    """

    NEW = "new"
    RAISED_TAKE = "raised take"
    CHANGED = "changed"
    FOLLOWS = "follows"
    RETRY = "retry"


@dataclass(frozen=True)
class PipelineOptions:
    """How a dataset is generated.

    Arguments:
        regenerate_changed: whether clips whose rows changed get a new take, which costs again.
        retry_failed: whether clips that failed are requested again, which may cost again.
        stall_timeout_minutes: maximum time without any change.
    """

    regenerate_changed: bool = False
    retry_failed: bool = False
    stall_timeout_minutes: float = 45.0


@dataclass(frozen=True)
class ClipProgress:
    """How far one clip is.

    Arguments:
        asset: asset key of the clip.
        clip: its partition key.
        state: how far it is.
        take: number of the stored take; 0 for none.
        reason: why it failed, is slow, or waits.
        changes: what changed since its newest take; empty if nothing did.
        purchase: why it would be bought now. None: it would not.
        price: what that would cost by the catalogue. None: nothing is bought.
    """

    asset: str
    clip: str
    state: ClipState
    take: int = 0
    reason: str = ""
    changes: str = ""
    purchase: Purchase | None = None
    price: Price | None = None

    @property
    def is_kept(self) -> bool:
        """Whether its take is kept unless `regenerate_changed` is set."""
        return self.purchase in (Purchase.CHANGED, Purchase.FOLLOWS)

    def is_bought(self, options: PipelineOptions) -> bool:
        """Whether it is bought with these options."""
        if self.purchase is Purchase.RETRY:
            return options.retry_failed
        return self.purchase is not None and (options.regenerate_changed or not self.is_kept)


def count(progress: Iterable[ClipProgress], *states: ClipState) -> int:
    """How many clips are in one of some states."""
    return sum(1 for clip in progress if clip.state in states)
