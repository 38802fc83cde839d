"""The collector's lease: who collects now, so that one process waits for all.

It is only an economy: two collectors at once do no harm, since every step of collecting may be
repeated.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

from sora_dagster.generation import layout
from sora_dagster.generation.ledger import Ledger
from sora_dagster.generation.records import Record

DEFAULT_LEASE_SECONDS = 60.0


class LeaseRecord(Record):
    """One epoch of the lease.

    Arguments:
        holder: who collects, such as a run id.
        released: whether the holder has stopped.
    """

    holder: str
    released: bool
    at: datetime
    nonce: str


class Lease:
    """Takes, renews and releases the right to collect.

    Arguments:
        ledger: the ledger in whose root the lease is kept.
        holder: who wants it.
        seconds: age at which an epoch that was not renewed is over.
    """

    def __init__(
        self, ledger: Ledger, holder: str, *, seconds: float = DEFAULT_LEASE_SECONDS
    ) -> None:
        self._ledger = ledger
        self._holder = holder
        self._seconds = seconds
        self._epoch: int | None = None
        self._renewed_at: datetime | None = None

    def take(self) -> bool:
        """Take the lease; False where another holder's is alive."""
        newest = _newest(self._ledger)
        if newest is not None and is_live(self._ledger, seconds=self._seconds):
            return False
        return self._write((newest or 0) + 1, released=False)

    def keep(self) -> bool:
        """Renew the lease when a third of its time is over; False where it was lost."""
        if self._epoch is None or self._renewed_at is None:
            return False
        if self._ledger.clock() - self._renewed_at < timedelta(seconds=self._seconds / 3):
            return True
        return self._write(self._epoch + 1, released=False)

    def release(self) -> None:
        """Say that the holder has stopped."""
        if self._epoch is not None:
            self._write(self._epoch + 1, released=True)
            self._epoch = None

    def _write(self, epoch: int, *, released: bool) -> bool:
        record = LeaseRecord(
            holder=self._holder,
            released=released,
            at=self._ledger.clock(),
            nonce=self._ledger.new_nonce(),
        )
        key = layout.lease_key(epoch)
        if not self._ledger.root.create(key, record.to_json()):
            standing = LeaseRecord.model_validate_json(self._ledger.root.read(key))
            if standing.nonce != record.nonce:
                self._epoch = None
                return False
        self._epoch, self._renewed_at = epoch, record.at
        for info in list(self._ledger.root.list(layout.LEASE_FOLDER)):
            if info.key < key:
                self._ledger.root.delete(info.key)
        return True


def is_live(
    ledger: Ledger,
    *,
    seconds: float = DEFAULT_LEASE_SECONDS,
    store_time: Callable[[], datetime] | None = None,
) -> bool:
    """Whether somebody collects now, by the store's own clock."""
    newest = _newest(ledger)
    if newest is None:
        return False
    key = layout.lease_key(newest)
    body, info = ledger.root.read_if_present(key), ledger.root.info(key)
    if body is None or info is None:
        # Swept between the listing and the read: somebody renewed it just now.
        return True
    if LeaseRecord.model_validate_json(body).released:
        return False
    now = (store_time or ledger.root.store_time)()
    return now - info.last_modified < timedelta(seconds=seconds)


def _newest(ledger: Ledger) -> int | None:
    epochs = [
        int(info.key.removeprefix(f"{layout.LEASE_FOLDER}/").removesuffix(".json"))
        for info in ledger.root.list(layout.LEASE_FOLDER)
    ]
    return max(epochs, default=None)
