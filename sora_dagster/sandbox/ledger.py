"""What was charged and received: the sandbox's ledger, which tests compare with."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime
from typing import Any, Literal

from sora_dagster.sandbox.refusals import RefusedTaskError
from sora_dagster.sandbox.tasks import MAIN_ACCOUNT, Generation, Task, as_wire_number

PostKind = Literal["submissions", "polls", "other"]


class Ledger:
    """Charges and counts since the start.

    Arguments:
        balance_usd: initial balance of each account.
    """

    def __init__(self, *, balance_usd: float) -> None:
        self._balance_usd = balance_usd
        self._charged: list[Task] = []
        self._totals_usd: dict[str, float] = {}
        self._posts: Counter[PostKind] = Counter()
        self._tasks: Counter[Literal["accepted", "refused"]] = Counter()

    @property
    def posts(self) -> int:
        """How many POSTs were received."""
        return self._posts.total()

    def total_usd(self, account: str = MAIN_ACCOUNT) -> float:
        """The sum of an account's charges."""
        return self._totals_usd.get(account, 0.0)

    def balance_usd(self, account: str = MAIN_ACCOUNT) -> float:
        """The balance of an account."""
        return round(self._balance_usd - self.total_usd(account), 6)

    def count_post(self, kind: PostKind) -> None:
        """Count a POST: one with a `videoInference` that is not a dry run is a submission."""
        self._posts[kind] += 1

    def count_refused(self) -> None:
        """Count a `videoInference` that was refused."""
        self._tasks["refused"] += 1

    def refuse_unpayable(self, cost_usd: float, *, account: str = MAIN_ACCOUNT) -> None:
        """Check that an account's balance covers a price.

        Raises:
            RefusedTaskError: `insufficientCredits`: it does not.
        """
        balance_usd = self.balance_usd(account)
        if cost_usd > balance_usd:
            raise RefusedTaskError(
                "insufficientCredits",
                f"The task costs {cost_usd:g} USD and the balance is {balance_usd:g} USD; "
                f"add credits to the account.",
            )

    def charge(self, task: Task) -> None:
        """Charge an accepted task for all its results, whatever their outcome."""
        self._tasks["accepted"] += 1
        self._charged.append(task)
        self._add(task.order.account, task.order.cost_usd)

    def refund(self, task: Task, generation: Generation) -> None:
        """Refund the price of a failed result."""
        generation.is_charged = False
        self._add(task.order.account, -task.order.result_cost_usd)

    def _add(self, account: str, usd: float) -> None:
        # Rounded each time, so that ten charges of 0.1 are 1.
        self._totals_usd[account] = round(self.total_usd(account) + usd, 6)

    def to_json(self, *, clock_shift_seconds: float = 0.0) -> dict[str, Any]:
        """The ledger as HTTP reports it.

        Arguments:
            clock_shift_seconds: error of its times.
        """
        accepted, refused = self._tasks["accepted"], self._tasks["refused"]
        return {
            "charges": [_charge(task, clock_shift_seconds) for task in self._charged],
            "total_usd": as_wire_number(sum(self._totals_usd.values())),
            "balance_usd": as_wire_number(self.balance_usd()),
            "posts": {kind: self._posts[kind] for kind in ("submissions", "polls", "other")},
            "tasks": {
                "submitted": accepted + refused,
                "accepted": accepted,
                "refused": refused,
            },
        }


def _charge(task: Task, clock_shift_seconds: float) -> dict[str, Any]:
    """What one accepted task was charged, and its outcome."""
    order = task.order
    videos = [
        {
            "videoUUID": generation.video_uuid,
            "state": generation.state,
            "cost": as_wire_number(order.result_cost_usd if generation.is_charged else 0.0),
        }
        for generation in task.generations
    ]
    refunded = sum(not generation.is_charged for generation in task.generations)
    return {
        "taskUUID": task.task_uuid,
        "account": order.account,
        "attempt": task.attempt,
        "outcome": task.outcome,
        "model": order.request.entry.air,
        "seconds": as_wire_number(order.video.duration_seconds),
        "size": str(order.video.size),
        "results": order.request.number_results,
        "cost": as_wire_number(order.cost_usd - refunded * order.result_cost_usd),
        "is_assumed_price": order.is_assumed_price,
        "at": datetime.fromtimestamp(task.accepted_at + clock_shift_seconds, UTC).isoformat(),
        "videos": videos,
    }
