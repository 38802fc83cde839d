"""What a collection is given, and what it reports of what it could not end."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from sora_dagster.generation.collecting.archive import ClipArchive
from sora_dagster.generation.collecting.missing_tasks import Deadlines
from sora_dagster.generation.collecting.poll_schedule import PollSettings
from sora_dagster.generation.collecting.tracked import FinishedTask
from sora_dagster.generation.protocol.budget import Budget
from sora_dagster.generation.protocol.claims import Claims
from sora_dagster.generation.protocol.ledger import Ledger
from sora_dagster.generation.requesting.requester import Requester
from sora_dagster.generation.requesting.results import RequestResult
from sora_dagster.generation.requesting.sender import Sender
from sora_dagster.runware.client import RunwareClient


@dataclass(frozen=True)
class CollectionLimits:
    """How long a collection lasts, and how it works.

    Arguments:
        max_wait_seconds: how long outstanding clips are waited for.
        parallel_clips: how many clips are fetched and stored at once.
    """

    max_wait_seconds: float
    parallel_clips: int = 4


@dataclass(frozen=True)
class CollectionTools:
    """The parts that a collection works with; made by the generator.

    Arguments:
        client: the API client.
        ledger: the ledger of the storage root.
        archive: stores what is over.
        requester: builds a request again.
        sender: sends tasks again that Runware does not know.
        budget: the spending logs.
        request_again: asks for the next attempt of a failed task.
        polls: when to poll.
        deadlines: how long things may take.
        expects_markers: whether requests name a webhook.
        max_attempts: most attempts of one take.
        retry_wait_seconds: wait before a second attempt; it doubles with each further one.
        new_claims: makes this process's claims on a dataset.
        store_time: the store's clock.
        elapsed: a clock that runs through a suspended machine, in seconds.
    """

    client: RunwareClient
    ledger: Ledger
    archive: ClipArchive
    requester: Requester
    sender: Sender
    budget: Budget
    request_again: Callable[[FinishedTask], RequestResult]
    polls: PollSettings
    deadlines: Deadlines
    expects_markers: bool
    max_attempts: int
    retry_wait_seconds: float
    new_claims: Callable[[str], Claims]
    store_time: Callable[[], datetime]
    elapsed: Callable[[], float]


@dataclass
class CollectionReport:
    """What a collection could not bring to its end.

    Arguments:
        left: outstanding tasks by UUID, and why each is left where that is known.
        stuck: tasks that a record of cannot be read, or an object of cannot be written, with the
            reason, by clip name.
        is_elsewhere: whether another process collects all of it, so that there was nothing to do.
        is_taken_over: whether another process took over while this one was stopped.
        unpolled: why tasks that ended, and that webhooks came for, could not be polled, by UUID.
        polling_failure: why Runware could not be polled, if no poll succeeded.
    """

    left: dict[str, str] = field(default_factory=dict)
    stuck: dict[str, str] = field(default_factory=dict)
    unpolled: dict[str, str] = field(default_factory=dict)
    is_elsewhere: bool = False
    is_taken_over: bool = False
    polling_failure: str | None = None
