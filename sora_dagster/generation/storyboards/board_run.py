"""Generating a storyboard's shots: each is asked for when its parent is stored."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from sora_dagster.generation.collecting.collection import Collection
from sora_dagster.generation.collecting.settings import CollectionLimits
from sora_dagster.generation.collecting.tracked import FinishedTask
from sora_dagster.generation.generator import Generator, parent_video
from sora_dagster.generation.protocol.records import ClipManifest
from sora_dagster.generation.protocol.root_binding import bind_dataset
from sora_dagster.generation.requesting.options import RequestOptions
from sora_dagster.generation.requesting.results import RequestResult, RequestState
from sora_dagster.generation.storyboards.shot_requests import (
    is_of_an_earlier_version,
    shot_request,
    stored_parent,
)
from sora_dagster.prompts.boards import Board, Shot
from sora_dagster.prompts.clips import ClipRequest
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
    """How a shot ended: by its task, or without one.

    Arguments:
        shot: the shot.
        ended: the task that ended while the run waited, or before; None if the run awaited none.
        failure: why no task was awaited, or waiting for it ended; None if a task ended.
        last: the task that failed before, and is not tried again.
        error: why the shot was refused, if it was never sent.
    """

    shot: Shot
    ended: FinishedTask | None = None
    failure: str | None = None
    last: FinishedTask | None = None
    error: ErrorRecord | None = None


@dataclass
class _State:
    """What is known of the chosen shots.

    Arguments:
        waiting: those that are not asked for yet, parents first.
        awaited: take numbers of those that are generated, by id.
        stored: those that are stored, by id.
        failed: ids of those that are not, and will not be.
    """

    waiting: list[Shot]
    awaited: dict[str, int] = field(default_factory=dict)
    stored: dict[str, ClipManifest] = field(default_factory=dict)
    failed: set[str] = field(default_factory=set)


class BoardRun:
    """Asks for chosen shots of a board, parents first, and waits for each to be stored.

    Arguments:
        generator: the generator.
        board: the storyboard.
        chosen: ids of the shots that are wanted; the parents of others come from storage.
        asking: on whose behalf, and how, shots are asked for.
        limits: how long it waits.
        holder: what people know this process by, such as a run id.
        on_progress: called with a sentence about each shot that is asked for.
        on_warning: called with what went wrong and is tried again.
        blocked: why no remix may be made of a stored shot; None if it may.
        monotonic: a clock for waits, in seconds.
    """

    def __init__(
        self,
        generator: Generator,
        board: Board,
        chosen: Sequence[str],
        asking: RequestOptions,
        limits: BoardLimits,
        *,
        holder: str,
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
        self._holder = holder
        self._on_progress = on_progress
        self._on_warning = on_warning
        self._monotonic = monotonic
        self._state = _State([shot for shot in board.shots if shot.id in chosen])
        self._chosen = frozenset(chosen)
        self._lingering_since: float | None = None

    def ends(self) -> Iterator[ShotEnd]:
        """How each chosen shot ended, as it does; once for each.

        Taking the next confirms that the one before is recorded: only then is it taken out of the
        index, so that a run that is killed leaves it to be collected.

        Raises:
            DatasetNameError: if the board's name belongs to another dataset of the root.
            RunwareError: if the API refuses the key or cannot be reached.
            StorageError: if the storage root fails.
        """
        state = self._state
        self._generator.bind()
        bind_dataset(self._ledger, self._board.name, [self._board.name])
        limits = CollectionLimits(
            max_wait_seconds=self._limits.max_wait_seconds,
            parallel_clips=self._limits.parallel_clips,
        )
        with self._generator.collection(
            limits, holder=self._holder, on_warning=self._on_warning, on_retry=self._on_asked
        ) as collection:
            while True:
                yield from self._ask(collection)
                if not (state.waiting or state.awaited):
                    return
                if collection.is_done:
                    yield from self._give_up_waiting(collection)
                    return
                for finished in collection.wait():
                    yield self._end(finished)
                    collection.close(finished)
                yield from self._stuck(collection)

    def _ask(self, collection: Collection) -> Iterator[ShotEnd]:
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
                self._on_asked(requested)
                if (end := self._requested(requested, collection)) is not None:
                    yield end

    def _on_asked(self, requested: RequestResult) -> None:
        self._on_progress(f"{requested.request.name}: {requested.detail}")

    def _is_decided(self, parent: str | None) -> bool:
        """Whether a parent is stored, or will not be by this run; one that is not chosen is."""
        return parent not in self._chosen or parent in {*self._state.stored, *self._state.failed}

    def _lingers(self) -> bool:
        """Whether it is worth waiting for the parents of more shots, to ask for all at once."""
        state = self._state
        if not any(shot.parent in state.awaited for shot in state.waiting):
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
                f"{request.name} is made from take {stored.take} of {stored.request.name}, whose "
                f"prompt or settings have changed since; to use a new take, materialize "
                f"{stored.request.name} first"
            )
        return request

    def _requested(self, requested: RequestResult, collection: Collection) -> ShotEnd | None:
        """Await a shot that was asked for; or how it ended, if there is nothing to await."""
        request = requested.request
        shot = self._board.shot(request.clip)
        if not requested.ok:
            return self._failed(
                shot, requested.detail, last=self._last(requested), error=requested.error
            )
        if requested.state is RequestState.CHANGED:
            self._on_warning(f"{request.name}: {requested.detail}")
        # Of a shot that changed and is kept, the take that is kept stands in.
        for take in self._ledger.takes(request.asset, request.clip):
            if take.number == requested.take:
                self._state.awaited[shot.id] = take.number
                collection.add(take.latest)
        return None

    def _last(self, requested: RequestResult) -> FinishedTask | None:
        """The attempt that failed, and is not tried again."""
        if requested.task_uuid is None:
            return None
        outcome = self._ledger.outcome(requested.task_uuid)
        if outcome is None or outcome.has_videos:
            return None
        for take in self._ledger.takes(requested.request.asset, requested.request.clip):
            for attempt in take.attempts:
                if attempt.task_uuid == requested.task_uuid:
                    return FinishedTask(attempt, outcome, None, how="earlier")
        return None

    def _end(self, finished: FinishedTask) -> ShotEnd:
        clip, manifest = finished.attempt.clip, finished.manifest
        self._state.awaited.pop(clip, None)
        if manifest is None:
            self._state.failed.add(clip)
        else:
            self._state.stored[clip] = manifest
        return ShotEnd(self._board.shot(clip), ended=finished)

    def _failed(
        self,
        shot: Shot,
        failure: str,
        *,
        last: FinishedTask | None = None,
        error: ErrorRecord | None = None,
    ) -> ShotEnd:
        self._state.failed.add(shot.id)
        return ShotEnd(shot, failure=failure, last=last, error=error)

    def _stuck(self, collection: Collection) -> Iterator[ShotEnd]:
        """End the shots that were set aside, since a record of them cannot be read."""
        for clip in list(self._state.awaited):
            shot = self._board.shot(clip)
            reason = collection.report.stuck.get(shot_request(self._board, shot, None).name)
            if reason is not None:
                del self._state.awaited[clip]
                yield self._failed(shot, reason)

    def _give_up_waiting(self, collection: Collection) -> Iterator[ShotEnd]:
        state, seconds = self._state, self._limits.max_wait_seconds
        takes = state.awaited | {
            attempt.clip: attempt.take for attempt in collection.outstanding.values()
        }
        for clip, take in takes.items():
            yield self._failed(
                self._board.shot(clip),
                f"take {take} was not finished within {seconds:.0f} s; it is not lost: the "
                f"completion sensor, or materializing this again, collects it, and nothing is "
                f"paid twice",
            )
        for shot in state.waiting:
            yield self._failed(
                shot,
                f"it is a remix of {shot.parent!r}, which was not finished within {seconds:.0f} s; "
                f"nothing was sent. Materialize it again once that is stored",
            )
