"""What a collecting process knows about one outstanding task."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from sora_dagster.generation.fetching.video_store import DamagedCopy
from sora_dagster.generation.protocol.ledger import TaskFiles
from sora_dagster.generation.protocol.markers import Marker
from sora_dagster.generation.protocol.pending_index import PendingEntry
from sora_dagster.generation.protocol.records import (
    AttemptRecord,
    ClipManifest,
    FactsFrom,
    OutcomeRecord,
)
from sora_dagster.runware.results import TaskStatus

Phase = Literal["generating", "uploading", "storing", "ended"]

# How a task ended. "now": stored or given up by this process. "elsewhere": by another process,
# while this one waited. "earlier": before this process began to wait. "interrupted": earlier, by a
# process that ended without closing it, so that its event may be missing in Dagster's log.
Ended = Literal["now", "elsewhere", "earlier", "interrupted"]


@dataclass(frozen=True)
class ReadyTask:
    """A task that is over at Runware and not yet stored.

    Arguments:
        attempt: the attempt of the task.
        status: its status in the last poll.
        seen_finished_at: when its last result was first seen finished, by the store's clock.
        facts_from: the source of the status. A marker, or an upload, counts only if polls no
            longer know the task.
        reopening: number of the reopening that it ends; 0 for none.
    """

    attempt: AttemptRecord
    status: TaskStatus
    seen_finished_at: datetime
    facts_from: FactsFrom = "poll"
    reopening: int = 0


@dataclass(frozen=True)
class FinishedTask:
    """A task with an outcome: its clip is stored, or its failure is recorded.

    Arguments:
        attempt: the attempt of the task.
        outcome: how it ended.
        manifest: the stored clip; None if there is no video.
        reopening: number of the reopening that ended; 0 for none.
        ended: by which process, and when, it ended.
        not_retried: why no further attempt is made although one was due.
        root_run: the run that pays for it; None: the run that claimed it.
    """

    attempt: AttemptRecord
    outcome: OutcomeRecord
    manifest: ClipManifest | None
    reopening: int = 0
    ended: Ended = "now"
    not_retried: str | None = None
    root_run: str | None = None

    @property
    def ended_before(self) -> bool:
        """Whether another process, or an earlier one, recorded and closed it."""
        return self.ended in ("elsewhere", "earlier")

    @property
    def failure_sentence(self) -> str:
        """Why the clip, or a part of it, is missing: enough to act on."""
        reasons = " ".join(error.sentence for error in self.outcome.errors)
        sentence = (
            f"{self.attempt.clip}: take {self.attempt.take} ended as {self.outcome.state}: "
            f"{reasons}"
        )
        if self.not_retried is not None:
            sentence += f" Not retried: {self.not_retried}"
        return sentence


@dataclass
class EmptyPolls:
    """Consecutive polls that returned nothing about a task, all with the same answer.

    Arguments:
        kind: whether Runware said that it does not know the task, or did not mention it.
        since: time of the first one, in seconds of a clock that runs through a suspended machine.
        last: time of the last one.
        count: number of polls.
    """

    kind: Literal["unknown", "silent"]
    since: float
    last: float
    count: int = 1


@dataclass
class TrackedTask:
    """One outstanding task, as a collecting process knows it.

    Arguments:
        entry: its entry in the index.
        attempt: the attempt of the task.
        files: its records when it was first read, or last changed.
        root_run: the run that pays for it.
        is_seen: whether there is proof that Runware accepted it.
        phase: generated at Runware, being uploaded into the store, being stored, or ended.
        markers: its markers.
        ready: what is to be stored, while its upload is awaited.
        upload_since: since when its upload is awaited, by the store's clock.
        empty_polls: the latest polls without an answer; None if the last poll had one.
        failing_since: since when its video cannot be fetched, in seconds.
        fetch_failures: how often it could not be fetched.
        not_before: when fetching is tried again, in seconds.
        damaged: copies of its videos that cannot be decoded, by video UUID.
        is_slow: whether no run waits for it any more; a later run collects it.
        note: why it is slow or cannot be stored yet.
    """

    entry: PendingEntry
    attempt: AttemptRecord
    files: TaskFiles
    root_run: str
    is_seen: bool
    phase: Phase = "generating"
    markers: list[Marker] = field(default_factory=list)
    ready: ReadyTask | None = None
    upload_since: datetime | None = None
    empty_polls: EmptyPolls | None = None
    failing_since: float | None = None
    fetch_failures: int = 0
    not_before: float = 0.0
    damaged: dict[str, DamagedCopy] = field(default_factory=dict)
    is_slow: bool = False
    note: str = ""

    @property
    def task_uuid(self) -> str:
        """UUID of the task."""
        return self.entry.task_uuid

    @property
    def reopening(self) -> int:
        """Number of the reopening that is outstanding; 0 for none."""
        return self.entry.reopening

    @property
    def is_left(self) -> bool:
        """Whether no run waits for it any more, since it is slow."""
        return self.is_slow and self.phase == "generating"

    @property
    def last_sent(self) -> datetime:
        """When it was last sent or reopened, by the store's clock."""
        times = list(self.files.sent.values()) or [self.attempt.created_at]
        if self.reopening in self.files.reopened:
            times.append(self.files.reopened[self.reopening])
        return max(times)
