"""Time limits and intervals of collecting."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class CollectionLimits:
    """How long a collection waits, and how much it does in parallel.

    Arguments:
        max_wait_seconds: maximum wait for outstanding clips.
        parallel_clips: number of clips that are fetched and stored at the same time.
    """

    max_wait_seconds: float
    parallel_clips: int = 4


@dataclass(frozen=True)
class PollSettings:
    """How often results are polled, in seconds.

    Arguments:
        first_seconds: wait before the first poll (Runware advises 1 to 2 s).
        factor: growth of the wait from poll to poll.
        longest_seconds: longest wait between polls.
        refresh_seconds: interval at which the inbox and the index are listed.
        failing_seconds: longest wait between polls while they fail.
    """

    first_seconds: float = 2.0
    factor: float = 2.0
    longest_seconds: float = 10.0
    refresh_seconds: float = 1.0
    failing_seconds: float = 60.0


# With webhooks, polls only catch lost ones.
WEBHOOK_POLLS = PollSettings(first_seconds=30.0, longest_seconds=60.0)


@dataclass(frozen=True)
class Deadlines:
    """Time limits of tasks, in seconds.

    Arguments:
        unknown_seconds: how long Runware must give the same answer about a task before it is sent
            again or given up; default: 10 minutes.
        generation_seconds: how long after it was last sent a generation usually ends; a task that
            is still running then is reported as slow; default: 30 minutes.
        running_seconds: maximum wait for a task that Runware says is running; default: 1 day.
        unsent_seconds: age after which an attempt that was claimed but never sent is given up;
            far longer than the time between a claim and its POST; default: 5 minutes.
        fetch_seconds: how long fetching a finished video that is gone or broken is retried;
            default: 10 minutes.
        upload_seconds: how long the upload of a video may take after its task was seen finished;
            then the video is downloaded; default: 1 minute.
        damaged_seconds: time between two fetches of a video that cannot be decoded; if both return
            the same bytes, they are kept; default: 5 minutes.
    """

    unknown_seconds: float = 600.0
    generation_seconds: float = 1800.0
    running_seconds: float = 86_400.0
    unsent_seconds: float = 300.0
    fetch_seconds: float = 600.0
    upload_seconds: float = 60.0
    damaged_seconds: float = 300.0
