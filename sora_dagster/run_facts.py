"""What a run says of itself: who started it, and how many POSTs it made."""

from __future__ import annotations

import dagster as dg

from sora_dagster.runware.transport import PostCounts

SUBMISSION_POSTS_TAG = "sora_dagster/submission_posts"
POLL_POSTS_TAG = "sora_dagster/poll_posts"
OTHER_POSTS_TAG = "sora_dagster/other_posts"

_BACKFILL_TAG = "dagster/backfill"
_AUTOMATION_TAG = "dagster/from_automation_condition"


def root_run_of(run: dg.DagsterRun) -> str:
    """The backfill, or the first of a run's retries, that a spending limit belongs to."""
    return run.tags.get(_BACKFILL_TAG) or run.root_run_id or run.run_id


def is_automatic(run: dg.DagsterRun) -> bool:
    """Whether an automation condition started the run, and nobody in person."""
    return run.tags.get(_AUTOMATION_TAG) == "true"


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
