"""Runs: their tags, and how a run of many partitions is declared, reports and fails."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import dagster as dg

from sora_dagster.dataset import without_beta_warnings
from sora_dagster.generation.collecting.archive import content_hash
from sora_dagster.prompts.counts import some_of
from sora_dagster.reporting.event_log import data_version_of
from sora_dagster.reporting.events import is_not_requested
from sora_dagster.resources.run_settings import settings_tag
from sora_dagster.runware.transport import PostCounts

SUBMISSION_POSTS_TAG = "sora_dagster/submission_posts"
POLL_POSTS_TAG = "sora_dagster/poll_posts"
OTHER_POSTS_TAG = "sora_dagster/other_posts"

_BACKFILL_TAG = "dagster/backfill"
# Runs with one of these tags were launched by Dagster, or are a retry.
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

# A few clips are easier to read with a line for each.
_LINES_PER_DETAIL = 5
_NAMES_PER_LINE = 100


def root_run_of(run: dg.DagsterRun) -> str:
    """The run that a spending limit belongs to: the backfill, or the first of the retries."""
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
    """Add the number of POSTs to the API to the tags of the run."""
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


def log_details(
    context: dg.AssetExecutionContext | dg.OpExecutionContext, details: Iterable[tuple[str, str]]
) -> None:
    """Log a detail of each clip: a line for each, or for many with the same detail.

    Each line opens a connection to Dagster's database, which costs more than storing a clip does.

    Arguments:
        context: the run's context, for its log.
        details: the name and the detail of each clip.
    """
    by_detail: dict[str, list[str]] = {}
    for name, detail in details:
        by_detail.setdefault(detail, []).append(name)
    for detail, names in by_detail.items():
        if len(names) <= _LINES_PER_DETAIL:
            for name in names:
                context.log.info(f"{name}: {detail}")
            continue
        for start in range(0, len(names), _NAMES_PER_LINE):
            some = names[start : start + _NAMES_PER_LINE]
            context.log.info(f"for each of {', '.join(some)}: {detail}")


def warn_of_missing_rows(
    context: dg.AssetExecutionContext, label: str, partitions: Sequence[str]
) -> None:
    """Log the partitions of a range that have no row, in one line.

    A range contains what is registered, and removed rows must not block others.

    Arguments:
        context: the run's context, for its log.
        label: name of the dataset's source.
        partitions: partition keys. Without any, nothing is logged.
    """
    if partitions:
        context.log.warning(f"skipped, since {label} has no row for them: {some_of(partitions)}")


def partitioned_asset(
    spec: dg.AssetSpec, **settings: Any
) -> Callable[[Callable[..., Any]], dg.AssetsDefinition]:
    """The decorator of an asset with partitions, without Dagster's beta warnings.

    One run materializes a contiguous range of partitions.

    Arguments:
        spec: the asset; skippable, since a range run logs the event of each partition itself.
        settings: further arguments of `dg.multi_asset`.
    """
    with without_beta_warnings():
        return dg.multi_asset(
            name=spec.key.to_python_identifier(),
            specs=[spec],
            # Other policies refuse `dagster asset materialize --partition-range`.
            backfill_policy=dg.BackfillPolicy.single_run(),
            op_tags=settings_tag(),
            **settings,
        )


def one_op_job(
    op: dg.OpDefinition,
    name: str,
    *,
    executor: dg.ExecutorDefinition | None,
    tags: Mapping[str, str] | None = None,
    config: dict[str, Any] | None = None,
) -> dg.JobDefinition:
    """A job of one op.

    Arguments:
        op: the op.
        name: name of the job.
        executor: its executor. None: the op runs in the run's process, since a second process would
            start slower.
        tags: tags of its runs.
        config: run config that the launchpad shows first.
    """

    @dg.job(
        name=name,
        description=op.description,
        executor_def=executor or dg.in_process_executor,
        tags=tags,
        config=config,  # type: ignore[arg-type]  # None is its default.
    )
    def job() -> None:
        op()

    return job


def is_used_later(context: dg.AssetExecutionContext) -> bool:
    """Whether a later step of the same run loads the asset of this step.

    Dagster skips that step if this one has no output.
    """
    this = context.op_execution_context.op_handle.name
    return any(
        dependency.node == this
        for inputs in context.job_def.dependencies.values()
        for definition in inputs.values()
        for dependency in definition.get_node_dependencies()
    )


def report_partitions(
    context: dg.AssetExecutionContext, key: dg.AssetKey, events: Sequence[dg.AssetMaterialization]
) -> Iterator[dg.MaterializeResult[Any]]:
    """Report the partitions that a run materialized, with one event for each.

    For one partition, Dagster logs the event. In a range run Dagster would give all partitions one
    data version and the newest events of their inputs. So the exact events are logged here, and the
    step has no output. Only if a later step of the run needs the output, Dagster logs its events
    too, before the exact ones. The same is true of a partition that nobody requests.

    Arguments:
        context: the run's context.
        key: the asset.
        events: the materializations.
    """
    if not events:
        return
    if len(events) == len(context.partition_keys) == 1 and not is_not_requested(events[0]):
        yield exact_result(events[0])
        return
    if is_used_later(context):
        yield combined_result(key, [data_version_of(event) or "" for event in events])
    for event in events:
        context.log_event(event)


def exact_result(event: dg.AssetMaterialization, **settings: Any) -> dg.MaterializeResult[Any]:
    """The result for which Dagster logs exactly this event.

    Arguments:
        event: the materialization.
        settings: further arguments of the result, such as its value.
    """
    return dg.MaterializeResult(
        asset_key=event.asset_key,
        metadata=event.metadata,
        data_version=dg.DataVersion(data_version_of(event) or ""),
        # The versions of its inputs, which need not be the newest.
        tags=event.tags,
        **settings,
    )


def combined_result(key: dg.AssetKey, data_versions: Sequence[str]) -> dg.MaterializeResult[Any]:
    """The result of a range run that a later step of the run needs."""
    return dg.MaterializeResult(
        asset_key=key, data_version=dg.DataVersion(content_hash(data_versions))
    )


def failure_of(
    failures: Mapping[str, str],
    *,
    done: int,
    verb: str,
    metadata: Mapping[str, dg.RawMetadataValue] | None = None,
) -> dg.Failure:
    """A failure that lists what failed and why. Dagster does not retry it.

    Arguments:
        failures: reasons by partition key.
        done: number of others that succeeded.
        verb: what was done with those, such as ``stored``.
        metadata: further metadata of the failure.
    """
    reasons = "\n".join(f"- {partition}: {reason}" for partition, reason in failures.items())
    return dg.Failure(
        description=f"{len(failures)} failed ({done} {verb}):\n{reasons}",
        metadata={"failed": list(failures), verb: done, **(metadata or {})},
        allow_retries=False,
    )
