"""Runs of Dagster jobs in this process: the request job, again for remixes of new takes."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import dagster as dg

from sora_dagster.dataset import (
    REQUEST_JOB,
    VideoDataset,
    split_remix_partition,
    without_beta_warnings,
)
from sora_dagster.generation.threads import DaemonThreads
from sora_dagster.local.code_location import load_code_location
from sora_dagster.local.progress import ClipProgress, PipelineOptions, Purchase


def run_job(
    instance: dg.DagsterInstance, name: str, ops: Mapping[str, Any] | None = None
) -> tuple[str, list[str]]:
    """Run a job of the code location in this process.

    Arguments:
        instance: the Dagster instance.
        name: name of the job.
        ops: run config of its ops.

    Returns:
        The id of its run, and why its steps failed.
    """
    config: dict[str, Any] = {"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}}
    if ops:
        config["ops"] = dict(ops)
    with without_beta_warnings():
        definitions = load_code_location()
        dg.Definitions.validate_loadable(definitions)
        job = definitions.resolve_job_def(name)
    result = job.execute_in_process(instance=instance, raise_on_error=False, run_config=config)
    failures = [e for e in result.all_events if e.event_type is dg.DagsterEventType.STEP_FAILURE]
    return result.run_id, [failure_text(event) for event in failures]


def failure_text(event: dg.DagsterEvent) -> str:
    """Why a step failed."""
    data = event.step_failure_data
    if data.user_failure_data is not None and data.user_failure_data.description:
        return data.user_failure_data.description
    error = data.error
    while error is not None and error.cause is not None:
        error = error.cause
    if error is None:
        return event.message or "the request failed"
    module, found, message = error.message.strip().partition(f"{error.cls_name}: ")
    # Messages of our own errors are sentences that need no class name.
    return message if found and module.startswith("sora_dagster.") else error.message.strip()


@dataclass
class RequestRuns:
    """Runs the request job, once for the dataset and again for remixes of new takes.

    Arguments:
        dataset: the dataset.
        instance: the Dagster instance.
        threads: runs the job.
        run_limit_usd: spending limit of all these runs together. None: no limit.
        spent_usd: what was spent within the limit of a root run.
        options: what is requested; failed clips once.
        problems: what failed in the runs that ended.
    """

    dataset: VideoDataset
    instance: dg.DagsterInstance
    threads: DaemonThreads
    run_limit_usd: float | None
    spent_usd: Callable[[str], float]
    options: PipelineOptions
    problems: list[str] = field(default_factory=list)
    _root_runs: list[str] = field(default_factory=list)
    _requested_again: set[tuple[str, int]] = field(default_factory=set)
    _running: Future[tuple[str, list[str]]] | None = None

    def start(self, progress: Sequence[ClipProgress], clip_ids: Sequence[str] = ()) -> None:
        """Request clips.

        Arguments:
            progress: how far each clip and remix is.
            clip_ids: ids of the clips. Default: all of the progress.
        """
        self._requested_again |= self._changed_remixes(progress).keys()
        is_first = not self._root_runs
        config: dict[str, Any] = {
            "regenerate_changed": self.options.regenerate_changed,
            "retry_failed": self.options.retry_failed and is_first,
        }
        clips = self.dataset.clips.to_user_string()
        config["clip_ids"] = list(clip_ids) or [
            clip.clip for clip in progress if clip.asset == clips
        ]
        if self.run_limit_usd is not None and not is_first:
            # The limit is for the command, so what its earlier runs spent counts.
            spent_usd = sum(self.spent_usd(run_id) for run_id in self._root_runs)
            config["max_usd"] = max(0.0, self.run_limit_usd - spent_usd)
        ops = {self.dataset.definition_name("request"): {"config": config}}
        self._running = self.threads.submit(
            run_job, self.instance, self.dataset.definition_name(REQUEST_JOB), ops
        )

    @property
    def is_running(self) -> bool:
        """Whether the job is running."""
        return self._running is not None

    def has_just_ended(self) -> bool:
        """Whether the job ended since the last call. If so, its problems are known."""
        if self._running is None or not self._running.done():
            return False
        run_id, problems = self._running.result()
        self._running = None
        self._root_runs.append(run_id)
        self.problems += problems
        return True

    def start_for_new_videos(self, progress: Sequence[ClipProgress]) -> bool:
        """Request remixes of clips that got a new take. False if there are none.

        No sensor requests these. Each is requested once.
        """
        if not self.options.regenerate_changed:
            return False
        remixes = self._changed_remixes(progress)
        clip_ids = sorted({remixes[key] for key in remixes.keys() - self._requested_again})
        if clip_ids:
            self.start(progress, clip_ids)
        return bool(clip_ids)

    def _changed_remixes(self, progress: Iterable[ClipProgress]) -> dict[tuple[str, int], str]:
        """Clip ids of changed remixes, by remix and the stored take of its clip."""
        remixes = self.dataset.remixes.to_user_string()
        takes = {clip.clip: clip.take for clip in progress if clip.asset != remixes}
        found = {}
        for remix in progress:
            if remix.asset == remixes and remix.purchase is Purchase.CHANGED:
                clip_id, _ = split_remix_partition(remix.clip)
                if take := takes.get(clip_id):
                    found[remix.clip, take] = clip_id
        return found
