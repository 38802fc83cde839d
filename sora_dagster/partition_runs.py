"""Assets whose runs work on many partitions at once: how they are declared, and how they fail."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import dagster as dg

from sora_dagster.graph import without_beta_warnings


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


def log_exact_events(
    context: dg.AssetExecutionContext, events: Sequence[dg.AssetMaterialization]
) -> None:
    """Log what Dagster cannot say of each partition itself.

    Dagster gives all partitions of a run one data version, and the newest events of their inputs;
    these events, logged after its own, give each its own version, and what it was made from.
    """
    for event in events:
        context.log_event(event)


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
