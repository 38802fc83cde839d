"""The stream of finished clips that an asset hands to its IO manager, one as each is finished."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass

from sora_dagster.generation.archive import FinishedTask, ReadyTask
from sora_dagster.generation.collector import Collector
from sora_dagster.generation.download import DownloadError
from sora_dagster.generation.generator import Generator as ClipGenerator
from sora_dagster.generation.records import AttemptRecord, ClipManifest


@dataclass(frozen=True)
class Arrival:
    """A clip of the stream whose generation is over.

    Arguments:
        clip: its partition key.
        error: why its video could not be fetched; the clip comes again, unless that was the last
            try. None where it is stored, or its failure recorded.
    """

    clip: str
    error: DownloadError | None = None


@dataclass(frozen=True)
class ClipFailure:
    """Why a clip, or a part of it, is not stored.

    Arguments:
        reason: a sentence.
        finished: the task that ended so; None where none did.
    """

    reason: str
    finished: FinishedTask | None = None


class ClipStream:
    """Finished clips of chosen partitions, stored as they are finished; waits in between.

    Nothing happens until somebody iterates over :meth:`store`.

    Arguments:
        generator: the generator.
        asset: asset key of the clips.
        clips: their partition keys.
        timeout_seconds: longest wait for all of them.
        on_stored: called with each clip once it is stored.
        on_end: called when the stream ends, with what failed by partition key.
        on_warning: called with what went wrong and is tried again.
    """

    def __init__(
        self,
        generator: ClipGenerator,
        *,
        asset: str,
        clips: list[str],
        timeout_seconds: float,
        on_stored: Callable[[ClipManifest], None],
        on_end: Callable[[Mapping[str, ClipFailure]], None],
        on_warning: Callable[[str], None],
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._generator = generator
        self._asset = asset
        self._clips = clips
        self._timeout_seconds = timeout_seconds
        self._on_stored = on_stored
        self._on_end = on_end
        self._on_warning = on_warning
        self._monotonic = monotonic
        self._failures: dict[str, ClipFailure] = {}
        self._finished: list[FinishedTask] = []
        self._retries = generator.retries()

    def store(self, *, parallel_clips: int) -> Generator[Arrival, None, None]:
        """Store the clips, several at once, and give each when that is done.

        Arguments:
            parallel_clips: how many are fetched and stored at once.

        Whoever stops iterating leaves the others outstanding; the next collection has them.

        Raises:
            RunwareError: where the API refuses to be polled.
            StorageError: where the storage root fails.
        """
        awaited: dict[str, AttemptRecord] = {}
        for clip in self._clips:
            takes = self._generator.ledger.takes(self._asset, clip)
            if takes:
                awaited[takes[-1].latest.task_uuid] = takes[-1].latest
            else:
                self._failures[clip] = ClipFailure(
                    "it was never asked for; materialize its request first"
                )
        yield from self._settled(awaited, list(awaited))
        with ThreadPoolExecutor(parallel_clips, thread_name_prefix="store-clip") as pool:
            yield from self._awaited(awaited, pool)
        self._on_end(self._failures)

    def close(self) -> None:
        """Take what was streamed out of the index, once its events are in Dagster's log."""
        for finished in self._finished:
            self._generator.archive.close(finished, ())

    def _settled(
        self, awaited: dict[str, AttemptRecord], task_uuids: Collection[str]
    ) -> Iterator[Arrival]:
        """Those of some tasks that have an outcome, from an earlier run or another one."""
        for task_uuid in task_uuids:
            outcome = self._generator.ledger.outcome(task_uuid)
            if outcome is None:
                continue
            attempt = awaited.pop(task_uuid)
            manifest = self._generator.ledger.manifest(attempt.asset, attempt.clip, attempt.take)
            yield self._give(FinishedTask(attempt, outcome, manifest))

    def _awaited(
        self, awaited: dict[str, AttemptRecord], pool: ThreadPoolExecutor
    ) -> Iterator[Arrival]:
        """The others, as they are finished, until all are or the time is over."""
        collector = self._generator.collector()
        deadline = self._monotonic() + self._timeout_seconds
        while awaited or self._retries:
            look = collector.look_patiently(self._on_warning, awaited.keys())
            for finished in look.finished:
                awaited.pop(finished.attempt.task_uuid, None)
                yield self._give(finished)
            yield from self._store(pool, collector, awaited, look.ready)
            self._request_again(awaited)
            # Another collector may have stored some of them, and closed their index entries.
            yield from self._settled(awaited, awaited.keys() - set(look.outstanding))
            if not awaited and not self._retries:
                return
            if self._monotonic() >= deadline:
                self._give_up_waiting(awaited)
                return
            collector.wait()

    def _store(
        self,
        pool: ThreadPoolExecutor,
        collector: Collector,
        awaited: dict[str, AttemptRecord],
        ready: Sequence[ReadyTask],
    ) -> Iterator[Arrival]:
        """Store what is over at Runware; a task without a video is only recorded."""
        archive = self._generator.archive
        storing = {pool.submit(archive.store, task): task.attempt for task in ready}
        try:
            for future in as_completed(storing):
                attempt, error = storing[future], None
                try:
                    finished: FinishedTask | None = future.result()
                except DownloadError as failure:
                    error, finished = failure, collector.not_stored(attempt, failure)
                del storing[future]
                if finished is None:
                    self._on_warning(
                        f"{attempt.clip} could not be stored yet and is tried again: {error}"
                    )
                else:
                    awaited.pop(attempt.task_uuid, None)
                    self._note(finished)
                yield Arrival(attempt.clip, error)
        finally:
            # Only where something went wrong, or the consumer gave up, is anything left here.
            for future, attempt in storing.items():
                future.cancel()
                collector.hand_back(attempt.task_uuid)

    def _give(self, finished: FinishedTask) -> Arrival:
        """Give what another run brought to its end."""
        self._note(finished)
        return Arrival(finished.attempt.clip)

    def _note(self, finished: FinishedTask) -> None:
        if self._retries.add(finished):
            self._on_warning(f"{finished.failure_sentence} Another attempt is made.")
            return
        self._finished.append(finished)
        if finished.outcome.errors or finished.manifest is None:
            self._failures[finished.attempt.clip] = ClipFailure(finished.failure_sentence, finished)
        if finished.manifest is not None:
            self._on_stored(finished.manifest)

    def _give_up_waiting(self, awaited: dict[str, AttemptRecord]) -> None:
        waiting = [*awaited.values(), *(failed.attempt for failed in self._retries.waiting)]
        for attempt in waiting:
            self._failures[attempt.clip] = ClipFailure(
                f"take {attempt.take} was not finished within {self._timeout_seconds:.0f} s; it is "
                f"not lost: the completion sensor, or materializing this again, collects it, and "
                f"nothing is paid twice"
            )

    def _request_again(self, awaited: dict[str, AttemptRecord]) -> None:
        """Make the next attempt of clips that failed in a way that may pass, and await it."""
        for failed in self._retries.due():
            requested = self._generator.request_again(failed)
            self._finished.append(failed)
            if not requested.ok:
                self._failures[failed.attempt.clip] = ClipFailure(
                    f"{failed.failure_sentence} Not tried again: {requested.detail}", failed
                )
                continue
            latest = self._generator.ledger.takes(self._asset, failed.attempt.clip)[-1].latest
            awaited[latest.task_uuid] = latest
