"""The job that requests any set of clips."""

import unicodedata
from collections.abc import Collection, Sequence

import dagster as dg
from pydantic import Field

from sora_dagster.dataset import REQUEST_JOB, VideoDataset, remix_partition
from sora_dagster.generation.generator import Generator
from sora_dagster.generation.protocol.ledger import Ledger
from sora_dagster.generation.protocol.record_store import UnreadableRecordError
from sora_dagster.generation.protocol.scan import in_parallel
from sora_dagster.generation.requesting.results import RequestResult, RequestState, failure_reasons
from sora_dagster.jobs.remixes import remix_requests
from sora_dagster.prompts.clips import ClipRequest
from sora_dagster.prompts.dataset import PromptDataset
from sora_dagster.reporting.clip_reporter import ClipReporter
from sora_dagster.reporting.dataset_sync import sync_rows
from sora_dagster.reporting.event_log import InputEvents, newest_materializations
from sora_dagster.reporting.events import request_events
from sora_dagster.reporting.runs import failure_of, in_process_job
from sora_dagster.resources import ClipStorageResource, RunwareResource, resource_of
from sora_dagster.storage import AccessDeniedError
from sora_dagster.submission import (
    RequestConfig,
    log_estimates,
    log_requested,
    request_options_of,
    submit,
)


class RequestClipsConfig(RequestConfig):
    """Which clips are requested, and how."""

    clip_ids: list[str] = Field(
        default_factory=list, description="Ids of the clips. Default: all clips of the dataset."
    )


def build_request_job(dataset: VideoDataset) -> dg.JobDefinition:
    """The job `request_clips`: requests any clips of the dataset, and remixes of stored ones.

    Arguments:
        dataset: the dataset.

    It ends when everything is submitted; the completion sensor collects the clips. Unlike a
    backfill, one run can request any set of clips. A clip whose row changed is listed with the cost
    of a new take, and bought only with `regenerate_changed`.

    Example:
        >>> build_request_job(VideoDataset("prompts.yaml")).name
        'request_clips'
    """

    keys = dataset.resource_keys

    @dg.op(
        name=dataset.definition_name("request"),
        description="Requests clips from Runware, and the remixes of stored clips.",
        out=dg.Out(dg.Nothing),
        required_resource_keys={keys.runware, keys.clip_storage},
    )
    def request(
        context: dg.OpExecutionContext,
        config: RequestClipsConfig,
    ) -> None:
        runware = resource_of(context, keys.runware, RunwareResource)
        clip_storage = resource_of(context, keys.clip_storage, ClipStorageResource)
        prompts = dataset.load_prompts()
        # As ids of rows are; some keyboards and systems write another Unicode form.
        selected = [unicodedata.normalize("NFC", clip_id) for clip_id in config.clip_ids]
        clip_ids = selected or list(prompts.clip_ids)
        cells = {
            remix_partition(clip_id, recipe)
            for clip_id in clip_ids
            for recipe in prompts.recipes_of(clip_id)
        }
        sync_rows(context, dataset, prompts, {*clip_ids, *cells})
        failures: dict[str, str] = {}
        options = request_options_of(config, context.run, runware.run_limit_usd())
        with runware.generator(clip_storage) as generator:
            requests = _clips_and_remixes(dataset, prompts, generator, clip_ids, failures)
            if config.dry_run:
                log_estimates(context, dataset, generator.estimate(requests, options))
                return
            results = submit(context, dataset, generator, requests, options)
            reporter = ClipReporter(
                context,
                dataset,
                generator.ledger.root,
                checks=dataset.checks,
                catalogue=dataset.catalogue,
            )
            unreported = _unreported(context.instance, dataset, generator.ledger, results)
            if known := len(results) - len(unreported):
                context.log.info(f"{known} clips are stored and unchanged")
            log_requested(context, unreported)
            reporter.report_request(unreported)
        refused = failure_reasons(results)
        if failures := failures | refused:
            raise failure_of(failures, done=len(results) - len(refused), verb="requested")

    return in_process_job(request, dataset.definition_name(REQUEST_JOB))


def _clips_and_remixes(
    dataset: VideoDataset,
    prompts: PromptDataset,
    generator: Generator,
    clip_ids: Collection[str],
    failures: dict[str, str],
) -> list[ClipRequest]:
    """Requests of the clips, and of the remixes whose clip is stored in its current version.

    Other remixes are requested when their clips are collected.
    """
    ledger = generator.ledger
    clips: list[ClipRequest] = []
    for clip_id in clip_ids:
        try:
            clips.append(dataset.clip_request(prompts, clip_id))
        except LookupError as error:
            failures[clip_id] = str(error)

    def remixes_of(request: ClipRequest) -> tuple[list[ClipRequest], dict[str, str]]:
        try:
            manifest = ledger.latest_manifest(request.asset, request.clip)
        except (UnreadableRecordError, AccessDeniedError) as error:
            return [], {f"remixes of {request.clip}": str(error)}
        if manifest is None or manifest.fingerprint != request.spec.fingerprint:
            return [], {}
        return remix_requests(dataset, prompts, manifest, ledger)

    parents = [request for request in clips if prompts.recipes_of(request.clip)]
    remixes: list[ClipRequest] = []
    for found, reasons in in_parallel(parents, remixes_of):
        remixes += found
        failures |= reasons
    return [*clips, *remixes]


def _unreported(
    instance: dg.DagsterInstance,
    dataset: VideoDataset,
    ledger: Ledger,
    results: Sequence[RequestResult],
) -> list[RequestResult]:
    """The results without those of stored clips that Dagster's log already has.

    Requesting a large dataset again then writes no event for each stored clip.
    """
    stored = [
        item for item in results if item.state is RequestState.STORED and not item.restored_videos
    ]
    events = request_events(InputEvents(instance), ledger, dataset, stored)
    partitions: dict[dg.AssetKey, list[str | None]] = {}
    for event in events:
        partitions.setdefault(event.asset_key, []).append(event.partition)
    newest = {key: newest_materializations(instance, key, keys) for key, keys in partitions.items()}
    known = set()
    for event in events:
        record = newest[event.asset_key].get(event.partition)
        logged = None if record is None else record.asset_materialization
        if logged is not None and (event.tags or {}).items() <= (logged.tags or {}).items():
            known.add((event.asset_key, event.partition))
    return [
        item
        for item in results
        if (dataset.request_key(item.request.asset), item.request.partition) not in known
    ]
