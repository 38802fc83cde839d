"""The stream of finished clips that an asset hands to its IO manager, one as each is finished."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from sora_dagster.generation.archive import ClipArchive, FinishedTask, ReadyTask
from sora_dagster.generation.collector import Round
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
    """

    clip: str
    ready: ReadyTask | None
    finished: FinishedTask | None = None

    def store(self, archive: ClipArchive) -> None:
        """Store the clip, unless it is stored.

        Raises:
            DownloadError: where its video cannot be fetched.
            StorageError: where the storage root fails.
        """
        if self.finished is None and self.ready is not None:
            self.finished = archive.store(self.ready)


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
            if not takes:
                self._failures[clip] = "it was never asked for; materialize its request first"
                continue
            awaited[takes[-1].latest.task_uuid] = takes[-1].latest
        yield from self._stored_before(awaited)
        yield from self._stored_now(awaited)
        self._on_end(self._failures)

    def close(self) -> None:
        """Take what was streamed out of the index, once its events are in Dagster's log."""
        for finished in self._finished:
            self._generator.archive.close(finished, ())

    def _stored_before(self, awaited: dict[str, AttemptRecord]) -> Iterator[Arrival]:
        for task_uuid, attempt in list(awaited.items()):
            outcome = self._generator.ledger.outcome(task_uuid)
            if outcome is None:
                continue
            del awaited[task_uuid]
            manifest = self._generator.ledger.manifest(attempt.asset, attempt.clip, attempt.take)
            yield from self._handle(
                Arrival(attempt.clip, None, FinishedTask(attempt, outcome, manifest))
            )

    def _stored_now(self, awaited: dict[str, AttemptRecord]) -> Iterator[Arrival]:
        collector = self._generator.collector()
        deadline = self._monotonic() + self._timeout_seconds
        while awaited or self._retries:
            round_ = self._look(collector.look, awaited)
            for finished in round_.finished:
                awaited.pop(finished.attempt.task_uuid, None)
                yield from self._handle(Arrival(finished.attempt.clip, None, finished))
            for ready in round_.ready:
                task_uuid = ready.attempt.task_uuid
                arrival = Arrival(ready.attempt.clip, ready)
                try:
                    yield from self._handle(arrival)
                finally:
                    if arrival.finished is None:
                        collector.hand_back(task_uuid)
                if arrival.finished is not None:
                    awaited.pop(task_uuid, None)
            self._request_again(awaited)
            # Another collector may have stored some of them, and closed their index entries.
            gone = [uuid for uuid in awaited if uuid not in round_.outstanding]
            yield from self._stored_before_of(awaited, gone)
            if (awaited or self._retries) and self._monotonic() >= deadline:
                for attempt in awaited.values():
                    self._failures[attempt.clip] = (
                        f"take {attempt.take} was not finished within "
                        f"{self._timeout_seconds:.0f} s; it is not lost: the completion sensor, "
                        f"or materializing this again, collects it, and nothing is paid twice"
                    )
                return
            if awaited or self._retries:
                collector.wait()

    def _stored_before_of(
        self, awaited: dict[str, AttemptRecord], task_uuids: list[str]
    ) -> Iterator[Arrival]:
        chosen = {uuid: awaited[uuid] for uuid in task_uuids if uuid in awaited}
        left = dict(chosen)
        yield from self._stored_before(left)
        for task_uuid in chosen.keys() - left.keys():
            awaited.pop(task_uuid, None)

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

    def _look(self, look: Callable[..., Round], awaited: dict[str, AttemptRecord]) -> Round:
        try:
            return look(awaited.keys())
        except RunwareError as error:
            if not error.retryable:
                raise
            # The next look asks again; what is generated goes on meanwhile.
            self._on_warning(f"polling failed and is tried again: {error}")
            return Round((), (), tuple(awaited))

    def _handle(self, arrival: Arrival) -> Iterator[Arrival]:
        has_video = arrival.ready is None or bool(arrival.ready.status.results)
        if not has_video or (arrival.finished is not None and arrival.finished.manifest is None):
            arrival.store(self._generator.archive)
        else:
            yield arrival
        finished = arrival.finished
        if finished is None:
            self._on_warning(f"{arrival.clip} could not be stored yet and is tried again")
            return
        if self._retries.add(finished):
            self._on_warning(f"{finished.failure_sentence} Another attempt is made.")
            return
        self._finished.append(finished)
        if finished.outcome.errors or finished.manifest is None:
            self._failures[arrival.clip] = finished.failure_sentence
        if finished.manifest is not None:
            self._on_stored(finished.manifest)


__all__ = ["Arrival", "ClipStream", "DownloadError"]
