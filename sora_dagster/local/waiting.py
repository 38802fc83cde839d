"""Waiting until a dataset is stored."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

import dagster as dg

from sora_dagster.dataset import REQUEST_JOB
from sora_dagster.generation.protocol.claims import ClaimReader
from sora_dagster.generation.protocol.clocks import running_seconds
from sora_dagster.local.dataset_progress import DatasetProgress
from sora_dagster.local.progress import ClipProgress, ClipState, count
from sora_dagster.local.request_runs import RequestRuns, failure_text

UNFINISHED = [
    status
    for status in dg.DagsterRunStatus
    if status
    not in (
        dg.DagsterRunStatus.SUCCESS,
        dg.DagsterRunStatus.FAILURE,
        dg.DagsterRunStatus.CANCELED,
    )
]
_INTERVAL_SECONDS = 1.0
# Time for a run to start for clips that are stored and whose remixes are not requested.
_QUIET_SECONDS = 60.0
_QUIET_SECONDS_AFTER_FAILURE = 5.0


def fail_unfinished_runs(
    instance: dg.DagsterInstance, job: str, *, since: datetime | None = None
) -> None:
    """Record the unfinished runs of a job as failed: their processes have ended.

    Arguments:
        instance: the Dagster instance.
        job: name of the job.
        since: runs that were created before are left. Default: none is.
    """
    runs = dg.RunsFilter(job_name=job, statuses=UNFINISHED, created_after=since)
    for run in instance.get_runs(runs):
        instance.report_run_failed(run, "the process that ran it was killed")


@dataclass(frozen=True)
class Collecting:
    """Has the clips collected by runs.

    Arguments:
        check: called each second; raises if a process that is needed has ended.
        is_running: whether a run is known to collect, or is about to.
        log: where the output of the runs is.
    """

    check: Callable[[], None]
    is_running: Callable[[], bool]
    log: str


class StallTimeout:
    """Decides when to stop waiting.

    Arguments:
        quiet_seconds: how long nothing may be outstanding or running before waiting ends.
        stall_seconds: how long nothing may change before waiting ends, whatever is outstanding.
        elapsed: the clock, in seconds.
    """

    def __init__(
        self,
        *,
        quiet_seconds: float,
        stall_seconds: float,
        elapsed: Callable[[], float] = running_seconds,
    ) -> None:
        self.quiet_seconds = quiet_seconds
        self._stall_seconds = stall_seconds
        self._elapsed = elapsed
        self._quiet_since = self._changed_at = elapsed()
        self._seen: object = None

    def after_reading(self, seen: object, *, is_busy: bool) -> Literal["wait", "quiet", "stalled"]:
        """What to do after reading the progress.

        Arguments:
            seen: the progress; anything that can be compared.
            is_busy: whether something is outstanding or running.
        """
        now = self._elapsed()
        if seen != self._seen:
            self._seen, self._changed_at = seen, now
        if is_busy:
            self._quiet_since = now
        if now - self._quiet_since > self.quiet_seconds:
            return "quiet"
        return "stalled" if now - self._changed_at > self._stall_seconds else "wait"


@dataclass
class Waiting:
    """Waits until everything is stored or has failed, or waiting is pointless.

    Arguments:
        instance: the Dagster instance.
        dataset_progress: reads how far the clips are.
        requests: the runs that request clips.
        claims: the claims of collecting processes.
        since: when this command began.
        collecting: has the clips collected.
        stall_timeout_minutes: maximum time without any change.
        stalled_minutes: if waiting ended because nothing changed: after how many minutes.
    """

    instance: dg.DagsterInstance
    dataset_progress: DatasetProgress
    requests: RequestRuns
    claims: ClaimReader
    since: datetime
    collecting: Collecting
    stall_timeout_minutes: float
    stalled_minutes: float | None = None
    _failed_runs: set[str] = field(default_factory=set)

    def wait(
        self,
        progress: Sequence[ClipProgress],
        on_progress: Callable[[Sequence[ClipProgress]], None],
        on_event: Callable[[str], None],
    ) -> Sequence[ClipProgress]:
        """Request the dataset and wait. Gives the last progress.

        Arguments:
            progress: how far the clips are now.
            on_progress: called with how far the clips are, about once a second.
            on_event: called with a sentence about each run that failed.
        """
        patience = StallTimeout(
            quiet_seconds=_QUIET_SECONDS, stall_seconds=self.stall_timeout_minutes * 60
        )
        self.requests.start(progress)
        is_thorough = True
        while True:
            self.collecting.check()
            if self.requests.has_just_ended():
                is_thorough = True
                if self.requests.problems:
                    patience.quiet_seconds = _QUIET_SECONDS_AFTER_FAILURE
            progress = self.dataset_progress.read(thorough=is_thorough)
            on_progress(progress)
            for sentence in self._new_failures():
                on_event(sentence)
            is_busy = self._is_busy()
            if is_thorough and not is_busy:
                if self.requests.start_for_new_videos(progress):
                    is_busy = True
                elif not count(progress, ClipState.WAITING, ClipState.GENERATING):
                    return progress
            seen = [(clip.state, clip.take, clip.reason) for clip in progress]
            match patience.after_reading(seen, is_busy=is_busy):
                case "quiet":
                    return progress
                case "stalled" if not self.requests.is_running:
                    self.stalled_minutes = self.stall_timeout_minutes
                    return progress
            # Before waiting ends, also read clips that the index does not show as changed.
            is_thorough = not is_busy
            time.sleep(_INTERVAL_SECONDS)

    def _is_busy(self) -> bool:
        if self.requests.is_running or self.collecting.is_running():
            return True
        if self.dataset_progress.outstanding:
            return True
        # Runs from before this command may be dead.
        unfinished = dg.RunsFilter(statuses=UNFINISHED, created_after=self.since)
        if self.instance.get_runs(unfinished, limit=1):
            return True
        view = self.claims.view()
        return view.rest is not None or bool(view.tasks)

    def _new_failures(self) -> list[str]:
        """Why other runs than those of requests failed, each reported once."""
        failed = dg.RunsFilter(statuses=[dg.DagsterRunStatus.FAILURE], created_after=self.since)
        request_job = self.requests.dataset.definition_name(REQUEST_JOB)
        sentences = []
        for run in self.instance.get_runs(failed):
            if run.run_id not in self._failed_runs and run.job_name != request_job:
                self._failed_runs.add(run.run_id)
                sentences.append(f"{run.job_name} failed: {self._failure_of(run)}")
        return sentences

    def _failure_of(self, run: dg.DagsterRun) -> str:
        logged = self.instance.all_logs(run.run_id, of_type=dg.DagsterEventType.STEP_FAILURE)
        for entry in logged:
            if entry.dagster_event is not None:
                return failure_text(entry.dagster_event)
        return f"its process ended; the reason is in {self.collecting.log}"
