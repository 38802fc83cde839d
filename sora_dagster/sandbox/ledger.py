"""What was charged, and what was asked: the sandbox's own books, which tests compare with."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from sora_dagster.runware.models import FrameSize
from sora_dagster.sandbox.refusals import RefusedTaskError
from sora_dagster.sandbox.tasks import as_wire_number

PostKind = Literal["submissions", "polls", "other"]


@dataclass(frozen=True)
class Charge:
    """What one accepted task was billed.

    Arguments:
        task_uuid: the task.
        model: its model's AIR id.
        seconds: length of each of its videos.
        size: size of its videos.
        results: how many videos.
        cost_usd: price of all of them together.
        at: Unix time in seconds.
    """

    task_uuid: str
    model: str
    seconds: float
    size: FrameSize
    results: int
    cost_usd: float
    at: float


class Ledger:
    """Charges and counts since the start.

    Arguments:
        balance_usd: what the account had at first.
    """

    def __init__(self, *, balance_usd: float) -> None:
        self._balance_usd = balance_usd
        self._charges: list[Charge] = []
        self._total_usd = 0.0
        self._posts: Counter[PostKind] = Counter()
        self._tasks: Counter[Literal["accepted", "refused"]] = Counter()

    @property
    def total_usd(self) -> float:
        """The sum of all charges."""
        return self._total_usd

    @property
    def balance_usd(self) -> float:
        """What the account has left."""
        return round(self._balance_usd - self.total_usd, 6)

    @property
    def posts(self) -> int:
        """How many POSTs were received."""
        return self._posts.total()

    def count_post(self, kind: PostKind) -> None:
        """Note a POST: one with a `videoInference` that is no dry run is a submission."""
        self._posts[kind] += 1

    def count_refused(self) -> None:
        """Note a `videoInference` that was refused."""
        self._tasks["refused"] += 1

    def refuse_unpayable(self, cost_usd: float) -> None:
        """Make sure that the balance covers a price.

        Raises:
            RefusedTaskError: `insufficientCredits`, where it does not.
        """
        if cost_usd > self.balance_usd:
            raise RefusedTaskError(
                "insufficientCredits",
                f"The task costs {cost_usd:g} USD and the balance is {self.balance_usd:g} USD; "
                f"add credits to the account.",
            )

    def charge(self, charge: Charge) -> None:
        """Bill an accepted task."""
        self._tasks["accepted"] += 1
        self._charges.append(charge)
        # Rounded each time, so that ten charges of 0.1 are 1.
        self._total_usd = round(self._total_usd + charge.cost_usd, 6)

    def to_json(self) -> dict[str, Any]:
        """The books as they are told over HTTP."""
        accepted, refused = self._tasks["accepted"], self._tasks["refused"]
        return {
            "charges": [
                {
                    "taskUUID": charge.task_uuid,
                    "model": charge.model,
                    "seconds": as_wire_number(charge.seconds),
                    "size": str(charge.size),
                    "results": charge.results,
                    "cost": as_wire_number(charge.cost_usd),
                    "at": datetime.fromtimestamp(charge.at, UTC).isoformat(),
                }
                for charge in self._charges
            ],
            "total_usd": as_wire_number(self.total_usd),
            "balance_usd": as_wire_number(self.balance_usd),
            "posts": {kind: self._posts[kind] for kind in ("submissions", "polls", "other")},
            "tasks": {
                "submitted": accepted + refused,
                "accepted": accepted,
                "refused": refused,
            },
        }
