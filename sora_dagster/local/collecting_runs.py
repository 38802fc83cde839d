"""The collecting runs of a command that starts no Dagster daemon."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Self

import dagster as dg

from sora_dagster.dataset import COLLECT_JOB, VideoDataset
from sora_dagster.generation.collecting.due import DueReader
from sora_dagster.generation.protocol.clocks import running_seconds
from sora_dagster.local.processes import ManagedProcess
from sora_dagster.local.waiting import UNFINISHED
from sora_dagster.reporting.collect_runs import reason_to_wait

_INTERVAL_SECONDS = 2.0


class CollectingRuns:
    """Runs the collecting job when the completion sensor would, one run at a time.

    Each run has a process of its own, so that it can be ended like any other run.

    Arguments:
        dataset: the dataset.
        instance: the Dagster instance, which no other command uses.
        due: reads which clips are finished, or due to be polled.
        start: starts a process that executes a job.
    """

    def __init__(
        self,
        dataset: VideoDataset,
        instance: dg.DagsterInstance,
        *,
        due: DueReader,
        start: Callable[[str], ManagedProcess],
    ) -> None:
        self._job = dataset.definition_name(COLLECT_JOB)
        self._instance = instance
        self._due = due
        self._start = start
        self._process: ManagedProcess | None = None
        self._started_at = datetime.now(UTC)
        self._next_look = running_seconds()
        self._next_read = 0
        self._is_first = True

    def __enter__(self) -> Self:
        # Those of earlier commands, which were killed.
        self._fail(dg.RunsFilter(job_name=self._job, statuses=UNFINISHED))
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.end()

    def check(self) -> None:
        """Start a run if clips are due and none is running.

        Raises:
            ProcessError: if a process ended before it had a run.
            StorageError: if the storage root fails.
        """
        if self._process is not None:
            if not self._process.has_ended:
                return
            self._check_run(self._process)
            self._process = None
        now = running_seconds()
        if now >= self._next_look:
            self._next_look = now + _INTERVAL_SECONDS
            if self._is_due():
                self._started_at = datetime.now(UTC)
                self._process = self._start(self._job)
                self._is_first = False

    def _is_due(self) -> bool:
        work = self._due.read(self._next_read)
        self._next_read = work.next_read
        if not work.is_due:
            return False
        # Failures of earlier commands are no reason to wait: somebody started this one.
        return self._is_first or (
            reason_to_wait(self._instance, self._job, now=datetime.now(UTC)) is None
        )

    def _check_run(self, process: ManagedProcess) -> None:
        runs = dg.RunsFilter(job_name=self._job, created_after=self._started_at)
        if not self._instance.get_runs(runs, limit=1):
            process.check()
        self._fail(
            dg.RunsFilter(job_name=self._job, created_after=self._started_at, statuses=UNFINISHED)
        )

    def _fail(self, runs: dg.RunsFilter) -> None:
        for run in self._instance.get_runs(runs):
            self._instance.report_run_failed(run, "the process that ran it was killed")
