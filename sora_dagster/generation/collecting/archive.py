"""Storing finished clips: the videos first, then the manifest, then the outcome."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from sora_dagster.generation.collecting.tracked import FinishedTask, ReadyTask
from sora_dagster.generation.fetching.download import Downloader, DownloadError
from sora_dagster.generation.fetching.video_store import AnalyzedVideo, DamagedCopy, VideoStore
from sora_dagster.generation.protocol import layout
from sora_dagster.generation.protocol.ledger import Ledger
from sora_dagster.generation.protocol.records import (
    AttemptRecord,
    ClipManifest,
    OutcomeRecord,
    OutcomeState,
)
from sora_dagster.generation.requesting.options import retry_advice
from sora_dagster.runware.errors import ErrorRecord, RunwareError
from sora_dagster.runware.results import TaskStatus
from sora_dagster.storage import ObjectAttributes

_JPEG = ObjectAttributes("image/jpeg")


@dataclass(frozen=True)
class _Result:
    """How a task ended: the facts that its manifest and its outcome share."""

    state: OutcomeState
    errors: tuple[ErrorRecord, ...]
    cost_usd: float | None
    cost_is_estimate: bool


class ClipArchive:
    """Stores finished tasks in the storage root; every step can be repeated.

    Arguments:
        ledger: the ledger of the storage root.
        downloader: fetches the videos.
        damaged_seconds: time between two fetches of a video that cannot be decoded.
    """

    def __init__(
        self, ledger: Ledger, downloader: Downloader, *, damaged_seconds: float = 300.0
    ) -> None:
        self._ledger = ledger
        self._videos = VideoStore(ledger, downloader, damaged_seconds=damaged_seconds)

    def store(
        self,
        ready: ReadyTask,
        damaged: dict[str, DamagedCopy] | None = None,
        *,
        check_interrupted: Callable[[], None] = lambda: None,
    ) -> FinishedTask:
        """Store the videos of a task, and record its outcome.

        Arguments:
            ready: the task.
            damaged: copies of its videos that could not be decoded so far; updated here.
            check_interrupted: raises an error to break off a download.

        Raises:
            DownloadError: if a video cannot be fetched now; the task stays outstanding.
            StorageError: if the storage root fails; the task stays outstanding.
        """
        attempt = ready.attempt
        result = _result(ready)
        manifest = self._ledger.manifest(attempt.asset, attempt.clip, attempt.take)
        if manifest is None and ready.status.results:
            videos = self._store_videos(
                ready, {} if damaged is None else damaged, check_interrupted
            )
            manifest = self._store_clip(ready, result, videos)
        if manifest is not None and manifest.task_uuid == attempt.task_uuid:
            return self._settle_stored(attempt, ready.reopening, manifest)
        return self._settle(
            attempt, ready.reopening, result, manifest if ready.status.results else None
        )

    def give_up(
        self,
        attempt: AttemptRecord,
        state: Literal["lost", "unsure"],
        error: ErrorRecord,
        *,
        reopening: int = 0,
    ) -> FinishedTask:
        """Record that no video of a task can be obtained; it counts at its estimate, if any.

        An existing manifest outranks this: then the clip is stored.
        """
        if stored := self._already_stored(attempt, reopening):
            return stored
        result = _Result(state, (error,), attempt.estimate.usd, cost_is_estimate=True)
        # First, so that `sora-dagster status` misses none if this process is killed in between.
        self._ledger.pending.mark_undecided(attempt, error.message)
        given_up = self._settle(attempt, reopening, result, None)
        # Another process may have stored it in between, and been killed before it recorded that.
        return self._already_stored(attempt, reopening) or given_up

    def _already_stored(self, attempt: AttemptRecord, reopening: int) -> FinishedTask | None:
        manifest = self._ledger.manifest(attempt.asset, attempt.clip, attempt.take)
        if manifest is None or manifest.task_uuid != attempt.task_uuid:
            return None
        return self._settle_stored(attempt, reopening, manifest)

    def _settle_stored(
        self, attempt: AttemptRecord, reopening: int, manifest: ClipManifest
    ) -> FinishedTask:
        """Record the outcome that a manifest stands for, and add the clip to the index."""
        result = _Result(
            manifest.state, manifest.errors, manifest.cost_usd, manifest.cost_is_estimate
        )
        finished = self._settle(attempt, reopening, result, manifest)
        if reopening or not finished.outcome.has_videos:
            self._ledger.pending.remove_undecided(attempt.dataset, attempt.task_uuid)
        while not finished.outcome.has_videos:
            # Another process gave the task up while its video was stored.
            finished = self._settle(attempt, self._ledger.reopen(attempt), result, manifest)
        self._ledger.mark_stored(manifest)
        return finished

    def _settle(
        self,
        attempt: AttemptRecord,
        reopening: int,
        result: _Result,
        manifest: ClipManifest | None,
    ) -> FinishedTask:
        outcome = self._ledger.settle(
            attempt.task_uuid,
            OutcomeRecord(
                state=result.state,
                cost_usd=result.cost_usd,
                cost_is_estimate=result.cost_is_estimate,
                errors=result.errors,
                at=self._ledger.clock(),
                nonce=self._ledger.new_nonce(),
            ),
            reopening=reopening,
        )
        return FinishedTask(attempt, outcome, manifest, reopening)

    def _store_clip(
        self, ready: ReadyTask, result: _Result, videos: Sequence[AnalyzedVideo]
    ) -> ClipManifest:
        """Store the pictures of stored videos, and write the manifest that decides.

        The names of all objects are unique to this writer. A process that loses deletes what it
        wrote, and never what the winning manifest names.
        """
        attempt = ready.attempt
        pictures = self._store_pictures(attempt, videos[0])
        sent_times = self._ledger.task_files(attempt.task_uuid).sent_times
        requested_at = sent_times[0] if sent_times else attempt.created_at
        mine = ClipManifest(
            asset=attempt.asset,
            clip=attempt.clip,
            take=attempt.take,
            attempt=attempt.attempt,
            fingerprint=attempt.fingerprint,
            task_uuid=attempt.task_uuid,
            state="partial" if result.errors else "done",
            request=attempt.request,
            wire=attempt.wire,
            videos=tuple(stored.video for stored in videos),
            poster_key=pictures["poster.jpg"],
            sheet_key=pictures["sheet.jpg"],
            thumbnail_key=pictures["thumbnail.jpg"],
            delivery=videos[0].delivery,
            errors=result.errors,
            cost_usd=result.cost_usd,
            cost_is_estimate=result.cost_is_estimate,
            estimate=attempt.estimate,
            requested_at=requested_at,
            stored_at=self._ledger.clock(),
            generation_seconds=round(
                max(0.0, (ready.seen_finished_at - requested_at).total_seconds()), 3
            ),
            content_hash=content_hash([stored.video.sha256 for stored in videos]),
            root_run=attempt.root_run,
            facts_from=ready.facts_from,
            nonce=self._ledger.new_nonce(),
        )
        winner = self._ledger.write_manifest(mine)
        if winner.nonce != mine.nonce:
            for key in (*(video.key for video in mine.videos), *pictures.values()):
                self._ledger.root.delete(key)
        return winner

    def _store_videos(
        self,
        ready: ReadyTask,
        damaged: dict[str, DamagedCopy],
        check_interrupted: Callable[[], None],
    ) -> list[AnalyzedVideo]:
        results = ready.status.results
        # With several videos, it would be unknown which one was uploaded to the one address.
        was_direct = ready.attempt.delivery == "direct" and len(results) == 1
        stored: list[AnalyzedVideo] = []
        try:
            # Those stored before one fails are in the list, too.
            stored.extend(
                self._videos.store(
                    ready.attempt,
                    result,
                    was_direct=was_direct,
                    damaged=damaged,
                    check_interrupted=check_interrupted,
                )
                for result in results
            )
        except DownloadError:
            # No manifest names these, and the next try writes all of them under other names.
            for item in stored:
                self._ledger.root.delete(item.video.key)
            raise
        return stored

    def _store_pictures(self, attempt: AttemptRecord, first: AnalyzedVideo) -> dict[str, str]:
        """Store the pictures of the first video; returns their keys by file name."""
        nonce = self._ledger.new_nonce()[:8]
        bodies = {
            "poster.jpg": first.analysis.poster,
            "sheet.jpg": first.analysis.sheet,
            "thumbnail.jpg": first.analysis.thumbnail,
        }
        keys = {}
        for name, body in bodies.items():
            keys[name] = layout.take_file_key(
                attempt.asset, attempt.clip, attempt.take, name, nonce
            )
            self._ledger.root.write(keys[name], body, attributes=_JPEG)
        return keys


def content_hash(video_hashes: Sequence[str]) -> str:
    """A clip's data version: the hash of its video, or of its videos' hashes in order."""
    if len(video_hashes) == 1:
        return video_hashes[0]
    return hashlib.sha256("\n".join(video_hashes).encode()).hexdigest()


def is_upload_failure(attempt: AttemptRecord, error: RunwareError) -> bool:
    """Whether an error says that Runware could not upload a video into the store."""
    return attempt.delivery == "direct" and "upload" in (error.code or "").lower()


def _result(ready: ReadyTask) -> _Result:
    attempt, status = ready.attempt, ready.status
    errors = tuple(_error_record(attempt, error) for error in status.errors)
    missing = attempt.request.spec.number_results - len(status.results) - len(errors)
    if status.results and missing > 0:
        message = (
            f"{missing} of {attempt.request.spec.number_results} results did not arrive before the "
            f"deadline"
        )
        errors += (ErrorRecord(kind="timeout", message=message, retryable=True),)
    cost_usd, cost_is_estimate = _cost(attempt, status)
    state: OutcomeState = "failed" if not status.results else "partial" if errors else "done"
    return _Result(state, errors, cost_usd, cost_is_estimate)


def _cost(attempt: AttemptRecord, status: TaskStatus) -> tuple[float | None, bool]:
    """The cost of a task in USD, and whether a part of it is our estimate. None: unknown.

    A result without a reported cost counts at its share of the estimate. So does a failed one,
    since it is not documented whether failures are charged. Without an estimate, it counts as much
    as the most expensive of the others.
    """
    known = [result.cost_usd for result in status.results if result.cost_usd is not None]
    results = attempt.request.spec.number_results
    unknown = max(results, len(status.results)) - len(known)
    if not unknown:
        return round(sum(known), 6), False
    estimate_usd = attempt.estimate.usd
    share = max(known, default=None) if estimate_usd is None else estimate_usd / results
    return None if share is None else round(sum(known) + share * unknown, 6), True


def _error_record(attempt: AttemptRecord, error: RunwareError) -> ErrorRecord:
    """The record of a failed generation.

    If the video was generated but could not be uploaded, another attempt would most likely fail
    the same way, and be paid for again.
    """
    record = error.to_record()
    if not is_upload_failure(attempt, error):
        return record
    advice = (
        f"{record.message.rstrip().rstrip('.')}. Runware could not upload the video into the "
        f"store. It may have been charged, so it is not retried automatically. Set the delivery "
        f"(SORA_DELIVERY) to 'download', then {retry_advice(attempt.asset, attempt.clip)}"
    )
    return record.model_copy(update={"message": advice, "retryable": False})
