"""Assets whose runs work on many partitions at once: how they are declared, report and fail."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import dagster as dg

from sora_dagster.generation.collecting.archive import content_hash
from sora_dagster.graph import without_beta_warnings
from sora_dagster.input_events import data_version_of


def partitioned_asset(**settings: Any) -> Callable[[Callable[..., Any]], dg.AssetsDefinition]:
    """`dg.asset`, without its warning that backfill policies are in beta."""
    with without_beta_warnings():
        decorator: Callable[[Callable[..., Any]], dg.AssetsDefinition] = dg.asset(**settings)
        return decorator


def partitioned_multi_asset(**settings: Any) -> Callable[[Callable[..., Any]], dg.AssetsDefinition]:
    """`dg.multi_asset`, without its warning that backfill policies are in beta."""
    with without_beta_warnings():
        decorator: Callable[[Callable[..., Any]], dg.AssetsDefinition] = dg.multi_asset(**settings)
        return decorator


def is_used_later(context: dg.AssetExecutionContext) -> bool:
    """Whether a later step of the same run takes the asset of this one.

    Dagster skips that step if this one gives no output.
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

    Of one partition Dagster logs the event. It gives all partitions of a range run one data
    version, and the newest events of their inputs, so each partition's own event is logged here,
    and the step gives no output. Only if a later step of the run needs that output does Dagster
    log its events too, before the exact ones.

    Arguments:
        context: the run's context.
        key: the asset.
        events: the materializations.
    """
    if not events:
        return
    if len(events) == len(context.partition_keys) == 1:
        yield exact_result(events[0])
        return
    if is_used_later(context):
        yield combined_result(key, [data_version_of(event) or "" for event in events])
    for event in events:
        context.log_event(event)


def exact_result(event: dg.AssetMaterialization, **settings: Any) -> dg.MaterializeResult[Any]:
    """The result by which Dagster logs this very event.

    Arguments:
        event: the materialization.
        settings: further arguments of the result, such as its value.
    """
    return dg.MaterializeResult(
        asset_key=event.asset_key,
        metadata=event.metadata,
        data_version=dg.DataVersion(data_version_of(event) or ""),
        # What it was made from, which need not be the newest.
        tags=event.tags,
        **settings,
    )


def combined_result(key: dg.AssetKey, data_versions: Sequence[str]) -> dg.MaterializeResult[Any]:
    """The result of a range run that a later step of the run needs."""
    return dg.MaterializeResult(
        asset_key=key, data_version=dg.DataVersion(content_hash(data_versions))
    )


def failure_of(failures: Mapping[str, str], *, done: int, verb: str) -> dg.Failure:
    """A failure that names what failed and why, and is not retried by Dagster.

    Arguments:
        failures: reasons by partition key.
        done: how many others succeeded.
        verb: what was done with those.
    """
    reasons = "\n".join(f"- {partition}: {reason}" for partition, reason in failures.items())
    return dg.Failure(
        description=f"{len(failures)} failed ({done} {verb}):\n{reasons}",
        metadata={"failed": list(failures), verb: done},
        allow_retries=False,
    )
