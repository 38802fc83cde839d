"""What to do about tasks that a poll does not show as over.

An empty poll result does not prove that a task is unknown, and age proves nothing. A task is sent
again, or given up, only after the same answer for ten minutes, confirmed by Runware's archive. A
task that Runware has accepted is never sent again, and a running one is never given up before a
day.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Literal

from sora_dagster.generation.collecting.settings import Deadlines
from sora_dagster.generation.collecting.tracked import EmptyPolls, ReadyTask, TrackedTask
from sora_dagster.generation.protocol import layout
from sora_dagster.generation.protocol.ledger import Ledger
from sora_dagster.generation.protocol.records import AttemptRecord, FactsFrom
from sora_dagster.generation.requesting.options import retry_advice
from sora_dagster.runware.client import RunwareClient
from sora_dagster.runware.errors import ErrorRecord, RunwareError
from sora_dagster.runware.responses import parse_response
from sora_dagster.runware.results import TaskStatus, VideoResult, task_status

_log = logging.getLogger(__name__)

# After so many replays, each after Runware had not known the task for a long time, a person must
# decide.
_MAX_LATE_REPLAYS = 4
_MIN_POLLS = 3


@dataclass(frozen=True)
class GiveUp:
    """The end of a task whose video cannot be obtained.

    Arguments:
        state: ``lost`` if Runware accepted it and no longer knows it; ``unsure`` if Runware never
            confirmed it.
        error: why.
    """

    state: Literal["lost", "unsure"]
    error: ErrorRecord


Resolution = ReadyTask | GiveUp | Literal["wait", "slow", "replay"]


class MissingTasks:
    """Decides about tasks that a poll does not show as over.

    Arguments:
        client: the API client, for Runware's archive.
        ledger: the ledger of the storage root.
        deadlines: time limits.
        poll_seconds: longest time between two polls while this process runs.
        replays: whether tasks may be sent again.
        store_time: the store's clock.
        elapsed: a clock that runs through a suspended machine, in seconds.
    """

    def __init__(
        self,
        client: RunwareClient,
        ledger: Ledger,
        *,
        deadlines: Deadlines,
        poll_seconds: float,
        replays: bool,
        store_time: Callable[[], datetime],
        elapsed: Callable[[], float],
    ) -> None:
        self._client = client
        self._ledger = ledger
        self._deadlines = deadlines
        self._poll_seconds = poll_seconds
        self._replays = replays
        self._store_time = store_time
        self._elapsed = elapsed

    def resolve(self, task: TrackedTask, status: TaskStatus) -> Resolution:
        """What to do about a task.

        Arguments:
            task: the task; its empty polls are counted there.
            status: its status in a poll.

        Returns:
            What is ready to be stored, or the end of the task, or that it is awaited, is slow, or
            must be sent again under the same UUID.
        """
        if status.poll_error is not None:
            task.empty_polls = None
            return "wait"
        if status.is_known:
            task.empty_polls = None
            return self._resolve_known(task, status)
        kind: Literal["unknown", "silent"] = "silent" if status.not_found is None else "unknown"
        now = self._elapsed()
        empty = task.empty_polls
        # Nothing is known about the time when this process was paused.
        longest_gap = max(self._deadlines.unknown_seconds / 2, 3 * self._poll_seconds)
        if empty is None or empty.kind != kind or now - empty.last > longest_gap:
            empty = task.empty_polls = EmptyPolls(kind, since=now, last=now)
        else:
            empty.last = now
            empty.count += 1
        if task.is_seen and kind == "unknown":
            reported = self._reported_by_markers(task)
            # What is stored is final, and a webhook may report only some of the results.
            if reported is not None and (
                self._is_past_deadline(task)
                or reported.is_over(task.attempt.request.spec.number_results)
            ):
                at = max(marker.received_at for marker in task.markers)
                return self._ready(task, reported, "marker", at)
        lasted = now - empty.since >= self._deadlines.unknown_seconds
        if not (self._is_past_deadline(task) and lasted and empty.count >= _MIN_POLLS):
            return "wait"
        return self._resolve_unknown(task)

    def _resolve_known(self, task: TrackedTask, status: TaskStatus) -> Resolution:
        if not self._is_past_deadline(task):
            return "wait"
        if not status.processing:
            # Some results arrived, and no other is being generated.
            return self._ready(task, status)
        if not self._is_older(task.last_sent, self._deadlines.running_seconds):
            return "slow"
        if status.results:
            return self._ready(task, status)
        hours = self._deadlines.running_seconds / 3600
        return self._give_up(task, "lost", f"Runware has been generating it for {hours:g} hours")

    def _resolve_unknown(self, task: TrackedTask) -> Resolution:
        """Resolve a task after enough empty polls; Runware's archive decides."""
        try:
            archived = self._client.task_details(task.task_uuid)
        except RunwareError as error:
            _log.warning("task %s could not be looked up: %s", task.task_uuid, error)
            return "wait"
        if archived.results:
            return self._ready(task, archived)
        if archived.is_known:
            was_seen, task.is_seen, task.empty_polls = task.is_seen, True, None
            self._ledger.mark_seen(task.task_uuid, "polled")
            if not (was_seen and archived.errors):
                return "wait"
            # Its errors may come from a refused replay, so they do not say how it ended.
        if task.is_seen:
            return self._give_up(task, "lost", "Runware accepted it, and no longer knows it")
        late_replays = _late_replays(task.files.sent_times, self._deadlines.unknown_seconds)
        if archived.not_found is None or not self._replays or late_replays >= _MAX_LATE_REPLAYS:
            return self._give_up(task, "unsure", "")
        task.empty_polls = None
        return "replay"

    def _give_up(
        self, task: TrackedTask, state: Literal["lost", "unsure"], reason: str
    ) -> ReadyTask | GiveUp:
        """The end of a task, unless Runware uploaded its video: that was paid for.

        The video is stored under the task's UUID, since its own is not known.
        """
        attempt = task.attempt
        if attempt.delivery == "direct" and self._ledger.root.exists(
            layout.incoming_key(task.task_uuid)
        ):
            uploaded = VideoResult(
                task_uuid=task.task_uuid, video_uuid=task.task_uuid, video_url=None
            )
            status = TaskStatus(task_uuid=task.task_uuid, results=(uploaded,))
            return self._ready(task, status, "upload")
        error = self._unsure(attempt) if state == "unsure" else self._lost(attempt, reason)
        return GiveUp(state, error)

    def _reported_by_markers(self, task: TrackedTask) -> TaskStatus | None:
        """The results that webhooks reported.

        A failure that only a webhook reports does not count, since anyone who saw the address
        could have sent it.
        """
        results: dict[str, VideoResult] = {}
        for marker in task.markers:
            body = self._ledger.root.read_if_present(marker.key)
            if body is not None:
                status = task_status(task.task_uuid, parse_response(200, body))
                results |= {video.video_uuid: video for video in status.results}
        if not results:
            return None
        ordered = tuple(results[uuid] for uuid in sorted(results))
        return TaskStatus(task_uuid=task.task_uuid, results=ordered)

    def _ready(
        self,
        task: TrackedTask,
        status: TaskStatus,
        facts_from: FactsFrom = "poll",
        at: datetime | None = None,
    ) -> ReadyTask:
        at = at or self._store_time()
        return ReadyTask(task.attempt, status, at, facts_from, task.reopening)

    def _is_past_deadline(self, task: TrackedTask) -> bool:
        return self._is_older(task.last_sent, self._deadlines.generation_seconds)

    def _is_older(self, since: datetime, seconds: float) -> bool:
        return self._store_time() - since >= timedelta(seconds=seconds)

    def _lost(self, attempt: AttemptRecord, reason: str) -> ErrorRecord:
        return ErrorRecord(
            kind="lost",
            message=f"no video arrived: {reason}. {_counts_as(attempt)}. Check your Runware "
            f"account. To generate the clip again, {retry_advice(attempt.asset, attempt.clip)}",
        )

    def _unsure(self, attempt: AttemptRecord) -> ErrorRecord:
        return ErrorRecord(
            kind="unsure",
            message=f"it was sent, and Runware has not confirmed it for more than "
            f"{self._deadlines.generation_seconds / 60:g} minutes. It is not sent again "
            f"automatically, since it may have been charged. Look it up at Runware by its UUID "
            f"{attempt.task_uuid}, then run: sora-dagster resolve {attempt.clip!r} --asset "
            f"{attempt.asset} --resend, or --give-up",
        )


def _late_replays(sent_times: Sequence[datetime], unknown_seconds: float) -> int:
    """How often a task was sent again long after it was sent before.

    Quick replays do not count: an outage causes many of them.
    """
    wait = timedelta(seconds=unknown_seconds)
    return sum(later - earlier >= wait for earlier, later in pairwise(sent_times))


def _counts_as(attempt: AttemptRecord) -> str:
    if attempt.estimate.usd is None:
        return "Its cost is unknown"
    return "It counts at its estimate"
