"""Generating a storyboard's shots: each is requested when its parent is stored."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

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
    """How long a board's run waits, and how much it does in parallel.

    Arguments:
        max_wait_seconds: maximum wait for all shots.
        linger_seconds: maximum wait for more parents before the remixes of stored ones are
            requested, so that one POST carries all remixes of a level; default: 10 s.
        parallel_clips: number of shots that are fetched and stored at the same time; default: 4.
    """

    max_wait_seconds: float
    linger_seconds: float = 10.0
    parallel_clips: int = 4


@dataclass(frozen=True)
class ShotResult:
    """How a shot ended: with its task, or without one.

    Arguments:
        shot: the shot.
        finished: the task that ended; None if the run waited for none, or not long enough.
        failure: why there is no finished task; None if there is one.
        last_failure: the task that failed earlier and is not retried.
        error: why the shot was refused, if it was never sent.
    """

    shot: Shot
    finished: FinishedTask | None = None
    failure: str | None = None
    last_failure: FinishedTask | None = None
    error: ErrorRecord | None = None


class BoardRun:
    """Requests shots of a board, parents first, and waits for each to be stored.

    Arguments:
        generator: the generator.
        board: the storyboard.
        shot_ids: ids of the shots; parents that are not among them are taken from storage.
        options: for which run, and how, shots are requested.
        limits: how long it waits.
        holder: name of this process in claims, such as a run id.
        on_progress: called with a sentence about each shot that is requested.
        on_warning: called with what went wrong and is tried again.
        blocked: why a stored shot may not be remixed; None if it may.
        monotonic: a clock for waits, in seconds.
    """

    def __init__(
        self,
        generator: Generator,
        board: Board,
        shot_ids: Sequence[str],
        options: RequestOptions,
        limits: BoardLimits,
        *,
        holder: str,
        on_progress: Callable[[str], None],
        on_warning: Callable[[str], None],
        blocked: Callable[[ClipManifest], str | None] = lambda _: None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._generator = generator
        self._ledger = generator.ledger
        self._board = board
        self._shot_ids = frozenset(shot_ids)
        self._options = options
        self._limits = limits
        self._holder = holder
        self._on_progress = on_progress
        self._on_warning = on_warning
        self._blocked = blocked
        self._monotonic = monotonic
        # Shots that are not requested yet, parents first.
        self._waiting = [shot for shot in board.shots if shot.id in self._shot_ids]
        # Take numbers of outstanding shots, by id.
        self._outstanding: dict[str, int] = {}
        self._stored: dict[str, ClipManifest] = {}
        self._failed: set[str] = set()
        self._lingering_since: float | None = None

    def results(self) -> Iterator[ShotResult]:
        """The result of each shot, as soon as it ends.

        Taking the next result confirms that the previous one is recorded: only then is its task
        removed from the index, so that a run that is killed leaves it to be collected.

        Raises:
            DatasetNameError: if the board's name belongs to another dataset of the root.
            RunwareError: if the API refuses the key or cannot be reached.
            StorageError: if the storage root fails.
        """
        self._generator.bind()
        bind_dataset(self._ledger, self._board.name, [self._board.name])
        limits = CollectionLimits(
            max_wait_seconds=self._limits.max_wait_seconds,
            parallel_clips=self._limits.parallel_clips,
        )
        with self._generator.collection(
            limits, holder=self._holder, on_warning=self._on_warning, on_retry=self._report_request
        ) as collection:
            while True:
                yield from self._request_ready(collection)
                if not (self._waiting or self._outstanding):
                    return
                if collection.is_done:
                    yield from self._time_out(collection)
                    return
                for finished in collection.wait():
                    yield self._end(finished)
                    collection.close(finished)
                yield from self._end_stuck(collection)

    def _request_ready(self, collection: Collection) -> Iterator[ShotResult]:
        """Request the shots whose parents are stored, and end those whose parents failed."""
        while ready := [shot for shot in self._waiting if self._is_decided(shot.parent)]:
            if self._should_linger():
                return
            self._lingering_since = None
            self._waiting = [shot for shot in self._waiting if shot not in ready]
            requests: list[ClipRequest] = []
            for shot in ready:
                request = self._request_of(shot)
                if isinstance(request, str):
                    yield self._fail(shot, request)
                else:
                    requests.append(request)
            for result in self._generator.request(requests, self._options):
                self._report_request(result)
                if (end := self._await(result, collection)) is not None:
                    yield end

    def _report_request(self, result: RequestResult) -> None:
        self._on_progress(f"{result.request.name}: {result.detail}")

    def _is_decided(self, parent: str | None) -> bool:
        """Whether a parent is stored or failed, or is not generated by this run."""
        return parent not in self._shot_ids or parent in self._stored or parent in self._failed

    def _should_linger(self) -> bool:
        """Whether to wait for the parents of more shots, to request all shots at once."""
        if not any(shot.parent in self._outstanding for shot in self._waiting):
            return False
        if self._lingering_since is None:
            self._lingering_since = self._monotonic()
        return self._monotonic() - self._lingering_since < self._limits.linger_seconds

    def _request_of(self, shot: Shot) -> ClipRequest | str:
        """The request of a shot, or why it cannot be requested."""
        if shot.parent is None:
            return shot_request(self._board, shot, None)
        if shot.parent in self._failed:
            return f"it is a remix of {shot.parent!r}, which failed; nothing was sent"
        try:
            stored = self._stored.get(shot.parent) or stored_parent(
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
                f"prompt or settings have changed since. To use a new take, materialize "
                f"{stored.request.name} first"
            )
        return request

    def _await(self, result: RequestResult, collection: Collection) -> ShotResult | None:
        """Wait for a shot that was requested; or its result, if there is nothing to wait for."""
        request = result.request
        if not result.ok:
            return self._fail(
                self._board.shot(request.clip),
                result.detail,
                last_failure=self._last_failure(result),
                error=result.error,
            )
        if result.state is RequestState.CHANGED:
            self._on_warning(f"{request.name}: {result.detail}")
        # If a shot has changed and its take is kept, this take counts.
        for take in self._ledger.takes(request.asset, request.clip):
            if take.number == result.take:
                self._outstanding[request.clip] = take.number
                collection.add(take.latest)
        return None

    def _last_failure(self, result: RequestResult) -> FinishedTask | None:
        """The attempt that failed and is not retried."""
        if result.task_uuid is None:
            return None
        outcome = self._ledger.outcome(result.task_uuid)
        if outcome is None or outcome.has_videos:
            return None
        for take in self._ledger.takes(result.request.asset, result.request.clip):
            for attempt in take.attempts:
                if attempt.task_uuid == result.task_uuid:
                    return FinishedTask(attempt, outcome, None, ended="earlier")
        return None

    def _end(self, finished: FinishedTask) -> ShotResult:
        clip, manifest = finished.attempt.clip, finished.manifest
        self._outstanding.pop(clip, None)
        if manifest is None:
            self._failed.add(clip)
        else:
            self._stored[clip] = manifest
        return ShotResult(self._board.shot(clip), finished=finished)

    def _fail(
        self,
        shot: Shot,
        failure: str,
        *,
        last_failure: FinishedTask | None = None,
        error: ErrorRecord | None = None,
    ) -> ShotResult:
        self._failed.add(shot.id)
        return ShotResult(shot, failure=failure, last_failure=last_failure, error=error)

    def _end_stuck(self, collection: Collection) -> Iterator[ShotResult]:
        """End the shots that are stuck, since one of their records cannot be read."""
        for clip in list(self._outstanding):
            shot = self._board.shot(clip)
            reason = collection.report.stuck.get(shot_request(self._board, shot, None).name)
            if reason is not None:
                del self._outstanding[clip]
                yield self._fail(shot, reason)

    def _time_out(self, collection: Collection) -> Iterator[ShotResult]:
        seconds = self._limits.max_wait_seconds
        takes = self._outstanding | {
            attempt.clip: attempt.take for attempt in collection.outstanding.values()
        }
        for clip, take in takes.items():
            yield self._fail(
                self._board.shot(clip),
                f"take {take} was not finished within {seconds:.0f} s. It is not lost: the "
                f"completion sensor collects it later. You can also materialize this asset again. "
                f"Nothing is paid twice",
            )
        for shot in self._waiting:
            yield self._fail(
                shot,
                f"it is a remix of {shot.parent!r}, which was not finished within {seconds:.0f} s; "
                f"nothing was sent. Materialize it again after that is stored",
            )
