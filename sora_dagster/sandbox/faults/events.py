"""What happens in the sandbox, as the rules of a fault plan see it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

PostEvent = Literal["submission", "dry_run", "poll", "details", "account", "other"]
EventKind = PostEvent | Literal["generation", "webhook", "download", "upload"]


@dataclass(frozen=True)
class TaskFacts:
    """What is known of a task that an event is about.

    Arguments:
        task_uuid: its id as the client wrote it.
        prompt: what its video shows; empty where the task is not known.
    """

    task_uuid: str
    prompt: str = ""


@dataclass(frozen=True)
class LookupFacts:
    """How a known task stands when it is looked up by a poll or in the archive.

    Arguments:
        polls: how often it was polled before.
        polls_since_end: how often it was polled before, after it was over.
        seconds_since_acceptance: its age.
        seconds_since_end: how long it has been over; none while it runs.
        has_refused_replay: whether a later submission of its UUID was refused.
    """

    polls: int
    polls_since_end: int
    seconds_since_acceptance: float
    seconds_since_end: float | None
    has_refused_replay: bool


@dataclass(frozen=True)
class Event:
    """One occasion on which a fault can strike.

    Arguments:
        kind: what happens.
        tasks: the tasks that it is about: all of a POST, one otherwise.
        result: index of the result that it is about, from 0.
        position: index of a submitted task in its POST, from 0.
        lookup: how the task stands, where a known one is looked up.
        is_failure: whether a webhook tells of a failed result.
        is_redirected: whether a download was redirected here by the sandbox.
    """

    kind: EventKind
    tasks: tuple[TaskFacts, ...]
    result: int | None = None
    position: int | None = None
    lookup: LookupFacts | None = None
    is_failure: bool = False
    is_redirected: bool = False
