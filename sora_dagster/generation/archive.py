"""Storing finished clips: each video whole and in its place, the manifest, then the outcome."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from sora_dagster.generation import layout
from sora_dagster.generation.budget import Budget
from sora_dagster.generation.delivery import STATES_OF_DOUBT
from sora_dagster.generation.download import Downloader
from sora_dagster.generation.ledger import Ledger
from sora_dagster.generation.records import (
    AttemptRecord,
    ClipManifest,
    FactsFrom,
    OutcomeRecord,
    OutcomeState,
)
from sora_dagster.generation.video_store import KeptVideo, VideoStore
from sora_dagster.runware.errors import ErrorRecord, RunwareError
from sora_dagster.runware.results import TaskStatus
from sora_dagster.storage import ObjectAttributes

_PICTURE = ObjectAttributes("image/jpeg")


@dataclass(frozen=True)
class ReadyTask:
    """A task that is over at Runware, and not yet stored.

    Arguments:
        attempt: what was asked.
        status: what the poll said.
        seen_finished_at: when its last result was first seen finished, by the store's clock.
        facts_from: who said so; a marker, or what lies in the store, only where polls know the
            task no more.
    """

    attempt: AttemptRecord
    status: TaskStatus
    seen_finished_at: datetime
    facts_from: FactsFrom = "poll"


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
        store_time: the store's clock.
    """

    def __init__(
        self, ledger: Ledger, downloader: Downloader, *, store_time: Callable[[], datetime]
    ) -> None:
        self._ledger = ledger
        self._videos = VideoStore(ledger, downloader)
        self._budget = Budget(ledger, store_time=store_time)
        self._settled: set[str] = set()

    def store(self, ready: ReadyTask) -> FinishedTask:
        """Store what a task brought, and record its outcome.

        Raises:
            DownloadError: where a video cannot be fetched now; the task stays outstanding.
            StorageError: where the storage root fails; the task stays outstanding.
        """
        attempt, status = ready.attempt, ready.status
        errors = (
            *(_failure(attempt, error) for error in status.errors),
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
        kept = self._keep_videos(ready)
        where = (attempt.asset, attempt.clip, attempt.take)
        poster_key, sheet_key, thumbnail_key = (
            layout.poster_key(*where),
            layout.sheet_key(*where),
            layout.thumbnail_key(*where),
        )
        pictures = kept[0].examination
        for key, picture in (
            (poster_key, pictures.poster),
            (sheet_key, pictures.sheet),
            (thumbnail_key, pictures.thumbnail),
        ):
            self._ledger.root.write(key, picture, attributes=_PICTURE)
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
            videos=tuple(item.video for item in kept),
            poster_key=poster_key,
            sheet_key=sheet_key,
            thumbnail_key=thumbnail_key,
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

    def _keep_videos(self, ready: ReadyTask) -> list[KeptVideo]:
        results = ready.status.results
        # Of several videos, nobody could tell which one was put under the one address.
        was_direct = ready.attempt.delivery == "direct" and len(results) == 1
        return [
            self._videos.keep(ready.attempt, result, was_direct=was_direct) for result in results
        ]

    def close(self, finished: FinishedTask, marker_keys: Sequence[str]) -> None:
        """Remove what is of no more use: upload and markers of the task, its index entry last."""
        if finished.attempt.task_uuid not in self._settled:
            # Whoever recorded the outcome may have been killed before the spending log had it.
            self._settle_cost(finished)
        if finished.attempt.delivery == "direct" and finished.outcome.state not in STATES_OF_DOUBT:
            self._ledger.root.delete(layout.incoming_key(finished.attempt.task_uuid))
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


def _failure(attempt: AttemptRecord, error: RunwareError) -> ErrorRecord:
    """What a failed generation is recorded as.

    One whose video was made, and could not be put into the store, would most likely fail again,
    and be paid for again.
    """
    record = error.to_record()
    if attempt.delivery != "direct" or "upload" not in (record.code or "").lower():
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
