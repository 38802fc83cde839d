"""What to do about tasks that a poll does not show as over.

An empty poll result does not prove that a task is unknown, and age proves nothing at all. A task
is sent again, or given up, only after the same answer through ten minutes, confirmed by Runware's
archive. What Runware was seen to have is never sent again, and what it says is running is never
given up before a day.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Literal

from sora_dagster.generation.collecting.tracked import Absence, ReadyTask, TrackedTask
from sora_dagster.generation.protocol import layout
from sora_dagster.generation.protocol.ledger import Ledger
from sora_dagster.generation.protocol.records import AttemptRecord, SeenRecord
from sora_dagster.runware.answers import parse_answer
from sora_dagster.runware.client import RunwareClient
from sora_dagster.runware.errors import ErrorRecord, RunwareError
from sora_dagster.runware.results import TaskStatus, VideoResult, task_status

_log = logging.getLogger(__name__)

# A task that was sent again so often, each time after Runware had not known it for long, and that
# Runware still does not know, is left to a person.
_MOST_LATE_REPLAYS = 4
_LEAST_POLLS = 3


@dataclass(frozen=True)
class Deadlines:
    """How long things may take, in seconds.

    Arguments:
        unknown_seconds: how long Runware must give the same answer about a task before it is sent
            again or given up.
        generation_seconds: how long after it was last sent a generation usually ends. A task that
            Runware says is still running then is reported as slow.
        running_seconds: how long a task that Runware says is running is waited for at most.
        unsent_seconds: age after which an attempt that was claimed but never sent is given up;
            well beyond the time between a claim and its POST.
        fetch_seconds: how long a finished video that is gone or broken is asked for again.
        upload_seconds: how long a video that Runware puts into the store may come after its task
            was seen finished; then it is downloaded.
        damaged_seconds: time between two fetches of a video that cannot be decoded; if both bring
            the same bytes, they are kept.
    """

    unknown_seconds: float = 600.0
    generation_seconds: float = 1800.0
    running_seconds: float = 86_400.0
    unsent_seconds: float = 300.0
    fetch_seconds: float = 600.0
    upload_seconds: float = 60.0
    damaged_seconds: float = 300.0


@dataclass(frozen=True)
class Conclusion:
    """The end of a task of which no video can be had.

    Arguments:
        state: Runware had it and knows it no more (lost), or never gave a sign of it (unsure).
        error: why.
    """

    state: Literal["lost", "unsure"]
    error: ErrorRecord


Judgement = ReadyTask | Conclusion | Literal["wait", "slow", "replay"]


class MissingTasks:
    """Decides about tasks that a poll does not show as over.

    Arguments:
        client: the API client, for its archive.
        ledger: the ledger.
        deadlines: how long things may take.
        poll_seconds: longest time between two polls, while this process runs.
        replays: whether tasks are ever sent again.
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

    def resolve(self, task: TrackedTask, status: TaskStatus) -> Judgement:
        """What to do about a task.

        Arguments:
            task: the task; the answers about it are counted there.
            status: what a poll said.

        Returns:
            What there is of it to be stored, its end, or that it is waited for, is slow, or is to
            be sent again under the same UUID.
        """
        if status.poll_error is not None:
            task.absence = None
            return "wait"
        if status.is_known:
            task.absence = None
            return self._running(task, status)
        kind: Literal["unknown", "silent"] = "silent" if status.not_found is None else "unknown"
        now = self._elapsed()
        absence = task.absence
        # What Runware said while this process was stopped is not known.
        longest_gap = max(self._deadlines.unknown_seconds / 2, 3 * self._poll_seconds)
        if absence is None or absence.kind != kind or now - absence.last > longest_gap:
            absence = task.absence = Absence(kind, since=now, last=now)
        else:
            absence.last = now
            absence.polls += 1
        if task.is_seen and kind == "unknown":
            reported = self._reported_by_markers(task)
            # What is stored is final: a webhook of some of the results does not speak for the rest.
            if reported is not None and (
                self._is_past_deadline(task)
                or reported.is_over(task.attempt.request.spec.number_results)
            ):
                at = max(marker.received_at for marker in task.markers)
                return self._ready(task, reported, at, "marker")
        if not (self._is_past_deadline(task) and self._is_settled(absence)):
            return "wait"
        return self._absent(task)

    def _running(self, task: TrackedTask, status: TaskStatus) -> Judgement:
        if not self._is_past_deadline(task):
            return "wait"
        if not status.processing:
            # Some results came, and none is on its way any more.
            return self._ready(task, status, self._store_time(), "poll")
        if not self._is_older(task.last_sent, self._deadlines.running_seconds):
            return "slow"
        if status.results:
            return self._ready(task, status, self._store_time(), "poll")
        hours = self._deadlines.running_seconds / 3600
        return self._give_up(
            task, "lost", f"Runware has said for {hours:g} hours that it is being generated"
        )

    def _absent(self, task: TrackedTask) -> Judgement:
        """A task of which polls have shown nothing for long; the archive has the last word."""
        try:
            archived = self._client.task_details(task.task_uuid)
        except RunwareError as error:
            _log.warning("the archive could not be asked about %s: %s", task.task_uuid, error)
            return "wait"
        if archived.results:
            return self._ready(task, archived, self._store_time(), "poll")
        if archived.is_known:
            was_seen, task.is_seen, task.absence = task.is_seen, True, None
            self._ledger.mark_seen(
                task.task_uuid, SeenRecord(how="polled", at=self._ledger.clock())
            )
            if not (was_seen and archived.errors):
                return "wait"
            # Its errors may be those of a refused replay, so they do not say how it ended.
        if task.is_seen:
            return self._give_up(task, "lost", "Runware had it, and no longer knows it")
        if archived.not_found is None:
            return self._give_up(task, "unsure", "")
        if (
            not self._replays
            or _late_replays(task.files.sent_times, self._deadlines.unknown_seconds)
            >= _MOST_LATE_REPLAYS
        ):
            return self._give_up(task, "unsure", "")
        task.absence = None
        return "replay"

    def _give_up(
        self, task: TrackedTask, state: Literal["lost", "unsure"], reason: str
    ) -> ReadyTask | Conclusion:
        """The end of a task, unless Runware put its video into the store: that was paid for.

        It is kept under the task's own UUID, since no other is known.
        """
        attempt = task.attempt
        if attempt.delivery == "direct" and self._ledger.root.exists(
            layout.incoming_key(task.task_uuid)
        ):
            put = VideoResult(task_uuid=task.task_uuid, video_uuid=task.task_uuid, video_url=None)
            status = TaskStatus(task_uuid=task.task_uuid, results=(put,))
            return self._ready(task, status, self._store_time(), "upload")
        error = self._unsure(attempt) if state == "unsure" else self._lost(reason)
        return Conclusion(state, error)

    def _reported_by_markers(self, task: TrackedTask) -> TaskStatus | None:
        """What webhooks said of success.

        A failure that only a webhook reports does not count, since anyone who saw the address
        could have written it.
        """
        results: dict[str, VideoResult] = {}
        for marker in task.markers:
            body = self._ledger.root.read_if_present(marker.key)
            if body is not None:
                status = task_status(task.task_uuid, parse_answer(200, body))
                results |= {video.video_uuid: video for video in status.results}
        if not results:
            return None
        ordered = tuple(results[uuid] for uuid in sorted(results))
        return TaskStatus(task_uuid=task.task_uuid, results=ordered)

    def _ready(
        self,
        task: TrackedTask,
        status: TaskStatus,
        seen_finished_at: datetime,
        facts_from: Literal["poll", "marker", "upload"],
    ) -> ReadyTask:
        return ReadyTask(task.attempt, status, seen_finished_at, facts_from, task.reopening)

    def _is_settled(self, absence: Absence) -> bool:
        """Whether the same answer came often enough and for long enough."""
        lasted = self._elapsed() - absence.since
        return absence.polls >= _LEAST_POLLS and lasted >= self._deadlines.unknown_seconds

    def _is_past_deadline(self, task: TrackedTask) -> bool:
        return self._is_older(task.last_sent, self._deadlines.generation_seconds)

    def _is_older(self, since: datetime, seconds: float) -> bool:
        return self._store_time() - since >= timedelta(seconds=seconds)

    def _lost(self, reason: str) -> ErrorRecord:
        return ErrorRecord(
            kind="lost",
            message=f"no video came: {reason}. It counts at its estimate. Check your Runware "
            f"account, then request the clip again with retry_failed",
        )

    def _unsure(self, attempt: AttemptRecord) -> ErrorRecord:
        return ErrorRecord(
            kind="unsure",
            message=f"it was sent, and Runware neither confirmed nor denied that it has it within "
            f"{self._deadlines.generation_seconds / 60:g} minutes; it is not sent again by itself, "
            f"since it may have been charged. Look it up at Runware by its task UUID "
            f"{attempt.task_uuid}, then run: sora-dagster resolve {attempt.clip!r} --asset "
            f"{attempt.asset} --resend, or --give-up",
        )


def _late_replays(sent_times: Sequence[datetime], unknown_seconds: float) -> int:
    """How often a task was sent again long after it was sent before.

    Replays within the window are many where an outage outlasts it, and do not count here.
    """
    wait = timedelta(seconds=unknown_seconds)
    return sum(later - earlier >= wait for earlier, later in pairwise(sent_times))
