"""Collecting: who is outstanding, what is finished, and when to ask Runware again.

One round reads the inbox and the index, polls what is due in as few POSTs as it takes, and gives
what is over. Waiting is a loop of rounds, in one process for all tasks.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from sora_dagster.generation.archive import FinishedTask, ReadyTask
from sora_dagster.generation.arrivals import Arrivals
from sora_dagster.generation.download import DownloadError
from sora_dagster.generation.ledger import Ledger
from sora_dagster.generation.markers import (
    MAX_MARKER_BYTES,
    Marker,
    list_markers,
    quarantine,
)
from sora_dagster.generation.overdue import Overdue
from sora_dagster.generation.records import AttemptRecord, OutcomeRecord, SeenRecord
from sora_dagster.runware.client import RunwareClient
from sora_dagster.runware.errors import RunwareError

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class PollSettings:
    """When results are asked for.

    Arguments:
        first_seconds: wait before the first poll (Runware advises 1 to 2 s).
        factor: by how much the wait grows from poll to poll.
        longest_seconds: longest wait between polls.
        look_seconds: how often the inbox and the index are looked at in between.
    """

    first_seconds: float = 2.0
    factor: float = 1.5
    longest_seconds: float = 10.0
    look_seconds: float = 1.0


# With webhooks, polls are only the net for lost ones.
WEBHOOK_POLLS = PollSettings(first_seconds=30.0, longest_seconds=60.0)


@dataclass(frozen=True)
class Round:
    """What one look brought.

    Arguments:
        ready: tasks that are over at Runware and not stored yet.
        finished: tasks whose outcome stood already, from a run that ended before it was through.
        outstanding: UUIDs of the tasks that are still generated.
        unsent: how many claims were found whose task was not sent (yet); given up when old.
    """

    ready: tuple[ReadyTask, ...]
    finished: tuple[FinishedTask, ...]
    outstanding: tuple[str, ...]
    unsent: int = 0

    @property
    def is_idle(self) -> bool:
        """Whether nothing is left to wait for or to do."""
        return not (self.ready or self.finished or self.outstanding or self.unsent)


@dataclass
class _Schedule:
    """When to poll next, on the monotonic clock."""

    due: float
    wait: float
    known: set[str] = field(default_factory=set)


class Collector:
    """Finds what is finished, for all outstanding tasks or for chosen ones.

    Arguments:
        client: the API client.
        ledger: the ledger of the storage root.
        overdue: decides about tasks that polls show no end of.
        arrivals: keeps tasks back whose video is on its way into the store.
        settings: when to poll.
        unsent_seconds: age after which an attempt that was claimed but never sent is given up.
        store_time: the store's clock.
        monotonic: a clock for waits, in seconds.
        sleep: waits so many seconds.
    """

    def __init__(
        self,
        client: RunwareClient,
        ledger: Ledger,
        overdue: Overdue,
        arrivals: Arrivals,
        *,
        settings: PollSettings,
        unsent_seconds: float,
        store_time: Callable[[], datetime],
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._client = client
        self._ledger = ledger
        self._overdue = overdue
        self._arrivals = arrivals
        self._settings = settings
        self._unsent_seconds = unsent_seconds
        self._store_time = store_time
        self._monotonic = monotonic
        self._sleep = sleep
        self._schedule: _Schedule | None = None
        self._attempts: dict[str, AttemptRecord] = {}
        self._markers: dict[str, list[Marker]] = {}
        self._polled_markers: set[str] = set()
        self._handed_out: set[str] = set()
        self._has_polled = False

    def look(self, wanted: Collection[str] | None = None) -> Round:
        """One round.

        Arguments:
            wanted: UUIDs of the tasks to look after; None for all that are outstanding.

        A task is handed out once; one that could not be stored is handed out again after
        :meth:`hand_back`.

        Raises:
            RunwareError: where the API refuses the poll as a whole, such as for a wrong key.
            StorageError: where the storage root fails.
        """
        pending = self._ledger.pending()
        self._read_inbox(pending, tidy=wanted is None)
        finished: list[FinishedTask] = []
        outstanding: dict[str, AttemptRecord] = {}
        unsent = 0
        for task_uuid, since in pending.items():
            if (wanted is not None and task_uuid not in wanted) or task_uuid in self._handed_out:
                continue
            attempt = self._attempts.get(task_uuid) or self._ledger.pending_attempt(task_uuid)
            if attempt is None:
                self._give_up_unclaimed(task_uuid, since)
                unsent += 1
                continue
            self._attempts[task_uuid] = attempt
            if self._is_awaited(task_uuid):
                outstanding[task_uuid] = attempt
            elif done := self._finished(attempt):
                finished.append(done)
                self._handed_out.add(task_uuid)
            elif self._was_sent(attempt, since):
                outstanding[task_uuid] = attempt
            else:
                unsent += 1
        over = self._arrivals.held(outstanding)
        generating = {
            uuid: attempt for uuid, attempt in outstanding.items() if uuid not in self._arrivals
        }
        for end in self._poll(generating):
            if isinstance(end, ReadyTask):
                over.append(end)
            else:
                finished.append(end)
                self._handed_out.add(end.attempt.task_uuid)
        ready = self._arrivals.let_through(over)
        self._handed_out.update(end.attempt.task_uuid for end in ready)
        left = tuple(uuid for uuid in outstanding if uuid not in self._handed_out)
        return Round(tuple(ready), tuple(finished), left, unsent)

    def look_patiently(
        self, on_warning: Callable[[str], None], wanted: Collection[str] | None = None
    ) -> Round:
        """One round; where polling fails in a way that may pass, one that brought nothing.

        What is generated goes on meanwhile, and the next look asks again.

        Arguments:
            on_warning: called with what went wrong and is tried again.
            wanted: UUIDs of the tasks to look after; None for all that are outstanding.

        Raises:
            RunwareError: where the API refuses to be polled.
            StorageError: where the storage root fails.
        """
        try:
            return self.look(wanted)
        except RunwareError as error:
            if not error.retryable:
                raise
            on_warning(f"polling failed and is tried again: {error}")
            return Round((), (), tuple(self._ledger.pending() if wanted is None else wanted))

    def wait(self) -> None:
        """Wait until the next look is worth it."""
        pause = self._settings.look_seconds
        if self._schedule is not None:
            pause = min(pause, max(0.05, self._schedule.due - self._monotonic()))
        self._sleep(pause)

    def not_stored(self, attempt: AttemptRecord, error: DownloadError) -> FinishedTask | None:
        """Say that a task that was handed out could not be stored.

        Returns:
            Its end, where it is given up; None where it comes again.
        """
        lost = self._overdue.fetch_failed(attempt, str(error), may_pass=error.retryable)
        if lost is None:
            self._handed_out.discard(attempt.task_uuid)
        return lost

    def hand_back(self, task_uuid: str) -> None:
        """Say that a task that was handed out is not done with, so that it comes again."""
        self._handed_out.discard(task_uuid)

    def asset_of(self, task_uuid: str) -> str | None:
        """Asset key of an outstanding task's clip, once a look has found it."""
        attempt = self._attempts.get(task_uuid)
        return None if attempt is None else attempt.asset

    def marker_keys(self, task_uuid: str) -> tuple[str, ...]:
        """Objects of the markers that were seen for a task."""
        return tuple(marker.key for marker in self._markers.get(task_uuid, ()))

    def _read_inbox(self, pending: Mapping[str, datetime], *, tidy: bool) -> None:
        """Read the markers; where asked to tidy up, take out those that are of no use."""
        self._markers = {}
        for marker in list_markers(self._ledger.root):
            if marker.task_uuid in pending and marker.size_bytes <= MAX_MARKER_BYTES:
                self._markers.setdefault(marker.task_uuid, []).append(marker)
            elif tidy:
                self._put_away(marker, is_pending=marker.task_uuid in pending)

    def _put_away(self, marker: Marker, *, is_pending: bool) -> None:
        if is_pending:
            reason = f"it is longer than {MAX_MARKER_BYTES} bytes"
        elif self._ledger.sent(marker.task_uuid) is not None:
            # The task is over, and everything about it kept: a late or repeated delivery.
            self._ledger.root.delete(marker.key)
            return
        else:
            reason = "no task of this UUID was sent from this storage root"
        _log.warning("marker %s goes to quarantine: %s", marker.key, reason)
        quarantine(self._ledger.root, marker, reason)

    def _is_awaited(self, task_uuid: str) -> bool:
        """Whether an earlier look found a task sent and not over, so that only polls can tell."""
        return self._schedule is not None and task_uuid in self._schedule.known

    def _finished(self, attempt: AttemptRecord) -> FinishedTask | None:
        outcome = self._ledger.outcome(attempt.task_uuid)
        if outcome is None:
            return None
        manifest = (
            self._ledger.manifest(attempt.asset, attempt.clip, attempt.take)
            if outcome.has_videos
            else None
        )
        return FinishedTask(attempt, outcome, manifest)

    def _was_sent(self, attempt: AttemptRecord, since: datetime) -> bool:
        """Whether a task was sent; one that was claimed long ago and never sent is voided."""
        sent = self._ledger.sent(attempt.task_uuid)
        if sent is not None and sent.purpose == "submit":
            return True
        if sent is None and not self._is_older(since, self._unsent_seconds):
            return False
        if sent is not None or self._ledger.take_right_to_void(attempt.task_uuid):
            self._ledger.settle(
                attempt.task_uuid,
                OutcomeRecord(
                    state="void",
                    cost_usd=0.0,
                    at=self._ledger.clock(),
                    nonce=self._ledger.new_nonce(),
                ),
            )
        return False

    def _give_up_unclaimed(self, task_uuid: str, since: datetime) -> None:
        """Drop an index entry whose attempt was never claimed, once nobody can be about to."""
        if self._is_older(since, self._unsent_seconds):
            self._ledger.forget_pending(task_uuid)

    def _is_older(self, since: datetime, seconds: float) -> bool:
        return self._store_time() - since > timedelta(seconds=seconds)

    def _poll(self, outstanding: dict[str, AttemptRecord]) -> list[ReadyTask | FinishedTask]:
        due = self._due(outstanding)
        if not due:
            return []
        statuses = self._client.poll(due)
        ends: list[ReadyTask | FinishedTask] = []
        for task_uuid in due:
            status, attempt = statuses[task_uuid], outstanding[task_uuid]
            if status.is_known and self._ledger.seen(task_uuid) is None:
                self._ledger.mark_seen(task_uuid, SeenRecord(how="polled", at=self._ledger.clock()))
            if status.is_over(attempt.request.spec.number_results):
                ends.append(ReadyTask(attempt, status, self._seen_finished_at(task_uuid)))
                continue
            end = self._overdue.judge(attempt, status, self._markers.get(task_uuid, []))
            if end is not None:
                ends.append(end)
        return ends

    def _due(self, outstanding: dict[str, AttemptRecord]) -> list[str]:
        """Whom to poll now: everyone where the time has come, else those with a new marker."""
        if not outstanding:
            self._schedule = None
            return []
        now, settings = self._monotonic(), self._settings
        schedule = self._schedule
        if schedule is None or not outstanding.keys() <= schedule.known:
            # Something new is outstanding: results may be near, so the waits start anew. What was
            # outstanding before this process began may have been finished for long: ask at once.
            first = settings.first_seconds
            if not self._has_polled:
                due = now
            else:
                due = now + first if schedule is None else min(schedule.due, now + first)
            self._has_polled = True
            schedule = self._schedule = _Schedule(due, first)
        schedule.known = set(outstanding)
        new_markers = {
            marker.key
            for task_uuid in outstanding
            for marker in self._markers.get(task_uuid, ())
            if marker.key not in self._polled_markers
        }
        if now >= schedule.due:
            schedule.wait = min(schedule.wait * settings.factor, settings.longest_seconds)
            schedule.due = now + schedule.wait
            self._polled_markers |= new_markers
            return list(outstanding)
        marked = [
            task_uuid
            for task_uuid in outstanding
            if any(marker.key in new_markers for marker in self._markers.get(task_uuid, ()))
        ]
        self._polled_markers |= new_markers
        return marked

    def _seen_finished_at(self, task_uuid: str) -> datetime:
        markers = self._markers.get(task_uuid)
        if markers:
            return max(marker.received_at for marker in markers)
        return self._store_time()
