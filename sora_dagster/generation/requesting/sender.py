"""Sending: the one place that POSTs a paid request, and how it resolves unclear answers.

Every POST of a task needs a token, an object that one process alone can create. The first is taken
before the first POST. A further one is taken only to replay the same UUID: soon after the first
POST, while an original that was accepted is still generated and refuses the replay, or long after
it, when Runware has said for long enough that it does not know the task.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Literal

from sora_dagster.generation.protocol.clocks import running_seconds
from sora_dagster.generation.protocol.ledger import Ledger
from sora_dagster.generation.protocol.record_store import UnreadableRecordError
from sora_dagster.generation.protocol.records import SeenHow
from sora_dagster.generation.requesting.options import RequestOptions
from sora_dagster.generation.requesting.submission_gate import SubmissionGate
from sora_dagster.runware.alternatives import unavailable_text
from sora_dagster.runware.client import RunwareClient
from sora_dagster.runware.errors import (
    ErrorRecord,
    ModelUnavailableError,
    RunwareError,
    SubmissionTooLateError,
)
from sora_dagster.runware.requests import VideoInference
from sora_dagster.runware.submissions import Submission

_log = logging.getLogger(__name__)

# Refusals of the whole request, not of the clip: nothing was accepted, and the same clip may be
# requested again as soon as the cause is gone.
_NOT_CLIP_ERRORS = frozenset({"authentication", "quota", "rate_limit", "connection", "server"})

# A task is sent at most this long after its token was taken. A process that was stopped or
# suspended in between must not act on a decision that others may have revised since.
LATEST_SEND_SECONDS = 20.0
# A refusal counts if it is recorded within this time: a process that was suspended after its POST
# must not overrule what became of the task since. No other process replays a task so soon.
_LATEST_REFUSAL_SECONDS = 240.0

SendState = Literal["seen", "taken", "unconfirmed", "void", "failed", "not_sent"]


@dataclass(frozen=True)
class SendSettings:
    """How unclear answers are resolved.

    Arguments:
        confirm_seconds: wait before a task whose answer is unclear is polled for.
        replay_window_seconds: a task that polls do not show is sent again under the same UUID only
            if its next token is less than this younger than its first; shorter than any
            generation.
        replays: whether tasks are ever sent again. Turn it off for an API that makes and charges a
            known UUID again.
    """

    confirm_seconds: float = 3.0
    replay_window_seconds: float = 30.0
    replays: bool = True


@dataclass(frozen=True)
class SendResult:
    """The result of sending one task.

    Arguments:
        task_uuid: the task.
        state: `seen`, Runware has it; `taken`, another process has the token; `unconfirmed`, no
            proof yet; `void`, not accepted for a cause outside the clip; `failed`, refused; or
            `not_sent`, the run makes no further submission, and no token was taken.
        error: why it was not accepted, or why there is no proof.
    """

    task_uuid: str
    state: SendState
    error: ErrorRecord | None = None


@dataclass(frozen=True)
class _Moment:
    """A moment on two clocks, since either may stop or jump while a machine is suspended."""

    wall: float
    elapsed: float


class Sender:
    """Sends tasks, each token once.

    Arguments:
        client: the API client.
        ledger: the ledger that keeps the tokens.
        settings: how unclear answers are resolved.
        wall_clock: the time of day, in seconds.
        elapsed: a clock that runs through a suspended machine, in seconds.
        sleep: waits for a number of seconds.
    """

    def __init__(
        self,
        client: RunwareClient,
        ledger: Ledger,
        *,
        settings: SendSettings | None = None,
        wall_clock: Callable[[], float] = time.time,
        elapsed: Callable[[], float] = running_seconds,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._client = client
        self._ledger = ledger
        self._settings = settings or SendSettings()
        self._wall_clock = wall_clock
        self._elapsed = elapsed
        self._sleep = sleep

    @property
    def replays(self) -> bool:
        """Whether tasks are ever sent again."""
        return self._settings.replays

    def send(
        self,
        inferences: Sequence[VideoInference],
        options: RequestOptions,
        gate: SubmissionGate,
        *,
        slots: Mapping[str, str],
    ) -> dict[str, SendResult]:
        """Send tasks for the first time, in one POST, and resolve unclear answers.

        Arguments:
            inferences: the requests, at most the client's batch size.
            options: whose run pays for them.
            gate: whether this run may still submit.
            slots: key of each task's attempt, by UUID; the webhook receiver finds it by this.

        Returns:
            The results by task UUID. Refused and voided tasks have their outcome.
        """
        if gate.closed_because is not None:
            return _not_sent(inferences)
        taken_at = self._now()
        won, answers = self._take_tokens(
            inferences, {inference.task_uuid: 1 for inference in inferences}, options, slots
        )
        if won:
            answers |= self._post(won, taken_at, gate, is_replay=False)
            by_uuid = {inference.task_uuid: inference for inference in won}
            self._resolve(by_uuid, answers, taken_at, gate)
        return answers

    def replay(
        self,
        inferences: Sequence[VideoInference],
        tokens: Mapping[str, int],
        gate: SubmissionGate | None = None,
    ) -> dict[str, SendResult]:
        """Send tasks again, in batches, that Runware has reported as unknown for long enough.

        Arguments:
            inferences: the requests, with the same task UUIDs.
            tokens: number of the token to take for each task, by UUID.
            gate: whether this run may still submit; default: a new one for this call.

        Returns:
            The results by task UUID. A refused replay is `unconfirmed`: it says nothing about the
            earlier POST.
        """
        gate = gate or SubmissionGate()
        answers: dict[str, SendResult] = {}
        size = self._client.submit_batch_size
        for start in range(0, len(inferences), size):
            batch = inferences[start : start + size]
            if gate.closed_because is not None:
                answers |= _not_sent(batch)
                continue
            taken_at = self._now()
            won, taken = self._take_tokens(batch, tokens, None)
            answers |= taken
            if won:
                answers |= self._post(won, taken_at, gate, is_replay=True)
        return answers

    def _take_tokens(
        self,
        inferences: Sequence[VideoInference],
        tokens: Mapping[str, int],
        options: RequestOptions | None,
        slots: Mapping[str, str] | None = None,
    ) -> tuple[list[VideoInference], dict[str, SendResult]]:
        """Take a token for each task; gives the won tasks, and results for the others."""
        won: list[VideoInference] = []
        taken: dict[str, SendResult] = {}
        for inference in inferences:
            task_uuid = inference.task_uuid
            try:
                has_it = self._ledger.take_right_to_send(
                    task_uuid,
                    tokens[task_uuid],
                    root_run=None if options is None else options.root_run,
                    run_limit_usd=None if options is None else options.run_limit_usd,
                    slot=None if slots is None else slots[task_uuid],
                )
            except UnreadableRecordError as error:
                # A token that cannot be read was taken by another process, so it is not sent here.
                _log.warning("task %s is not sent: %s", task_uuid, error)
                has_it = False
            if has_it:
                won.append(inference)
            else:
                taken[task_uuid] = SendResult(task_uuid, "taken")
        return won, taken

    def _post(
        self,
        inferences: Sequence[VideoInference],
        taken_at: _Moment,
        gate: SubmissionGate,
        *,
        is_replay: bool,
    ) -> dict[str, SendResult]:
        submissions = self._client.submit(
            inferences, before_post=lambda: self._check_is_in_time(taken_at)
        )
        gate.read(submissions)
        by_uuid = {inference.task_uuid: inference for inference in inferences}
        is_late = self._seconds_since(taken_at) > _LATEST_REFUSAL_SECONDS
        return {
            submission.task_uuid: self._record(
                submission, by_uuid[submission.task_uuid], may_refuse=not (is_replay or is_late)
            )
            for submission in submissions
        }

    def _check_is_in_time(self, taken_at: _Moment) -> None:
        seconds = self._seconds_since(taken_at)
        if seconds > LATEST_SEND_SECONDS:
            raise SubmissionTooLateError(
                f"this process took the right to send {seconds:.0f} seconds ago, and was stopped "
                f"or delayed since; after {LATEST_SEND_SECONDS:.0f} seconds it does not send"
            )

    def _record(
        self, submission: Submission, inference: VideoInference, *, may_refuse: bool
    ) -> SendResult:
        task_uuid = submission.task_uuid
        if submission.state in ("accepted", "conflict"):
            # A conflict proves that Runware has the task.
            how: SeenHow = "acknowledged" if submission.state == "accepted" else "conflict"
            self._ledger.mark_seen(task_uuid, how)
            return SendResult(task_uuid, "seen")
        error = submission.error.to_record() if submission.error is not None else None
        if submission.state == "uncertain" or not may_refuse:
            # A refused replay says nothing about the first POST, which may have been accepted.
            _log.warning("no clear response for task %s: %s", task_uuid, submission.error)
            return SendResult(task_uuid, "unconfirmed", error)
        error = error or ErrorRecord(
            kind="connection", message="the request was never sent", retryable=True
        )
        if error.kind == ModelUnavailableError.kind:
            advice = unavailable_text(inference, self._client.catalogue)
            error = error.model_copy(update={"message": f"{error.message.rstrip('.')}. {advice}"})
        is_void = submission.state == "unsent" or error.kind in _NOT_CLIP_ERRORS
        state: Literal["void", "failed"] = "void" if is_void else "failed"
        self._ledger.settle_unaccepted(task_uuid, state, error)
        return SendResult(task_uuid, state, error)

    def _resolve(
        self,
        inferences: Mapping[str, VideoInference],
        answers: dict[str, SendResult],
        first_taken_at: _Moment,
        gate: SubmissionGate,
    ) -> None:
        """Poll unconfirmed tasks, and replay them while the window is open."""
        token = 1
        while unclear := [uuid for uuid, sent in answers.items() if sent.state == "unconfirmed"]:
            self._sleep(self._settings.confirm_seconds)
            for task_uuid in self._known(unclear):
                self._ledger.mark_seen(task_uuid, "polled")
                answers[task_uuid] = SendResult(task_uuid, "seen")
                unclear.remove(task_uuid)
            may_replay = self._settings.replays and gate.closed_because is None
            window = self._settings.replay_window_seconds
            if not (unclear and may_replay and self._seconds_since(first_taken_at) < window):
                return
            token += 1
            taken_at = self._now()
            won, _ = self._take_tokens(
                [inferences[uuid] for uuid in unclear], dict.fromkeys(unclear, token), None
            )
            in_window = [
                inference for inference in won if self._is_in_window(inference.task_uuid, token)
            ]
            if not in_window:
                return
            answers |= self._post(in_window, taken_at, gate, is_replay=True)

    def _is_in_window(self, task_uuid: str, token: int) -> bool:
        """Whether a token is young enough for a replay, by the store's clock."""
        sent = self._ledger.task_files(task_uuid).sent
        window = timedelta(seconds=self._settings.replay_window_seconds)
        return 1 in sent and token in sent and sent[token] - sent[1] < window

    def _known(self, task_uuids: Sequence[str]) -> list[str]:
        """The tasks that polls show. An empty answer does not prove that a task is unknown."""
        try:
            statuses = self._client.poll(task_uuids)
        except RunwareError as error:
            # Whether they may be sent again depends on the window alone.
            _log.warning("unclear responses could not be resolved yet: %s", error)
            return []
        return [task_uuid for task_uuid in task_uuids if statuses[task_uuid].is_known]

    def _now(self) -> _Moment:
        return _Moment(self._wall_clock(), self._elapsed())

    def _seconds_since(self, moment: _Moment) -> float:
        return max(self._wall_clock() - moment.wall, self._elapsed() - moment.elapsed)


def _not_sent(inferences: Sequence[VideoInference]) -> dict[str, SendResult]:
    return {
        inference.task_uuid: SendResult(inference.task_uuid, "not_sent") for inference in inferences
    }
