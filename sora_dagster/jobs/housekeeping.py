"""The jobs that prune and verify the storage root."""

from collections.abc import Mapping, Sequence
from typing import Any

import dagster as dg
from pydantic import Field

from sora_dagster.dataset import VideoDataset
from sora_dagster.generation.housekeeping.prune import PruneReport, RemovedObject, prune
from sora_dagster.generation.housekeeping.verify import Finding, VerifyReport, verify
from sora_dagster.generation.protocol.ledger import Ledger
from sora_dagster.reporting.metadata import table_metadata
from sora_dagster.reporting.runs import one_op_job
from sora_dagster.resources import ClipStorageResource, resource_of
from sora_dagster.resources.run_settings import settings_tag

# Events are kept in Dagster's database, so tables are cut; the run's log has all rows.
_MAX_TABLE_ROWS = 200
_MAX_OBSERVATIONS = 1000


class PruneConfig(dg.Config):
    """What is removed from the storage root."""

    keep_takes: int | None = Field(
        default=None,
        ge=1,
        description="Number of complete takes to keep of each clip, newest first. Default: all.",
    )
    keep_parents: bool = Field(
        default=True, description="Whether to keep older takes that remixes were made from."
    )
    upload_days: float = Field(
        default=2.0, ge=1, description="Remove unfinished uploads older than this many days."
    )
    dry_run: bool = Field(
        default=True,
        description="Only log what would be removed. Set to false to remove the objects.",
    )


class VerifyConfig(dg.Config):
    """How thoroughly the storage root is checked."""

    deep: bool = Field(
        default=False,
        description="Read every video and compare its hash. Default: only compare sizes.",
    )


def build_prune_job(
    dataset: VideoDataset, *, executor: dg.ExecutorDefinition | None = None
) -> dg.JobDefinition:
    """The job `prune_storage`: removes older takes, leftovers and unfinished uploads.

    Arguments:
        dataset: the dataset.
        executor: executor of the job. Default: its op runs in the process of the run.

    Dry run by default: it only logs what it would remove.

    Example:
        >>> build_prune_job(VideoDataset("prompts.yaml")).name
        'prune_storage'
    """

    storage_key = dataset.resource_keys.clip_storage

    @dg.op(
        name=dataset.definition_name("prune"),
        tags=settings_tag(),
        description="Removes unneeded objects from the storage root. Dry run by default.",
        out=dg.Out(dg.Nothing),
        required_resource_keys={storage_key},
    )
    def prune_op(context: dg.OpExecutionContext, config: PruneConfig) -> None:
        clip_storage = resource_of(context, storage_key, ClipStorageResource)
        rows: list[dict[str, Any]] = []
        verb = "would be removed" if config.dry_run else "removed"

        def note(removed: RemovedObject) -> None:
            context.log.info(f"{verb}: {removed.key} ({removed.kind}, {removed.size_bytes} bytes)")
            if len(rows) < _MAX_TABLE_ROWS:
                rows.append(removed._asdict())

        report = prune(
            Ledger(clip_storage.root()),
            keep_takes=config.keep_takes,
            keep_parents=config.keep_parents,
            upload_days=config.upload_days,
            dry_run=config.dry_run,
            on_removed=note,
        )
        for sentence in report.sentences:
            context.log.info(sentence)
        context.add_output_metadata(_prune_metadata(report, rows))

    return one_op_job(prune_op, dataset.definition_name("prune_storage"), executor=executor)


def build_verify_job(
    dataset: VideoDataset, *, executor: dg.ExecutorDefinition | None = None
) -> dg.JobDefinition:
    """The job `verify_storage`: checks that all stored objects exist and are complete.

    Arguments:
        dataset: the dataset.
        executor: executor of the job. Default: its op runs in the process of the run.

    It fails if one is missing or damaged, and logs which and what to do, with an observation for
    each affected clip.

    Example:
        >>> build_verify_job(VideoDataset("prompts.yaml")).name
        'verify_storage'
    """

    storage_key = dataset.resource_keys.clip_storage

    @dg.op(
        name=dataset.definition_name("verify"),
        tags=settings_tag(),
        description="Checks that all stored objects exist and are complete.",
        out=dg.Out(dg.Nothing),
        required_resource_keys={storage_key},
    )
    def verify_op(context: dg.OpExecutionContext, config: VerifyConfig) -> None:
        clip_storage = resource_of(context, storage_key, ClipStorageResource)
        report = verify(
            Ledger(clip_storage.root()),
            deep=config.deep,
            on_finding=lambda finding: context.log.error(finding.sentence),
        )
        for observation in _observations(report.findings):
            context.log_event(observation)
        if not report.is_complete:
            raise dg.Failure(
                description=f"{report.sentence}:\n"
                + "\n".join(f"- {found.sentence}" for found in report.findings[:_MAX_TABLE_ROWS]),
                metadata=_verify_metadata(report),
                allow_retries=False,
            )
        context.log.info(report.sentence)
        context.add_output_metadata(_verify_metadata(report))

    return one_op_job(verify_op, dataset.definition_name("verify_storage"), executor=executor)


def _prune_metadata(report: PruneReport, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    metadata: dict[str, Any] = {
        "dry_run": report.is_dry_run,
        "objects": sum(report.objects.values()),
        "size_bytes": sum(report.size_bytes.values()),
        "summary": dg.MetadataValue.md("\n".join(f"- {line}" for line in report.sentences)),
    }
    if rows:
        metadata["removed"] = table_metadata(rows, size_bytes="int")
    return metadata


def _verify_metadata(report: VerifyReport) -> dict[str, Any]:
    metadata: dict[str, Any] = {
        "takes": report.takes,
        "objects": report.objects,
        "size_bytes": report.size_bytes,
        "deep": report.is_deep,
        "damaged": len(report.findings),
    }
    if report.findings:
        metadata["findings"] = table_metadata(
            {"kind": found.kind, "key": found.key, "detail": found.detail}
            for found in report.findings[:_MAX_TABLE_ROWS]
        )
    return metadata


def _observations(findings: Sequence[Finding]) -> list[dg.AssetObservation]:
    """One observation for each clip with a finding, shown on its page in the UI."""
    by_clip: dict[tuple[str, str | None], list[Finding]] = {}
    for found in findings:
        if found.asset is not None:
            by_clip.setdefault((found.asset, found.partition), []).append(found)
    return [
        dg.AssetObservation(
            asset_key=dg.AssetKey.from_user_string(asset),
            partition=partition,
            description="; ".join(found.sentence for found in found_there),
            metadata={"damaged": [found.key for found in found_there]},
        )
        for (asset, partition), found_there in list(by_clip.items())[:_MAX_OBSERVATIONS]
    ]
