"""The job that waits for all outstanding clips and stores them."""

from collections.abc import Sequence

import dagster as dg

from sora_dagster.dataset import COLLECT_JOB, VideoDataset, split_remix_partition
from sora_dagster.jobs.collecting_run import CollectClipsConfig, CollectingRun, CollectReport
from sora_dagster.prompts.counts import clips_and_remixes, counted
from sora_dagster.reporting.metadata import costs_metadata
from sora_dagster.reporting.runs import add_post_counts, failure_of, one_op_job
from sora_dagster.resources import ClipStorageResource, RunwareResource, resource_of
from sora_dagster.resources.run_settings import settings_tag
from sora_dagster.runware.pricing import costs_text

# Run monitoring, or `generate`, ends a collecting run that hangs. Above `max_wait_minutes`.
MAX_COLLECT_SECONDS = 3600


def build_collect_job(
    dataset: VideoDataset,
    boards: Sequence[str] = (),
    *,
    executor: dg.ExecutorDefinition | None = None,
) -> dg.JobDefinition:
    """The job `collect_clips`: waits for outstanding clips and stores them.

    Arguments:
        dataset: the dataset.
        boards: names of the storyboards whose outstanding shots it also collects.
        executor: executor of the job. Default: its op runs in the process of the run.

    The completion sensor starts it. One run waits for all outstanding clips of the dataset and the
    storyboards, and for none of other datasets in the same storage root.

    Example:
        >>> build_collect_job(VideoDataset("prompts.yaml")).name
        'collect_clips'
    """

    keys = dataset.resource_keys

    @dg.op(
        name=dataset.definition_name("collect"),
        tags=settings_tag(),
        description="Stores finished clips, and requests their remixes.",
        out=dg.Out(dg.Nothing),
        required_resource_keys={keys.runware, keys.clip_storage},
    )
    def collect(
        context: dg.OpExecutionContext,
        config: CollectClipsConfig,
    ) -> None:
        runware = resource_of(context, keys.runware, RunwareResource)
        clip_storage = resource_of(context, keys.clip_storage, ClipStorageResource)
        with runware.generator(clip_storage, dataset.day_limits_usd) as generator:
            try:
                report = CollectingRun(
                    context, dataset, generator, config, boards=boards, storage=clip_storage
                ).run()
            finally:
                add_post_counts(context, generator.client.posts)
        _sum_up(context, report)

    return one_op_job(
        collect,
        dataset.definition_name(COLLECT_JOB),
        executor=executor,
        tags={"dagster/max_runtime": str(MAX_COLLECT_SECONDS)},
    )


def _sum_up(context: dg.OpExecutionContext, report: CollectReport) -> None:
    """Report what a collecting run did, in its log and as metadata.

    Raises:
        Failure: if a clip failed, or a record of one cannot be read, or Runware was not reached.
    """
    if report.is_elsewhere:
        context.log.info("another run collects all outstanding clips, so there is nothing to do")
    if report.is_taken_over:
        context.log.warning("this run was paused for so long that another run took over")
    for name, reason in report.left.items():
        if reason:
            context.log.warning(f"{name} is left to a later run: {reason}")
    remixes = sum(bool(split_remix_partition(name)[1]) for name in report.stored)
    context.log.info(
        f"{clips_and_remixes(len(report.stored) - remixes, remixes)} stored for "
        f"{costs_text(report.costs_usd)}, "
        f"{counted(len(report.remixes_requested), 'remix', 'remixes')} requested, "
        f"{len(report.left)} still outstanding"
    )
    if report.failures:
        metadata: dict[str, dg.RawMetadataValue] = {"outstanding": len(report.left)}
        if report.unreachable_minutes is not None:
            metadata["unreachable_minutes"] = report.unreachable_minutes
        raise failure_of(report.failures, done=len(report.stored), verb="stored", metadata=metadata)
    context.add_output_metadata(
        {
            "stored": len(report.stored),
            **costs_metadata(report.costs_usd),
            "remixes_requested": len(report.remixes_requested),
            "outstanding": len(report.left),
            "slow": {name: reason for name, reason in report.left.items() if reason},
        }
    )
