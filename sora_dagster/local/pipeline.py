"""A whole dataset from request to storage, headless, with the Dagster daemon doing the work."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import dagster as dg

from sora_dagster.dataset import VideoDataset, split_remix_partition, without_beta_warnings
from sora_dagster.definitions import REPORTS_JOB
from sora_dagster.generation.protocol.budget import Budget
from sora_dagster.generation.protocol.claims import ClaimReader
from sora_dagster.generation.protocol.clocks import StoreClock
from sora_dagster.generation.protocol.layout import gallery_key
from sora_dagster.generation.protocol.records import ClipManifest
from sora_dagster.jobs.request import REQUEST_JOB
from sora_dagster.local.code_location_loader import load_code_location
from sora_dagster.local.dataset_progress import DatasetProgress
from sora_dagster.local.home import LocalHome
from sora_dagster.local.patience import Patience
from sora_dagster.local.progress import ClipProgress, ClipState, Purchase, count
from sora_dagster.local.stack import dagster_daemon
from sora_dagster.runs import OTHER_POSTS_TAG, POLL_POSTS_TAG, SUBMISSION_POSTS_TAG
from sora_dagster.settings import Settings
from sora_dagster.storage import StorageRoot

_LOOK_SECONDS = 1.0
# Time that the sensors get to start a run for what is stored and not followed by its remixes.
_QUIET_SECONDS = 60.0
_QUIET_SECONDS_AFTER_FAILURE = 5.0
_FINISHED = (
    dg.DagsterRunStatus.SUCCESS,
    dg.DagsterRunStatus.FAILURE,
    dg.DagsterRunStatus.CANCELED,
)
_UNFINISHED = [status for status in dg.DagsterRunStatus if status not in _FINISHED]


@dataclass(frozen=True)
class PipelineResult:
    """What a run of the pipeline brought.

    Arguments:
        progress: how far each clip and remix is, in the order of the dataset.
        manifests: the records of those that are stored, by asset and partition key.
        takes_before: takes that were stored already, by asset and partition key.
        started_at: when it began, by the store's clock.
        problems: what else went wrong.
        posts: POSTs made to the API: submissions, polls, other.
        stalled_minutes: how long nothing had changed when waiting ended for that; else None.
        gallery_uri: address of the page that shows the dataset's clips; None if there is none.
    """

    progress: Sequence[ClipProgress]
    manifests: Mapping[tuple[str, str], ClipManifest]
    takes_before: Mapping[tuple[str, str], int]
    started_at: datetime
    problems: tuple[str, ...]
    posts: Mapping[str, int]
    stalled_minutes: float | None = None
    gallery_uri: str | None = None

    @property
    def is_complete(self) -> bool:
        """Whether every clip asked for is stored, be it as its row was before it changed."""
        return is_complete(self.progress)

    @property
    def total_cost_usd(self) -> float:
        """What all stored clips cost, whenever they were made."""
        return sum(manifest.cost_usd for manifest in self.manifests.values())

    @property
    def paid_now_usd(self) -> float:
        """What those stored clips cost that were sent since this run began.

        What was sent before is paid already, though it may be stored, or fetched again, only now.
        """
        # S3 reports modification times in whole seconds.
        since = self.started_at - timedelta(seconds=1)
        return sum(
            manifest.cost_usd
            for manifest in self.manifests.values()
            if manifest.requested_at >= since
        )


def is_complete(progress: Sequence[ClipProgress]) -> bool:
    """Whether every clip is stored, be it as its row was before it changed."""
    return count(progress, ClipState.STORED, ClipState.CHANGED) == len(progress)


@dataclass(frozen=True)
class _JobResult:
    """What a job brought that ran in this process.

    Arguments:
        run_id: its run.
        problems: what failed in it.
    """

    run_id: str
    problems: list[str]


class Pipeline:
    """Runs a dataset through request, generation and storage.

    Look first, so that what would be bought can be shown; then run.

    Arguments:
        settings: dataset, API and storage root.
        home: the Dagster instance's folder.
        environment: secrets for the processes that are started, on top of this process's own.
        stall_timeout_minutes: longest time without any progress.
    """

    def __init__(
        self,
        settings: Settings,
        home: LocalHome,
        *,
        environment: Mapping[str, str],
        stall_timeout_minutes: float,
    ) -> None:
        self._settings = settings
        self._home = home
        self._environment = {**settings.to_environment(), **environment}
        self._max_quiet_minutes = stall_timeout_minutes
        self._dataset: VideoDataset = settings.dataset()
        self._watch: DatasetProgress | None = None

    def look(self) -> Sequence[ClipProgress]:
        """How far the dataset is now, and what would be bought. Pays nothing.

        Raises:
            DatasetError: naming all problems of the dataset.
            MissingKeyError: if there is no key.
            RunwareError: if the API refuses the key or cannot be reached.
            StorageError: if the storage root cannot be used.
        """
        prompts = self._dataset.load_prompts()
        os.environ.update(self._environment)
        os.environ["DAGSTER_HOME"] = str(self._home.dagster_home)
        with self._settings.runware().generator(self._settings.storage()) as generator:
            generator.bind()
            ledger = generator.ledger
        self._watch = DatasetProgress(ledger, self._dataset, prompts)
        return self._watch.look()

    def run(
        self,
        on_look: Callable[[Sequence[ClipProgress]], None],
        on_event: Callable[[str], None],
        *,
        regenerate_changed: bool,
    ) -> PipelineResult:
        """Request what is missing, and wait until everything is stored or has failed.

        Arguments:
            on_look: called with how far each clip is, about once a second.
            on_event: called with a sentence about each run that failed.
            regenerate_changed: whether clips whose rows changed get a new take, which is paid for.

        Raises:
            DatasetError, MissingKeyError, RunwareError, StorageError: see `look`.
            ProcessError: if the daemon does not run.
        """
        if self._watch is None:
            self.look()
        assert self._watch is not None
        watch, ledger = self._watch, self._watch.ledger
        store_time = StoreClock(ledger.root.store_time)
        started_by_store = store_time()
        watch.regenerates_changed = regenerate_changed
        before = watch.look()
        on_look(before)
        takes_before = {(clip.asset, clip.clip): clip.take for clip in before if clip.take}
        gallery = _gallery_uri(ledger.root, self._dataset.name)
        if is_complete(before) and not watch.outstanding and gallery:
            manifests = watch.manifests(before)
            return PipelineResult(
                before,
                manifests,
                takes_before,
                started_by_store,
                (),
                _no_posts(),
                gallery_uri=gallery,
            )
        started_at = datetime.now(UTC)
        with dg.DagsterInstance.get() as instance, ExitStack() as stack:
            _make_tables(instance)
            _end_killed_requests(instance)
            daemon = stack.enter_context(dagster_daemon(self._home, self._environment))
            # In a thread, since Dagster takes Ctrl-C for itself in the main one. Leaving the block
            # waits for it, so that what is being sent is also recorded.
            threads = stack.enter_context(ThreadPoolExecutor(1, thread_name_prefix="job"))
            waiting = _Waiting(
                instance,
                watch,
                requests=_Requests(
                    self._dataset,
                    instance,
                    threads,
                    run_limit_usd=self._settings.runware().run_limit_usd(),
                    spent_usd=Budget(ledger, store_time=store_time).run_spent_usd,
                    regenerate_changed=regenerate_changed,
                ),
                claims=ClaimReader(ledger, self._dataset.name, store_time=store_time),
                since=started_at,
                daemon_log=str(self._home.log_path("daemon")),
                stall_timeout_minutes=self._max_quiet_minutes,
            )
            progress = waiting.wait(before, on_look, on_event, daemon.check)
            posts = _count_posts(instance, started_at)
            reports = threads.submit(
                _run_here, instance, _job(self._dataset.definition_name(REPORTS_JOB))
            )
            problems = [*waiting.problems, *reports.result().problems]
        return PipelineResult(
            progress,
            watch.manifests(progress),
            takes_before,
            started_by_store,
            tuple(problems),
            posts,
            stalled_minutes=waiting.stalled_minutes,
            gallery_uri=_gallery_uri(ledger.root, self._dataset.name),
        )


@dataclass
class _Requests:
    """Runs the request job in this process, once for the dataset and again for what follows.

    Arguments:
        dataset: the dataset.
        instance: the Dagster instance.
        threads: runs the job.
        run_limit_usd: the spending limit of all these runs together; None for no limit.
        spent_usd: what was spent within a root run's limit.
        regenerate_changed: whether clips whose rows changed get a new take.
        problems: what failed in those that ended.
    """

    dataset: VideoDataset
    instance: dg.DagsterInstance
    threads: ThreadPoolExecutor
    run_limit_usd: float | None
    spent_usd: Callable[[str], float]
    regenerate_changed: bool
    problems: list[str] = field(default_factory=list)
    _root_runs: list[str] = field(default_factory=list)
    _asked_again: set[tuple[str, int]] = field(default_factory=set)
    _running: Future[_JobResult] | None = None

    def start(self, progress: Sequence[ClipProgress], clip_ids: Sequence[str] = ()) -> None:
        """Ask for clips; for the whole dataset if none are named."""
        self._asked_again |= self._changed_remixes(progress).keys()
        config: dict[str, Any] = {"regenerate_changed": self.regenerate_changed}
        if clip_ids:
            config["clip_ids"] = list(clip_ids)
        if self.run_limit_usd is not None and self._root_runs:
            # What the earlier runs have spent counts: the limit is for the command.
            spent_usd = sum(self.spent_usd(run_id) for run_id in self._root_runs)
            config["max_usd"] = max(0.0, self.run_limit_usd - spent_usd)
        job = _job(self.dataset.definition_name(REQUEST_JOB))
        ops = {self.dataset.definition_name("request"): {"config": config}}
        self._running = self.threads.submit(_run_here, self.instance, job, ops)

    def has_just_ended(self) -> bool:
        """Whether the job has ended since this was last asked; its problems are known then."""
        if self._running is None or not self._running.done():
            return False
        result = self._running.result()
        self._running = None
        self._root_runs.append(result.run_id)
        self.problems += result.problems
        return True

    @property
    def is_running(self) -> bool:
        """Whether the job goes on."""
        return self._running is not None

    def start_for_new_videos(self, progress: Sequence[ClipProgress]) -> bool:
        """Ask for remixes of clips that got a new take; False if there are none.

        No sensor buys these. Each is asked for once.
        """
        if not self.regenerate_changed:
            return False
        remixes = self._changed_remixes(progress)
        clip_ids = sorted({remixes[key] for key in remixes.keys() - self._asked_again})
        if clip_ids:
            self.start(progress, clip_ids)
        return bool(clip_ids)

    def _changed_remixes(self, progress: Iterable[ClipProgress]) -> dict[tuple[str, int], str]:
        """Clip ids of changed remixes, by remix and the take of the clip that is stored."""
        remixes = self.dataset.remixes.to_user_string()
        clips = {clip.clip: clip.take for clip in progress if clip.asset != remixes}
        found = {}
        for remix in progress:
            if remix.asset == remixes and remix.purchase is Purchase.CHANGED:
                clip_id, _ = split_remix_partition(remix.clip)
                if take := clips.get(clip_id):
                    found[remix.clip, take] = clip_id
        return found


class _Waiting:
    """Waits until everything is stored or has failed, or waiting has no use any more."""

    def __init__(
        self,
        instance: dg.DagsterInstance,
        watch: DatasetProgress,
        *,
        requests: _Requests,
        claims: ClaimReader,
        since: datetime,
        daemon_log: str,
        stall_timeout_minutes: float,
    ) -> None:
        self._instance = instance
        self._watch = watch
        self._requests = requests
        self._claims = claims
        self._since = since
        self._daemon_log = daemon_log
        self._max_quiet_minutes = stall_timeout_minutes
        self._failed_runs: set[str] = set()
        self.stalled_minutes: float | None = None

    @property
    def problems(self) -> list[str]:
        """What failed in the runs that asked for clips."""
        return self._requests.problems

    def wait(
        self,
        progress: Sequence[ClipProgress],
        on_look: Callable[[Sequence[ClipProgress]], None],
        on_event: Callable[[str], None],
        check_processes: Callable[[], None],
    ) -> Sequence[ClipProgress]:
        """Ask for the dataset, and wait; see `Pipeline.run`."""
        patience = Patience(
            quiet_seconds=_QUIET_SECONDS, stall_seconds=self._max_quiet_minutes * 60
        )
        self._requests.start(progress)
        is_thorough = True
        while True:
            check_processes()
            if self._requests.has_just_ended():
                is_thorough = True
                if self.problems:
                    patience.quiet_seconds = _QUIET_SECONDS_AFTER_FAILURE
            progress = self._watch.look(thorough=is_thorough)
            on_look(progress)
            for sentence in self._new_failures():
                on_event(sentence)
            is_busy = self._is_busy()
            if is_thorough and not is_busy:
                if self._requests.start_for_new_videos(progress):
                    is_busy = True
                elif not count(progress, ClipState.WAITING, ClipState.GENERATING):
                    return progress
            seen = [(clip.state, clip.take, clip.reason) for clip in progress]
            match patience.after_look(seen, is_busy=is_busy):
                case "quiet":
                    return progress
                case "stalled" if not self._requests.is_running:
                    self.stalled_minutes = self._max_quiet_minutes
                    return progress
            # What the index does not show to have moved is looked at before waiting ends.
            is_thorough = not is_busy
            time.sleep(_LOOK_SECONDS)

    def _is_busy(self) -> bool:
        if self._requests.is_running or self._watch.outstanding:
            return True
        if _has_unfinished_runs(self._instance, self._since):
            return True
        view = self._claims.view()
        return view.rest is not None or bool(view.tasks)

    def _new_failures(self) -> list[str]:
        """Why runs failed that the daemon started, each once."""
        failed = dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE], created_after=self._since)
        sentences = []
        for run in self._instance.get_runs(failed):
            if run.run_id in self._failed_runs or run.job_name == self._request_job:
                continue
            self._failed_runs.add(run.run_id)
            sentences.append(f"{run.job_name} failed: {self._failure_of(run)}")
        return sentences

    @property
    def _request_job(self) -> str:
        return self._requests.dataset.definition_name(REQUEST_JOB)

    def _failure_of(self, run: dg.DagsterRun) -> str:
        logged = self._instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_FAILURE)
        for entry in logged:
            if entry.dagster_event is not None:
                return _failure_text(entry.dagster_event)
        return f"its process ended; the reason is in {self._daemon_log}"


def _gallery_uri(root: StorageRoot, dataset: str) -> str | None:
    key = gallery_key(dataset)
    return root.uri(key) if root.exists(key) else None


def _job(name: str) -> dg.JobDefinition:
    with without_beta_warnings():
        definitions = load_code_location()
        dg.Definitions.validate_loadable(definitions)
        return definitions.resolve_job_def(name)


def _run_here(
    instance: dg.DagsterInstance, job: dg.JobDefinition, ops: Mapping[str, Any] | None = None
) -> _JobResult:
    """Run a job in this process."""
    logging.getLogger("dagster").setLevel(logging.CRITICAL)
    config: dict[str, Any] = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
    if ops:
        config["ops"] = dict(ops)
    result = job.execute_in_process(instance=instance, raise_on_error=False, run_config=config)
    return _JobResult(
        result.run_id,
        [
            _failure_text(event)
            for event in result.all_events
            if event.event_type is dg.DagsterEventType.STEP_FAILURE
        ],
    )


def _make_tables(instance: dg.DagsterInstance) -> None:
    """Have the instance make its tables before others use it: two at once would collide."""
    instance.get_runs_count()
    instance.get_dynamic_partitions("clips")
    instance.all_instigator_state()


def _end_killed_requests(instance: dg.DagsterInstance) -> None:
    """Record that requests of earlier commands, which ran in their processes, ended with them."""
    for run in instance.get_runs(dg.RunsFilter(job_name=REQUEST_JOB, statuses=_UNFINISHED)):
        instance.report_run_failed(run, "the command that ran it was killed")


def _has_unfinished_runs(instance: dg.DagsterInstance, since: datetime) -> bool:
    """Whether a run goes on that was launched since a time; older ones may be dead."""
    runs_filter = dg.RunsFilter(statuses=_UNFINISHED, created_after=since)
    return bool(instance.get_runs(runs_filter, limit=1))


def _failure_text(event: dg.DagsterEvent) -> str:
    data = event.step_failure_data
    if data.user_failure_data is not None and data.user_failure_data.description:
        return data.user_failure_data.description
    error = data.error
    while error is not None and error.cause is not None:
        error = error.cause
    return error.message.strip() if error is not None else (event.message or "the request failed")


def _no_posts() -> dict[str, int]:
    return {"submissions": 0, "polls": 0, "other": 0}


def _count_posts(instance: dg.DagsterInstance, since: datetime) -> dict[str, int]:
    """POSTs that runs made since a time, by the tags they left."""
    posts = _no_posts()
    tags = {
        "submissions": SUBMISSION_POSTS_TAG,
        "polls": POLL_POSTS_TAG,
        "other": OTHER_POSTS_TAG,
    }
    for run in instance.get_runs(dg.RunsFilter(created_after=since)):
        for kind, tag in tags.items():
            posts[kind] += int(run.tags.get(tag, "0"))
    return posts
