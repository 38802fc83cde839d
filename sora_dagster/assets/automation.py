"""When reports are made anew."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import dagster as dg


def at_most_every(
    cron_schedule: str, *, also_refresh_on: Sequence[dg.AssetKey] = ()
) -> dg.AutomationCondition[Any]:
    """Make a report anew at the next tick of a cron schedule after something it shows has changed.

    Arguments:
        cron_schedule: how often at most.
        also_refresh_on: assets that it shows but is not downstream of; none of them partitioned.
    """
    condition = dg.AutomationCondition
    changed: dg.AutomationCondition[Any] = condition.any_deps_updated()
    for key in also_refresh_on:
        changed = changed | condition.asset_matches(key, condition.newly_updated())
    ticked: dg.AutomationCondition[Any] = condition.cron_tick_passed(cron_schedule)
    return (
        changed.since_last_handled() & ticked.since_last_handled() & ~condition.in_progress()
    ).with_label(f"something changed, at most at {cron_schedule}")
