"""What a collection works with, and its report."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime

from sora_dagster.generation.collecting.archive import ClipArchive
from sora_dagster.generation.collecting.outage import Outage
from sora_dagster.generation.collecting.settings import Deadlines, PollSettings
from sora_dagster.generation.collecting.tracked import FinishedTask
from sora_dagster.generation.protocol.budget import Budget
from sora_dagster.generation.protocol.claims import Claims
from sora_dagster.generation.protocol.ledger import Ledger
from sora_dagster.generation.requesting.requester import Requester
from sora_dagster.generation.requesting.results import RequestResult
from sora_dagster.generation.requesting.sender import Sender
from sora_dagster.runware.client import RunwareClient


@dataclass(frozen=True)
class CollectionContext:
    """What a collection works with; created by the generator.

    Arguments:
        client: the API client.
        ledger: the ledger of the storage root.
        archive: stores clips.
        requester: rebuilds requests.
        sender: sends tasks again that Runware does not know.
        budget: the spending logs.
        request_again: requests the next attempt of a failed task.
        polls: how often to poll.
        deadlines: time limits of tasks.
        expects_markers: whether requests name a webhook.
        max_attempts: maximum number of attempts of one take.
        retry_wait_seconds: wait before the second attempt; doubled with each further one.
        new_claims: creates this process's claims on a dataset.
        store_time: the store's clock.
        elapsed: a clock that runs through a suspended machine, in seconds.
        holder: human-readable name of this process, such as a run id.
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
    holder: str


@dataclass
class CollectionReport:
    """What a collection could not finish.

    Arguments:
        left: outstanding tasks by UUID, and why each is left if that is known.
        stuck: why records cannot be read, or objects cannot be written, by clip name.
        unpolled: why ended tasks with new markers could not be polled, by UUID.
        is_elsewhere: whether another process collects everything, so that there was nothing to do.
        is_taken_over: whether another process took over while this one was paused.
        outage: the polls that failed until the end of the collection; None if it is no reason to
            report a failure.
        outage_seconds: how long that outage has lasted.
    """

    left: dict[str, str] = field(default_factory=dict)
    stuck: dict[str, str] = field(default_factory=dict)
    unpolled: dict[str, str] = field(default_factory=dict)
    is_elsewhere: bool = False
    is_taken_over: bool = False
    outage: Outage | None = None
    outage_seconds: float = 0.0
