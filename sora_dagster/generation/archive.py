"""Storing finished clips: each video whole and verified, the manifest last, then the outcome."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sora_dagster.generation import layout
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
    """

    attempt: AttemptRecord
    status: TaskStatus
    seen_finished_at: datetime


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
        reasons = "; ".join(
            " ".join(
                filter(
                    None,
                    [
                        f"{error.kind}: {error.message}",
                        f"(code {error.code})" if error.code else "",
                        f"(parameter {error.parameter})" if error.parameter else "",
                        f"see {error.documentation}" if error.documentation else "",
                    ],
                )
            )
            for error in self.outcome.errors
        )
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

    def store(self, ready: ReadyTask) -> FinishedTask:
        """Store what a task brought, and record its outcome.

        Raises:
            DownloadError: where a video cannot be fetched now; the task stays outstanding.
            StorageError: where the storage root fails; the task stays outstanding.
        """
        attempt, status = ready.attempt, ready.status
        errors = tuple(error.to_record() for error in status.errors)
        cost_usd, cost_is_estimate = _cost(attempt, status)
        manifest = None
        if status.results:
            manifest = self._ledger.manifest(attempt.asset, attempt.clip, attempt.take)
            if manifest is None:
                manifest = self._ledger.write_manifest(
                    self._store_videos(ready, errors, cost_usd, cost_is_estimate)
                )
        state: OutcomeState = "failed" if not status.results else "partial" if errors else "done"
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
        return FinishedTask(attempt, outcome, manifest)

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
        requested_at = self._ledger.sent_time(attempt.task_uuid) or attempt.created_at
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
        for key in marker_keys:
            self._ledger.root.delete(key)
        self._ledger.forget_pending(finished.attempt.task_uuid)


def content_hash(video_hashes: Sequence[str]) -> str:
    """A clip's data version: the hash of its video's bytes, or of its videos' hashes in order."""
    if len(video_hashes) == 1:
        return video_hashes[0]
    return hashlib.sha256("\n".join(video_hashes).encode()).hexdigest()


def _cost(attempt: AttemptRecord, status: TaskStatus) -> tuple[float, bool]:
    """What a task cost in USD, and whether that is our estimate."""
    costs = [result.cost_usd for result in status.results]
    known = [cost for cost in costs if cost is not None]
    if len(known) == len(costs):
        return round(sum(known), 6), False
    share = attempt.estimate_usd / attempt.request.spec.number_results
    return round(sum(known) + share * (len(costs) - len(known)), 6), True
