"""Storing finished clips: each video whole and in its place, the manifest, then the outcome."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
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
from sora_dagster.runware.errors import ErrorRecord, RunwareError
from sora_dagster.runware.results import TaskStatus
from sora_dagster.storage import ObjectAttributes

_PICTURE = ObjectAttributes("image/jpeg")


class ClipArchive:
    """Stores finished tasks in the storage root; every step can be repeated.

    Arguments:
        ledger: the ledger of the root.
        downloader: fetches the videos.
        damaged_seconds: time between two fetches of a video that cannot be decoded.
    """

    def __init__(
        self, ledger: Ledger, downloader: Downloader, *, damaged_seconds: float = 300.0
    ) -> None:
        self._ledger = ledger
        self._videos = VideoStore(ledger, downloader, damaged_seconds=damaged_seconds)

    def store(
        self, ready: ReadyTask, damaged: dict[str, DamagedCopy] | None = None
    ) -> FinishedTask:
        """Store what a task brought, and record its outcome.

        Arguments:
            ready: the task, over at Runware.
            damaged: copies of its videos that could not be decoded so far; kept up to date here.

        Raises:
            DownloadError: if a video cannot be fetched now; the task stays outstanding.
            StorageError: if the storage root fails; the task stays outstanding.
        """
        attempt, status = ready.attempt, ready.status
        errors = (
            *(_failure(attempt, error) for error in status.errors),
            *_missing(attempt, status),
        )
        cost_usd, cost_is_estimate = _cost(attempt, status)
        manifest = self._ledger.manifest(attempt.asset, attempt.clip, attempt.take)
        if manifest is None and status.results:
            manifest = self._store_videos(
                ready, errors, cost_usd, cost_is_estimate, {} if damaged is None else damaged
            )
        if manifest is not None and manifest.task_uuid == attempt.task_uuid:
            return self._settle_stored(ready, manifest)
        state: OutcomeState = "failed" if not status.results else "partial" if errors else "done"
        return self._settle(
            attempt,
            ready.reopening,
            state,
            errors,
            cost_usd,
            cost_is_estimate,
            manifest if status.results else None,
        )

    def conclude(
        self,
        attempt: AttemptRecord,
        state: Literal["lost", "unsure"],
        error: ErrorRecord,
        *,
        reopening: int = 0,
    ) -> FinishedTask:
        """Record that no video of a task can be had, and count it at its estimate.

        A manifest that stands outranks that: then its clip is stored.
        """
        if stored := self._stored_already(attempt, reopening):
            return stored
        given_up = self._settle(
            attempt, reopening, state, (error,), attempt.estimate_usd, True, None
        )
        # Another process may have stored it in between, and been killed before it recorded that.
        return self._stored_already(attempt, reopening) or given_up

    def _stored_already(self, attempt: AttemptRecord, reopening: int) -> FinishedTask | None:
        manifest = self._ledger.manifest(attempt.asset, attempt.clip, attempt.take)
        if manifest is None or manifest.task_uuid != attempt.task_uuid:
            return None
        status = TaskStatus(task_uuid=attempt.task_uuid)
        ready = ReadyTask(attempt, status, manifest.stored_at, reopening=reopening)
        return self._settle_stored(ready, manifest)

    def void(self, attempt: AttemptRecord) -> FinishedTask:
        """Record that a task was never sent and cost nothing."""
        return FinishedTask(attempt, self._ledger.settle_void(attempt.task_uuid), None)

    def _settle_stored(self, ready: ReadyTask, manifest: ClipManifest) -> FinishedTask:
        """Record the outcome that a manifest stands for, and put the clip into the index."""
        finished, reopening = None, ready.reopening
        while finished is None or not finished.outcome.has_videos:
            if finished is not None:
                # Another process gave the task up while its video was stored.
                reopening = self._ledger.reopen(ready.attempt)
            finished = self._settle(
                ready.attempt,
                reopening,
                manifest.state,
                manifest.errors,
                manifest.cost_usd,
                manifest.cost_is_estimate,
                manifest,
            )
        self._ledger.mark_stored(manifest)
        return finished

    def _settle(
        self,
        attempt: AttemptRecord,
        reopening: int,
        state: OutcomeState,
        errors: tuple[ErrorRecord, ...],
        cost_usd: float,
        cost_is_estimate: bool,
        manifest: ClipManifest | None,
    ) -> FinishedTask:
        outcome = self._ledger.settle(
            attempt.task_uuid,
            OutcomeRecord(
                state=state,
                cost_usd=cost_usd,
                cost_is_estimate=cost_is_estimate,
                errors=errors,
                at=self._ledger.clock(),
                nonce=self._ledger.new_nonce(),
            ),
            reopening=reopening,
        )
        return FinishedTask(attempt, outcome, manifest, reopening)

    def _store_videos(
        self,
        ready: ReadyTask,
        errors: tuple[ErrorRecord, ...],
        cost_usd: float,
        cost_is_estimate: bool,
        damaged: dict[str, DamagedCopy],
    ) -> ClipManifest:
        """Store the videos and their pictures, and write the manifest that decides.

        Every object has a name of this writer's own, so that a process that loses removes what it
        wrote, and never what the standing manifest names.
        """
        attempt = ready.attempt
        kept = self._store_video_files(ready, damaged)
        pictures = self._store_pictures(attempt, kept[0])
        sent_times = self._ledger.task_files(attempt.task_uuid).sent_times
        requested_at = sent_times[0] if sent_times else attempt.created_at
        mine = ClipManifest(
            asset=attempt.asset,
            clip=attempt.clip,
            take=attempt.take,
            attempt=attempt.attempt,
            fingerprint=attempt.fingerprint,
            task_uuid=attempt.task_uuid,
            state="partial" if errors else "done",
            request=attempt.request,
            wire=attempt.wire,
            videos=tuple(item.video for item in kept),
            poster_key=pictures["poster.jpg"],
            sheet_key=pictures["sheet.jpg"],
            thumbnail_key=pictures["thumbnail.jpg"],
            delivery=kept[0].delivery,
            errors=errors,
            cost_usd=cost_usd,
            cost_is_estimate=cost_is_estimate,
            estimate_usd=attempt.estimate_usd,
            requested_at=requested_at,
            stored_at=self._ledger.clock(),
            generation_seconds=round(
                max(0.0, (ready.seen_finished_at - requested_at).total_seconds()), 3
            ),
            content_hash=content_hash([item.video.sha256 for item in kept]),
            root_run=attempt.root_run,
            facts_from=ready.facts_from,
            nonce=self._ledger.new_nonce(),
        )
        standing = self._ledger.write_manifest(mine)
        if standing.nonce != mine.nonce:
            for key in (*(video.key for video in mine.videos), *pictures.values()):
                self._ledger.root.delete(key)
        return standing

    def _store_video_files(
        self, ready: ReadyTask, damaged: dict[str, DamagedCopy]
    ) -> list[AnalyzedVideo]:
        results = ready.status.results
        # Of several videos, it could not be known which one was put under the one address.
        was_direct = ready.attempt.delivery == "direct" and len(results) == 1
        kept: list[AnalyzedVideo] = []
        try:
            kept.extend(
                self._videos.store(ready.attempt, result, was_direct=was_direct, damaged=damaged)
                for result in results
            )
        except DownloadError:
            # No manifest names these, and the next try writes all of them under other names.
            for item in kept:
                self._ledger.root.delete(item.video.key)
            raise
        return kept

    def _store_pictures(self, attempt: AttemptRecord, first: AnalyzedVideo) -> dict[str, str]:
        """Store the pictures of the first video; gives their keys by name."""
        nonce = self._ledger.new_nonce()[:8]
        bodies = {
            "poster.jpg": first.analysis.poster,
            "sheet.jpg": first.analysis.sheet,
            "thumbnail.jpg": first.analysis.thumbnail,
        }
        keys = {
            name: layout.take_file_key(attempt.asset, attempt.clip, attempt.take, name, nonce)
            for name in bodies
        }
        for name, body in bodies.items():
            self._ledger.root.write(keys[name], body, attributes=_PICTURE)
        return keys


def content_hash(video_hashes: Sequence[str]) -> str:
    """A clip's data version: the hash of its video's bytes, or of its videos' hashes in order."""
    if len(video_hashes) == 1:
        return video_hashes[0]
    return hashlib.sha256("\n".join(video_hashes).encode()).hexdigest()


def is_upload_failure(attempt: AttemptRecord, error: RunwareError) -> bool:
    """Whether an error says that Runware could not put a video into the store."""
    return attempt.delivery == "direct" and "upload" in (error.code or "").lower()


def _cost(attempt: AttemptRecord, status: TaskStatus) -> tuple[float, bool]:
    """What a task cost in USD, and whether a part of that is our estimate.

    A result whose cost the API does not report counts at its share of the estimate; so does one
    that failed, since whether those are charged is not documented.
    """
    known = [result.cost_usd for result in status.results if result.cost_usd is not None]
    results = attempt.request.spec.number_results
    unknown = max(results, len(status.results)) - len(known)
    return round(sum(known) + attempt.estimate_usd / results * unknown, 6), unknown > 0


def _failure(attempt: AttemptRecord, error: RunwareError) -> ErrorRecord:
    """What a failed generation is recorded as.

    One whose video was made, and could not be put into the store, would most likely fail again,
    and be paid for again.
    """
    record = error.to_record()
    if not is_upload_failure(attempt, error):
        return record
    advice = (
        f"{record.message.rstrip().rstrip('.')}. Runware could not put the video into the store. "
        f"It may have been charged, so it is not tried again by itself: set the delivery "
        f"(SORA_DELIVERY) to 'download', and ask with retry_failed"
    )
    return record.model_copy(update={"message": advice, "retryable": False})


def _missing(attempt: AttemptRecord, status: TaskStatus) -> tuple[ErrorRecord, ...]:
    """What to say of results that neither came nor failed, where others came."""
    results = attempt.request.spec.number_results
    missing = results - len(status.results) - len(status.errors)
    if not status.results or missing <= 0:
        return ()
    return (
        ErrorRecord(
            kind="timeout",
            message=f"{missing} of {results} results did not come within the deadline",
            retryable=True,
        ),
    )
