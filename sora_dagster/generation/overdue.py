"""Tasks that polls do not show: when one is asked for again, and when it is given up.

That polls show nothing of a task proves nothing by itself. Only Runware's own word, given by both
of its questions for long enough, that it does not know a task that was never seen there, lets the
task be sent again. What was seen is never sent again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Literal

from sora_dagster.generation import layout
from sora_dagster.generation.archive import ClipArchive, FinishedTask, ReadyTask
from sora_dagster.generation.ledger import Ledger
from sora_dagster.generation.markers import Marker
from sora_dagster.generation.records import AttemptRecord, SeenRecord
from sora_dagster.generation.requester import Requester
from sora_dagster.generation.sender import Sender
from sora_dagster.runware.answers import parse_answer
from sora_dagster.runware.client import RunwareClient
from sora_dagster.runware.errors import (
    ErrorRecord,
    InvalidRequestError,
    RunwareError,
    UnknownModelError,
)
from sora_dagster.runware.results import TaskStatus, VideoResult, task_status
from sora_dagster.storage import ObjectMissingError

_log = logging.getLogger(__name__)

# A task that was sent again so often, each time after Runware had not known it for long, and that
# Runware still does not know, is left to a person.
_MOST_LATE_REPLAYS = 4


@dataclass(frozen=True)
class Deadlines:
    """How long things may take, in seconds, by the store's clock.

    Arguments:
        unknown_seconds: how long after it was last sent a task that Runware says it does not know
            may be sent again.
        generation_seconds: how long after it was last sent a task may take at the most.
        unsent_seconds: age after which an attempt that was claimed but never sent is given up;
            well beyond the time between a claim and its POST.
        fetch_seconds: how long a finished video that is gone or broken is asked for again.
        upload_seconds: how long a video that Runware puts into the store may come after its task
            was seen finished; then it is downloaded.
    """

    unknown_seconds: float = 600.0
    generation_seconds: float = 1800.0
    unsent_seconds: float = 300.0
    fetch_seconds: float = 600.0
    upload_seconds: float = 60.0


class Overdue:
    """Decides about tasks that polls show no end of.

    Arguments:
        client: the API client.
        ledger: the ledger.
        archive: records outcomes.
        requester: builds a request again.
        sender: sends it again.
        deadlines: how long things may take.
        store_time: the store's clock.
    """

    def __init__(
        self,
        client: RunwareClient,
        ledger: Ledger,
        archive: ClipArchive,
        requester: Requester,
        sender: Sender,
        *,
        deadlines: Deadlines,
        store_time: Callable[[], datetime],
    ) -> None:
        self._client = client
        self._ledger = ledger
        self._archive = archive
        self._requester = requester
        self._sender = sender
        self._deadlines = deadlines
        self._store_time = store_time
        self._sent_times: dict[str, tuple[datetime, ...]] = {}
        self._broken_since: dict[str, datetime] = {}

    def judge(
        self, attempt: AttemptRecord, status: TaskStatus, markers: list[Marker]
    ) -> FinishedTask | ReadyTask | None:
        """What to do about a task that a poll did not show as over.

        Arguments:
            attempt: what was asked.
            status: what the poll said.
            markers: webhooks that came for it.

        Returns:
            Its end, what there is of it to be stored, or None where it is waited for.
        """
        if status.poll_error is not None:
            return None
        task_uuid = attempt.task_uuid
        if status.is_known:
            return self._running(attempt, status)
        if self._ledger.seen(task_uuid) is not None:
            return self._forgotten(attempt, status, markers)
        if status.not_found is not None:
            self._send_again(attempt)
        if self._is_past_deadline(task_uuid):
            return self._give_up(attempt, "unsure", self._unsure(attempt))
        return None

    def fetch_failed(
        self, attempt: AttemptRecord, reason: str, *, may_pass: bool
    ) -> FinishedTask | None:
        """Note that a finished video could not be stored; its end, once it is given up."""
        now = self._store_time()
        since = self._broken_since.setdefault(attempt.task_uuid, now)
        if may_pass or now - since < timedelta(seconds=self._deadlines.fetch_seconds):
            return None
        error = ErrorRecord(
            kind="gone",
            message=f"the video was generated and paid for, and cannot be had: {reason}",
        )
        return self._archive.conclude(attempt, "lost", error)

    def _running(
        self, attempt: AttemptRecord, status: TaskStatus
    ) -> FinishedTask | ReadyTask | None:
        if not self._is_past_deadline(attempt.task_uuid):
            return None
        if status.results or status.errors:
            return ReadyTask(attempt, status, self._store_time())
        return self._give_up(attempt, "lost", self._lost("it is still being generated"))

    def _forgotten(
        self, attempt: AttemptRecord, status: TaskStatus, markers: list[Marker]
    ) -> FinishedTask | ReadyTask | None:
        """A task that Runware had, and shows no more (or not yet)."""
        is_past_deadline = self._is_past_deadline(attempt.task_uuid)
        if status.not_found is not None:
            told = self._told_by_markers(attempt.task_uuid, markers)
            # What is stored is final: a webhook of some of the results does not speak for the rest.
            if told is not None and (
                is_past_deadline or told.is_over(attempt.request.spec.number_results)
            ):
                return told_ready(attempt, told, markers)
        if is_past_deadline:
            return self._give_up(
                attempt, "lost", self._lost("Runware had it, and does not know it any more")
            )
        return None

    def _give_up(
        self, attempt: AttemptRecord, state: Literal["lost", "unsure"], error: ErrorRecord
    ) -> FinishedTask | ReadyTask:
        """The end of a task that polls tell nothing of any more.

        What Runware put into the store is all the same what was paid for: it is kept, under the
        task's own UUID, since no other is known.
        """
        task_uuid = attempt.task_uuid
        if attempt.delivery == "direct" and self._ledger.root.exists(
            layout.incoming_key(task_uuid)
        ):
            put = VideoResult(task_uuid=task_uuid, video_uuid=task_uuid, video_url=None)
            status = TaskStatus(task_uuid=task_uuid, results=(put,))
            return ReadyTask(attempt, status, self._store_time(), "upload")
        return self._archive.conclude(attempt, state, error)

    def _told_by_markers(self, task_uuid: str, markers: list[Marker]) -> TaskStatus | None:
        """What webhooks said of success.

        A failure that only a webhook tells of counts for nothing, since anyone who saw the address
        could have written it.
        """
        best: TaskStatus | None = None
        for marker in markers:
            body = self._ledger.root.read_if_present(marker.key)
            status = None if body is None else task_status(task_uuid, parse_answer(200, body))
            if status is not None and status.results:
                seen = {} if best is None else {video.video_uuid: video for video in best.results}
                seen |= {video.video_uuid: video for video in status.results}
                ordered = tuple(seen[uuid] for uuid in sorted(seen))
                best = TaskStatus(task_uuid=task_uuid, results=ordered)
        return best

    def _send_again(self, attempt: AttemptRecord) -> None:
        """Send a task again that was never seen, where Runware has not known it for long."""
        task_uuid = attempt.task_uuid
        sent_times = self._times(task_uuid)
        if not (
            self._sender.replays
            and self._late_replays(sent_times) < _MOST_LATE_REPLAYS
            and self._is_older(sent_times[-1], self._deadlines.unknown_seconds)
        ):
            return
        try:
            archived = self._client.task_details(task_uuid)
        except RunwareError as error:
            _log.warning("the archive could not be asked about task %s: %s", task_uuid, error)
            return
        if archived.is_known:
            self._ledger.mark_seen(task_uuid, SeenRecord(how="polled", at=self._ledger.clock()))
            return
        if archived.not_found is None:
            return
        try:
            inference = self._requester.rebuild(attempt)
        except (InvalidRequestError, UnknownModelError, ObjectMissingError) as error:
            _log.error("task %s cannot be sent again: %s", task_uuid, error)
            return
        self._sender.replay(inference, token=len(sent_times) + 1)
        del self._sent_times[task_uuid]

    def _late_replays(self, sent_times: Sequence[datetime]) -> int:
        """How often a task was sent again long after it was sent before.

        Replays within the window are many where an outage outlasts it, and count for nothing here.
        """
        wait = timedelta(seconds=self._deadlines.unknown_seconds)
        return sum(later - earlier >= wait for earlier, later in pairwise(sent_times))

    def _is_past_deadline(self, task_uuid: str) -> bool:
        times = self._times(task_uuid)
        return bool(times) and self._is_older(times[-1], self._deadlines.generation_seconds)

    def _is_older(self, since: datetime, seconds: float) -> bool:
        return self._store_time() - since >= timedelta(seconds=seconds)

    def _times(self, task_uuid: str) -> tuple[datetime, ...]:
        if task_uuid not in self._sent_times:
            self._sent_times[task_uuid] = self._ledger.sent_times(task_uuid)
        return self._sent_times[task_uuid]

    def _lost(self, what: str) -> ErrorRecord:
        return ErrorRecord(
            kind="lost",
            message=f"no video came within {self._deadlines.generation_seconds / 60:g} minutes: "
            f"{what}. It counts at its estimate",
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


def told_ready(attempt: AttemptRecord, told: TaskStatus, markers: list[Marker]) -> ReadyTask:
    """A task whose results only webhooks tell of."""
    return ReadyTask(attempt, told, max(marker.received_at for marker in markers), "marker")
