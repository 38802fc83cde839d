"""Results of checks as Dagster's evaluations: of one clip, of one check, and of a whole run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, get_args, get_type_hints

import dagster as dg

from sora_dagster.dataset import asset_key_of
from sora_dagster.generation.library.clip_checks import (
    CLIP_CHECKS,
    QUALITY,
    ClipChecks,
)
from sora_dagster.generation.protocol.records import ClipManifest
from sora_dagster.media.checks import CheckResult
from sora_dagster.prompts.counts import counted
from sora_dagster.reporting.metadata import table_metadata

_SEVERITIES = {"error": dg.AssetCheckSeverity.ERROR, "warn": dg.AssetCheckSeverity.WARN}
_MAX_ROWS = 50


def clip_evaluation(
    manifest: ClipManifest, results: Sequence[CheckResult], target: dg.EventLogRecord | None
) -> dg.AssetCheckEvaluation:
    """The evaluation that lists all checks of a clip.

    Arguments:
        manifest: the clip's record.
        results: results of its checks.
        target: the clip's newest materialization; None if there is none.
    """
    failed = [result for result in results if result.failed]
    skipped = [result for result in results if not result.evaluated]
    passed = len(results) - len(failed) - len(skipped)
    description = f"{passed} passed, {len(failed)} failed, {len(skipped)} not evaluated."
    for result in failed:
        description += f" {result.name}: {result.description}"
    rows = [
        {
            "check": result.name,
            "result": _status(result),
            "severity": result.severity,
            "found": result.description,
            "figures": ", ".join(f"{name}={value}" for name, value in result.figures.items()),
        }
        for result in results
    ]
    return dg.AssetCheckEvaluation(
        asset_key=asset_key_of(manifest.asset),
        check_name=CLIP_CHECKS,
        passed=not failed,
        severity=_highest_severity(failed),
        description=description,
        metadata={"checks": table_metadata(rows)},
        partition=manifest.request.partition,
        target_materialization_data=_target(target),
    )


def check_evaluation(
    checks: ClipChecks,
    manifest: ClipManifest,
    result: CheckResult,
    target: dg.EventLogRecord | None,
) -> dg.AssetCheckEvaluation:
    """The evaluation of one check of a clip under its own name.

    Dagster knows only passed and failed, so there is none for a check that was not evaluated.

    Arguments:
        checks: the checks of the dataset.
        manifest: the clip's record.
        result: result of the check.
        target: the clip's newest materialization; None if there is none.
    """
    return dg.AssetCheckEvaluation(
        asset_key=asset_key_of(manifest.asset),
        check_name=result.name,
        passed=result.passed,
        severity=_SEVERITIES[result.severity],
        description=result.description,
        metadata=dict(result.figures),
        blocking=result.name in checks.blocking,
        partition=manifest.request.partition,
        target_materialization_data=_target(target),
    )


def quality_evaluation(
    asset: str,
    results_by_clip: Mapping[str, Sequence[CheckResult]],
    target: dg.EventLogRecord | None,
) -> dg.AssetCheckEvaluation:
    """The evaluation that summarizes all clips that a run stored of an asset.

    Arguments:
        asset: asset key of the clips.
        results_by_clip: results of their checks, by partition key.
        target: the newest materialization of the asset; None for that of the run.
    """
    failed = [
        (clip, result)
        for clip, results in results_by_clip.items()
        for result in results
        if result.failed
    ]
    clips, failed_clips = len(results_by_clip), len({clip for clip, _ in failed})
    unevaluated = sum(
        not result.evaluated for results in results_by_clip.values() for result in results
    )
    description = (
        f"{failed_clips} of {counted(clips, 'clip', 'clips')} failed a check."
        if failed
        else f"None of {counted(clips, 'clip', 'clips')} failed a check."
    )
    if unevaluated:
        were = counted(unevaluated, "check was", "checks were")
        description += f" {were} not evaluated; each clip's table says why."
    metadata: dict[str, Any] = {
        "clips": clips,
        "failed_clips": failed_clips,
        "unevaluated_checks": unevaluated,
    }
    if failed:
        rows = [
            {
                "clip": clip,
                "check": result.name,
                "severity": result.severity,
                "found": result.description,
            }
            for clip, result in failed[:_MAX_ROWS]
        ]
        metadata["failed_checks"] = table_metadata(rows)
    return dg.AssetCheckEvaluation(
        asset_key=asset_key_of(asset),
        check_name=QUALITY,
        passed=not failed,
        severity=_highest_severity([result for _, result in failed]),
        description=description,
        metadata=metadata,
        target_materialization_data=_target(target),
    )


def _status(result: CheckResult) -> str:
    if not result.evaluated:
        return "not evaluated"
    return "passed" if result.passed else "failed"


def _highest_severity(failed: Sequence[CheckResult]) -> dg.AssetCheckSeverity:
    is_error = any(result.severity == "error" for result in failed)
    return _SEVERITIES["error" if is_error else "warn"]


def _target(record: dg.EventLogRecord | None) -> Any:
    """The materialization that was checked, in Dagster's form.

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
