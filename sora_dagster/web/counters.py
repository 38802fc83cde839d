"""Counters of the webhook receiver since its start, for its metrics and its log."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal, get_args

RefusalReason = Literal[
    "signature",
    "expired",
    "unknown_task",
    "too_long",
    "not_json",
    "too_many_markers",
    "storage",
]
# How a call was accepted: it wrote a marker, its marker was there already, or its task has a video.
AcceptedAs = Literal["marker", "duplicate", "already_stored"]
REFUSAL_REASONS: tuple[RefusalReason, ...] = get_args(RefusalReason)


@dataclass(frozen=True)
class ReceiverCounts:
    """What the receiver has counted since its start.

    Arguments:
        accepted: webhooks that were answered with 204.
        markers_written: accepted webhooks that wrote a marker.
        duplicates: accepted webhooks whose marker was there already.
        already_stored: accepted webhooks of tasks that have a video.
        refused: refused webhooks by reason; every reason is there, with 0 if none was refused.
    """

    accepted: int
    markers_written: int
    duplicates: int
    already_stored: int
    refused: Mapping[RefusalReason, int]


class ReceiverCounters:
    """Counts the webhooks of one receiver process. Safe to use from several threads.

    Example:
        >>> counters = ReceiverCounters()
        >>> counters.count_accepted("marker")
        >>> counters.count_refused("signature")
        1
        >>> counters.counts().markers_written, counters.counts().refused["signature"]
        (1, 1)
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._accepted: Counter[AcceptedAs] = Counter()
        self._refused: Counter[RefusalReason] = Counter()

    def count_accepted(self, accepted_as: AcceptedAs) -> None:
        """Count a webhook that was answered with 204."""
        with self._lock:
            self._accepted[accepted_as] += 1

    def count_refused(self, reason: RefusalReason) -> int:
        """Count a refused webhook.

        Returns:
            How many were refused for this reason.
        """
        with self._lock:
            self._refused[reason] += 1
            return self._refused[reason]

    def counts(self) -> ReceiverCounts:
        """The counts at this moment."""
        with self._lock:
            return ReceiverCounts(
                accepted=self._accepted.total(),
                markers_written=self._accepted["marker"],
                duplicates=self._accepted["duplicate"],
                already_stored=self._accepted["already_stored"],
                refused={reason: self._refused[reason] for reason in REFUSAL_REASONS},
            )
