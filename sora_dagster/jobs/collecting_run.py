"""The run that waits for everything: reports what is stored, and asks for its remixes."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import dagster as dg

from sora_dagster.assets.requests import log_requested
from sora_dagster.clip_reporter import ClipReporter
from sora_dagster.dataset import VideoDataset
from sora_dagster.generation.collecting.collection import Collection
from sora_dagster.generation.collecting.settings import CollectionLimits
from sora_dagster.generation.collecting.tracked import FinishedTask
from sora_dagster.generation.generator import Generator
from sora_dagster.generation.protocol.clocks import running_seconds
from sora_dagster.generation.requesting.results import RequestResult, RequestState, failure_reasons
from sora_dagster.jobs.collect_runs import mark_advanced
from sora_dagster.jobs.remixes import RemixAnswers, RemixParent, read_due_remixes, request_remixes
from sora_dagster.prompts.dataset import DatasetError, PromptDataset
from sora_dagster.runware.errors import RunwareError

# How long a stored clip waits for others, so that Dagster's log is read once for all of them. A
# collection looks up about once a second, so that each is reported within two.
_BATCH_SECONDS = 0.5
_MOST_IN_A_BATCH = 100


@dataclass(frozen=True)
class CollectLimits:
    """How long a collecting run stays, and how it works.

    Arguments:
        max_wait_seconds: longest stay; the sensor starts another run for what is left.
        remix_linger_seconds: longest wait for more clips before their remixes are asked for, so
            that one POST carries the remixes of many clips.
        parallel_clips: how many clips are fetched and stored at once.
    """

    max_wait_seconds: float
    remix_linger_seconds: float
    parallel_clips: int


@dataclass
class CollectReport:
    """What a collecting run did.

    Arguments:
        stored: names of the clips stored: partition keys, and ``board/shot`` for shots.
        cost_usd: what they cost.
        remixes_requested: partition keys of the remixes that are on their way or stored.
        failures: reasons by name.
        left: why tasks are still outstanding, by name; empty if it is only that they take long.
        is_elsewhere: whether another run collects all of it, so that there was nothing to do.
        is_taken_over: whether another run took over while this one was stopped.
    """

    stored: list[str] = field(default_factory=list)
    cost_usd: float = 0.0
    remixes_requested: list[str] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)
    left: dict[str, str] = field(default_factory=dict)
    is_elsewhere: bool = False
    is_taken_over: bool = False


class CollectingRun:
    """Collects a dataset and some storyboards until nothing is outstanding, or its time is over.

    It asks for the remixes of what it stores, and of clips that other runs stored without asking.

    Arguments:
        context: the op's context, for its instance and log.
        dataset: the dataset.
        generator: the generator.
        limits: how long it stays.
        boards: names of the storyboards whose shots it collects too.
        elapsed: a clock for waits, in seconds.
    """

    def __init__(
        self,
        context: dg.OpExecutionContext,
        dataset: VideoDataset,
        generator: Generator,
        limits: CollectLimits,
        *,
        boards: Sequence[str] = (),
        elapsed: Callable[[], float] = running_seconds,
    ) -> None:
        self._context = context
        self._dataset = dataset
        self._generator = generator
        self._ledger = generator.ledger
        self._limits = limits
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
        # Stored clips whose remixes are still to be asked for. They stay in the index until then,
        # so that a run that is killed here leaves them to the next.
        self._held: dict[str, FinishedTask] = {}
        # The same of clips that runs stored which do not ask for remixes.
        self._due: dict[str, RemixParent] = {}
        self._postponed: set[str] = set()
        self._waiting_since: float | None = None
        self._due_read_at: float | None = None
        self._prompts: PromptDataset | None = None
        self._prompts_read_at: float | None = None
        self._ended: list[FinishedTask] = []
        self._ended_since = 0.0
        self._advanced = 0

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
                max_wait_seconds=self._limits.max_wait_seconds,
                parallel_clips=self._limits.parallel_clips,
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
            self._take(collection.wait())
            if collection.report.is_taken_over:
                return
            if self._ended and self._is_batch_due(collection):
                self._log_ended(collection)
            if self._ended:
                continue
            if self._request_remixes(collection):
                # The index has more now: look at it before anything is said to be done.
                collection.add()
            elif collection.is_done:
                return

    def _take(self, ended: Sequence[FinishedTask]) -> None:
        if ended and not self._ended:
            self._ended_since = self._elapsed()
        self._ended += ended

    def _is_batch_due(self, collection: Collection) -> bool:
        """Whether what ended is to be reported now; Dagster's log is read once for each batch."""
        waited = self._elapsed() - self._ended_since
        is_full = len(self._ended) >= _MOST_IN_A_BATCH or waited >= _BATCH_SECONDS
        return is_full or collection.is_done or not collection.outstanding

    def _log_ended(self, collection: Collection) -> None:
        ended, self._ended = self._ended, []
        self._reporter.report(ended, outstanding=collection.outstanding.values())
        for finished in ended:
            self._hold_or_close(collection, finished)
        self._advance(len(ended))

    def _sum_up(self, collection: Collection, names: dict[str, str]) -> None:
        report, found = self._report, collection.report
        report.is_elsewhere, report.is_taken_over = found.is_elsewhere, found.is_taken_over
        report.stored = list(self._reporter.stored)
        report.cost_usd = self._reporter.cost_usd
        report.left = {names.get(uuid, uuid): reason for uuid, reason in found.left.items()}
        report.failures = {**self._reporter.failures, **report.failures, **found.stuck}
        for uuid, reason in found.unpolled.items():
            report.failures[uuid] = f"a webhook came for it, and it could not be polled: {reason}"
        if found.polling_failure is not None and found.left:
            report.failures["polling"] = (
                f"every poll of Runware failed in this run, and {len(found.left)} clips are "
                f"outstanding; nothing is lost. {found.polling_failure}"
            )

    def _advance(self, count: int) -> None:
        is_first = self._advanced == 0
        self._advanced += count
        if is_first:
            # A run that is killed later has got something done all the same.
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

    def _hold_or_close(self, collection: Collection, finished: FinishedTask) -> None:
        is_parent = (
            finished.manifest is not None
            and finished.attempt.asset == self._dataset.clips.to_user_string()
            and not finished.ended_before
        )
        if is_parent and self._may_have_remixes(finished.attempt.clip):
            self._held[finished.attempt.task_uuid] = finished
            self._begin_to_wait()
        else:
            collection.close(finished)

    def _may_have_remixes(self, clip: str) -> bool:
        """Whether the dataset wants remixes of a clip, or cannot be read now."""
        now = self._elapsed()
        is_old = (
            self._prompts_read_at is None
            or now - self._prompts_read_at >= self._limits.remix_linger_seconds
        )
        if is_old:
            try:
                self._read_prompts()
            except DatasetError:
                # It is reported when the remixes are to be asked for.
                self._prompts = None
        return self._prompts is None or bool(self._prompts.recipes_of(clip))

    def _read_prompts(self) -> PromptDataset:
        self._prompts_read_at = self._elapsed()
        self._prompts = self._dataset.load_prompts()
        return self._prompts

    def _begin_to_wait(self) -> None:
        if self._waiting_since is None:
            self._waiting_since = self._elapsed()

    def _find_due(self) -> None:
        """Find clips now and then whose remixes no run has asked for. Costs one listing."""
        now = self._elapsed()
        wait = self._limits.remix_linger_seconds
        if self._due_read_at is not None and now - self._due_read_at < wait:
            return
        self._due_read_at = now
        named = set(self._ledger.pending.outstanding(self._dataset.name).remixes_due)
        new = sorted(named - self._due.keys() - self._postponed)
        found = read_due_remixes(self._ledger, self._dataset.name, new)
        self._add_failures(found.failures)
        for parent in found.parents:
            self._due[parent.attempt.task_uuid] = parent
            self._begin_to_wait()

    def _request_remixes(self, collection: Collection) -> bool:
        """Ask for the remixes that are due, once no more clips are worth waiting for.

        Returns:
            Whether any were asked for.
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
            if more_to_come and waited < self._limits.remix_linger_seconds:
                return False
        self._waiting_since = None
        parents = [
            RemixParent(finished.attempt, finished.manifest)
            for finished in self._held.values()
            if finished.manifest is not None
        ]
        parents += self._due.values()
        try:
            prompts = self._read_prompts()
            for answers in request_remixes(self._dataset, self._generator, prompts, parents):
                self._take_answers(answers)
        except (DatasetError, RunwareError) as error:
            # What is stored is reported and closed all the same.
            self._postpone(len(parents), error)
        else:
            for task_uuid in self._due:
                self._ledger.remixes.clear_due(self._dataset.name, task_uuid)
        for finished in self._held.values():
            collection.close(finished)
        self._held.clear()
        self._due.clear()
        return True

    def _postpone(self, count: int, error: Exception) -> None:
        """Leave the remixes to the next collecting run."""
        for finished in self._held.values():
            self._ledger.remixes.mark_due(finished.attempt)
        self._postponed |= self._held.keys() | self._due.keys()
        self._add_failures(
            {"remixes": f"those of {count} stored clips are left to the next run: {error}"}
        )

    def _take_answers(self, answers: RemixAnswers) -> None:
        requested = answers.requested
        log_requested(self._context, requested)
        self._reporter.report_request(requested)
        self._add_failures({**answers.failures, **failure_reasons(requested)})
        asked = [item for item in requested if item.ok and item.state is not RequestState.CHANGED]
        self._report.remixes_requested += [item.request.name for item in asked]
        self._advance(len(asked))

    def _add_failures(self, failures: Mapping[str, str]) -> None:
        for name, reason in failures.items():
            self._context.log.error(f"{name}: {reason}")
        self._report.failures.update(failures)
