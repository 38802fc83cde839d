"""Finds the events of a clip's inputs, by which Dagster decides what is stale."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import dagster as dg

DATA_VERSION_TAG = "dagster/data_version"

# Maximum number of partitions in a query, whose parameters are limited.
_PARTITIONS_AT_ONCE = 500
# Maximum number of events of a partition that are searched for an input's version.
_EVENTS_SEARCHED = 25
# Dagster compares an input's newest event with the one that was used. With this pointer there is
# nothing to compare, and the asset is not stale because of that input.
NO_EVENT = 0


@dataclass(frozen=True)
class InputVersion:
    """An input of an asset: a partition of another asset, in one data version.

    Arguments:
        key: the input asset.
        partition: its partition key; None if it has no partitions.
        data_version: the version that was used.
    """

    key: dg.AssetKey
    partition: str | None
    data_version: str


class InputEvents:
    """Storage ids of the events that gave inputs the versions that were used.

    Dagster decides by storage id whether the partition of an input was updated, so every event of a
    clip must contain them. They are read for many clips at once, and never change.

    Arguments:
        instance: the Dagster instance.
    """

    def __init__(self, instance: dg.DagsterInstance) -> None:
        self._instance = instance
        self._found: dict[InputVersion, int] = {}
        self._prefetched: set[InputVersion] = set()

    def load(self, used: Iterable[InputVersion], later: Iterable[InputVersion] = ()) -> None:
        """Find the events of inputs. Nothing is read if all are known.

        Arguments:
            used: inputs whose events are needed now.
            later: inputs whose events will be needed later, which are read with the others.
        """
        missing = {item for item in used if item.partition is not None} - self._found.keys()
        if not missing:
            return
        prefetch = {item for item in later if item.partition is not None}
        prefetch -= self._found.keys() | self._prefetched
        self._prefetched |= prefetch
        by_key: dict[dg.AssetKey, set[InputVersion]] = {}
        for item in missing | prefetch:
            by_key.setdefault(item.key, set()).add(item)
        for key, wanted in by_key.items():
            self._search(key, wanted)

    def storage_id(self, used: InputVersion) -> int:
        """The newest event that gave an input the version that was used.

        An input without partitions needs none: Dagster compares the versions.
        """
        return self._found.get(used, NO_EVENT)

    def _search(self, key: dg.AssetKey, wanted: set[InputVersion]) -> None:
        for some in _chunks(sorted({str(item.partition) for item in wanted})):
            left = {item for item in wanted if item.partition in some}
            cursor: str | None = None
            for _ in range(_EVENTS_SEARCHED):
                page = self._instance.fetch_materializations(
                    dg.AssetRecordsFilter(asset_key=key, asset_partitions=list(some)),
                    limit=2 * len(some),
                    cursor=cursor,
                )
                for record in page.records:
                    event = record.asset_materialization
                    if event is None or (version := data_version_of(event)) is None:
                        continue
                    used = InputVersion(key, event.partition, version)
                    if used in left:
                        left.remove(used)
                        self._found[used] = record.storage_id
                if not left or not page.has_more:
                    break
                cursor = page.cursor


def data_version_of(event: dg.AssetMaterialization) -> str | None:
    """The data version of a materialization."""
    return (event.tags or {}).get(DATA_VERSION_TAG)


def newest_materializations(
    instance: dg.DagsterInstance, key: dg.AssetKey, partitions: Sequence[str | None]
) -> dict[str | None, dg.EventLogRecord]:
    """The newest materialization of each partition, mostly in one query.

    Arguments:
        instance: the Dagster instance.
        key: the asset.
        partitions: partition keys; None for an asset without partitions.
    """
    found: dict[str | None, dg.EventLogRecord] = {}
    if None in partitions:
        for record in instance.fetch_materializations(key, limit=1).records:
            found[None] = record
    for some in _chunks(sorted({name for name in partitions if name is not None})):
        left, cursor = set(some), None
        while left:
            page = instance.fetch_materializations(
                dg.AssetRecordsFilter(asset_key=key, asset_partitions=sorted(left)),
                limit=2 * len(left),
                cursor=cursor,
            )
            for record in page.records:
                if record.partition_key in left:
                    left.remove(record.partition_key)
                    found[record.partition_key] = record
            if not page.has_more:
                break
            cursor = page.cursor
    return found


def _chunks(names: Sequence[str]) -> Iterator[frozenset[str]]:
    for start in range(0, len(names), _PARTITIONS_AT_ONCE):
        yield frozenset(names[start : start + _PARTITIONS_AT_ONCE])
