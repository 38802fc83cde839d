"""The two jobs: one asks for any set of clips and ends, one waits for all of them."""

from collections.abc import Collection

import dagster as dg
from pydantic import Field

from sora_dagster.collecting import CollectingRun, CollectLimits
from sora_dagster.dataset_sync import sync_rows
from sora_dagster.events import request_event
from sora_dagster.generation.clips import ClipRequest
from sora_dagster.generation.generator import Generator
from sora_dagster.generation.prompts import PromptDataset
from sora_dagster.generation.requested import RequestState
from sora_dagster.graph import VideoGraph, remix_partition
from sora_dagster.partition_runs import failure_of
from sora_dagster.request_assets import RequestConfig, asking_of, log_estimates
from sora_dagster.resources import ClipStorageResource, RunwareResource
from sora_dagster.run_facts import add_post_counts

REQUEST_JOB = "request_clips"
COLLECT_JOB = "collect_clips"
# A collecting run that hangs is ended by run monitoring; the longest stay is well below it.
_MAX_COLLECT_SECONDS = 3600


class RequestClipsConfig(RequestConfig):
    """Which clips are asked for, and how.

    Arguments:
        clip_ids: the clips; all of the dataset where empty.
    """

    clip_ids: list[str] = Field(
        default_factory=list, description="Ids of the clips; all of the dataset where empty."
    )


class CollectClipsConfig(dg.Config):
    """How long a collecting run stays, and how it works."""

    max_wait_minutes: float = Field(
        default=30.0,
        description="Longest stay; the completion sensor starts another run for what is left.",
    )
    remix_linger_seconds: float = Field(
        default=30.0,
        description="Longest wait for more clips before the remixes of those stored are asked for.",
    )
    parallel_clips: int = Field(default=4, description="Clips fetched and stored at once.")


def build_request_job(graph: VideoGraph) -> dg.JobDefinition:
    """The job `request_clips`: asks for any clips of the dataset, and for remixes of stored ones.

    Arguments:
        graph: names, partitions and the dataset.

    It ends when everything is submitted; the completion sensor sees to the rest. Scattered clips
    go in one run, which a backfill could not do.

    Example:
        >>> build_request_job(VideoGraph("prompts.yaml")).name
        'request_clips'
    """

    @dg.op(
        name=graph.name("request"),
        description="Ask Runware for clips, and for the remixes of those that are stored.",
        out=dg.Out(dg.Nothing),
    )
    def request(
        context: dg.OpExecutionContext,
        config: RequestClipsConfig,
        runware: RunwareResource,
        clip_storage: ClipStorageResource,
    ) -> None:
        dataset = graph.load_dataset()
        clip_ids = config.clip_ids or list(dataset.clip_ids)
        cells = {
            remix_partition(clip_id, recipe)
            for clip_id in clip_ids
            for recipe in dataset.recipes_of(clip_id)
        }
        sync_rows(context, graph, dataset, {*clip_ids, *cells})
        failures: dict[str, str] = {}
        with runware.generator(clip_storage) as generator:
            asked = _clips_and_remixes(graph, dataset, generator, clip_ids, failures)
            asking = asking_of(config, context.run, runware.run_limit_usd())
            if config.dry_run:
                log_estimates(context, graph, generator.estimate(asked, asking))
                return
            requested = generator.request(asked, asking)
            add_post_counts(context, generator.client.posts)
        for item in requested:
            context.log.info(f"{item.request.clip}: {item.detail}")
            if item.ok and item.state is not RequestState.STALE:
                context.log_event(request_event(context.instance, graph, item))
            elif not item.ok:
                failures[item.request.clip] = item.detail
        if failures:
            raise failure_of(
                failures, done=sum(1 for item in requested if item.ok), verb="requested"
            )

    @dg.job(
        name=graph.name(REQUEST_JOB),
        description=request.description,
        executor_def=dg.in_process_executor,
    )
    def request_clips() -> None:
        request()

    return request_clips


def _clips_and_remixes(
    graph: VideoGraph,
    dataset: PromptDataset,
    generator: Generator,
    clip_ids: Collection[str],
    failures: dict[str, str],
) -> list[ClipRequest]:
    """Requests of the clips, and of the remixes whose clip is stored in its present version.

    The remixes of the others follow when those are collected.
    """
    asked: list[ClipRequest] = []
    remixes: list[ClipRequest] = []
    for clip_id in clip_ids:
        try:
            request = graph.clip_request(dataset, clip_id)
        except LookupError as error:
            failures[clip_id] = str(error)
            continue
        asked.append(request)
        manifest = generator.ledger.latest_manifest(request.asset, request.clip)
        if manifest is None or manifest.fingerprint != request.spec.fingerprint:
            continue
        for recipe in dataset.recipes_of(clip_id):
            try:
                remixes.append(
                    graph.remix_request(dataset, clip_id, recipe, manifest, generator.ledger.root)
                )
            except ValueError as error:
                failures[remix_partition(clip_id, recipe)] = str(error)
    return [*asked, *remixes]


def build_collect_job(graph: VideoGraph) -> dg.JobDefinition:
    """The job `collect_clips`: stores what is finished, and waits for what is not.

    Arguments:
        graph: names, partitions and the dataset.

    The completion sensor starts it; one run waits for everything outstanding.

    Example:
        >>> build_collect_job(VideoGraph("prompts.yaml")).name
        'collect_clips'
    """

    @dg.op(
        name=graph.name("collect"),
        description="Store finished clips, and ask for the remixes that follow from them.",
        out=dg.Out(dg.Nothing),
    )
    def collect(
        context: dg.OpExecutionContext,
        config: CollectClipsConfig,
        runware: RunwareResource,
        clip_storage: ClipStorageResource,
    ) -> None:
        with runware.generator(clip_storage) as generator:
            try:
                report = CollectingRun(
                    context,
                    graph,
                    generator,
                    CollectLimits(
                        max_wait_seconds=config.max_wait_minutes * 60,
                        remix_linger_seconds=config.remix_linger_seconds,
                        parallel_clips=config.parallel_clips,
                    ),
                ).run()
            finally:
                add_post_counts(context, generator.client.posts)
        context.log.info(
            f"{len(report.stored)} clips stored for {report.cost_usd:.2f} USD, "
            f"{len(report.remixes_requested)} remixes asked for, {report.left} still outstanding"
        )
        if report.failures:
            raise failure_of(report.failures, done=len(report.stored), verb="stored")

    @dg.job(
        name=graph.name(COLLECT_JOB),
        description=collect.description,
        # One process is enough: the work is waiting, and a second one would only start slower.
        executor_def=dg.in_process_executor,
        tags={"dagster/max_runtime": str(_MAX_COLLECT_SECONDS)},
    )
    def collect_clips() -> None:
        collect()

    return collect_clips
