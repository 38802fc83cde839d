"""The run that waits for everybody: stores what is finished, logs it, and asks for its remixes."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field

import dagster as dg

from sora_dagster.checks import RunChecks
from sora_dagster.events import (
    clip_event,
    clip_event_is_logged,
    failure_event,
    has_request_asset,
    request_event,
)
from sora_dagster.generation.archive import FinishedTask, ReadyTask
from sora_dagster.generation.clips import ClipRequest
from sora_dagster.generation.collector import Collector
from sora_dagster.generation.download import DownloadError
from sora_dagster.generation.generator import Generator
from sora_dagster.generation.lease import Lease
from sora_dagster.generation.prompts import DatasetError
from sora_dagster.generation.requested import Requested, RequestState
from sora_dagster.generation.requester import Asking
from sora_dagster.graph import VideoGraph, asset_key_of, remix_partition


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
        remixes_requested: partition keys of the remixes asked for.
        failures: reasons by name.
        left: how many tasks were outstanding at its end.
    """

    stored: list[str] = field(default_factory=list)
    cost_usd: float = 0.0
    remixes_requested: list[str] = field(default_factory=list)
    failures: dict[str, str] = field(default_factory=dict)
    left: int = 0


class CollectingRun:
    """Collects until nothing is outstanding, or its time is over.

    It stores whatever is outstanding in the storage root, storyboards' shots and the clips of other
    datasets too, and asks for the remixes of its own dataset alone: a board's run asks for the
    shots of the board, and the remixes of another dataset follow its clips' events.

    Arguments:
        context: the op's context, for its instance and log.
        graph: names, partitions and the dataset.
        generator: the generator.
        limits: how long it stays.
        monotonic: a clock for waits, in seconds.
    """

    def __init__(
        self,
        context: dg.OpExecutionContext,
        graph: VideoGraph,
        generator: Generator,
        limits: CollectLimits,
        *,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._context = context
        self._graph = graph
        self._generator = generator
        self._limits = limits
        self._monotonic = monotonic
        self._lease = Lease(generator.ledger, holder=context.run.run_id)
        self._report = CollectReport()
        # Stored clips whose remixes are still to be asked for; they stay in the index until then,
        # so that a run that is killed here leaves them to the next.
        self._held: dict[str, FinishedTask] = {}
        self._held_since = 0.0
        self._retries = generator.retries()
        self._checks = RunChecks(context, graph.checks, graph.catalogue)

    def run(self) -> CollectReport:
        """Collect.

        Raises:
            RunwareError: where the API refuses to be polled.
            StorageError: where the storage root fails.
        """
        if self._generator.ledger.is_empty:
            return self._report
        if not self._lease.take():
            self._context.log.info("another run is collecting; nothing to do here")
            return self._report
        try:
            self._loop(self._generator.collector())
        finally:
            self._lease.release()
            self._checks.sum_up()
        return self._report

    def _loop(self, collector: Collector) -> None:
        deadline = self._monotonic() + self._limits.max_wait_seconds
        with ThreadPoolExecutor(
            self._limits.parallel_clips, thread_name_prefix="store-clip"
        ) as pool:
            while True:
                round_ = collector.look_patiently(self._context.log.warning)
                arrived = [*round_.finished, *self._store(pool, collector, round_.ready)]
                for finished in arrived:
                    if self._retries.add(finished):
                        self._context.log.warning(
                            f"{finished.failure_sentence} Another attempt is made."
                        )
                        continue
                    self._log(finished)
                    self._hold_or_close(collector, finished)
                asked = self._request_again(collector)
                asked |= self._request_remixes(collector, outstanding=round_.outstanding)
                if round_.is_idle and not (asked or self._held or self._retries):
                    return
                if self._monotonic() >= deadline:
                    self._report.left = len(round_.outstanding)
                    return
                if not self._lease.keep():
                    self._context.log.info("another run took the lease; it goes on from here")
                    return
                collector.wait()

    def _store(
        self, pool: ThreadPoolExecutor, collector: Collector, ready: Iterable[ReadyTask]
    ) -> Iterable[FinishedTask]:
        futures = [(task, pool.submit(self._generator.archive.store, task)) for task in ready]
        for task, future in futures:
            try:
                yield future.result()
            except DownloadError as error:
                self._context.log.warning(f"{task.attempt.request.name}: {error}")
                if lost := collector.not_stored(task.attempt, error):
                    yield lost

    def _log(self, finished: FinishedTask) -> None:
        context, attempt = self._context, finished.attempt
        if finished.outcome.errors and finished.outcome.state != "void":
            request, sentence = attempt.request, finished.failure_sentence
            self._report.failures[request.name] = sentence
            context.log.error(sentence)
            context.log_event(
                failure_event(asset_key_of(attempt.asset), request.partition, sentence, finished)
            )
        manifest = finished.manifest
        if manifest is None:
            return
        root = self._generator.ledger.root
        if clip_event_is_logged(context.instance, manifest):
            # A run that was killed here leaves its checks to the next.
            if not self._checks.has_judged(manifest):
                self._checks.judge(manifest, root)
            return
        context.log_event(clip_event(context.instance, self._graph, manifest, root))
        self._checks.judge(manifest, root)
        self._report.stored.append(manifest.request.name)
        self._report.cost_usd += manifest.cost_usd

    def _hold_or_close(self, collector: Collector, finished: FinishedTask) -> None:
        is_clip = finished.attempt.asset == self._graph.clips.to_user_string()
        if is_clip and finished.manifest is not None:
            if not self._held:
                self._held_since = self._monotonic()
            self._held[finished.attempt.task_uuid] = finished
        else:
            self._close(collector, finished)

    def _close(self, collector: Collector, finished: FinishedTask) -> None:
        self._generator.archive.close(finished, collector.marker_keys(finished.attempt.task_uuid))

    def _request_again(self, collector: Collector) -> bool:
        """Make the next attempt of clips whose failure may pass; whether any was due."""
        due = self._retries.due()
        for failed in due:
            requested = self._generator.request_again(failed)
            name = requested.request.name
            if requested.ok:
                self._context.log.info(f"{name}: attempt {requested.attempt}: {requested.detail}")
                self._log_request(requested)
            else:
                self._log(failed)
                self._report.failures[name] += f" Not tried again: {requested.detail}"
            self._close(collector, failed)
        return bool(due)

    def _log_request(self, requested: Requested) -> None:
        if has_request_asset(self._graph, requested.request):
            self._context.log_event(request_event(self._context.instance, self._graph, requested))

    def _request_remixes(self, collector: Collector, *, outstanding: Iterable[str]) -> bool:
        """Ask for the remixes of the held clips, once no more clips are worth waiting for.

        Returns:
            Whether they were asked for.
        """
        if not self._held:
            return False
        more_to_come = any(
            collector.asset_of(uuid) == self._graph.clips.to_user_string() for uuid in outstanding
        )
        lingered = self._monotonic() - self._held_since
        if more_to_come and lingered < self._limits.remix_linger_seconds:
            return False
        for (root_run, limit), asked in self._remixes_by_run().items():
            # A new take of a clip makes its remixes stale; buying them anew is the user's word.
            asking = Asking(root_run, limit, regenerate_stale=False)
            for requested in self._generator.request(asked, asking):
                if requested.state is RequestState.STALE:
                    self._context.log.info(f"{requested.request.clip}: {requested.detail}")
                elif requested.ok:
                    self._report.remixes_requested.append(requested.request.clip)
                    self._log_request(requested)
                else:
                    self._report.failures[requested.request.clip] = requested.detail
                    self._context.log.error(f"{requested.request.clip}: {requested.detail}")
        for finished in self._held.values():
            self._close(collector, finished)
        self._held.clear()
        return True

    def _remixes_by_run(self) -> dict[tuple[str, float | None], list[ClipRequest]]:
        """The remixes that the dataset asks for of the held clips, by who pays for them."""
        try:
            dataset = self._graph.load_dataset()
        except DatasetError as error:
            # What is paid for is stored all the same. The remixes are asked for by
            # `request_clips`, or by hand, when the dataset can be read again.
            self._context.log.error(f"no remixes are asked for: {error}")
            return {}
        asked: dict[tuple[str, float | None], list[ClipRequest]] = {}
        for finished in self._held.values():
            attempt, manifest = finished.attempt, finished.manifest
            for recipe in dataset.recipes_of(attempt.clip):
                try:
                    request = self._graph.remix_request(
                        dataset, attempt.clip, recipe, manifest, self._generator.ledger.root
                    )
                except ValueError as error:
                    self._report.failures[remix_partition(attempt.clip, recipe)] = str(error)
                    continue
                asked.setdefault((attempt.root_run, attempt.run_limit_usd), []).append(request)
        return asked
