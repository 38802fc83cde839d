"""Reports to Dagster how clips ended: materializations, check evaluations and failures."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import dagster as dg

from sora_dagster.dataset import VideoDataset, asset_key_of
from sora_dagster.generation.collecting.collection import Collection
from sora_dagster.generation.collecting.tracked import FinishedTask
from sora_dagster.generation.library.clip_checks import ClipChecks
from sora_dagster.generation.protocol.ledger import Ledger
from sora_dagster.generation.protocol.records import AttemptRecord, ClipManifest
from sora_dagster.generation.requesting.results import RequestResult, RequestState
from sora_dagster.reporting.checks import RunChecks
from sora_dagster.reporting.event_log import InputEvents, newest_materializations
from sora_dagster.reporting.events import (
    changed_event,
    clip_event,
    clip_inputs,
    failure_event,
    has_request_asset,
    is_event_of,
    request_events,
)
from sora_dagster.reporting.metadata import clip_metadata
from sora_dagster.reporting.runs import log_details
from sora_dagster.runware.catalogue import Catalogue
from sora_dagster.runware.pricing import usd_text
from sora_dagster.storage import StorageRoot

# How long a stored clip waits for others, so that Dagster's log is read once for all of them. A
# collection polls about once a second, so that a clip is reported within two.
_BATCH_SECONDS = 0.5
_MAX_BATCH = 100
# For so many outstanding clips the events of their inputs are read with those of a batch.
_MAX_PREFETCHED = 1000

MetadataOf = Callable[[ClipManifest], Mapping[str, Any]]


class ClipReporter:
    """Logs in Dagster how clips ended: one materialization, one check evaluation, failures.

    Dagster's log is read once for a batch of clips, never once for each.

    Arguments:
        context: the run's context, for its instance and log.
        dataset: the dataset; None if only shots of storyboards are reported.
        root: the storage root.
        checks: the checks of stored clips.
        catalogue: says which models make sound.
        reports_elsewhere: whether this run also logs an event for clips that another process stored
            and reported while this run waited. A backfill, and later steps of a run, count only
            events of their own runs.
        metadata_of: the metadata of a stored clip. Default: :func:`clip_metadata`.
    """

    def __init__(
        self,
        context: dg.AssetExecutionContext | dg.OpExecutionContext,
        dataset: VideoDataset | None,
        root: StorageRoot,
        *,
        checks: ClipChecks,
        catalogue: Catalogue,
        reports_elsewhere: bool = False,
        metadata_of: MetadataOf | None = None,
    ) -> None:
        self._context = context
        self._dataset = dataset
        self._root = root
        self._reports_elsewhere = reports_elsewhere
        self._metadata_of = metadata_of or (lambda manifest: clip_metadata(manifest, root))
        self._inputs = InputEvents(context.instance)
        self._checks = RunChecks(context, checks, catalogue, root)
        #: Names of the clips stored: partition keys, and ``board/shot`` for shots.
        self.stored: list[str] = []
        #: Their cost.
        self.costs_usd: list[float | None] = []
        #: Why clips, or parts of them, are not stored, by name.
        self.failures: dict[str, str] = {}

    @property
    def blocked(self) -> dict[str, str]:
        """Why clips that are stored failed a blocking check, by name."""
        return self._checks.blocked

    def report(
        self, ended: Sequence[FinishedTask], *, outstanding: Iterable[AttemptRecord] = ()
    ) -> None:
        """Log how tasks ended; close them afterwards.

        Arguments:
            ended: the tasks.
            outstanding: attempts that will end later, whose inputs are read with the others.
        """
        for event in self.events(ended, outstanding=outstanding):
            self._context.log_event(event)

    def events(
        self, ended: Sequence[FinishedTask], *, outstanding: Iterable[AttemptRecord] = ()
    ) -> Iterator[dg.AssetMaterialization]:
        """The materializations of ended tasks, for a run that has Dagster log them itself.

        Each must be logged before the next is taken; the checks follow after the last.

        Arguments:
            ended: the tasks.
            outstanding: attempts that will end later, whose inputs are read with the others.
        """
        stored = [
            finished
            for finished in ended
            if self._is_reported_here(finished) and finished.manifest is not None
        ]
        later = list(outstanding)[:_MAX_PREFETCHED]
        self._inputs.load(
            (used for one in stored for used in clip_inputs(self._dataset, one.attempt)),
            (used for attempt in later for used in clip_inputs(self._dataset, attempt)),
        )
        logged = self._logged_before(stored)
        log_details(
            self._context,
            (
                (one.manifest.request.name, _stored_sentence(one.manifest))
                for one in ended
                if one.manifest is not None
            ),
        )
        for finished in ended:
            self._report_failure(finished)
            manifest = finished.manifest
            if manifest is None:
                continue
            self.stored.append(manifest.request.name)
            self.costs_usd.append(manifest.cost_usd)
            if self._is_reported_here(finished) and manifest.task_uuid not in logged:
                yield clip_event(
                    self._inputs,
                    self._dataset,
                    finished.attempt,
                    manifest,
                    self._metadata_of(manifest),
                )
        for ended_before in (False, True):
            manifests = [
                one.manifest
                for one in stored
                if one.manifest is not None and one.ended_before == ended_before
            ]
            if manifests:
                self._checks.evaluate(manifests, ended_before=ended_before)

    def report_request(self, requested: Sequence[RequestResult]) -> None:
        """Log the submissions of clips and remixes, and the costs of new takes of changed rows."""
        dataset = self._dataset
        if dataset is None:
            return
        has_asset = [
            item for item in requested if item.ok and has_request_asset(dataset, item.request)
        ]
        submitted = [item for item in has_asset if item.state is not RequestState.CHANGED]
        for event in request_events(self._inputs, Ledger(self._root), dataset, submitted):
            self._context.log_event(event)
        for item in has_asset:
            if item.state is RequestState.CHANGED:
                self._context.log_event(changed_event(dataset, item))

    def sum_up(self) -> None:
        """Log the check that summarizes what the run stored."""
        self._checks.sum_up()

    def _is_reported_here(self, finished: FinishedTask) -> bool:
        return finished.ended != "elsewhere" or self._reports_elsewhere

    def _logged_before(self, stored: Sequence[FinishedTask]) -> set[str]:
        """Tasks whose event was logged by a process that ended before it closed them."""
        partitions: dict[str, dict[str | None, ClipManifest]] = {}
        for finished in stored:
            if finished.ended == "interrupted" and (manifest := finished.manifest) is not None:
                partitions.setdefault(manifest.asset, {})[manifest.request.partition] = manifest
        found: set[str] = set()
        for asset, manifests in partitions.items():
            newest = newest_materializations(
                self._context.instance, asset_key_of(asset), list(manifests)
            )
            found |= {
                manifest.task_uuid
                for partition, manifest in manifests.items()
                if is_event_of(newest.get(partition), manifest)
            }
        return found

    def _report_failure(self, finished: FinishedTask) -> None:
        sentence = failure_sentence(finished)
        if sentence is None:
            return
        request = finished.attempt.request
        self.failures[request.name] = sentence
        self._context.log.error(sentence)
        if self._is_reported_here(finished):
            key = asset_key_of(finished.attempt.asset)
            self._context.log_event(failure_event(key, request.partition, sentence, finished))


def _stored_sentence(manifest: ClipManifest) -> str:
    return f"take {manifest.take} stored, {usd_text(manifest.cost_usd)}"


def failure_sentence(finished: FinishedTask) -> str | None:
    """Why a clip, or part of it, is not stored; None if it is, or if nothing was sent."""
    outcome = finished.outcome
    if outcome.state == "void":
        return None
    if outcome.has_videos and finished.manifest is None:
        attempt = finished.attempt
        return (
            f"{attempt.clip}: take {attempt.take} was stored, but its record is missing. Request "
            f"it again: while Runware hosts the video, it is fetched again, free of charge."
        )
    if finished.manifest is None or outcome.errors:
        return finished.failure_sentence
    return None


class EndedTasks:
    """Ended tasks, held for a moment so that several are reported at once.

    Arguments:
        monotonic: a clock, in seconds.
    """

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._tasks: list[FinishedTask] = []
        self._since = 0.0

    def __bool__(self) -> bool:
        return bool(self._tasks)

    def add(self, tasks: Sequence[FinishedTask]) -> None:
        """Hold more tasks."""
        if tasks and not self._tasks:
            self._since = self._monotonic()
        self._tasks += tasks

    def take_due(self, collection: Collection) -> list[FinishedTask]:
        """All held tasks, if they are to be reported now."""
        is_due = (
            len(self._tasks) >= _MAX_BATCH
            or self._monotonic() - self._since >= _BATCH_SECONDS
            or collection.is_done
            or not collection.outstanding
        )
        if not is_due:
            return []
        due, self._tasks = self._tasks, []
        return due


def batches(collection: Collection) -> Iterator[list[FinishedTask]]:
    """The tasks of a collection as they end, several at once if they end within a moment.

    Arguments:
        collection: the collection, entered.

    Example:
        The loop of a run::

            for ended in batches(collection):
                reporter.report(ended, outstanding=collection.outstanding.values())
                for finished in ended:
                    collection.close(finished)
    """
    ended = EndedTasks()
    while not collection.is_done:
        ended.add(collection.wait())
        if due := ended.take_due(collection):
            yield due
    # Its time may have ended since.
    if due := ended.take_due(collection):
        yield due
