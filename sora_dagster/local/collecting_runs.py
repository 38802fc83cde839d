"""The collecting runs of a command that starts no Dagster daemon."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Self

import dagster as dg

from sora_dagster.dataset import COLLECT_JOB, VideoDataset, without_beta_warnings
from sora_dagster.generation.collecting.due import DueReader
from sora_dagster.generation.protocol.clocks import running_seconds
from sora_dagster.jobs.collect import MAX_COLLECT_SECONDS
from sora_dagster.local.code_location import load_code_location
from sora_dagster.local.processes import ManagedProcess, ProcessError
from sora_dagster.local.waiting import fail_unfinished_runs
from sora_dagster.reporting.collect_run_history import reason_to_wait

_INTERVAL_SECONDS = 2.0
# A collecting run needs up to 8 s to hand over its clips.
_GRACE_SECONDS = 8.0


class CollectingRuns:
    """Runs the collecting job when the completion sensor would, one run at a time.

    Each run has a process of its own, so that it can be ended like any other run.

    Arguments:
        dataset: the dataset.
        instance: the Dagster instance, which no other command uses.
        due: reads which clips are finished, or due to be polled.
        start: starts a process that executes the job.
    """

    def __init__(
        self,
        dataset: VideoDataset,
        instance: dg.DagsterInstance,
        *,
        due: DueReader,
        start: Callable[[], ManagedProcess],
    ) -> None:
        self._job = dataset.definition_name(COLLECT_JOB)
        self._instance = instance
        self._due = due
        self._start = start
        self._process: ManagedProcess | None = None
        self._created_at = self._started_at = datetime.now(UTC)
        self._next_look = self._ends_before = running_seconds()
        self._next_read = 0

    def __enter__(self) -> Self:
        """Check that the job exists, before anything is paid.

        Raises:
            ProcessError: if it does not.
        """
        try:
            with without_beta_warnings():
                load_code_location().resolve_job_def(self._job)
        except dg.DagsterError as error:
            raise ProcessError(
                f"the definitions of this project have no job {self._job} that can be loaded, so "
                f"clips could not be stored; nothing was requested. Make `defs` with "
                f"build_definitions, or add build_collect_job. The error: {error}"
            ) from error
        # Those of earlier commands, which were killed.
        fail_unfinished_runs(self._instance, self._job)
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.end(grace_seconds=_GRACE_SECONDS)
            self._fail_last()

    @property
    def is_running(self) -> bool:
        """Whether a process collects, or is about to."""
        return self._process is not None

    def check(self) -> None:
        """Start a run if clips are due and none is running.

        Raises:
            ProcessError: if a process ended before it had a run.
            StorageError: if the storage root fails.
        """
        if self._process is not None:
            if not self._process.has_ended:
                if running_seconds() < self._ends_before:
                    return
                self._process.end(grace_seconds=_GRACE_SECONDS)
            self._check_run(self._process)
            self._process = None
        now = running_seconds()
        if now >= self._next_look:
            self._next_look = now + _INTERVAL_SECONDS
            if self._is_due():
                self._started_at = datetime.now(UTC)
                # Without a daemon there is no run monitoring.
                self._ends_before = now + MAX_COLLECT_SECONDS
                self._process = self._start()

    def _is_due(self) -> bool:
        work = self._due.read(self._next_read)
        self._next_read = work.next_read
        now = datetime.now(UTC)
        return work.is_due and (
            reason_to_wait(self._instance, self._job, now=now, since=self._created_at) is None
        )

    def _check_run(self, process: ManagedProcess) -> None:
        runs = dg.RunsFilter(job_name=self._job, created_after=self._started_at)
        if not self._instance.get_runs(runs, limit=1):
            process.check()
        self._fail_last()

    def _fail_last(self) -> None:
        """Record the run of the last process as failed if the process did not do so."""
        fail_unfinished_runs(self._instance, self._job, since=self._started_at)
