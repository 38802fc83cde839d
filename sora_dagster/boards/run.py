"""Generating a storyboard's shots: each is asked for when its parent is stored."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import chain

from sora_dagster.generation.archive import FinishedTask, ReadyTask
from sora_dagster.generation.clips import ClipRequest
from sora_dagster.generation.collector import Collector
from sora_dagster.generation.dataset.boards import Board, Shot
from sora_dagster.generation.download import DownloadError
from sora_dagster.generation.generator import Generator, parent_video
from sora_dagster.generation.records import AttemptRecord, ClipManifest
from sora_dagster.generation.requested import Requested, RequestState
from sora_dagster.generation.requester import Asking
from sora_dagster.generation.shot_requests import (
    is_of_an_earlier_version,
    shot_request,
    stored_parent,
)
from sora_dagster.runware.errors import ErrorRecord


@dataclass(frozen=True)
class BoardLimits:
    """How long a board's run waits, and how it works.

    Arguments:
        max_wait_seconds: longest wait for all shots.
        linger_seconds: longest wait for more parents before the remixes of those stored are asked
            for, so that one POST carries the remixes of a level.
        parallel_clips: how many shots are fetched and stored at once.
    """

    max_wait_seconds: float
    linger_seconds: float = 10.0
    parallel_clips: int = 4


@dataclass(frozen=True)
class ShotEnd:
    """How a shot ended.

    Arguments:
        shot: the shot.
        manifest: the stored clip; None where there is no video.
        failure: what failed and why; None where nothing did. A shot can be stored and have failed
            in part.
        finished: the task that ended; None where there is none.
        error: why it was refused, where it was never sent.
    """

    shot: Shot
    manifest: ClipManifest | None = None
    failure: str | None = None
    finished: FinishedTask | None = None
    error: ErrorRecord | None = None


@dataclass
class _State:
    """What is known of the chosen shots.

    Arguments:
        waiting: those that are not asked for yet, parents first.
        awaited: those that are generated, by task.
        stored: those that are stored.
        failed: ids of those that are not, and will not be.
    """

    waiting: list[Shot]
    awaited: dict[str, AttemptRecord] = field(default_factory=dict)
    stored: dict[str, ClipManifest] = field(default_factory=dict)
    failed: set[str] = field(default_factory=set)


class BoardRun:
    """Asks for chosen shots of a board, parents first, and stores each as it is finished.

    Arguments:
        generator: the generator.
        board: the storyboard.
        chosen: ids of the shots that are wanted; the parents of others come from storage.
        asking: on whose behalf, and how, shots are asked for.
        limits: how long it waits.
        on_progress: called with a sentence about each shot that is asked for.
        on_warning: called with what went wrong and is tried again.
        blocked: why no remix may be made of a stored shot; None where it may.
        monotonic: a clock for waits, in seconds.
    """

    def __init__(
        self,
        generator: Generator,
        board: Board,
        chosen: Sequence[str],
        asking: Asking,
        limits: BoardLimits,
        *,
        on_progress: Callable[[str], None],
        on_warning: Callable[[str], None],
        blocked: Callable[[ClipManifest], str | None] = lambda _: None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._generator = generator
        self._blocked = blocked
        self._ledger = generator.ledger
        self._board = board
        self._asking = asking
        self._limits = limits
        self._on_progress = on_progress
        self._on_warning = on_warning
        self._monotonic = monotonic
        self._state = _State([shot for shot in board.shots if shot.id in chosen])
        self._chosen = frozenset(chosen)
        self._retries = generator.retries()
        self._lingering_since: float | None = None

    def ends(self) -> Iterator[ShotEnd]:
        """How each chosen shot ended, as it does; once for each.

        Whoever takes the next says that the one before is recorded: only then is it taken out of
        the index, so that a run that is killed leaves it to be collected.

        Raises:
            RunwareError: where the API refuses the key or cannot be reached.
            StorageError: where the storage root fails.
        """
        state = self._state
        collector = self._generator.collector()
        deadline = self._monotonic() + self._limits.max_wait_seconds
        with ThreadPoolExecutor(
            self._limits.parallel_clips, thread_name_prefix="store-shot"
        ) as pool:
            while True:
                yield from self._ask()
                if not (state.waiting or state.awaited or self._retries):
                    return
                if self._monotonic() >= deadline:
                    yield from self._give_up_waiting()
                    return
                round_ = collector.look_patiently(self._on_warning, state.awaited.keys())
                for finished in chain(round_.finished, self._store(pool, collector, round_.ready)):
                    yield from self._end(finished)
                yield from self._request_again()
                # Another collector may have stored some of them, and closed their index entries.
                for task_uuid in state.awaited.keys() - set(round_.outstanding):
                    yield from self._settled(state.awaited[task_uuid])
                if state.awaited or self._retries:
                    collector.wait()

    def _ask(self) -> Iterator[ShotEnd]:
        """Ask for the shots whose parents are there, and end those whose parents will never be."""
        state = self._state
        while ready := [shot for shot in state.waiting if self._is_decided(shot.parent)]:
            if self._lingers():
                return
            self._lingering_since = None
            state.waiting = [shot for shot in state.waiting if shot not in ready]
            asked: list[ClipRequest] = []
            for shot in ready:
                request = self._request_of(shot)
                if isinstance(request, str):
                    yield self._failed(shot, request)
                else:
                    asked.append(request)
            for requested in self._generator.request(asked, self._asking):
                self._on_progress(f"{requested.request.name}: {requested.detail}")
                yield from self._requested(requested)

    def _is_decided(self, parent: str | None) -> bool:
        """Whether a parent is stored, or will not be by this run; one that is not chosen is."""
        return parent not in self._chosen or parent in {*self._state.stored, *self._state.failed}

    def _lingers(self) -> bool:
        """Whether it is worth waiting for the parents of more shots, to ask for all at once."""
        state = self._state
        in_work = {attempt.clip for attempt in state.awaited.values()}
        in_work |= {failed.attempt.clip for failed in self._retries.waiting}
        if not any(shot.parent in in_work for shot in state.waiting):
            return False
        if self._lingering_since is None:
            self._lingering_since = self._monotonic()
        return self._monotonic() - self._lingering_since < self._limits.linger_seconds

    def _request_of(self, shot: Shot) -> ClipRequest | str:
        """What is asked for; or why it cannot be."""
        if shot.parent is None:
            return shot_request(self._board, shot, None)
        if shot.parent in self._state.failed:
            return f"it is a remix of {shot.parent!r}, which failed; nothing was sent"
        try:
            stored = self._state.stored.get(shot.parent) or stored_parent(
                self._ledger, self._board, shot.parent
            )
            request = shot_request(self._board, shot, parent_video(stored))
            if reason := self._blocked(stored):
                return f"it is a remix of {shot.parent!r}, and {reason}"
        except (LookupError, ValueError) as error:
            return str(error)
        if is_of_an_earlier_version(self._board.shot(shot.parent), stored):
            self._on_warning(
                f"{request.name} is made from take {stored.take} of {stored.request.name}, which "
                f"is of an earlier version; materialize that to have it made anew"
            )
        return request

    def _requested(self, requested: Requested) -> Iterator[ShotEnd]:
        """What becomes of a shot that was asked for: it is awaited, stored already, or refused."""
        request = requested.request
        shot = self._board.shot(request.clip)
        takes = self._ledger.takes(request.asset, request.clip)
        outcome = self._ledger.outcome(takes[-1].latest.task_uuid) if takes else None
        is_kept = requested.state is RequestState.STALE
        if not requested.ok or (is_kept and outcome is not None and not outcome.has_videos):
            finished = None
            if outcome is not None and not outcome.has_videos:
                finished = FinishedTask(takes[-1].latest, outcome, None)
            yield self._failed(shot, requested.detail, finished, requested.error)
            return
        if is_kept:
            self._on_warning(f"{request.name}: {requested.detail}")
        # For a shot that is stale and kept, its latest take stands in.
        attempt = takes[-1].latest
        self._state.awaited[attempt.task_uuid] = attempt
        yield from self._settled(attempt)

    def _settled(self, attempt: AttemptRecord) -> Iterator[ShotEnd]:
        """End a shot whose task has an outcome, from an earlier run or another one."""
        outcome = self._ledger.outcome(attempt.task_uuid)
        if outcome is not None:
            manifest = self._ledger.manifest(attempt.asset, attempt.clip, attempt.take)
            yield from self._end(FinishedTask(attempt, outcome, manifest))

    def _end(self, finished: FinishedTask) -> Iterator[ShotEnd]:
        attempt, manifest = finished.attempt, finished.manifest
        self._state.awaited.pop(attempt.task_uuid, None)
        if self._retries.add(finished):
            self._on_warning(f"{finished.failure_sentence} Another attempt is made.")
            return
        failure = None
        if finished.outcome.errors or manifest is None:
            failure = finished.failure_sentence
        if manifest is None:
            self._state.failed.add(attempt.clip)
        else:
            self._state.stored[attempt.clip] = manifest
        yield ShotEnd(self._board.shot(attempt.clip), manifest, failure, finished)
        self._generator.archive.close(finished, ())

    def _failed(
        self,
        shot: Shot,
        failure: str,
        finished: FinishedTask | None = None,
        error: ErrorRecord | None = None,
    ) -> ShotEnd:
        self._state.failed.add(shot.id)
        return ShotEnd(shot, failure=failure, finished=finished, error=error)

    def _request_again(self) -> Iterator[ShotEnd]:
        """Make the next attempt of shots that failed in a way that may pass, and await it."""
        for failed in self._retries.due():
            requested = self._generator.request_again(failed)
            clip = failed.attempt.clip
            if requested.ok:
                self._on_progress(f"{requested.request.name}: {requested.detail}")
                yield from self._requested(requested)
            else:
                sentence = f"{failed.failure_sentence} Not tried again: {requested.detail}"
                yield self._failed(self._board.shot(clip), sentence, failed)
            self._generator.archive.close(failed, ())

    def _give_up_waiting(self) -> Iterator[ShotEnd]:
        state, seconds = self._state, self._limits.max_wait_seconds
        unfinished = [*state.awaited.values(), *(item.attempt for item in self._retries.waiting)]
        for attempt in unfinished:
            yield self._failed(
                self._board.shot(attempt.clip),
                f"take {attempt.take} was not finished within {seconds:.0f} s; it is not lost: the "
                f"completion sensor, or materializing this again, collects it, and nothing is "
                f"paid twice",
            )
        for shot in state.waiting:
            yield self._failed(
                shot,
                f"it is a remix of {shot.parent!r}, which was not finished within {seconds:.0f} s; "
                f"nothing was sent. Materialize it again once that is stored",
            )

    def _store(
        self, pool: ThreadPoolExecutor, collector: Collector, ready: Sequence[ReadyTask]
    ) -> Iterator[FinishedTask]:
        storing = [
            (task.attempt, pool.submit(self._generator.archive.store, task)) for task in ready
        ]
        for attempt, future in storing:
            try:
                yield future.result()
            except DownloadError as error:
                self._on_warning(f"{attempt.request.name} could not be stored yet: {error}")
                if (lost := collector.not_stored(attempt, error)) is not None:
                    yield lost
