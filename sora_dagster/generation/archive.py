"""Storing finished clips: each video whole and verified, the manifest last, then the outcome."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from sora_dagster.generation import layout
from sora_dagster.generation.budget import Budget
from sora_dagster.generation.download import Downloader, DownloadError
from sora_dagster.generation.ledger import Ledger
from sora_dagster.generation.records import (
    AttemptRecord,
    ClipManifest,
    OutcomeRecord,
    OutcomeState,
    StoredVideo,
)
from sora_dagster.media import MediaError, inspect
from sora_dagster.runware.errors import ErrorRecord
from sora_dagster.runware.results import TaskStatus, VideoResult

_log = logging.getLogger(__name__)

_FILE_KINDS = {
    "MP4": ("mp4", "video/mp4"),
    "MOV": ("mov", "video/quicktime"),
    "WEBM": ("webm", "video/webm"),
}
_FETCHES_OF_A_BROKEN_VIDEO = 2


@dataclass(frozen=True)
class ReadyTask:
    """A task that is over at Runware, and not yet stored.

    Arguments:
        attempt: what was asked.
        status: what the poll said.
        seen_finished_at: when its last result was first seen finished, by the store's clock.
        facts_from: who said so; a marker only where polls know the task no more.
    """

    attempt: AttemptRecord
    status: TaskStatus
    seen_finished_at: datetime
    facts_from: Literal["poll", "marker"] = "poll"


@dataclass(frozen=True)
class FinishedTask:
    """A task with an outcome: its clip stored, or its failure recorded.

    Arguments:
        attempt: what was asked.
        outcome: how it ended.
        manifest: the stored clip; None where there is no video.
    """

    attempt: AttemptRecord
    outcome: OutcomeRecord
    manifest: ClipManifest | None

    @property
    def failure_sentence(self) -> str:
        """Why the clip, or a part of it, is missing: enough to act on."""
        reasons = " ".join(error.sentence for error in self.outcome.errors)
        return f"{self.attempt.clip}: take {self.attempt.take} {self.outcome.state}: {reasons}"


class ClipArchive:
    """Stores finished tasks in the storage root; every step may be repeated.

    Arguments:
        ledger: the ledger of the root.
        downloader: fetches the videos.
    """

    def __init__(self, ledger: Ledger, downloader: Downloader) -> None:
        self._ledger = ledger
        self._downloader = downloader
        self._budget = Budget(ledger)
        self._settled: set[str] = set()

    def store(self, ready: ReadyTask) -> FinishedTask:
        """Store what a task brought, and record its outcome.

        Raises:
            DownloadError: where a video cannot be fetched now; the task stays outstanding.
            StorageError: where the storage root fails; the task stays outstanding.
        """
        attempt, status = ready.attempt, ready.status
        errors = (
            *(error.to_record() for error in status.errors),
            *_missing(attempt, status),
        )
        cost_usd, cost_is_estimate = _cost(attempt, status)
        manifest = None
        if status.results:
            manifest = self._ledger.manifest(attempt.asset, attempt.clip, attempt.take)
            if manifest is None:
                manifest = self._ledger.write_manifest(
                    self._store_videos(ready, errors, cost_usd, cost_is_estimate)
                )
        state: OutcomeState = "failed" if not status.results else "partial" if errors else "done"
        return self._settle(attempt, state, errors, cost_usd, cost_is_estimate, manifest)

    def conclude(
        self, attempt: AttemptRecord, state: Literal["lost", "unsure"], error: ErrorRecord
    ) -> FinishedTask:
        """Record that no video of a task is to be had, and count it at its estimate."""
        return self._settle(attempt, state, (error,), attempt.estimate_usd, True, None)

    def _settle(
        self,
        attempt: AttemptRecord,
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
        )
        finished = FinishedTask(attempt, outcome, manifest)
        self._settle_cost(finished)
        return finished

    def _settle_cost(self, finished: FinishedTask) -> None:
        attempt = finished.attempt
        self._budget.settle(
            {attempt.task_uuid: finished.outcome.cost_usd}, root_run=attempt.root_run
        )
        self._settled.add(attempt.task_uuid)

    def _store_videos(
        self,
        ready: ReadyTask,
        errors: tuple[ErrorRecord, ...],
        cost_usd: float,
        cost_is_estimate: bool,
    ) -> ClipManifest:
        attempt = ready.attempt
        videos: list[StoredVideo] = []
        poster: bytes | None = None
        for result in ready.status.results:
            video, first_poster = self._store_video(attempt, result)
            videos.append(video)
            poster = poster or first_poster
        poster_key = layout.poster_key(attempt.asset, attempt.clip, attempt.take)
        if poster is not None:
            self._ledger.root.write(poster_key, poster)
        sent_times = self._ledger.sent_times(attempt.task_uuid)
        requested_at = sent_times[0] if sent_times else attempt.created_at
        return ClipManifest(
            asset=attempt.asset,
            clip=attempt.clip,
            take=attempt.take,
            attempt=attempt.attempt,
            fingerprint=attempt.fingerprint,
            task_uuid=attempt.task_uuid,
            state="partial" if errors else "done",
            request=attempt.request,
            wire=attempt.wire,
            videos=tuple(videos),
            poster_key=poster_key,
            errors=errors,
            cost_usd=cost_usd,
            cost_is_estimate=cost_is_estimate,
            estimate_usd=attempt.estimate_usd,
            requested_at=requested_at,
            stored_at=self._ledger.clock(),
            generation_seconds=round(
                max(0.0, (ready.seen_finished_at - requested_at).total_seconds()), 3
            ),
            content_hash=content_hash([video.sha256 for video in videos]),
            root_run=attempt.root_run,
            facts_from=ready.facts_from,
            nonce=self._ledger.new_nonce(),
        )

    def _store_video(
        self, attempt: AttemptRecord, result: VideoResult
    ) -> tuple[StoredVideo, bytes]:
        extension, content_type = _FILE_KINDS[attempt.request.spec.output_format]
        key = layout.video_key(
            attempt.asset, attempt.clip, attempt.take, result.video_uuid, extension
        )
        root = self._ledger.root
        if result.video_url is None:
            raise DownloadError(f"video {result.video_uuid} of {attempt.clip} came without a URL")
        for fetch in range(1, _FETCHES_OF_A_BROKEN_VIDEO + 1):
            download = self._downloader.fetch(result.video_url, root, key)
            try:
                with root.open(key) as file:
                    media, poster = inspect(file)
                break
            except MediaError as error:
                root.delete(key)
                if fetch == _FETCHES_OF_A_BROKEN_VIDEO:
                    raise DownloadError(
                        f"video {result.video_uuid} of {attempt.clip} arrived "
                        f"{download.size_bytes} bytes long and cannot be decoded: {error}"
                    ) from error
                _log.warning("video %s is broken, fetching it again: %s", result.video_uuid, error)
        video = StoredVideo(
            key=key,
            video_uuid=result.video_uuid,
            video_id=result.video_id,
            seed=result.seed,
            cost_usd=result.cost_usd,
            nsfw=result.nsfw,
            size_bytes=download.size_bytes,
            sha256=download.sha256,
            content_type=content_type,
            container=media.container,
            width=media.width,
            height=media.height,
            duration_seconds=media.duration_seconds,
            frame_count=media.frame_count,
            frames_per_second=media.fps,
            video_codec=media.video_codec,
            audio_codec=media.audio_codec,
        )
        return video, poster

    def close(self, finished: FinishedTask, marker_keys: Sequence[str]) -> None:
        """Remove what only pointed at the task: its markers, and its index entry last."""
        if finished.attempt.task_uuid not in self._settled:
            # Whoever recorded the outcome may have been killed before the spending log had it.
            self._settle_cost(finished)
        for key in marker_keys:
            self._ledger.root.delete(key)
        self._ledger.forget_pending(finished.attempt.task_uuid)


def content_hash(video_hashes: Sequence[str]) -> str:
    """A clip's data version: the hash of its video's bytes, or of its videos' hashes in order."""
    if len(video_hashes) == 1:
        return video_hashes[0]
    return hashlib.sha256("\n".join(video_hashes).encode()).hexdigest()


def _cost(attempt: AttemptRecord, status: TaskStatus) -> tuple[float, bool]:
    """What a task cost in USD, and whether a part of that is our estimate.

    A result whose cost the API does not tell counts at its share of the estimate; so does one that
    failed, since whether those are charged is not documented.
    """
    known = [result.cost_usd for result in status.results if result.cost_usd is not None]
    results = attempt.request.spec.number_results
    unknown = max(results, len(status.results)) - len(known)
    return round(sum(known) + attempt.estimate_usd / results * unknown, 6), unknown > 0


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
