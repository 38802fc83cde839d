"""The job that requests any set of clips."""

import unicodedata
from collections.abc import Collection, Sequence
from typing import Any, Self

import dagster as dg
from pydantic import Field, model_validator

from sora_dagster.dataset import REQUEST_JOB, VideoDataset, remix_partition
from sora_dagster.generation.generator import Generator
from sora_dagster.generation.protocol.ledger import Ledger
from sora_dagster.generation.protocol.record_store import UnreadableRecordError
from sora_dagster.generation.protocol.scan import in_parallel
from sora_dagster.generation.requesting.options import RequestOptions
from sora_dagster.generation.requesting.results import RequestResult, RequestState, failure_reasons
from sora_dagster.generation.selection import remix_prices
from sora_dagster.jobs.remixes import remix_requests
from sora_dagster.prompts.clips import ClipRequest
from sora_dagster.prompts.counts import clips_and_remixes, counted
from sora_dagster.prompts.dataset import PromptDataset
from sora_dagster.reporting.clip_reporter import ClipReporter
from sora_dagster.reporting.dataset_sync import sync_rows
from sora_dagster.reporting.event_log import InputEvents, newest_materializations
from sora_dagster.reporting.events import request_events
from sora_dagster.reporting.runs import failure_of, one_op_job
from sora_dagster.resources import ClipStorageResource, RunwareResource, resource_of
from sora_dagster.resources.run_settings import settings_tag
from sora_dagster.runware.pricing import PriceTotal
from sora_dagster.storage import AccessDeniedError
from sora_dagster.submission import (
    RequestConfig,
    log_estimates,
    log_requested,
    request_options_of,
    submit,
)

# The launchpad shows these first. Without a preset it would leave out `max_usd`, which is unset by
# default, and show the settings of all resources.
_LAUNCHPAD: dict[str, Any] = {
    "clip_ids": [],
    "everything": False,
    "max_usd": None,
    "dry_run": False,
    "regenerate_changed": False,
    "retry_failed": False,
}


class RequestClipsConfig(RequestConfig):
    """Which clips are requested, and how."""

    # A default that is not null, since the launchpad shows no others.
    clip_ids: list[str] = Field(
        default=[], description="Ids of the clips to request. Default: none; see `everything`."
    )
    everything: bool = Field(
        default=False,
        description=(
            "Request all clips of the dataset, if clip_ids is empty. The log says first what that "
            "costs. A dry run without clip_ids prices all clips in any case."
        ),
    )

    @model_validator(mode="after")
    def _check_selection(self) -> Self:
        if self.clip_ids and self.everything:
            raise ValueError("clip_ids is set, and everything is true; set only one")
        return self


def build_request_job(
    dataset: VideoDataset, *, executor: dg.ExecutorDefinition | None = None
) -> dg.JobDefinition:
    """The job `request_clips`: requests any clips of the dataset, and remixes of stored ones.

    Arguments:
        dataset: the dataset.
        executor: executor of the job. Default: its op runs in the process of the run.

    It ends when everything is submitted; the completion sensor collects the clips. Unlike a
    backfill, one run can request any set of clips: those of `clip_ids`, or all with `everything`.
    Without either, it fails and says what all clips would cost. A clip whose row changed is listed
    with the cost of a new take, and bought only with `regenerate_changed`.

    Example:
        >>> build_request_job(VideoDataset("prompts.yaml")).name
        'request_clips'
    """

    keys = dataset.resource_keys

    @dg.op(
        name=dataset.definition_name("request"),
        tags=settings_tag(),
        description=(
            "Requests clips from Runware, and the remixes of stored clips. Name the clips in "
            "clip_ids, or set everything: true. max_usd limits what the run may spend, remixes "
            "included; null: the limit of the resource. dry_run: true only logs the cost. A field "
            "of a resource that the run config leaves out keeps the value of its definition, or "
            "of its environment variable."
        ),
        out=dg.Out(dg.Nothing),
        required_resource_keys={keys.runware, keys.clip_storage},
    )
    def request(
        context: dg.OpExecutionContext,
        config: RequestClipsConfig,
    ) -> None:
        runware = resource_of(context, keys.runware, RunwareResource)
        clip_storage = resource_of(context, keys.clip_storage, ClipStorageResource)
        prompts = dataset.load_prompts(clip_storage)
        # As ids of rows are; some keyboards and systems write another Unicode form.
        selected = dict.fromkeys(unicodedata.normalize("NFC", name) for name in config.clip_ids)
        clip_ids = list(selected) or list(prompts.clip_ids)
        failures: dict[str, str] = {}
        options = request_options_of(config, context.run, runware.run_limit_usd())
        with runware.generator(clip_storage, dataset.day_limits_usd) as generator:
            requests = _clips_and_remixes(dataset, prompts, generator, clip_ids, failures)
            if not selected and not config.dry_run:
                cost = _cost_of_everything(dataset, prompts, generator, requests, options)
                if not config.everything:
                    raise _nothing_selected(prompts, cost)
                context.log.info(f"requesting everything: {cost}")
            cells = {
                remix_partition(clip_id, recipe)
                for clip_id in clip_ids
                for recipe in prompts.recipes_of(clip_id)
            }
            sync_rows(context, dataset, prompts, {*clip_ids, *cells})
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
            reported_now = {item.request.name for item in unreported}
            known = [item.request for item in results if item.request.name not in reported_now]
            if known:
                context.log.info(f"stored and unchanged: {_count(dataset, known)}")
            log_requested(context, unreported)
            reporter.report_request(unreported)
        refused = failure_reasons(results)
        if failures := failures | refused:
            raise failure_of(failures, done=len(results) - len(refused), verb="requested")

    return one_op_job(
        request,
        dataset.definition_name(REQUEST_JOB),
        executor=executor,
        config={"ops": {request.name: {"config": _LAUNCHPAD}}},
    )


def _nothing_selected(prompts: PromptDataset, cost: str) -> dg.Failure:
    return dg.Failure(
        description=(
            f"no clips are selected, so nothing was requested or paid. Name them in the run "
            f"config, as in `clip_ids: [{prompts.clip_ids[0] if prompts.clips else 'fox'}]`, or "
            f"set `everything: true` to request the whole dataset, which has "
            f"{counted(len(prompts.clips), 'clip', 'clips')}: {cost}"
        ),
        allow_retries=False,
    )


def _cost_of_everything(
    dataset: VideoDataset,
    prompts: PromptDataset,
    generator: Generator,
    requests: Sequence[ClipRequest],
    options: RequestOptions,
) -> str:
    """What requesting all clips would buy and cost, in words."""
    new = generator.new_prices(requests, options)
    if not new:
        return "nothing is missing, so it costs nothing"
    clips = [request.clip for request, _ in new if request.asset == dataset.clips.to_user_string()]
    # Remixes of clips that are not stored yet are requested after them, within the same limit.
    later = [
        price for clip_id in clips for price in remix_prices(prompts, dataset.catalogue, clip_id)
    ]
    total = PriceTotal.of([*(price for _, price in new), *later])
    missing = clips_and_remixes(len(clips), len(new) - len(clips) + len(later))
    return f"{missing} missing; {total.would_cost('all of them')}"


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


def _count(dataset: VideoDataset, requests: Sequence[ClipRequest]) -> str:
    clips = sum(request.asset == dataset.clips.to_user_string() for request in requests)
    return clips_and_remixes(clips, len(requests) - clips)


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
