"""State of the runs of the collecting job, for the completion sensor."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import dagster as dg

ADVANCED_TAG = "sora_dagster/advanced"

# A run that has not claimed anything yet counts as alive only for a while: one that died silently
# must not prevent the next one.
_YOUNG_AFTER_START = timedelta(minutes=1)
_BEFORE_START = [
    dg.DagsterRunStatus.QUEUED,
    dg.DagsterRunStatus.NOT_STARTED,
    dg.DagsterRunStatus.STARTING,
]
_FIRST_WAIT = timedelta(seconds=30)
_LONGEST_WAIT = timedelta(minutes=30)
# After so many failures in a row the wait no longer grows.
_MOST_FAILURES_COUNTED = 7


def mark_advanced(instance: dg.DagsterInstance, run_id: str, advanced: int) -> None:
    """Tag a collecting run with the number of tasks that it finished or requested.

    The sensor waits before the next run only after a run that failed with none.
    """
    instance.add_run_tags(run_id, {ADVANCED_TAG: str(advanced)})


def reason_to_wait(
    instance: dg.DagsterInstance,
    job_name: str,
    *,
    now: datetime,
    since: datetime | None = None,
) -> str | None:
    """Why no collecting run should be started now; None if one may be.

    Arguments:
        instance: the Dagster instance.
        job_name: name of the collecting job.
        now: the time, by the clock of Dagster's records.
        since: runs that were created before do not count. Default: all count.
    """
    if _is_about_to_collect(instance, job_name, now=now):
        return "a collecting run is about to start"
    failed_at, failures = _failures_in_a_row(instance, job_name, since)
    if not failures:
        return None
    wait = min(_FIRST_WAIT * 2 ** (failures - 1), _LONGEST_WAIT)
    left = failed_at + wait - now
    if left <= timedelta():
        return None
    times = "time" if failures == 1 else "times in a row"
    count = f"{failures} or more" if failures == _MOST_FAILURES_COUNTED else str(failures)
    return (
        f"{job_name} failed {count} {times} without progress; the next run starts in "
        f"{left.total_seconds():.0f} s. See the run's error, or start a run manually"
    )


def _is_about_to_collect(instance: dg.DagsterInstance, job_name: str, *, now: datetime) -> bool:
    """Whether a collecting run was launched that has not claimed anything yet."""
    starting = dg.RunsFilter(job_name=job_name, statuses=_BEFORE_START)
    started = dg.RunsFilter(
        job_name=job_name,
        statuses=[dg.DagsterRunStatus.STARTED],
        updated_after=now - _YOUNG_AFTER_START,
    )
    return any(instance.get_run_records(runs, limit=1) for runs in (starting, started))


def _failures_in_a_row(
    instance: dg.DagsterInstance, job_name: str, since: datetime | None
) -> tuple[datetime, int]:
    """When the newest run ended, and how many failed in a row up to it without advancing."""
    newest = instance.get_run_records(
        dg.RunsFilter(job_name=job_name, created_after=since), limit=_MOST_FAILURES_COUNTED
    )
    failures = 0
    for record in newest:
        run = record.dagster_run
        if run.status is not dg.DagsterRunStatus.FAILURE or int(run.tags.get(ADVANCED_TAG, "0")):
            break
        failures += 1
    if not failures:
        return datetime.min.replace(tzinfo=UTC), 0
    ended = newest[0].end_time
    # A run that could not be launched has no end time.
    failed_at = newest[0].update_timestamp if ended is None else datetime.fromtimestamp(ended, UTC)
    return failed_at.replace(tzinfo=failed_at.tzinfo or UTC), failures
