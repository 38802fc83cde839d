"""When the gallery and the costs are refreshed automatically."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import dagster as dg

from tests.dagster_face.stack import Stack

REPORT_NAMES = ("gallery", "generation_costs")
# Reports are refreshed at full ten minutes.
NOON = datetime(2026, 11, 24, 12, 5, tzinfo=UTC)


def test_a_shot_refreshes_the_reports_although_they_are_not_downstream_of_it(stack: Stack) -> None:
    stack.write({"id": "fox"})
    stack.write_board({"id": "pond", "prompt": "a pond"})
    graph = stack.definitions.resolve_asset_graph()
    shot = dg.AssetKey(["glade", "pond"])
    assert graph.get(shot).child_keys == set()

    cursor = None
    asked_for = []
    for minutes, makes_shot in [(0, False), (10, False), (20, True), (25, False), (30, False)]:
        if makes_shot:
            stack.instance.report_runless_asset_event(dg.AssetMaterialization(shot))
        result = dg.evaluate_automation_conditions(
            stack.definitions,
            stack.instance,
            asset_selection=dg.AssetSelection.assets(*REPORT_NAMES),
            evaluation_time=NOON + timedelta(minutes=minutes),
            cursor=cursor,
        )
        cursor = result.cursor
        asked_for.append(
            [
                result.get_num_requested(dg.AssetKey(name))
                for name in ("gallery", "generation_costs")
            ]
        )
    assert asked_for == [[0, 0], [0, 0], [1, 1], [0, 0], [0, 0]]
