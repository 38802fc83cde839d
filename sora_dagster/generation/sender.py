"""Sending: the one place that POSTs a paid request, and what it does when the answer is not clear.

Every POST of a task needs a token, an object that one process alone can create. The first is taken
before the first POST. A further one is taken only to replay the same UUID: soon after the first
POST, while an original that was accepted is still generated and refuses the replay, or long after
it, when Runware has said for long enough that it does not know the task.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from sora_dagster.generation.ledger import Ledger
from sora_dagster.generation.records import OutcomeRecord, SeenRecord
from sora_dagster.runware.client import RunwareClient
from sora_dagster.runware.errors import ErrorRecord, RunwareError
from sora_dagster.runware.requests import VideoInference
from sora_dagster.runware.submissions import Submission

_log = logging.getLogger(__name__)

# Refusals of the whole request, not of the clip: nothing was accepted, and the same clip may be
# asked for again as soon as the cause is gone.
_NOT_THE_CLIPS_FAULT = frozenset({"authentication", "quota", "rate_limit", "connection", "server"})

SentState = Literal["seen", "taken", "unconfirmed", "void", "failed"]


@dataclass(frozen=True)
class SendSettings:
    """How an unclear answer is cleared up.

    Arguments:
        confirm_seconds: wait before a task whose answer is unclear is polled for.
        replay_window_seconds: time from the first POST in which a task that polls do not show may
            be sent again under the same UUID; shorter than any generation.
        replays: whether tasks are ever sent again. Turn it off for an API that makes and charges a
            known UUID again.
    """

    confirm_seconds: float = 3.0
    replay_window_seconds: float = 30.0
    replays: bool = True


@dataclass(frozen=True)
class Sent:
    """What became of sending one task.

    Arguments:
        task_uuid: the task.
        state: Runware has it (seen), another process sends it (taken), no proof yet
            (unconfirmed), not accepted for a cause outside the clip (void), or refused (failed).
        error: what was answered, where it was no acceptance.
    """

    task_uuid: str
    state: SentState
    error: ErrorRecord | None = None


class Sender:
    """Sends tasks, each token once.

    Arguments:
        client: the API client.
        ledger: the ledger that keeps the tokens.
        settings: how unclear answers are cleared up.
        monotonic: a clock for waits, in seconds.
        sleep: waits so many seconds.
    """

    def __init__(
        self,
        client: RunwareClient,
        ledger: Ledger,
        *,
        settings: SendSettings | None = None,
        monotonic: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._client = client
        self._ledger = ledger
        self._settings = settings or SendSettings()
        self._monotonic = monotonic
        self._sleep = sleep

    @property
    def replays(self) -> bool:
        """Whether tasks are ever sent again."""
        return self._settings.replays

    def send(self, inferences: Sequence[VideoInference]) -> dict[str, Sent]:
        """Send tasks for the first time, in one POST, and clear up what stays unclear.

        Arguments:
            inferences: the requests, at most the client's batch size.

        Returns:
            What became of each, by task UUID. Refused and voided tasks have their outcome.
        """
        won, lost = self._take_tokens(inferences, 1)
        answers = {inference.task_uuid: Sent(inference.task_uuid, "taken") for inference in lost}
        if won:
            started = self._monotonic()
            answers |= self._post(won, is_replay=False)
            self._clear_up({inference.task_uuid: inference for inference in won}, answers, started)
        return answers

    def replay(self, inference: VideoInference, token: int) -> Sent:
        """Send a task once more that Runware has said for long that it does not know.

        Arguments:
            inference: the request, with the same task UUID.
            token: number of the token to take.
        """
        won, _ = self._take_tokens([inference], token)
        if not won:
            return Sent(inference.task_uuid, "taken")
        return self._post(won, is_replay=True)[inference.task_uuid]

    def _take_tokens(
        self, inferences: Sequence[VideoInference], token: int
    ) -> tuple[list[VideoInference], list[VideoInference]]:
        won: list[VideoInference] = []
        lost: list[VideoInference] = []
        for inference in inferences:
            has_it = self._ledger.take_right_to_send(inference.task_uuid, token)
            (won if has_it else lost).append(inference)
        return won, lost

    def _post(self, inferences: Sequence[VideoInference], *, is_replay: bool) -> dict[str, Sent]:
        submissions = self._client.submit(inferences)
        return {
            submission.task_uuid: self._record(submission, is_replay=is_replay)
            for submission in submissions
        }

    def _record(self, submission: Submission, *, is_replay: bool) -> Sent:
        task_uuid = submission.task_uuid
        if submission.state in ("accepted", "conflict"):
            # A conflict is Runware's word that it has the task.
            how: Literal["acknowledged", "conflict"] = (
                "acknowledged" if submission.state == "accepted" else "conflict"
            )
            self._ledger.mark_seen(task_uuid, SeenRecord(how=how, at=self._ledger.clock()))
            return Sent(task_uuid, "seen")
        error = submission.error.to_record() if submission.error is not None else None
        if submission.state == "uncertain" or is_replay:
            # A refused replay says nothing of the first POST, which may have been accepted.
            _log.warning("no clear answer for task %s: %s", task_uuid, submission.error)
            return Sent(task_uuid, "unconfirmed", error)
        error = error or ErrorRecord(
            kind="connection", message="the request was never sent", retryable=True
        )
        is_void = submission.state == "unsent" or error.kind in _NOT_THE_CLIPS_FAULT
        self.end_unaccepted(task_uuid, error, is_void=is_void)
        return Sent(task_uuid, "void" if is_void else "failed", error)

    def _clear_up(
        self, inferences: dict[str, VideoInference], answers: dict[str, Sent], started: float
    ) -> None:
        """Poll what is unconfirmed, and replay it while the window is open."""
        token = 1
        while unclear := [uuid for uuid, sent in answers.items() if sent.state == "unconfirmed"]:
            self._sleep(self._settings.confirm_seconds)
            for task_uuid in self._known(unclear):
                self._ledger.mark_seen(task_uuid, SeenRecord(how="polled", at=self._ledger.clock()))
                answers[task_uuid] = Sent(task_uuid, "seen")
                unclear.remove(task_uuid)
            elapsed = self._monotonic() - started
            if not unclear or not self._settings.replays:
                return
            # What is sent now must still reach Runware within the window.
            if elapsed + self._settings.confirm_seconds > self._settings.replay_window_seconds:
                return
            token += 1
            won, _ = self._take_tokens([inferences[uuid] for uuid in unclear], token)
            if not won:
                return
            answers |= self._post(won, is_replay=True)

    def _known(self, task_uuids: Sequence[str]) -> list[str]:
        """Which tasks polls show. That they show none proves nothing."""
        try:
            statuses = self._client.poll(task_uuids)
        except RunwareError as error:
            _log.warning("unclear answers could not be cleared up yet: %s", error)
            return []
        return [task_uuid for task_uuid in task_uuids if statuses[task_uuid].is_known]

    def end_unaccepted(self, task_uuid: str, error: ErrorRecord, *, is_void: bool) -> None:
        """Record that a task was not accepted and cost nothing."""
        self._ledger.settle(
            task_uuid,
            OutcomeRecord(
                state="void" if is_void else "failed",
                cost_usd=0.0,
                errors=(error,),
                was_accepted=False,
                at=self._ledger.clock(),
                nonce=self._ledger.new_nonce(),
            ),
        )
