"""A whole dataset from request to storage, headless, with the jobs that Dagster runs."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial

import dagster as dg

from sora_dagster.dataset import COLLECT_JOB, REPORTS_JOB, REQUEST_JOB, SYNC_JOB
from sora_dagster.generation.collecting.due import DueReader
from sora_dagster.generation.protocol.budget import Budget
from sora_dagster.generation.protocol.claims import ClaimReader
from sora_dagster.generation.protocol.clocks import StoreClock
from sora_dagster.generation.protocol.layout import gallery_key
from sora_dagster.generation.protocol.ledger import Ledger
from sora_dagster.generation.protocol.records import ClipManifest
from sora_dagster.generation.requesting.submission_gate import stop_submissions
from sora_dagster.generation.threads import LAST_SECONDS, DaemonThreads
from sora_dagster.local.collecting_runs import CollectingRuns
from sora_dagster.local.dataset_progress import DatasetProgress
from sora_dagster.local.home import LocalHome
from sora_dagster.local.processes import ManagedProcess
from sora_dagster.local.progress import ClipProgress, ClipState, PipelineOptions, count
from sora_dagster.local.request_runs import RequestRuns, run_job
from sora_dagster.local.stack import dagster_daemon, job_command
from sora_dagster.local.waiting import Collecting, Waiting, fail_unfinished_runs
from sora_dagster.prompts.retired_models import dataset_warnings
from sora_dagster.reporting.runs import OTHER_POSTS_TAG, POLL_POSTS_TAG, SUBMISSION_POSTS_TAG
from sora_dagster.settings import Settings

_POST_TAGS = {
    "submissions": SUBMISSION_POSTS_TAG,
    "polls": POLL_POSTS_TAG,
    "other": OTHER_POSTS_TAG,
}


@dataclass(frozen=True)
class PipelineResult:
    """The result of a run of the pipeline.

    Arguments:
        progress: how far each clip and remix is, in the order of the dataset.
        manifests: the records of stored clips, by asset and partition key.
        takes_before: takes that were stored before the run, by asset and partition key.
        started_at: when the run began, by the store's clock.
        posts: POSTs to the API: submissions, polls, other.
        problems: what else went wrong.
        stalled_minutes: if waiting ended because nothing changed: after how many minutes.
        gallery_uri: address of the page that shows the dataset's clips. None: there is none.
    """

    progress: Sequence[ClipProgress]
    manifests: Mapping[tuple[str, str], ClipManifest]
    takes_before: Mapping[tuple[str, str], int]
    started_at: datetime
    posts: Mapping[str, int]
    problems: tuple[str, ...] = ()
    stalled_minutes: float | None = None
    gallery_uri: str | None = None

    @property
    def is_complete(self) -> bool:
        """Whether every clip is stored, including those whose rows changed since."""
        return is_complete(self.progress)

    @property
    def costs_usd(self) -> list[float | None]:
        """Costs of all stored clips, whenever they were generated. None: unknown."""
        return [manifest.cost_usd for manifest in self.manifests.values()]

    @property
    def paid_now_usd(self) -> list[float | None]:
        """Costs of the stored clips that were sent since this run began. None: unknown.

        What was sent earlier was paid then, even if it is stored, or downloaded again, only now.
        """
        # S3 reports modification times in whole seconds.
        since = self.started_at - timedelta(seconds=1)
        return [
            manifest.cost_usd
            for manifest in self.manifests.values()
            if manifest.requested_at >= since
        ]


def is_complete(progress: Sequence[ClipProgress]) -> bool:
    """Whether every clip is stored, including those whose rows changed since."""
    return count(progress, ClipState.STORED, ClipState.CHANGED) == len(progress)


class Pipeline:
    """Requests, generates and stores a dataset.

    Read the progress first to show what would be bought, and `warnings` about the rows; then run.

    Arguments:
        settings: dataset, API and storage root.
        home: the Dagster instance's folder.
        secrets: environment variables for the processes that are started, besides the settings.
        has_daemon: whether the Dagster daemon starts the collecting runs. Default: they are started
            here, which takes less time.
    """

    def __init__(
        self,
        settings: Settings,
        home: LocalHome,
        secrets: Mapping[str, str],
        *,
        has_daemon: bool = False,
    ) -> None:
        self._settings = settings
        self._has_daemon = has_daemon
        self._home = home
        self._environment = {**settings.to_environment(), **secrets}
        self._dataset = settings.dataset()
        self._dataset_progress: DatasetProgress | None = None
        self.warnings: Sequence[str] = ()

    def read_progress(self) -> Sequence[ClipProgress]:
        """How far the dataset is now, and what would be bought. Costs nothing.

        Raises:
            DatasetError: naming all problems of the dataset.
            MissingKeyError: if there is no key.
            RunwareError: if the API refuses the key or cannot be reached.
            StorageError: if the storage root cannot be used.
        """
        prompts = self._dataset.load_prompts(self._settings.storage())
        self.warnings = dataset_warnings(prompts, self._dataset.catalogue)
        os.environ.update(self._environment)
        os.environ["DAGSTER_HOME"] = str(self._home.dagster_home)
        with self._settings.runware().generator(self._settings.storage()) as generator:
            generator.bind()
            ledger = generator.ledger
        self._dataset_progress = DatasetProgress(ledger, self._dataset, prompts)
        return self._dataset_progress.read()

    def run(
        self,
        options: PipelineOptions,
        on_progress: Callable[[Sequence[ClipProgress]], None],
        on_event: Callable[[str], None],
    ) -> PipelineResult:
        """Request what is missing, and wait until everything is stored or has failed.

        Arguments:
            options: what is generated, and how long to wait.
            on_progress: called with how far each clip is, about once a second.
            on_event: called with a sentence about each run that failed.

        Raises:
            DatasetError, MissingKeyError, RunwareError, StorageError: see `read_progress`.
            ProcessError: if the daemon, or a collecting run, does not start.
        """
        # What matters is printed by the command.
        logging.getLogger("dagster").setLevel(logging.CRITICAL)
        if self._dataset_progress is None:
            self.read_progress()
        assert self._dataset_progress is not None
        dataset_progress = self._dataset_progress
        ledger = dataset_progress.ledger
        gallery = gallery_key(self._dataset.name)
        store_time = StoreClock(ledger.root.store_time)
        started_by_store = store_time()
        dataset_progress.regenerates_changed = options.regenerate_changed
        before = dataset_progress.read()
        on_progress(before)

        def result(
            progress: Sequence[ClipProgress],
            posts: Mapping[str, int],
            problems: Sequence[str] = (),
            stalled_minutes: float | None = None,
        ) -> PipelineResult:
            return PipelineResult(
                progress,
                dataset_progress.manifests(progress),
                {(clip.asset, clip.clip): clip.take for clip in before if clip.take},
                started_by_store,
                posts,
                tuple(problems),
                stalled_minutes,
                ledger.root.uri(gallery) if ledger.root.exists(gallery) else None,
            )

        if is_complete(before) and not dataset_progress.outstanding and ledger.root.exists(gallery):
            return result(before, dict.fromkeys(_POST_TAGS, 0))
        started_at = datetime.now(UTC)
        with dg.DagsterInstance.get() as instance, ExitStack() as stack:
            _create_tables(instance)
            # Those of earlier commands, which were killed.
            fail_unfinished_runs(instance, self._dataset.definition_name(REQUEST_JOB))
            collecting = stack.enter_context(self._collecting(instance, ledger, store_time))
            threads = stack.enter_context(_job_thread())
            requests = RequestRuns(
                self._dataset,
                instance,
                threads,
                run_limit_usd=self._settings.runware().run_limit_usd(),
                spent_usd=Budget(ledger, store_time=store_time).run_spent_usd,
                options=options,
            )
            waiting = Waiting(
                instance,
                dataset_progress,
                requests=requests,
                claims=ClaimReader(ledger, self._dataset.name, store_time=store_time),
                since=started_at,
                collecting=collecting,
                stall_timeout_minutes=options.stall_timeout_minutes,
            )
            progress = waiting.wait(before, on_progress, on_event)
            posts = _count_posts(instance, started_at)
            problems = list(requests.problems)
            # The first marks removed rows, which the gallery shows.
            for job in (SYNC_JOB, REPORTS_JOB):
                name = self._dataset.definition_name(job)
                try:
                    problems += threads.submit(run_job, instance, name).result()[1]
                except dg.DagsterInvariantViolationError as error:
                    # A project that builds its definitions itself may lack it.
                    problems.append(f"{name} was not run: {error}")
        return result(progress, posts, problems, waiting.stalled_minutes)

    @contextmanager
    def _collecting(
        self, instance: dg.DagsterInstance, ledger: Ledger, store_time: StoreClock
    ) -> Iterator[Collecting]:
        """Have clips collected while the block runs."""
        if self._has_daemon:
            with dagster_daemon(self._home, self._environment) as daemon:
                yield Collecting(daemon.check, lambda: False, str(daemon.log_path))
        else:
            settings = self._settings
            due = DueReader(
                ledger,
                [self._dataset.name],
                # The command waits anyway.
                poll_after_seconds=settings.webhook_wait_seconds if settings.webhook_url else 0.0,
                store_time=store_time,
            )
            log_path = self._home.log_path("collect")
            start = partial(
                ManagedProcess,
                "the collecting run",
                job_command(self._dataset.definition_name(COLLECT_JOB)),
                environment={**self._environment, "DAGSTER_HOME": str(self._home.dagster_home)},
                log_path=log_path,
                appends_log=True,
            )
            with CollectingRuns(self._dataset, instance, due=due, start=start) as runs:
                yield Collecting(runs.check, lambda: runs.is_running, str(log_path))


@contextmanager
def _job_thread() -> Iterator[DaemonThreads]:
    """A thread for jobs, since Dagster takes Ctrl-C for itself in the main one.

    If the block fails or is interrupted, nothing more is submitted. What is being sent is recorded,
    unless Runware does not answer: then it is as unclear as after a kill, and the next command
    polls.
    """
    threads = DaemonThreads(1, "job")
    try:
        yield threads
    except BaseException as error:
        stop_submissions()
        threads.stop(None if isinstance(error, Exception) else LAST_SECONDS)
        raise
    threads.stop()


def _create_tables(instance: dg.DagsterInstance) -> None:
    """Have the instance create its tables before other processes use it: they would collide."""
    instance.get_runs_count()
    instance.get_dynamic_partitions("clips")
    instance.all_instigator_state()


def _count_posts(instance: dg.DagsterInstance, since: datetime) -> dict[str, int]:
    """POSTs that runs made since a time, by the tags they left."""
    runs = instance.get_runs(dg.RunsFilter(created_after=since))
    return {
        kind: sum(int(run.tags.get(tag, "0")) for run in runs) for kind, tag in _POST_TAGS.items()
    }
