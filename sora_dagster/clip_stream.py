"""The stream of finished clips that an asset hands to its IO manager, one as each is finished."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass

from sora_dagster.generation.archive import ClipArchive, FinishedTask, ReadyTask
from sora_dagster.generation.collector import Collector, Round
from sora_dagster.generation.download import DownloadError
from sora_dagster.generation.generator import Generator
from sora_dagster.generation.records import AttemptRecord, ClipManifest
from sora_dagster.runware.errors import RunwareError


@dataclass
class Arrival:
    """One clip in the stream; whoever consumes the stream stores it before taking the next.

    Arguments:
        clip: partition key of the clip.
        ready: the task that is over at Runware; None where the clip is stored already.
        finished: the stored clip; set by :meth:`store`.
        error: why it could not be stored now; set by :meth:`store`.
    """

    clip: str
    ready: ReadyTask | None
    finished: FinishedTask | None = None
    error: DownloadError | None = None

    def store(self, archive: ClipArchive) -> None:
        """Store the clip, unless it is stored.

        Raises:
            DownloadError: where its video cannot be fetched; a consumer may go on with the next,
                and the stream gives the clip again later.
            StorageError: where the storage root fails.
        """
        if self.finished is not None or self.ready is None:
            return
        try:
            self.finished = archive.store(self.ready)
        except DownloadError as error:
            self.error = error
            raise


class ClipStream:
    """Finished clips of chosen partitions, as they are finished; waits in between.

    Arguments:
        generator: the generator.
        asset: asset key of the clips.
        clips: their partition keys.
        timeout_seconds: longest wait for all of them.
        on_stored: called with each clip once it is stored.
        on_end: called when the stream ends, with what failed: reasons by partition key.
        on_warning: called with what went wrong and is tried again.
    """

    def __init__(
        self,
        generator: Generator,
        *,
        asset: str,
        clips: list[str],
        timeout_seconds: float,
        on_stored: Callable[[ClipManifest], None],
        on_end: Callable[[Mapping[str, str]], None],
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
        self._failures: dict[str, str] = {}
        self._finished: list[FinishedTask] = []
        self._retries = generator.retries()

    def __iter__(self) -> Iterator[Arrival]:
        awaited: dict[str, AttemptRecord] = {}
        for clip in self._clips:
            takes = self._generator.ledger.takes(self._asset, clip)
            if takes:
                awaited[takes[-1].latest.task_uuid] = takes[-1].latest
            else:
                self._failures[clip] = "it was never asked for; materialize its request first"
        yield from self._settled(awaited, list(awaited))
        yield from self._awaited(awaited)
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
            yield from self._give(FinishedTask(attempt, outcome, manifest))

    def _awaited(self, awaited: dict[str, AttemptRecord]) -> Iterator[Arrival]:
        """The others, as they are finished, until all are or the time is over."""
        collector = self._generator.collector()
        deadline = self._monotonic() + self._timeout_seconds
        while awaited or self._retries:
            look = self._look(collector, awaited)
            for finished in look.finished:
                awaited.pop(finished.attempt.task_uuid, None)
                yield from self._give(finished)
            for ready in look.ready:
                yield from self._store(collector, awaited, ready)
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
        self, collector: Collector, awaited: dict[str, AttemptRecord], ready: ReadyTask
    ) -> Iterator[Arrival]:
        """Have the consumer store a task's clip; one without a video is recorded right here."""
        arrival = Arrival(ready.attempt.clip, ready)
        try:
            if ready.status.results:
                yield arrival
            else:
                arrival.store(self._generator.archive)
        finally:
            # Also where the consumer gives up: the clip stays to be collected.
            if arrival.finished is None and arrival.error is None:
                collector.hand_back(ready.attempt.task_uuid)
        if arrival.finished is None and arrival.error is not None:
            arrival.finished = collector.not_stored(ready.attempt, arrival.error)
        if arrival.finished is None:
            self._on_warning(f"{arrival.clip} could not be stored yet and is tried again")
            return
        awaited.pop(ready.attempt.task_uuid, None)
        self._note(arrival.finished)

    def _give(self, finished: FinishedTask) -> Iterator[Arrival]:
        """Give a clip that is stored already; one without a video is only noted."""
        if finished.manifest is not None:
            yield Arrival(finished.attempt.clip, None, finished)
        self._note(finished)

    def _note(self, finished: FinishedTask) -> None:
        if self._retries.add(finished):
            self._on_warning(f"{finished.failure_sentence} Another attempt is made.")
            return
        self._finished.append(finished)
        if finished.outcome.errors or finished.manifest is None:
            self._failures[finished.attempt.clip] = finished.failure_sentence
        if finished.manifest is not None:
            self._on_stored(finished.manifest)

    def _give_up_waiting(self, awaited: dict[str, AttemptRecord]) -> None:
        waiting = [*awaited.values(), *(failed.attempt for failed in self._retries.waiting)]
        for attempt in waiting:
            self._failures[attempt.clip] = (
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
                self._failures[failed.attempt.clip] = (
                    f"{failed.failure_sentence} Not tried again: {requested.detail}"
                )
                continue
            latest = self._generator.ledger.takes(self._asset, failed.attempt.clip)[-1].latest
            awaited[latest.task_uuid] = latest

    def _look(self, collector: Collector, awaited: dict[str, AttemptRecord]) -> Round:
        try:
            return collector.look(awaited.keys())
        except RunwareError as error:
            if not error.retryable:
                raise
            # The next look asks again; what is generated goes on meanwhile.
            self._on_warning(f"polling failed and is tried again: {error}")
            return Round((), (), tuple(awaited))
