"""What a collecting process knows of one outstanding task."""

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

# How a task came to its end: now, stored or concluded by this process; while this process waited,
# by another one; before this process began to wait; or before, by a process that ended without
# closing it, so that its event may be missing in Dagster's log.
EndedHow = Literal["now", "elsewhere", "earlier", "interrupted"]


@dataclass(frozen=True)
class ReadyTask:
    """A task that is over at Runware, and not yet stored.

    Arguments:
        attempt: what was asked.
        status: what the poll said.
        seen_finished_at: when its last result was first seen finished, by the store's clock.
        facts_from: who said so; a marker, or what lies in the store, only where polls no longer
            know the task.
        reopening: 0, or the number of the reopening that it ends.
    """

    attempt: AttemptRecord
    status: TaskStatus
    seen_finished_at: datetime
    facts_from: FactsFrom = "poll"
    reopening: int = 0


@dataclass(frozen=True)
class FinishedTask:
    """A task with an outcome: its clip stored, or its failure recorded.

    Arguments:
        attempt: what was asked.
        outcome: how it ended.
        manifest: the stored clip; None where there is no video.
        reopening: 0, or the number of the reopening that ended.
        how: by which process, and when, it came to its end.
        not_retried: why no further attempt is made, where one was due.
        root_run: the run that it is paid by; None: the run that claimed it.
    """

    attempt: AttemptRecord
    outcome: OutcomeRecord
    manifest: ClipManifest | None
    reopening: int = 0
    how: EndedHow = "now"
    not_retried: str | None = None
    root_run: str | None = None

    @property
    def failure_sentence(self) -> str:
        """Why the clip, or a part of it, is missing: enough to act on."""
        reasons = " ".join(error.sentence for error in self.outcome.errors)
        sentence = f"{self.attempt.clip}: take {self.attempt.take} {self.outcome.state}: {reasons}"
        if self.not_retried is not None:
            sentence += f" Not tried again: {self.not_retried}"
        return sentence


@dataclass
class Absence:
    """Polls that show nothing of a task, one after the other, all alike.

    Arguments:
        kind: Runware said that it does not know the task, or said nothing of it.
        since: when the first of them came, in seconds of a clock that runs through a suspended
            machine.
        last: when the last of them came.
        polls: how many there were.
    """

    kind: Literal["unknown", "silent"]
    since: float
    last: float
    polls: int = 1


@dataclass
class TrackedTask:
    """One outstanding task, as a collecting process knows it.

    Arguments:
        entry: its entry in the index.
        attempt: what was asked.
        files: which facts were on record when it was first read, or last changed.
        root_run: the run that it is paid by.
        is_seen: whether there is proof that Runware has it.
        phase: generated at Runware, on its way into the store, being stored, or ended.
        markers: the webhooks that came for it.
        ready: what is to be stored, while its upload is awaited.
        upload_since: since when its upload is awaited, by the store's clock.
        absence: polls that show nothing of it; None where the last answer did.
        failing_since: since when its video cannot be fetched, in seconds.
        fetch_failures: how often it could not be fetched.
        not_before: when fetching is tried again, in seconds.
        damaged: copies of its videos that cannot be decoded, by video UUID.
        is_slow: whether no run waits for it any more; it is left to a later one.
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
    absence: Absence | None = None
    failing_since: float | None = None
    fetch_failures: int = 0
    not_before: float = 0.0
    damaged: dict[str, DamagedCopy] = field(default_factory=dict)
    is_slow: bool = False
    note: str = ""

    @property
    def task_uuid(self) -> str:
        """The task."""
        return self.entry.task_uuid

    @property
    def reopening(self) -> int:
        """0, or the number of the reopening that is outstanding."""
        return self.entry.reopening

    @property
    def last_sent(self) -> datetime:
        """When it was last sent or reopened, by the store's clock."""
        times = [*self.files.sent.values(), self.attempt.created_at]
        if self.files.sent:
            times.pop()
        if self.reopening in self.files.reopened:
            times.append(self.files.reopened[self.reopening])
        return max(times)
