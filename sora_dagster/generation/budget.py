"""The spending limit: a log of reservations that every process appends to before it sends.

The log's entries are numbered without gaps and created only once, so two processes that reserve at
the same time cannot both take the last dollar: the slower one reads again.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, timedelta
from typing import NamedTuple

from sora_dagster.generation import layout
from sora_dagster.generation.ledger import Ledger
from sora_dagster.generation.records import Record
from sora_dagster.storage import StorageError

DEFAULT_RUN_LIMIT_USD = 25.0
_CENT_FRACTION = 1e-6


class BudgetEntry(Record):
    """One reservation: the tasks that are about to be sent, and what each is expected to cost.

    Arguments:
        root_run: the run that asked; a run's limit counts its entries.
        estimates_usd: expected cost of each task, by task UUID.
    """

    root_run: str
    estimates_usd: dict[str, float]
    nonce: str


class Reservation(NamedTuple):
    """Which tasks fit in the limit.

    Arguments:
        granted: UUIDs of the tasks that may be sent, in the order asked.
        refused: UUIDs of those that would pass the limit.
        spent_usd: what the root run had reserved before.
    """

    granted: tuple[str, ...]
    refused: tuple[str, ...]
    spent_usd: float


class Budget:
    """Reserves money for tasks before they are sent.

    Arguments:
        ledger: the ledger in whose root the log is kept.
    """

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        self._known: dict[str, BudgetEntry] = {}

    def reserve(
        self, estimates_usd: Mapping[str, float], *, root_run: str, run_limit_usd: float | None
    ) -> Reservation:
        """Reserve for as many tasks as fit in the run's limit, in their order.

        Arguments:
            estimates_usd: expected cost of each task in USD, by task UUID.
            root_run: the run that the limit belongs to.
            run_limit_usd: the limit in USD, None for none.

        A task that was reserved before counts once.
        """
        while True:
            today = self._ledger.clock().date()
            entries = self._entries(today)
            reserved: dict[str, float] = {}
            for entry in [*self._entries(today - timedelta(days=1)), *entries]:
                if entry.root_run == root_run:
                    reserved.update(entry.estimates_usd)
            spent = sum(reserved.values())
            granted: dict[str, float] = {}
            refused: list[str] = []
            total = spent
            for task_uuid, estimate in estimates_usd.items():
                added = 0.0 if task_uuid in reserved else estimate
                if run_limit_usd is not None and total + added > run_limit_usd + _CENT_FRACTION:
                    refused.append(task_uuid)
                else:
                    granted[task_uuid] = estimate
                    total += added
            reservation = Reservation(tuple(granted), tuple(refused), spent)
            if not granted:
                return reservation
            entry = BudgetEntry(
                root_run=root_run, estimates_usd=granted, nonce=self._ledger.new_nonce()
            )
            if self._append(today, len(entries) + 1, entry):
                return reservation

    def _append(self, day: date, number: int, entry: BudgetEntry) -> bool:
        key = layout.budget_key(day, number)
        if self._ledger.root.create(key, entry.to_json()):
            return True
        # The put may have been ours, its first answer lost: the nonce tells.
        standing = BudgetEntry.model_validate_json(self._ledger.root.read(key))
        return standing.nonce == entry.nonce

    def _entries(self, day: date) -> list[BudgetEntry]:
        folder = f"{layout.BUDGET_FOLDER}/{day.isoformat()}"
        keys = sorted(info.key for info in self._ledger.root.list(folder))
        for number, key in enumerate(keys, start=1):
            if key != layout.budget_key(day, number):
                raise StorageError(
                    f"the spending log {self._ledger.root.uri(folder)} has a gap before {key}; "
                    f"entries were deleted, so spending limits cannot be kept. Restore them."
                )
            if key not in self._known:
                self._known[key] = BudgetEntry.model_validate_json(self._ledger.root.read(key))
        return [self._known[key] for key in keys]


def parse_limit(text: str | None) -> float | None:
    """A spending limit from a setting: USD, ``unlimited``, or the default where nothing is set.

    Raises:
        ValueError: where the text is neither.
    """
    if text is None or not text.strip():
        return DEFAULT_RUN_LIMIT_USD
    if text.strip().lower() == "unlimited":
        return None
    try:
        limit = float(text)
    except ValueError:
        limit = -1.0
    if not 0 <= limit < float("inf"):
        raise ValueError(
            f"{text!r} is not a spending limit; write USD such as 25 or 7.50, or 'unlimited'"
        )
    return limit
