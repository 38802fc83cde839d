"""The job that updates Dagster from the prompt dataset at once."""

import dagster as dg

from sora_dagster.dataset import SYNC_JOB, VideoDataset
from sora_dagster.prompts.dataset import DatasetError
from sora_dagster.reporting.dataset_sync import sync_dataset, sync_lines
from sora_dagster.reporting.partition_owner import location_of
from sora_dagster.reporting.runs import one_op_job
from sora_dagster.resources import ClipStorageResource, resource_of
from sora_dagster.resources.run_settings import settings_tag


def build_sync_job(
    dataset: VideoDataset, *, executor: dg.ExecutorDefinition | None = None
) -> dg.JobDefinition:
    """The job `sync_dataset`: updates partitions, data versions and marks of removed rows at once.

    Arguments:
        dataset: the dataset.
        executor: executor of the job. Default: its op runs in the process of the run.

    The dataset sensor does the same in its ticks. The job generates nothing and pays nothing.

    Example:
        >>> build_sync_job(VideoDataset("prompts.yaml")).name
        'sync_dataset'
    """
    storage_key = dataset.resource_keys.clip_storage

    @dg.op(
        name=dataset.definition_name("sync"),
        tags=settings_tag(),
        description="Updates partitions and rows from the prompt dataset. Generates nothing.",
        out=dg.Out(dg.Nothing),
        required_resource_keys={storage_key},
    )
    def sync(context: dg.OpExecutionContext) -> None:
        clip_storage = resource_of(context, storage_key, ClipStorageResource)
        try:
            prompts = dataset.load_prompts(clip_storage)
        except DatasetError as error:
            raise dg.Failure(description=str(error), allow_retries=False) from error
        root = None if clip_storage.root_url() is None else clip_storage.root()
        report = sync_dataset(
            context.instance,
            dataset,
            prompts,
            root,
            context.log_event,
            location=location_of(context.run),
        )
        for line in sync_lines(report):
            context.log.info(line)
        context.add_output_metadata(
            {
                "rows": report.rows,
                "changed": len(report.changed),
                "removed": len(report.removed),
                "returned": len(report.returned),
            }
        )

    return one_op_job(sync, dataset.definition_name(SYNC_JOB), executor=executor)
