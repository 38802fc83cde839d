"""The state of a storage root: what is outstanding, what went wrong and what was spent."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Literal, get_args

from pydantic import BaseModel, ConfigDict

from sora_dagster.generation.protocol.collection_record import CollectionRecord

# unsent: about to be sent. sent: Runware has not confirmed it. accepted: Runware has it. finished:
# its webhook arrived. waiting_for_upload: likewise, and its video is not in the store yet. slow: a
# run left it, or cannot store it yet. unread: outstanding, but too many to read. stuck: one of its
# records cannot be read. undecided: it may have been paid for and has no video.
TaskState = Literal[
    "unsent",
    "sent",
    "accepted",
    "finished",
    "waiting_for_upload",
    "slow",
    "unread",
    "stuck",
    "undecided",
]
TASK_STATES: tuple[TaskState, ...] = get_args(TaskState)


class _Model(BaseModel):
    model_config = ConfigDict(frozen=True)


class NotableTask(_Model):
    """A task that needs a look.

    Arguments:
        clip: partition key of the clip.
        asset: asset key of the clip.
        task_uuid: UUID of the task.
        state: its state: `slow`, `stuck` or `undecided`.
        since: when it got there, by the store's clock.
        reason: why.
        command: the command that helps; empty if none is needed.
    """

    clip: str
    asset: str
    task_uuid: str
    state: TaskState
    since: datetime
    reason: str
    command: str = ""


class DatasetStatus(_Model):
    """The state of one dataset or storyboard.

    Arguments:
        name: name of the dataset.
        tasks: number of tasks by state; every state is there.
        oldest_seconds: age of the oldest outstanding task; None if there is none.
        markers: number of webhooks that wait for a collection.
        remixes_due: number of stored clips whose remixes are not requested yet.
        is_collected: whether a live process is collecting it.
        last_collection: what became of the last collection; None if there was none.
        notable: the tasks that need a look, slow ones last.
    """

    name: str
    tasks: Mapping[TaskState, int]
    oldest_seconds: float | None
    markers: int
    remixes_due: int
    is_collected: bool
    last_collection: CollectionRecord | None
    notable: tuple[NotableTask, ...]

    @property
    def outstanding(self) -> int:
        """Number of outstanding tasks."""
        return sum(self.tasks.values()) - self.tasks["stuck"] - self.tasks["undecided"]


class RunSpending(_Model):
    """Use of the limit of a run that has outstanding tasks.

    Arguments:
        root_run: id of the run, or of the backfill.
        used_usd: amount reserved or spent.
        limit_usd: its limit.
    """

    root_run: str
    used_usd: float
    limit_usd: float


class DatasetSpending(_Model):
    """Use of a dataset's own daily spending limit.

    Arguments:
        dataset: the dataset.
        used_usd: amount reserved or spent today (UTC).
        limit_usd: its limit.
    """

    dataset: str
    used_usd: float
    limit_usd: float

    @property
    def use(self) -> float:
        """Used share of the limit."""
        return self.used_usd / self.limit_usd if self.limit_usd else 1.0


class SpendingStatus(_Model):
    """What was spent, and the limits.

    Arguments:
        day_usd: amount reserved or spent today (UTC) by all runs; None if the log is damaged.
        day_limit_usd: the daily spending limit; None for no limit.
        datasets: the datasets with a limit of their own, if their limits are known.
        runs: the runs with outstanding tasks and a limit, the most used first.
        error: why a log could not be read; empty if all could.
    """

    day_usd: float | None
    day_limit_usd: float | None
    datasets: tuple[DatasetSpending, ...] = ()
    runs: tuple[RunSpending, ...] = ()
    error: str = ""

    @property
    def day_use(self) -> float | None:
        """Used share of the daily spending limit; None if there is no limit, or it is not known."""
        if self.day_usd is None or self.day_limit_usd is None:
            return None
        return self.day_usd / self.day_limit_usd if self.day_limit_usd else 1.0


class RootStatus(_Model):
    """The state of a storage root.

    Arguments:
        url: its URL.
        at: when it was read.
        datasets: its datasets and storyboards.
        spending: what was spent, and the limits.
    """

    url: str
    at: datetime
    datasets: tuple[DatasetStatus, ...]
    spending: SpendingStatus
