"""What is known of a run: who started it, what pays for it, and how many POSTs it made."""

from __future__ import annotations

import dagster as dg

from sora_dagster.runware.transport import PostCounts

SUBMISSION_POSTS_TAG = "sora_dagster/submission_posts"
POLL_POSTS_TAG = "sora_dagster/poll_posts"
OTHER_POSTS_TAG = "sora_dagster/other_posts"

_BACKFILL_TAG = "dagster/backfill"
# Runs with one of these tags were launched by Dagster, or by a retry of another run.
_LAUNCHED_BY_DAGSTER_TAGS = (
    _BACKFILL_TAG,
    "dagster/schedule_name",
    "dagster/sensor_name",
    "dagster/from_automation_condition",
    "dagster/auto_materialize",
    "dagster/parent_run_id",
    "dagster/root_run_id",
    "dagster/retry_number",
)


def root_run_of(run: dg.DagsterRun) -> str:
    """The backfill, or the first of a run's retries, that a spending limit belongs to."""
    return run.tags.get(_BACKFILL_TAG) or run.root_run_id or run.run_id


def is_of_a_backfill(run: dg.DagsterRun) -> bool:
    """Whether the run belongs to a backfill."""
    return _BACKFILL_TAG in run.tags


def is_launched_by_a_person(run: dg.DagsterRun) -> bool:
    """Whether no schedule, sensor, automation, backfill or retry launched the run."""
    is_retry = run.parent_run_id is not None or run.root_run_id is not None
    return not is_retry and not any(tag in run.tags for tag in _LAUNCHED_BY_DAGSTER_TAGS)


def add_post_counts(
    context: dg.AssetExecutionContext | dg.OpExecutionContext, posts: PostCounts
) -> None:
    """Tag the run with the number of POSTs it made to the API, on top of those tagged before."""
    run = context.instance.get_run_by_id(context.run.run_id)
    before = {} if run is None else run.tags
    made = {
        SUBMISSION_POSTS_TAG: posts.submissions,
        POLL_POSTS_TAG: posts.polls,
        OTHER_POSTS_TAG: posts.other,
    }
    context.instance.add_run_tags(
        context.run.run_id,
        {tag: str(int(before.get(tag, "0")) + count) for tag, count in made.items()},
    )
