"""Updates Dagster from the prompt dataset: partitions, data versions of rows, and removed rows."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import dagster as dg

from sora_dagster.dataset import VideoDataset
from sora_dagster.generation.library.removed_rows import RemovedClips, RemovedRows
from sora_dagster.prompts.counts import some_of
from sora_dagster.prompts.dataset import PromptDataset
from sora_dagster.reporting.dataset_rows import (
    Row,
    is_removal,
    removal_event,
    rows_of,
    unlogged_rows,
)
from sora_dagster.reporting.event_log import data_version_of, newest_materializations
from sora_dagster.reporting.events import (
    is_not_requested,
    row_input_tags,
)
from sora_dagster.reporting.partition_owner import location_of, require_own_partitions
from sora_dagster.storage import StorageRoot

# Rows are compared with Dagster's log by bucket, so that one changed row does not need all of them.
_BUCKETS = 256
_DIGEST_BYTES = 6


@dataclass
class SyncReport:
    """What an update found and did.

    Arguments:
        rows: number of clips and remixes of the dataset.
        changed: the rows whose new version was logged.
        removed: partitions, with their asset, whose rows were found to be removed.
        returned: rows that were marked as removed before, and are in the dataset again.
        left: number of rows that are left to the next update.
        events: the events to log.
    """

    rows: int = 0
    changed: list[Row] = field(default_factory=list)
    removed: list[tuple[dg.AssetKey, str]] = field(default_factory=list)
    returned: list[Row] = field(default_factory=list)
    left: int = 0
    events: list[dg.AssetMaterialization] = field(default_factory=list)


def missing_partitions(
    dataset: VideoDataset, instance: dg.DagsterInstance, prompts: PromptDataset
) -> Mapping[str, list[str]]:
    """Partitions that are missing in Dagster, by partitions definition."""
    wanted = {
        dataset.clip_partitions: [spec.clip_id for spec in prompts.clips],
        dataset.recipe_partitions: [recipe.name for recipe in prompts.recipes],
    }
    missing: dict[str, list[str]] = {}
    for definition, keys in wanted.items():
        known = set(instance.get_dynamic_partitions(str(definition.name)))
        if new := [key for key in keys if key not in known]:
            missing[str(definition.name)] = new
    return missing


class SyncState:
    """What was in step with Dagster at the last update: a digest for each bucket of rows.

    It is a few kilobytes long, however many rows there are.

    Arguments:
        digests: the digest of each bucket; none for one that is not known to be in step.
    """

    def __init__(self, digests: Mapping[int, str] | None = None) -> None:
        self.digests = dict(digests or {})

    @classmethod
    def from_cursor(cls, cursor: str | None) -> SyncState:
        """The state in a sensor's cursor. Another text counts as none."""
        try:
            data = json.loads(cursor or "{}")
            packed = base64.b64decode(data["digests"])
        except (ValueError, KeyError, TypeError):
            return cls()
        if len(packed) != _BUCKETS * _DIGEST_BYTES:
            return cls()
        texts = [
            packed[start : start + _DIGEST_BYTES].hex()
            for start in range(0, len(packed), _DIGEST_BYTES)
        ]
        return cls({bucket: text for bucket, text in enumerate(texts) if text.strip("0")})

    def to_cursor(self) -> str:
        """The state as a sensor's cursor."""
        empty = "0" * 2 * _DIGEST_BYTES
        packed = b"".join(
            bytes.fromhex(self.digests.get(bucket, empty)) for bucket in range(_BUCKETS)
        )
        return json.dumps({"digests": base64.b64encode(packed).decode()})


class DatasetSync:
    """Compares a dataset with Dagster, and makes the events and marks that are missing.

    Arguments:
        instance: the Dagster instance.
        dataset: the dataset.
        prompts: its rows.
        root: the storage root, for the marks of removed rows. None: there is none yet, and nothing
            can have been generated.
    """

    def __init__(
        self,
        instance: dg.DagsterInstance,
        dataset: VideoDataset,
        prompts: PromptDataset,
        root: StorageRoot | None,
    ) -> None:
        self._instance = instance
        self._dataset = dataset
        self._root = root
        self._rows: dict[tuple[dg.AssetKey, str], Row] = {
            (row.asset, row.partition): row for row in rows_of(dataset, prompts)
        }
        self._marks: dict[str, RemovedClips] = {}
        self._partitions = set(instance.get_dynamic_partitions(str(dataset.clip_partitions.name)))
        self._removed = self._find_removed()

    @property
    def partitions_to_delete(self) -> list[str]:
        """Partitions of removed rows, if the dataset deletes them."""
        if not self._dataset.delete_removed_partitions:
            return []
        removed = {clip for asset, clip in self._removed if asset == self._dataset.prompts}
        return sorted(removed & self._partitions)

    def update(
        self, state: SyncState, *, max_events: int | None = None, max_rows: int | None = None
    ) -> SyncReport:
        """Find the events that are missing, and update the marks of removed rows.

        The events are in the report, for the caller to log.

        Arguments:
            state: what was in step at the last update; is updated.
            max_events: number of events after which it ends. Default: no limit.
            max_rows: number of rows that are compared with Dagster's log, after which it ends.
                Default: no limit.
        """
        report = SyncReport(rows=len(self._rows))
        buckets = self._buckets()
        digests = {bucket: self._digest(keys) for bucket, keys in buckets.items()}
        out_of_step = [
            bucket for bucket, digest in digests.items() if state.digests.get(bucket) != digest
        ]
        compared = 0
        for position, bucket in enumerate(out_of_step):
            is_full = max_events is not None and len(report.events) >= max_events
            if is_full or (max_rows is not None and compared >= max_rows):
                report.left = sum(len(buckets[later]) for later in out_of_step[position:])
                break
            self._update(buckets[bucket], report)
            compared += len(buckets[bucket])
            state.digests[bucket] = digests[bucket]
        position_of = {key: position for position, key in enumerate(self._rows)}
        report.events.sort(
            key=lambda event: position_of.get(
                (event.asset_key, str(event.partition)), len(position_of)
            )
        )
        for bucket in set(state.digests) - set(digests):
            del state.digests[bucket]
        return report

    def _find_removed(self) -> set[tuple[dg.AssetKey, str]]:
        """Partitions of rows and remixes that are in Dagster, and not in the dataset.

        Cells of the remix grid that no row ever listed are among them.
        """
        dataset = self._dataset
        known = {(dataset.prompts, clip) for clip in self._partitions}
        for asset in (dataset.prompts, dataset.remix_prompts):
            logged = self._instance.get_materialized_partitions(asset)
            known |= {(asset, partition) for partition in logged}
        return known - self._rows.keys()

    def _buckets(self) -> dict[int, list[tuple[dg.AssetKey, str]]]:
        buckets: dict[int, list[tuple[dg.AssetKey, str]]] = {}
        for key in sorted([*self._rows, *self._removed], key=_name):
            number = int.from_bytes(hashlib.sha256(_name(key).encode()).digest()[:2]) % _BUCKETS
            buckets.setdefault(number, []).append(key)
        return buckets

    def _digest(self, keys: Iterable[tuple[dg.AssetKey, str]]) -> str:
        digest = hashlib.sha256()
        for key in keys:
            row = self._rows.get(key)
            version = "removed" if row is None else row.data_version
            digest.update(f"{_name(key)}\0{version}\0".encode())
        # Never that of an unknown bucket.
        return digest.digest()[: _DIGEST_BYTES - 1].hex() + "01"

    def _update(self, keys: Sequence[tuple[dg.AssetKey, str]], report: SyncReport) -> None:
        by_asset: dict[dg.AssetKey, list[str]] = {}
        for asset, partition in keys:
            by_asset.setdefault(asset, []).append(partition)
        for asset, partitions in by_asset.items():
            newest = newest_materializations(self._instance, asset, partitions)
            for partition in partitions:
                record = newest.get(partition)
                event = None if record is None else record.asset_materialization
                row = self._rows.get((asset, partition))
                if row is not None:
                    self._update_present(row, event, report)
                else:
                    self._update_removed(asset, partition, event, report)

    def _update_present(
        self, row: Row, event: dg.AssetMaterialization | None, report: SyncReport
    ) -> None:
        videos = self._video_asset(row.asset)
        if self._root is not None and row.partition in self._marked(videos):
            RemovedRows(self._root).clear(videos, row.partition)
        if is_removal(event):
            report.returned.append(row)
        elif event is not None and data_version_of(event) == row.data_version:
            return
        else:
            report.changed.append(row)
        report.events.append(row.event())

    def _update_removed(
        self,
        asset: dg.AssetKey,
        partition: str,
        event: dg.AssetMaterialization | None,
        report: SyncReport,
    ) -> None:
        if event is not None and is_not_requested(event):
            return
        if self._root is not None:
            RemovedRows(self._root).mark(self._video_asset(asset), partition)
        if is_removal(event):
            return
        report.removed.append((asset, partition))
        report.events.append(
            removal_event(asset, partition, event, row_input_tags(self._dataset, asset))
        )

    def _marked(self, asset: str) -> RemovedClips:
        assert self._root is not None
        if asset not in self._marks:
            self._marks[asset] = RemovedRows(self._root).of_asset(asset)
        return self._marks[asset]

    def _video_asset(self, asset: dg.AssetKey) -> str:
        is_clip = asset == self._dataset.prompts
        return (self._dataset.clips if is_clip else self._dataset.remixes).to_user_string()


def sync_rows(
    context: dg.OpExecutionContext | dg.AssetExecutionContext,
    dataset: VideoDataset,
    prompts: PromptDataset,
    partitions: Collection[str],
) -> bool:
    """Log rows before they are requested, so that their requests refer to their versions.

    The dataset sensor later does the same for the whole dataset, and does not log these again.

    Arguments:
        context: the run's context, for its instance and log.
        dataset: the dataset.
        prompts: its rows.
        partitions: partition keys of the rows.

    Returns:
        Whether any row was new or changed.

    Raises:
        SharedPartitionsError: if another code location has a dataset with the same partitions.
    """
    require_own_partitions(context.instance, dataset, location_of(context.run))
    for name, keys in missing_partitions(dataset, context.instance, prompts).items():
        context.instance.add_dynamic_partitions(name, keys)
    rows = [row for row in rows_of(dataset, prompts) if row.partition in partitions]
    changed = unlogged_rows(context.instance, rows)
    for row in changed:
        context.log_event(row.event())
    return bool(changed)


def sync_dataset(
    instance: dg.DagsterInstance,
    dataset: VideoDataset,
    prompts: PromptDataset,
    root: StorageRoot | None,
    log_event: Callable[[dg.AssetMaterialization], None],
    *,
    location: str | None = None,
) -> SyncReport:
    """Update all partitions and rows at once.

    Arguments:
        instance: the Dagster instance.
        dataset: the dataset.
        prompts: its rows.
        root: the storage root, for the marks of removed rows.
        log_event: logs an event.
        location: name of the code location. None: unknown.

    Raises:
        SharedPartitionsError: if another code location has a dataset with the same partitions.
    """
    require_own_partitions(instance, dataset, location)
    for name, keys in missing_partitions(dataset, instance, prompts).items():
        instance.add_dynamic_partitions(name, keys)
    sync = DatasetSync(instance, dataset, prompts, root)
    report = sync.update(SyncState())
    for event in report.events:
        log_event(event)
    for key in sync.partitions_to_delete:
        instance.delete_dynamic_partition(str(dataset.clip_partitions.name), key)
    return report


def _name(key: tuple[dg.AssetKey, str]) -> str:
    asset, partition = key
    return f"{asset.to_user_string()}/{partition}"


def sync_lines(report: SyncReport, *, most: int = 20) -> list[str]:
    """Sentences on what an update found.

    Arguments:
        report: what it found.
        most: maximum number of partitions that a sentence names.
    """

    def line(text: str, names: Sequence[str]) -> str:
        return f"{len(names)} {text}: {some_of(names, most=most)}"

    lines = []
    if report.changed:
        lines.append(line("new or changed", [row.partition for row in report.changed]))
    if report.returned:
        lines.append(line("in the dataset again", [row.partition for row in report.returned]))
    if report.removed:
        names = [partition for _, partition in report.removed]
        lines.append(line("no longer in the dataset; what was generated is kept", names))
    if report.left:
        lines.append(f"{report.left} are left to the next update")
    return lines
