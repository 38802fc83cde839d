"""A whole dataset from request to storage, headless, with the Dagster daemon doing the work."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime

import dagster as dg

from sora_dagster.code_location_loader import load_code_location
from sora_dagster.environment import REPORTS_JOB, Settings
from sora_dagster.generation.lease import is_live
from sora_dagster.generation.ledger import Ledger
from sora_dagster.generation.prompts import PromptDataset
from sora_dagster.graph import VideoGraph, without_beta_warnings
from sora_dagster.jobs import REQUEST_JOB
from sora_dagster.local_home import LocalHome
from sora_dagster.local_stack import dagster_daemon
from sora_dagster.progress import ClipProgress, ClipState, DatasetProgress, count
from sora_dagster.reports.gallery_page import GALLERY_KEY
from sora_dagster.run_facts import OTHER_POSTS_TAG, POLL_POSTS_TAG, SUBMISSION_POSTS_TAG
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
        stored_before: asset and partition key of those that were stored already.
        problems: what else went wrong.
        posts: POSTs made to the API: submissions, polls, other.
        gallery_uri: where the page is that shows all clips; None where it could not be made.
    """

    progress: Sequence[ClipProgress]
    stored_before: frozenset[tuple[str, str]]
    problems: tuple[str, ...]
    posts: Mapping[str, int]
    gallery_uri: str | None = None

    @property
    def is_complete(self) -> bool:
        """Whether every clip asked for is stored."""
        return count(self.progress, ClipState.STORED) == len(self.progress)

    @property
    def total_cost_usd(self) -> float:
        """What all stored clips cost, whenever they were made."""
        return sum(clip.manifest.cost_usd for clip in self.progress if clip.manifest)

    @property
    def paid_now_usd(self) -> float:
        """What those cost that were stored by this run."""
        return sum(
            clip.manifest.cost_usd
            for clip in self.progress
            if clip.manifest and (clip.asset, clip.clip) not in self.stored_before
        )


class Pipeline:
    """Runs a dataset through request, generation and storage.

    Arguments:
        settings: dataset, API and storage root.
        home: the Dagster instance's folder.
        environment: secrets for the processes that are started, on top of this process's own.
        max_quiet_minutes: longest time without any progress.
    """

    def __init__(
        self,
        settings: Settings,
        home: LocalHome,
        *,
        environment: Mapping[str, str],
        max_quiet_minutes: float,
    ) -> None:
        self._settings = settings
        self._home = home
        self._environment = {**settings.to_environment(), **environment}
        self._max_quiet_seconds = max_quiet_minutes * 60
        self._graph: VideoGraph = settings.graph()

    def load_dataset(self) -> PromptDataset:
        """The dataset.

        Raises:
            DatasetError: naming all its problems.
        """
        return self._graph.load_dataset()

    def run(self, on_look: Callable[[Sequence[ClipProgress]], None]) -> PipelineResult:
        """Request what is not there, and wait until everything is stored or has failed.

        Arguments:
            on_look: called with how far each clip is, about once a second.

        Raises:
            MissingKeyError: where there is no key.
            RunwareError: where the API refuses the key or cannot be reached.
            StorageError: where the storage root cannot be used.
            ProcessError: where the daemon does not run.
        """
        dataset = self.load_dataset()
        ledger = Ledger(self._settings.storage().root())
        os.environ.update(self._environment)
        os.environ["DAGSTER_HOME"] = str(self._home.dagster_home)
        with self._settings.runware().generator(self._settings.storage()) as generator:
            generator.bind()
        watch = DatasetProgress(ledger, self._graph, dataset)
        before = watch.look()
        on_look(before)
        stored_before = frozenset(
            (clip.asset, clip.clip) for clip in before if clip.state is ClipState.STORED
        )
        gallery = _gallery_uri(ledger.root)
        if len(stored_before) == len(before) and not ledger.pending() and gallery:
            return PipelineResult(before, stored_before, (), _no_posts(), gallery)
        started_at = datetime.now(UTC)
        with dg.DagsterInstance.get() as instance, ExitStack() as stack:
            _make_tables(instance)
            _end_killed_requests(instance)
            daemon = stack.enter_context(dagster_daemon(self._home, self._environment))
            problems = _run_here(instance, REQUEST_JOB)
            progress = self._wait(
                instance,
                ledger,
                watch,
                on_look,
                daemon.check,
                since=started_at,
                quiet_seconds=_QUIET_SECONDS_AFTER_FAILURE if problems else _QUIET_SECONDS,
            )
            posts = _count_posts(instance, started_at)
            problems += _run_here(instance, REPORTS_JOB)
        return PipelineResult(
            progress, stored_before, tuple(problems), posts, _gallery_uri(ledger.root)
        )

    def _wait(
        self,
        instance: dg.DagsterInstance,
        ledger: Ledger,
        watch: DatasetProgress,
        on_look: Callable[[Sequence[ClipProgress]], None],
        check_processes: Callable[[], None],
        *,
        since: datetime,
        quiet_seconds: float,
    ) -> Sequence[ClipProgress]:
        last_change = quiet_since = time.monotonic()
        last_states: list[ClipState] = []
        while True:
            check_processes()
            progress = watch.look()
            on_look(progress)
            states = [clip.state for clip in progress]
            now = time.monotonic()
            if states != last_states:
                last_states, last_change = states, now
            settled = not {ClipState.WAITING, ClipState.GENERATING} & set(states)
            busy = bool(ledger.pending()) or _has_unfinished_runs(instance, since)
            if settled and not busy:
                return progress
            if busy or (not ledger.is_empty and is_live(ledger)):
                quiet_since = now
            if now - quiet_since > quiet_seconds or now - last_change > self._max_quiet_seconds:
                return progress
            time.sleep(_LOOK_SECONDS)


def _gallery_uri(root: StorageRoot) -> str | None:
    return root.uri(GALLERY_KEY) if root.exists(GALLERY_KEY) else None


def _run_here(instance: dg.DagsterInstance, job_name: str) -> list[str]:
    """Run a job in this process.

    Returns:
        What failed in it.
    """
    with without_beta_warnings():
        definitions = load_code_location()
        dg.Definitions.validate_loadable(definitions)
        job = definitions.resolve_job_def(job_name)
    logging.getLogger("dagster").setLevel(logging.CRITICAL)
    # In a thread, since Dagster takes Ctrl-C for itself in the main one. The block waits for it, so
    # that what is being sent is also recorded.
    with ThreadPoolExecutor(1, thread_name_prefix=job_name) as pool:
        result = pool.submit(
            job.execute_in_process,
            instance=instance,
            raise_on_error=False,
            run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
        ).result()
    return [
        _failure_text(event)
        for event in result.all_events
        if event.event_type is dg.DagsterEventType.STEP_FAILURE
    ]


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
