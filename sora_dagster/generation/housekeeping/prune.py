"""Making room: older takes, files that no manifest names, and what interrupted uploads left.

What is asked, sent and paid for (`root.json`, `slots/`, `tasks/`, `budget/`) is never removed, so
that nothing that was removed is paid for again. Ages are those of the store's own clock.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal, NamedTuple

from sora_dagster.generation.housekeeping.take_pruning import TakePruner
from sora_dagster.generation.library.take_folders import list_take_folders
from sora_dagster.generation.protocol.ledger import Ledger
from sora_dagster.generation.requesting.direct_delivery import sweep_incoming

RemovedKind = Literal["older take", "leftover", "incoming", "unfinished upload"]

_DAY = timedelta(days=1)


class Removed(NamedTuple):
    """One object that was removed, or would be.

    Arguments:
        kind: an object of an older take, its entry in the index included; one beside a manifest
            that does not name it; an upload that no task waits for, or what a restore left; an
            upload that never ended.
        key: its key.
        size_bytes: its length; 0 if the store does not say.
    """

    kind: RemovedKind
    key: str
    size_bytes: int


@dataclass(frozen=True)
class PruneReport:
    """What was removed, or would be, and what was kept.

    Arguments:
        is_dry: whether nothing was removed.
        objects: how many objects, by kind.
        size_bytes: their length, by kind.
        kept: how many takes or objects were kept, by the reason.
    """

    is_dry: bool
    objects: Mapping[RemovedKind, int]
    size_bytes: Mapping[RemovedKind, int]
    kept: Mapping[str, int]

    @property
    def sentences(self) -> tuple[str, ...]:
        """The report as lines for people."""
        verb = "would be removed" if self.is_dry else "removed"
        removed = [
            f"{kind}: {count} objects, {self.size_bytes[kind] / 1e6:.1f} MB {verb}"
            for kind, count in self.objects.items()
        ]
        kept = [f"kept: {count} {reason}" for reason, count in self.kept.items()]
        return (*(removed or [f"nothing {verb}"]), *kept)


def prune(
    ledger: Ledger,
    *,
    keep_takes: int | None = None,
    keep_parents: bool = True,
    upload_days: float = 2.0,
    dry: bool = True,
    on_removed: Callable[[Removed], None] = lambda _: None,
) -> PruneReport:
    """Remove what is not needed any more; may be stopped anywhere and run again.

    Arguments:
        ledger: the ledger of the storage root.
        keep_takes: how many whole takes of each clip stay, the newest ones; None for all. Of an
            older one only its record stays (`pruned.json`).
        keep_parents: whether an older take also stays where a stored or outstanding remix was made
            of it. The remix does not need it; whoever looks at where it came from does.
        upload_days: age from which uploads that never ended are given up.
        dry: whether to report only what would be removed.
        on_removed: called for each object that was removed, or would be.

    Raises:
        ValueError: where a number is out of range.
        StorageError: where the storage root is none of ours, or fails.
    """
    if keep_takes is not None and keep_takes < 1:
        raise ValueError(
            f"keep_takes is {keep_takes}; allowed are 1 and more, since the newest take of a clip "
            f"always stays, or none at all to keep every take"
        )
    if upload_days < 1:
        raise ValueError(
            f"upload_days is {upload_days}; it must be 1 or more, since a younger upload may "
            f"still be under way"
        )
    # A folder of somebody else's has no namespace, and is left alone.
    _ = ledger.namespace
    housekeeper = _Housekeeper(ledger, dry=dry, on_removed=on_removed)
    housekeeper.takes(keep_takes, keep_parents=keep_parents)
    housekeeper.incoming()
    housekeeper.uploads(upload_days)
    return housekeeper.report()


class _Housekeeper:
    def __init__(self, ledger: Ledger, *, dry: bool, on_removed: Callable[[Removed], None]) -> None:
        self._ledger = ledger
        self._dry = dry
        self._on_removed = on_removed
        self._now = ledger.root.store_time()
        self._objects: Counter[RemovedKind] = Counter()
        self._size_bytes: Counter[RemovedKind] = Counter()
        self._kept: Counter[str] = Counter()

    def report(self) -> PruneReport:
        return PruneReport(
            self._dry, dict(self._objects), dict(self._size_bytes), dict(sorted(self._kept.items()))
        )

    def takes(self, keep_takes: int | None, *, keep_parents: bool) -> None:
        clips = list_take_folders(self._ledger.root)
        pruner = TakePruner(self._ledger, clips, now=self._now, dry=self._dry)
        for info in pruner.older_takes(keep_takes, keep_parents=keep_parents):
            self._note("older take", info.key, info.size_bytes)
        for info in pruner.leftovers():
            self._note("leftover", info.key, info.size_bytes)
        self._kept.update(pruner.kept)

    def incoming(self) -> None:
        swept = sweep_incoming(
            self._ledger,
            now=self._now,
            is_dry_run=self._dry,
            on_kept=lambda _upload, reason: self._kept.update([f"old uploads: {reason}"]),
        )
        for upload in swept:
            self._note("incoming", upload.key, upload.size_bytes)

    def uploads(self, days: float) -> None:
        for upload in self._ledger.root.stale_uploads(days * _DAY.total_seconds()):
            if not self._dry:
                self._ledger.root.abort_upload(upload)
            self._note("unfinished upload", upload.key, 0)

    def _note(self, kind: RemovedKind, key: str, size_bytes: int) -> None:
        self._objects[kind] += 1
        self._size_bytes[kind] += size_bytes
        self._on_removed(Removed(kind, key, size_bytes))
