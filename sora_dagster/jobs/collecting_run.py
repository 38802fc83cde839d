"""The run that waits for all outstanding clips, reports them and requests their remixes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import dagster as dg
from pydantic import Field

from sora_dagster.dataset import VideoDataset
from sora_dagster.generation.collecting.collection import Collection
from sora_dagster.generation.collecting.context import CollectionReport
from sora_dagster.generation.collecting.settings import CollectionLimits
from sora_dagster.generation.collecting.tracked import FinishedTask
from sora_dagster.generation.generator import Generator
from sora_dagster.generation.protocol.clocks import running_seconds
from sora_dagster.generation.requesting.input_urls import rows_and_remixes
from sora_dagster.generation.requesting.results import RequestResult, RequestState, failure_reasons
from sora_dagster.jobs.remixes import RemixParent, RemixResults, read_due_remixes, request_remixes
from sora_dagster.prompts.clips import ClipSpec
from sora_dagster.prompts.counts import counted
from sora_dagster.prompts.dataset import DatasetError, PromptDataset
from sora_dagster.prompts.prompt_source import SourceStorage
from sora_dagster.reporting.clip_reporter import ClipReporter, EndedTasks
from sora_dagster.reporting.collect_run_history import mark_advanced
from sora_dagster.runware.errors import RunwareError
from sora_dagster.submission import log_requested


class CollectClipsConfig(dg.Config):
    """How long a collecting run waits, and how it works."""

    max_wait_minutes: float = Field(
        default=30.0,
        ge=0,
        le=55,
        description="Maximum wait, in minutes; the completion sensor starts another run for "
        "unfinished clips.",
    )
    remix_linger_seconds: float = Field(
        default=30.0,
        ge=0,
        description="Maximum wait for more stored clips before remixes are requested, in seconds.",
    )
    parallel_clips: int = Field(
        default=4, ge=1, description="Number of clips fetched and stored at once."
    )


@dataclass
class CollectReport:
    """What a collecting run did.

    Arguments:
        stored: names of the clips stored: partition keys, and ``board/shot`` for shots.
        costs_usd: their costs. None: unknown.
        remixes_requested: partition keys of the remixes that are outstanding or stored.
        failures: reasons by name.
        left: why tasks are still outstanding, by name; empty if they only take long.
        unreachable_minutes: how long polls of Runware had been failing when it ended; None: they
            succeeded, or nothing was outstanding.
        is_elsewhere: whether another run collects everything, so that there was nothing to do.
        is_taken_over: whether another run took over while this one was stopped.
    """

    stored: list[str] = field(default_factory=list)
    costs_usd: list[float | None] = field(default_factory=list)
    remixes_requested: list[str] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)
    left: dict[str, str] = field(default_factory=dict)
    unreachable_minutes: float | None = None
    is_elsewhere: bool = False
    is_taken_over: bool = False


class CollectingRun:
    """Collects a dataset and storyboards until nothing is outstanding, or time is up.

    It requests the remixes of the clips it stores, and of clips stored by runs that do not.

    Arguments:
        context: the op's context, for its instance and log.
        dataset: the dataset.
        generator: the generator.
        config: how long it waits.
        boards: names of the storyboards whose shots it collects too.
        storage: opens the source of the rows, if it is in an object store.
        elapsed: a clock for waits, in seconds.
    """

    def __init__(
        self,
        context: dg.OpExecutionContext,
        dataset: VideoDataset,
        generator: Generator,
        config: CollectClipsConfig,
        *,
        boards: Sequence[str] = (),
        storage: SourceStorage | None = None,
        elapsed: Callable[[], float] = running_seconds,
    ) -> None:
        self._context = context
        self._dataset = dataset
        self._storage = storage
        self._generator = generator
        self._ledger = generator.ledger
        self._config = config
        self._datasets = (dataset.name, *boards)
        self._elapsed = elapsed
        self._report = CollectReport()
        self._reporter = ClipReporter(
            context,
            dataset,
            generator.ledger.root,
            checks=dataset.checks,
            catalogue=dataset.catalogue,
        )
        # Stored clips whose remixes are not requested yet. They remain in the index until then, so
        # that if this run is killed, the next one finds them.
        self._parents: dict[str, FinishedTask] = {}
        # The same for clips stored by runs that do not request remixes.
        self._due: dict[str, RemixParent] = {}
        self._postponed: set[str] = set()
        self._waiting_since: float | None = None
        self._due_read_at: float | None = None
        self._prompts: PromptDataset | None = None
        self._prompts_read_at: float | None = None
        self._ended = EndedTasks(elapsed)
        self._advanced = 0
        generator.use_rows(self._current_rows)

    def run(self) -> CollectReport:
        """Collect.

        Raises:
            RunwareError: if the API refuses to be polled.
            StorageError: if the storage root fails.
        """
        if self._ledger.is_empty:
            return self._report
        self._dataset.bind(self._ledger)
        collection = self._generator.collection(
            CollectionLimits(
                max_wait_seconds=self._config.max_wait_minutes * 60,
                parallel_clips=self._config.parallel_clips,
            ),
            holder=self._context.run.run_id,
            datasets=self._datasets,
            on_warning=self._context.log.warning,
            on_retry=self._log_retry,
        )
        try:
            with collection:
                self._loop(collection)
                names = {
                    uuid: attempt.request.name for uuid, attempt in collection.outstanding.items()
                }
            self._sum_up(collection, names)
        finally:
            self._reporter.sum_up()
            self._mark_advanced()
        return self._report

    def _loop(self, collection: Collection) -> None:
        while not (collection.report.is_elsewhere or collection.report.is_taken_over):
            self._ended.add(collection.wait())
            if collection.report.is_taken_over:
                return
            if due := self._ended.take_due(collection):
                self._log_ended(collection, due)
            if self._ended:
                continue
            if self._request_remixes(collection):
                # The index has more entries now: read it before the run counts as done.
                collection.add()
            elif collection.is_done:
                return

    def _log_ended(self, collection: Collection, ended: Sequence[FinishedTask]) -> None:
        self._reporter.report(ended, outstanding=collection.outstanding.values())
        for finished in ended:
            self._keep_or_close(collection, finished)
        self._advance(len(ended))

    def _sum_up(self, collection: Collection, names: dict[str, str]) -> None:
        report, found = self._report, collection.report
        report.is_elsewhere, report.is_taken_over = found.is_elsewhere, found.is_taken_over
        report.stored = list(self._reporter.stored)
        report.costs_usd = self._reporter.costs_usd
        report.left = {names.get(uuid, uuid): reason for uuid, reason in found.left.items()}
        report.failures = {**self._reporter.failures, **report.failures, **found.stuck}
        for uuid, reason in found.unpolled.items():
            report.failures[uuid] = f"its webhook arrived, but it could not be polled: {reason}"
        if found.outage is not None and found.left:
            report.unreachable_minutes = round(found.outage_seconds / 60, 1)
            report.failures["Runware"] = _outage_sentence(found)

    def _advance(self, count: int) -> None:
        is_first = self._advanced == 0
        self._advanced += count
        if is_first:
            # Written at once: a run that is killed later has still made progress.
            self._mark_advanced()

    def _mark_advanced(self) -> None:
        mark_advanced(self._context.instance, self._context.run.run_id, self._advanced)

    def _log_retry(self, requested: RequestResult) -> None:
        self._context.log.info(
            f"{requested.request.name}: attempt {requested.attempt}: {requested.detail}"
        )
        self._reporter.report_request([requested])
        self._advance(1)

    # Remixes

    def _keep_or_close(self, collection: Collection, finished: FinishedTask) -> None:
        is_parent = (
            finished.manifest is not None
            and finished.attempt.asset == self._dataset.clips.to_user_string()
            and not finished.ended_before
        )
        if is_parent and self._may_have_remixes(finished.attempt.clip):
            self._parents[finished.attempt.task_uuid] = finished
            self._start_waiting()
        else:
            collection.close(finished)

    def _may_have_remixes(self, clip: str) -> bool:
        """Whether the dataset lists remixes of a clip, or cannot be read now."""
        now = self._elapsed()
        is_old = (
            self._prompts_read_at is None
            or now - self._prompts_read_at >= self._config.remix_linger_seconds
        )
        if is_old:
            try:
                self._read_prompts()
            except DatasetError:
                # It is reported when the remixes are requested.
                self._prompts = None
        return self._prompts is None or bool(self._prompts.recipes_of(clip))

    def _read_prompts(self) -> PromptDataset:
        self._prompts_read_at = self._elapsed()
        self._prompts = self._dataset.load_prompts(self._storage)
        return self._prompts

    def _current_rows(self) -> Sequence[ClipSpec]:
        """The rows and their remixes, which have the full URLs that no record keeps."""
        try:
            return rows_and_remixes(self._read_prompts(), self._dataset.catalogue)
        except DatasetError as error:
            # Only the clips with such a URL are not sent again. A remix reports the error, too.
            self._context.log.warning(f"the dataset cannot be read: {error}")
            return ()

    def _start_waiting(self) -> None:
        if self._waiting_since is None:
            self._waiting_since = self._elapsed()

    def _find_due(self) -> None:
        """Find clips whose remixes no run has requested, from time to time. Costs one listing."""
        now = self._elapsed()
        wait = self._config.remix_linger_seconds
        if self._due_read_at is not None and now - self._due_read_at < wait:
            return
        self._due_read_at = now
        named = set(self._ledger.pending.outstanding(self._dataset.name).remixes_due)
        new = sorted(named - self._due.keys() - self._postponed)
        parents, failures = read_due_remixes(self._ledger, self._dataset.name, new)
        self._add_failures(failures)
        for parent in parents:
            self._due[parent.attempt.task_uuid] = parent
            self._start_waiting()

    def _request_remixes(self, collection: Collection) -> bool:
        """Request the remixes that are due, unless more clips are expected soon.

        Returns:
            Whether any were requested.
        """
        self._find_due()
        if self._waiting_since is None:
            return False
        if not collection.is_done:
            clips = self._dataset.clips.to_user_string()
            more_to_come = any(
                attempt.asset == clips for attempt in collection.outstanding.values()
            )
            waited = self._elapsed() - self._waiting_since
            if more_to_come and waited < self._config.remix_linger_seconds:
                return False
        self._waiting_since = None
        parents = [
            RemixParent(finished.attempt, finished.manifest)
            for finished in self._parents.values()
            if finished.manifest is not None
        ]
        parents += self._due.values()
        try:
            prompts = self._read_prompts()
            for found in request_remixes(self._dataset, self._generator, prompts, parents):
                self._add_results(found)
        except (DatasetError, RunwareError) as error:
            # Stored clips are still reported and closed.
            self._postpone(len(parents), error)
        else:
            for task_uuid in self._due:
                self._ledger.remixes.clear_due(self._dataset.name, task_uuid)
        for finished in self._parents.values():
            collection.close(finished)
        self._parents.clear()
        self._due.clear()
        return True

    def _postpone(self, count: int, error: Exception) -> None:
        """Leave the remixes to the next collecting run."""
        for finished in self._parents.values():
            self._ledger.remixes.mark_due(finished.attempt)
        self._postponed |= self._parents.keys() | self._due.keys()
        self._add_failures(
            {"remixes": f"the remixes of {count} stored clips are left to the next run: {error}"}
        )

    def _add_results(self, found: RemixResults) -> None:
        log_requested(self._context, found.results)
        self._reporter.report_request(found.results)
        self._add_failures({**found.failures, **failure_reasons(found.results)})
        requested = [
            item.request.name
            for item in found.results
            if item.ok and item.state is not RequestState.CHANGED
        ]
        self._report.remixes_requested += requested
        self._advance(len(requested))

    def _add_failures(self, failures: Mapping[str, str]) -> None:
        for name, reason in failures.items():
            self._context.log.error(f"{name}: {reason}")
        self._report.failures.update(failures)


def _outage_sentence(found: CollectionReport) -> str:
    assert found.outage is not None
    polls = counted(found.outage.failures, "poll", "polls")
    which = (
        f"the last {polls} of Runware failed"
        if found.outage.was_polled_before
        else f"every poll of Runware failed in this run ({polls})"
    )
    outstanding = counted(len(found.left), "clip is", "clips are")
    return (
        f"{which}, for {found.outage_seconds / 60:.1f} minutes; {outstanding} outstanding. Nothing "
        f"is lost: the next collecting run polls again, and nothing is sent twice. "
        f"{found.outage.error}"
    )
