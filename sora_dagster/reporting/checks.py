"""Asset checks of stored clips, evaluated in the run that stores them.

A clip that passes costs one event: an evaluation that lists all checks. A check is also logged
under its own name if it fails, or if it is blocking, so that automation conditions can use it.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from typing import Any, cast

import dagster as dg
from sqlalchemy.exc import IntegrityError

from sora_dagster.dataset import asset_key_of
from sora_dagster.generation.library.clip_checks import (
    CLIP_CHECKS,
    QUALITY,
    ClipChecks,
    blocked_sentence,
)
from sora_dagster.generation.protocol.ledger import Ledger
from sora_dagster.generation.protocol.records import ClipManifest
from sora_dagster.generation.protocol.scan import stored_manifests
from sora_dagster.media.checks import CheckResult
from sora_dagster.reporting.check_events import (
    check_evaluation,
    clip_evaluation,
    quality_evaluation,
)
from sora_dagster.reporting.event_log import newest_materializations
from sora_dagster.runware.catalogue import Catalogue
from sora_dagster.storage import StorageRoot

_MANIFESTS_AT_ONCE = 100


def check_specs(
    checks: ClipChecks, key: dg.AssetKey, partitions_def: dg.PartitionsDefinition[Any] | None
) -> list[dg.AssetCheckSpec]:
    """The checks of an asset of videos.

    Arguments:
        checks: the checks of the dataset.
        key: the asset.
        partitions_def: its partitions, each with its own checks, and one more check that summarizes
            a run; None for a shot of a storyboard.
    """
    with warnings.catch_warnings():
        # Partitioned checks are in preview; they are used on purpose.
        warnings.simplefilter("ignore", category=dg.PreviewWarning)
        specs = [
            dg.AssetCheckSpec(
                CLIP_CHECKS,
                asset=key,
                description="All checks of the clip in one table. A check that fails, and each "
                "blocking check, is also logged under its own name.",
                partitions_def=partitions_def,
            ),
            *(
                dg.AssetCheckSpec(
                    name,
                    asset=key,
                    description=checks.description(name),
                    blocking=name in checks.blocking,
                    partitions_def=partitions_def,
                )
                for name in checks.all_names
            ),
        ]
    if partitions_def is not None:
        specs.append(
            dg.AssetCheckSpec(
                QUALITY,
                asset=key,
                description="Summary of all checks of all clips that the last run stored.",
            )
        )
    return specs


class RunChecks:
    """The checks of the clips that one run stores: logged per clip, and summarized at its end.

    Arguments:
        context: the run's context, for its log.
        checks: the checks of the dataset.
        catalogue: says which models make sound.
        root: the storage root.
    """

    def __init__(
        self,
        context: dg.AssetExecutionContext | dg.OpExecutionContext,
        checks: ClipChecks,
        catalogue: Catalogue,
        root: StorageRoot,
    ) -> None:
        self._context = context
        self._checks = checks
        self._catalogue = catalogue
        self._root = root
        self._ledger = Ledger(root)
        self._results: dict[str, dict[str, Sequence[CheckResult]]] = {}
        self._runless: set[str] = set()
        #: Why clips that failed a blocking check are not used, by name.
        self.blocked: dict[str, str] = {}

    def evaluate(
        self,
        manifests: Sequence[ClipManifest],
        *,
        only: Collection[str] | None = None,
        ended_before: bool = False,
    ) -> None:
        """Check clips whose materializations are logged, and log the results.

        Dagster's log is read once for all of them.

        Arguments:
            manifests: the clips' records.
            only: names of the checks to log. Default: the list of all checks, and those that failed
                or are blocking.
            ended_before: whether another run may have logged the same clips since this one was
                planned. If one did, the evaluations are logged outside the run: Dagster considers
                the newest row the newest evaluation, and the rows of this run were made when it
                was planned.
        """
        newest = _newest_of(self._context.instance, manifests)
        logged_since = self._logged_since(manifests) if ended_before else set()
        for manifest in manifests:
            is_runless = (manifest.asset, manifest.request.partition) in logged_since
            results = self._checks.evaluate(manifest, self._catalogue, self._root)
            target = newest.get((manifest.asset, manifest.request.partition))
            named = self._logged_by_name(manifest, results) if only is None else set(only)
            if only is None or CLIP_CHECKS in only:
                self._log(clip_evaluation(manifest, results, target), is_runless)
            for result in results:
                if result.name in named and result.evaluated:
                    event = check_evaluation(self._checks, manifest, result, target)
                    self._log(event, is_runless)
            self._note(manifest, results)
            if is_runless:
                self._runless.add(manifest.asset)

    def evaluate_stored(
        self, asset: str, clips: Sequence[str] | None, *, only: Collection[str]
    ) -> None:
        """Check stored clips again, without storing anything.

        Arguments:
            asset: asset key of the clips.
            clips: their partition keys; None for all stored clips.
            only: names of the checks to log.
        """
        if clips is None:
            clips = sorted({found.clip for found in stored_manifests(self._root, asset=asset)})
        found: list[ClipManifest] = []
        for clip in clips:
            manifest = self._ledger.latest_manifest(asset, clip)
            if manifest is None:
                self._context.log.warning(f"{clip} is not stored, so it cannot be checked")
                continue
            found.append(manifest)
            if len(found) == _MANIFESTS_AT_ONCE:
                self.evaluate(found, only=only)
                found = []
        self.evaluate(found, only=only)

    def sum_up(self) -> None:
        """Log the check that summarizes what the run stored of each asset."""
        for asset, results in self._results.items():
            is_runless = asset in self._runless
            # Dagster relates an evaluation of the run itself to the run's materializations.
            newest = self._newest(asset) if is_runless else None
            self._log(quality_evaluation(asset, results, newest), is_runless)

    def _logged_since(self, manifests: Sequence[ClipManifest]) -> set[tuple[str, str | None]]:
        """The clips whose checks another run has logged since this one was planned."""
        storage = self._context.instance.event_log_storage
        found: set[tuple[str, str | None]] = set()
        partitions: dict[str, list[str]] = {}
        for manifest in manifests:
            if manifest.request.partition is None:
                found.add((manifest.asset, None))
            else:
                partitions.setdefault(manifest.asset, []).append(manifest.request.partition)
        for asset, names in partitions.items():
            key = dg.AssetCheckKey(asset_key_of(asset), CLIP_CHECKS)
            for info in storage.get_asset_check_partition_info([key], partition_keys=names):
                # Without a run: Dagster keeps one such row for a partition, and refuses a second.
                if info.latest_planned_run_id not in ("", self._context.run.run_id):
                    found.add((asset, info.partition_key))
        return found

    def _newest(self, asset: str) -> dg.EventLogRecord | None:
        records = self._context.instance.fetch_materializations(asset_key_of(asset), limit=1)
        return next(iter(records.records), None)

    def _logged_by_name(self, manifest: ClipManifest, results: Sequence[CheckResult]) -> set[str]:
        """The checks that are also logged under their own names."""
        names = {result.name for result in results if result.failed} | self._checks.blocking
        earlier = self._earlier_take(manifest)
        if earlier is not None:
            # A check that failed for an earlier take is logged for this one too: otherwise that
            # failure would remain its newest result. Custom checks are not run again on the
            # earlier take.
            before = self._checks.evaluate(earlier, self._catalogue)
            names |= {result.name for result in before if result.failed}
            names |= self._checks.custom.keys()
        return names

    def _earlier_take(self, manifest: ClipManifest) -> ClipManifest | None:
        for take in range(manifest.take - 1, 0, -1):
            earlier = self._ledger.manifest(manifest.asset, manifest.clip, take)
            if earlier is not None:
                return earlier
        return None

    def _note(self, manifest: ClipManifest, results: Sequence[CheckResult]) -> None:
        name = manifest.request.name
        for result in results:
            if result.failed:
                self._context.log.warning(f"{name}: {result.name}: {result.description}")
        if blocking := self._checks.blocks(results):
            self.blocked[name] = blocked_sentence(blocking, results)
        if manifest.request.board is None:
            self._results.setdefault(manifest.asset, {})[name] = results

    def _log(self, event: dg.AssetCheckEvaluation, is_runless: bool = False) -> None:
        if is_runless:
            # Refused if a run did the same before: Dagster keeps one such row for a partition.
            with suppress(IntegrityError):
                self._context.instance.report_runless_asset_event(event)
                return
        # Dagster accepts these events; its annotation omits them.
        self._context.log_event(cast(Any, event))


def _newest_of(
    instance: dg.DagsterInstance, manifests: Sequence[ClipManifest]
) -> Mapping[tuple[str, str | None], dg.EventLogRecord]:
    """The newest materializations of clips, by asset and partition."""
    partitions: dict[str, list[str | None]] = {}
    for manifest in manifests:
        partitions.setdefault(manifest.asset, []).append(manifest.request.partition)
    return {
        (asset, partition): record
        for asset, names in partitions.items()
        for partition, record in newest_materializations(
            instance, asset_key_of(asset), names
        ).items()
    }
