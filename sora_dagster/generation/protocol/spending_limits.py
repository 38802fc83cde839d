"""Spending limits, and whether tasks fit in them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from sora_dagster.generation.protocol.spending_log import Spending

_ROUNDING_USD = 1e-6


@dataclass(frozen=True)
class SpendingLimits:
    """Spending limits in USD; None for no limit.

    Arguments:
        run_usd: by one root run: a run with its retries, a backfill, and the remixes of either.
        day_usd: in one day (UTC), by all runs on the storage root.
        dataset_day_usd: in one day (UTC), for one dataset, by dataset. Default: no limits.
    """

    run_usd: float | None = None
    day_usd: float | None = None
    dataset_day_usd: Mapping[str, float] = field(default_factory=dict)


class LimitUse:
    """How much of a limit is used, while tasks are added one by one.

    Arguments:
        whose: whose limit it is, for messages.
        limit_usd: the limit in USD; None for no limit.
        setting: the settings that raise it, for messages.
        no_limit: how to set no limit, for messages.
        spending: the sums of its log.
        used_usd: the part of them that counts towards the limit, in USD.
    """

    def __init__(
        self,
        whose: str,
        limit_usd: float | None,
        setting: str,
        no_limit: str,
        spending: Spending,
        *,
        used_usd: float,
    ) -> None:
        self._whose = whose
        self._limit_usd = limit_usd
        self._setting = setting
        self._no_limit = no_limit
        self._spending = spending
        self._total_usd = used_usd

    def refusal(self, task_uuid: str, estimate_usd: float | None) -> str | None:
        """Why a task does not fit; None if it does."""
        limit, used = self._limit_usd, self._total_usd
        if limit is None:
            return None
        if estimate_usd is None:
            # It may be reserved or settled by a process that knew its price.
            estimate_usd = self._spending.known_usd(task_uuid)
        if estimate_usd is None:
            return (
                f"not sent, nothing paid: its price is unknown, so it cannot be held to "
                f"{self._whose} spending limit of {limit:.2f} USD. Set the prices in the "
                f"model's catalogue entry (SORA_MODELS), or set no limit "
                f"({self._no_limit})."
            )
        added = self._spending.added_usd(task_uuid, estimate_usd)
        if used + added <= limit + _ROUNDING_USD:
            return None
        return (
            f"not sent, nothing paid: it would cost {estimate_usd:.2f} USD, and {used:.2f} USD of "
            f"{self._whose} spending limit of {limit:.2f} USD is already used. Raise the limit "
            f"({self._setting}), or request fewer clips."
        )

    def add(self, task_uuid: str, estimate_usd: float | None) -> None:
        """Count a task."""
        self._total_usd += self._spending.added_usd(task_uuid, estimate_usd)


def fit(
    estimates_usd: Mapping[str, float | None], uses: Sequence[LimitUse]
) -> tuple[dict[str, float | None], dict[str, str]]:
    """The tasks that fit in all limits, in their order; and why the others do not."""
    granted: dict[str, float | None] = {}
    refused: dict[str, str] = {}
    for task_uuid, estimate in estimates_usd.items():
        refusals = (use.refusal(task_uuid, estimate) for use in uses)
        reason = next((refusal for refusal in refusals if refusal is not None), None)
        if reason is not None:
            refused[task_uuid] = reason
            continue
        granted[task_uuid] = estimate
        for use in uses:
            use.add(task_uuid, estimate)
    return granted, refused
