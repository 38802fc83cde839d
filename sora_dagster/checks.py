"""Asset checks of stored clips: evaluated in the run that stores them, whichever that is.

A clip that is fine costs one event: an evaluation that lists all checks. A check keeps an
evaluation under its own name if it fails, or if it is blocking, so that automation conditions can
look at it.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Mapping, Sequence
from typing import Any, cast, get_args, get_type_hints

import dagster as dg

from sora_dagster.dataset import asset_key_of
from sora_dagster.event_log import newest_materializations
from sora_dagster.generation.library.clip_checks import (
    CLIP_CHECKS,
    QUALITY,
    ClipCheckResult,
    ClipChecks,
    blocked_sentence,
)
from sora_dagster.generation.protocol.ledger import Ledger
from sora_dagster.generation.protocol.records import ClipManifest
from sora_dagster.generation.protocol.scan import stored_manifests
from sora_dagster.runware.models import Catalogue
from sora_dagster.storage import StorageRoot

_SEVERITIES = {"error": dg.AssetCheckSeverity.ERROR, "warn": dg.AssetCheckSeverity.WARN}
_MAX_ROWS = 50
_CLIP_COLUMNS = ("check", "result", "severity", "found", "figures")
_RUN_COLUMNS = ("clip", "check", "severity", "found")
_MANIFESTS_AT_ONCE = 100

NewestMaterializations = Mapping[tuple[str, str | None], dg.EventLogRecord]


def check_specs(
    checks: ClipChecks,
    key: dg.AssetKey,
    partitions_def: dg.PartitionsDefinition[Any] | None,
) -> list[dg.AssetCheckSpec]:
    """The checks of an asset of videos.

    Arguments:
        checks: what clips are held to.
        key: the asset.
        partitions_def: its partitions, each of which has checks of its own, and one check besides
            that sums up a run; None for a storyboard's shot.
    """
    with warnings.catch_warnings():
        # Partitioned checks are in preview; they are used knowingly.
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
                description="All checks of all clips that the last run stored: the asset's health.",
            )
        )
    return specs


class RunChecks:
    """The checks of what one run stores: logged as clips are stored, and summed up at its end.

    Arguments:
        context: the run's, for its log.
        checks: what clips are held to.
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
        self._verdicts: dict[str, dict[str, Sequence[ClipCheckResult]]] = {}
        #: Why the clips that failed a blocking check are not used, by name.
        self.blocked: dict[str, str] = {}

    def evaluate(
        self,
        manifests: Sequence[ClipManifest],
        *,
        only: Collection[str] | None = None,
        is_runless: bool = False,
    ) -> None:
        """Check clips whose materializations are logged, and log what was found.

        Dagster's log is read once for all of them.

        Arguments:
            manifests: the clips' records.
            only: names of the checks that are logged; None for the list of all checks, and those
                that failed or are blocking.
            is_runless: whether the evaluations are logged outside the run, because another run
                logged some of the same clips while this one waited. Dagster takes the evaluation
                for the newest whose row is the newest, and this run's rows were made when it
                was planned.
        """
        newest = _newest_of(self._context.instance, manifests)
        for manifest in manifests:
            verdicts = self._checks.evaluate(manifest, self._catalogue, self._root)
            target = newest.get((manifest.asset, manifest.request.partition))
            named = self._logged_by_name(manifest, verdicts) if only is None else set(only)
            if only is None or CLIP_CHECKS in only:
                self._log(clip_evaluation(manifest, verdicts, target), is_runless)
            for verdict in verdicts:
                if verdict.name in named and verdict.evaluated:
                    event = check_evaluation(self._checks, manifest, verdict, target)
                    self._log(event, is_runless)
            self._note(manifest, verdicts)

    def evaluate_stored(
        self, asset: str, clips: Sequence[str] | None, *, only: Collection[str]
    ) -> None:
        """Check what is stored, without storing anything.

        Arguments:
            asset: asset key of the clips.
            clips: their partition keys; None for all that are stored.
            only: names of the checks that are logged.
        """
        if clips is None:
            clips = sorted({found.clip for found in stored_manifests(self._root, asset=asset)})
        found: list[ClipManifest] = []
        for clip in clips:
            manifest = self._ledger.latest_manifest(asset, clip)
            if manifest is None:
                self._context.log.warning(f"{clip} is not stored, so there is nothing to check")
                continue
            found.append(manifest)
            if len(found) == _MANIFESTS_AT_ONCE:
                self.evaluate(found, only=only)
                found = []
        self.evaluate(found, only=only)

    def sum_up(self) -> None:
        """Log the check that sums up what the run stored of each asset."""
        for asset, verdicts in self._verdicts.items():
            self._log(quality_evaluation(asset, verdicts))

    def _logged_by_name(
        self, manifest: ClipManifest, verdicts: Sequence[ClipCheckResult]
    ) -> set[str]:
        """The checks that are logged under their own names besides."""
        names = {verdict.name for verdict in verdicts if verdict.failed} | self._checks.blocking
        earlier = self._earlier_take(manifest)
        if earlier is not None:
            # What failed for an earlier take is logged for this one too: otherwise that failure
            # would remain the newest result of the check. The user's own checks are not made
            # again on the earlier take.
            before = self._checks.evaluate(earlier, self._catalogue)
            names |= {verdict.name for verdict in before if verdict.failed}
            names |= self._checks.custom.keys()
        return names

    def _earlier_take(self, manifest: ClipManifest) -> ClipManifest | None:
        for take in range(manifest.take - 1, 0, -1):
            earlier = self._ledger.manifest(manifest.asset, manifest.clip, take)
            if earlier is not None:
                return earlier
        return None

    def _note(self, manifest: ClipManifest, verdicts: Sequence[ClipCheckResult]) -> None:
        name = manifest.request.name
        for verdict in verdicts:
            if verdict.failed:
                self._context.log.warning(f"{name}: {verdict.name}: {verdict.description}")
        if blocking := self._checks.blocks(verdicts):
            self.blocked[name] = blocked_sentence(blocking, verdicts)
        if manifest.request.board is None:
            self._verdicts.setdefault(manifest.asset, {})[name] = verdicts

    def _log(self, event: dg.AssetCheckEvaluation, is_runless: bool = False) -> None:
        if is_runless:
            self._context.instance.report_runless_asset_event(event)
            return
        # Dagster takes these events, and its annotation leaves them out.
        self._context.log_event(cast(Any, event))


def clip_evaluation(
    manifest: ClipManifest,
    verdicts: Sequence[ClipCheckResult],
    target: dg.EventLogRecord | None,
) -> dg.AssetCheckEvaluation:
    """The evaluation that lists what all checks say of a clip.

    Arguments:
        manifest: the clip's record.
        verdicts: what the checks say.
        target: the clip's newest materialization; None if there is none.
    """
    failed = [verdict for verdict in verdicts if verdict.failed]
    errors = [verdict for verdict in failed if verdict.severity == "error"]
    skipped = [verdict for verdict in verdicts if not verdict.evaluated]
    passed = len(verdicts) - len(failed) - len(skipped)
    description = f"{passed} passed, {len(failed)} failed, {len(skipped)} not evaluated."
    for verdict in failed:
        description += f" {verdict.name}: {verdict.description}"
    rows = [
        dg.TableRecord(
            {
                "check": verdict.name,
                "result": _result(verdict),
                "severity": verdict.severity,
                "found": verdict.description,
                "figures": ", ".join(f"{name}={value}" for name, value in verdict.figures.items()),
            }
        )
        for verdict in verdicts
    ]
    schema = dg.TableSchema(columns=[dg.TableColumn(name, "string") for name in _CLIP_COLUMNS])
    return dg.AssetCheckEvaluation(
        asset_key=asset_key_of(manifest.asset),
        check_name=CLIP_CHECKS,
        passed=not failed,
        severity=_SEVERITIES["error" if errors else "warn"],
        description=description,
        metadata={"checks": dg.MetadataValue.table(rows, schema=schema)},
        partition=manifest.request.partition,
        target_materialization_data=_target(target),
    )


def check_evaluation(
    checks: ClipChecks,
    manifest: ClipManifest,
    verdict: ClipCheckResult,
    target: dg.EventLogRecord | None,
) -> dg.AssetCheckEvaluation:
    """The evaluation of one check of a clip under its own name.

    Dagster knows only passed and failed, so a check that was not evaluated has none.

    Arguments:
        checks: what clips are held to.
        manifest: the clip's record.
        verdict: what the check says.
        target: the clip's newest materialization; None if there is none.
    """
    return dg.AssetCheckEvaluation(
        asset_key=asset_key_of(manifest.asset),
        check_name=verdict.name,
        passed=verdict.passed,
        severity=_SEVERITIES[verdict.severity],
        description=verdict.description,
        metadata=dict(verdict.figures),
        blocking=verdict.name in checks.blocking,
        partition=manifest.request.partition,
        target_materialization_data=_target(target),
    )


def quality_evaluation(
    asset: str, verdicts_by_clip: Mapping[str, Sequence[ClipCheckResult]]
) -> dg.AssetCheckEvaluation:
    """The evaluation that sums up what a run stored of an asset.

    Arguments:
        asset: asset key of the clips.
        verdicts_by_clip: what the checks say, by partition key.
    """
    failed = [
        (clip, verdict)
        for clip, verdicts in verdicts_by_clip.items()
        for verdict in verdicts
        if verdict.failed
    ]
    errors = [clip for clip, verdict in failed if verdict.severity == "error"]
    clips, failed_clips = len(verdicts_by_clip), len({clip for clip, _ in failed})
    unevaluated = sum(
        1 for verdicts in verdicts_by_clip.values() for verdict in verdicts if not verdict.evaluated
    )
    description = (
        f"{failed_clips} of {clips} clips failed a check."
        if failed
        else f"None of {clips} clips failed a check."
    )
    if unevaluated:
        description += f" {unevaluated} checks were not evaluated; each clip's table says why."
    metadata: dict[str, Any] = {
        "clips": clips,
        "failed_clips": failed_clips,
        "unevaluated_checks": unevaluated,
    }
    if failed:
        metadata["failed_checks"] = dg.MetadataValue.table(
            [
                dg.TableRecord(
                    {
                        "clip": clip,
                        "check": verdict.name,
                        "severity": verdict.severity,
                        "found": verdict.description,
                    }
                )
                for clip, verdict in failed[:_MAX_ROWS]
            ],
            schema=dg.TableSchema(
                columns=[dg.TableColumn(name, "string") for name in _RUN_COLUMNS]
            ),
        )
    return dg.AssetCheckEvaluation(
        asset_key=asset_key_of(asset),
        check_name=QUALITY,
        passed=not failed,
        severity=_SEVERITIES["error" if errors else "warn"],
        description=description,
        metadata=metadata,
    )


def _result(verdict: ClipCheckResult) -> str:
    if not verdict.evaluated:
        return "not evaluated"
    return "passed" if verdict.passed else "failed"


def _newest_of(
    instance: dg.DagsterInstance, manifests: Sequence[ClipManifest]
) -> NewestMaterializations:
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


def _target(record: dg.EventLogRecord | None) -> Any:
    """What a check looked at, in Dagster's form.

    Without it Dagster takes the check of a partition for one of an older materialization. The
    class has no public name; the annotation of the public class that takes it names it.
    """
    if record is None:
        return None
    annotation = get_type_hints(dg.AssetCheckEvaluation)["target_materialization_data"]
    [target_type] = [kind for kind in get_args(annotation) if kind is not type(None)]
    return target_type(
        storage_id=record.storage_id, run_id=record.run_id, timestamp=record.timestamp
    )
