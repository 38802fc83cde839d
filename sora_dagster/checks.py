"""Asset checks of stored clips: evaluated in the run that stores them, whichever that is."""

import warnings
from collections.abc import Mapping, Sequence
from typing import Any, cast

import dagster as dg

from sora_dagster.generation.clip_checks import (
    QUALITY,
    ClipChecks,
    ClipVerdict,
    blocked_sentence,
)
from sora_dagster.generation.ledger import Ledger
from sora_dagster.generation.records import ClipManifest
from sora_dagster.generation.walking import stored_manifests
from sora_dagster.graph import asset_key_of
from sora_dagster.runware.models import Catalogue
from sora_dagster.storage import StorageRoot

_SEVERITIES = {"error": dg.AssetCheckSeverity.ERROR, "warn": dg.AssetCheckSeverity.WARN}
_MOST_ROWS = 50
_COLUMNS = ("clip", "check", "severity", "found")


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
                name,
                asset=key,
                description=checks.description(name),
                blocking=name in checks.blocking,
                partitions_def=partitions_def,
            )
            for name in checks.all_names
        ]
    if partitions_def is not None:
        specs.append(
            dg.AssetCheckSpec(
                QUALITY,
                asset=key,
                description="All checks of all clips that the last run stored; what an asset's "
                "health is told by.",
            )
        )
    return specs


class RunChecks:
    """The checks of what one run stores: made as each clip is stored, and summed up at its end.

    Arguments:
        context: the run's, for its log.
        checks: what clips are held to.
        catalogue: says which models make sound.
    """

    def __init__(
        self,
        context: dg.AssetExecutionContext | dg.OpExecutionContext,
        checks: ClipChecks,
        catalogue: Catalogue,
    ) -> None:
        self._context = context
        self._checks = checks
        self._catalogue = catalogue
        self._verdicts: dict[str, dict[str, list[ClipVerdict]]] = {}
        #: What keeps the clips that failed a blocking check from being used, by name.
        self.blocked: dict[str, str] = {}

    def judge(self, manifest: ClipManifest, root: StorageRoot) -> None:
        """Check a clip whose materialization is logged, and log what was found.

        Where another run that is under way will check it too, what was found is left to that run.
        """
        checks, name = self._checks, manifest.request.name
        verdicts = checks.judge(manifest, self._catalogue, root)
        key = asset_key_of(manifest.asset)
        is_left = bool(verdicts) and self._is_left_to_another_run(
            dg.AssetCheckKey(key, verdicts[0].name), manifest.request.partition
        )
        if not is_left:
            target = _newest_materialization(self._context.instance, manifest)
            for event in check_events(checks, manifest, verdicts, target):
                self._log(event)
        for verdict in verdicts:
            if verdict.failed:
                self._context.log.warning(f"{name}: {verdict.name}: {verdict.description}")
        if blocking := checks.blocks(verdicts):
            self.blocked[name] = blocked_sentence(blocking, verdicts)
        if manifest.request.board is None and not is_left:
            self._verdicts.setdefault(manifest.asset, {})[name] = verdicts

    def has_judged(self, manifest: ClipManifest) -> bool:
        """Whether the checks of a clip's newest materialization are known to Dagster."""
        names = self._checks.all_names
        key = asset_key_of(manifest.asset)
        # They are logged in this order, so the last tells of all.
        return not names or self._is_newest(
            dg.AssetCheckKey(key, names[-1]), manifest.request.partition
        )

    def judge_stored(self, ledger: Ledger, asset: str, clips: Sequence[str] | None) -> None:
        """Check what is stored, without storing anything.

        Arguments:
            ledger: the ledger.
            asset: asset key of the clips.
            clips: their partition keys; None for all that are stored.
        """
        if clips is None:
            clips = sorted({found.clip for found in stored_manifests(ledger.root, asset=asset)})
        for clip in clips:
            manifest = ledger.latest_manifest(asset, clip)
            if manifest is None:
                self._context.log.warning(f"{clip} is not stored, so there is nothing to check")
            else:
                self.judge(manifest, ledger.root)
        self.sum_up()

    def sum_up(self) -> None:
        """Log the check that sums up what the run stored of each asset."""
        for asset, verdicts in self._verdicts.items():
            event = quality_event(asset, verdicts)
            if not self._is_left_to_another_run(event.asset_check_key, None):
                self._log(event)

    def _is_newest(self, check: dg.AssetCheckKey, partition: str | None) -> bool:
        return any(info.is_current for info in self._newest(check, partition))

    def _is_left_to_another_run(self, check: dg.AssetCheckKey, partition: str | None) -> bool:
        """Whether another run, which is under way, has planned a check and not made it yet.

        Dagster takes the check that was planned or made last for the newest: one that is made
        before another run makes what it has planned would hide the other's for good, and the clip
        would be shown as not checked.
        """
        for info in self._newest(check, partition):
            if info.latest_execution_status.value == "PLANNED":
                run = self._context.instance.get_run_by_id(info.latest_planned_run_id)
                if run is not None and run.run_id != self._context.run.run_id:
                    return not run.is_finished
        return False

    def _newest(self, check: dg.AssetCheckKey, partition: str | None) -> list[Any]:
        found = self._context.instance.event_log_storage.get_asset_check_partition_info(
            [check], partition_keys=None if partition is None else [partition]
        )
        return [info for info in found if info.partition_key == partition]

    def _log(self, event: dg.AssetCheckEvaluation) -> None:
        # Dagster takes these events, and its annotation leaves them out.
        self._context.log_event(cast(Any, event))


def quality_event(
    asset: str, verdicts_by_clip: Mapping[str, Sequence[ClipVerdict]]
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
    clips = len(verdicts_by_clip)
    if not failed:
        description = f"All {clips} clips passed all checks."
    else:
        bad = len({clip for clip, _ in failed})
        description = f"{bad} of {clips} clips failed a check."
    metadata: dict[str, Any] = {"clips": clips, "failed_clips": len({clip for clip, _ in failed})}
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
                for clip, verdict in failed[:_MOST_ROWS]
            ],
            schema=dg.TableSchema(columns=[dg.TableColumn(name, "string") for name in _COLUMNS]),
        )
    return dg.AssetCheckEvaluation(
        asset_key=asset_key_of(asset),
        check_name=QUALITY,
        passed=not failed,
        severity=_SEVERITIES["error" if errors else "warn"],
        description=description,
        metadata=metadata,
    )


def _newest_materialization(instance: dg.DagsterInstance, manifest: ClipManifest) -> Any:
    """What the checks of a clip are made of, in Dagster's form; None where that is not to be had.

    Without it Dagster takes the check of a partition for one of an older materialization, and shows
    it as not made.
    """
    try:
        # There is no public name for it.
        from dagster._core.definitions.asset_checks.asset_check_evaluation import (
            AssetCheckEvaluationTargetMaterializationData as Target,
        )
    except ImportError:
        return None
    partition = manifest.request.partition
    records = instance.fetch_materializations(
        dg.AssetRecordsFilter(
            asset_key=asset_key_of(manifest.asset),
            asset_partitions=None if partition is None else [partition],
        ),
        limit=1,
    ).records
    if not records:
        return None
    newest = records[0]
    return Target(storage_id=newest.storage_id, run_id=newest.run_id, timestamp=newest.timestamp)


def check_events(
    checks: ClipChecks,
    manifest: ClipManifest,
    verdicts: Sequence[ClipVerdict],
    target: Any,
) -> list[dg.AssetCheckEvaluation]:
    """The evaluations that tell what the checks say of a stored clip.

    Arguments:
        checks: what clips are held to.
        manifest: the clip's record.
        verdicts: what the checks say.
        target: the clip's newest materialization; None where there is none.
    """
    return [
        dg.AssetCheckEvaluation(
            asset_key=asset_key_of(manifest.asset),
            check_name=verdict.name,
            # Dagster has no state for "not evaluated"; the description says so.
            passed=not verdict.failed,
            severity=_SEVERITIES[verdict.severity],
            description=verdict.description,
            metadata=dict(verdict.figures),
            blocking=verdict.name in checks.blocking,
            partition=manifest.request.partition,
            target_materialization_data=target,
        )
        for verdict in verdicts
    ]
