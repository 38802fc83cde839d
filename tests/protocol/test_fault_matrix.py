"""Under each fault: paid once, nothing lost, nothing left, no limit passed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta

import pytest

from sora_dagster.generation.protocol.root_binding import RootMismatchError
from tests.protocol import (
    delivery_rows,
    direct_rows,
    remix_rows,
    result_rows,
    submission_rows,
)
from tests.protocol.conftest import OTHER_ACCOUNT_KEY
from tests.protocol.families import LIVE, PRICE_USD, Family, with_families
from tests.protocol.faulty_sandbox import KEY, FaultySandbox, Receiver
from tests.protocol.invariants import check_invariants
from tests.protocol.matrix import INVARIANTS, NO_VIOLATIONS, Matrix
from tests.protocol.row import Row, Story, play, stored
from tests.protocol.scenario import QUICK, Scenario, clip

NewScenario = Callable[..., Scenario]

ROWS = with_families(
    [
        *submission_rows.ROWS,
        *result_rows.ROWS,
        *delivery_rows.ROWS,
        *direct_rows.ROWS,
        *remix_rows.ROWS,
    ],
    fixed=lambda row: row.families,
    kinds=lambda row: row.kinds,
)


@pytest.mark.parametrize(
    ("row", "family"),
    ROWS,
    ids=[f"{row.fault.replace(' ', '-')}-{family}" for row, family in ROWS],
)
def test_a_fault_costs_nothing_twice_and_loses_nothing(
    row: Row,
    family: Family,
    new_scenario: NewScenario,
    receiver: Receiver,
    matrix: Matrix,
    request: pytest.FixtureRequest,
) -> None:
    root_url = request.getfixturevalue("s3_url") if row.on_s3 else None
    scenario = new_scenario(root_url, settings=row.settings, family=family)
    name = f"{row.fault} ({family})"
    if row.webhook:
        address = receiver.over(scenario.root())
        scenario.settings = replace(row.settings, webhook=address)
    try:
        story = play(row, scenario)
    except BaseException:
        matrix.record(name, {number: ["did not end"] for number in INVARIANTS}, needs=row.needs)
        raise
    violations = check_invariants(
        scenario,
        may_be_lost=row.may_be_lost,
        may_cost_more=row.may_cost_more,
        may_leave_files=row.may_leave_files,
    )
    matrix.record(name, violations, needs=row.needs)
    assert violations == NO_VIOLATIONS
    row.expect(story)


def test_a_live_model_sees_each_kind_of_fault() -> None:
    kinds = {kind for row, _ in ROWS for kind in row.kinds}
    seen = {kind for row, family in ROWS if family is LIVE for kind in row.kinds}
    assert seen == kinds


def test_another_accounts_key_stops_and_sends_nothing(
    new_scenario: NewScenario, matrix: Matrix
) -> None:
    scenario = new_scenario()
    scenario.request(scenario.generator(), clip())
    before = scenario.submissions
    with pytest.raises(RootMismatchError, match="belongs to Runware account"):
        scenario.request(scenario.generator(key=OTHER_ACCOUNT_KEY), clip("owl"))
    assert scenario.submissions == before
    assert scenario.attempts_of("owl") == []
    scenario.run_until_quiet()
    violations = check_invariants(scenario)
    matrix.record("another account's key", violations)
    assert violations == NO_VIOLATIONS


def test_wrong_clocks_change_nothing(
    faulty: FaultySandbox, new_scenario: NewScenario, matrix: Matrix
) -> None:
    """Runware's clock is three days ahead, the first process's two hours behind."""
    scenario = new_scenario()
    faulty.set_faults(
        clock_shift_seconds=3 * 86_400, rules=[{"fault": "late_result", "delay_seconds": 0.5}]
    )
    scenario.request(scenario.generator(clock_is_wrong_by=timedelta(hours=-2)), clip())
    scenario.run_until_quiet(scenario.generator(clock_is_wrong_by=timedelta(hours=3)))
    faulty.clear_faults()
    violations = check_invariants(scenario)
    matrix.record("clocks wrong", violations)
    assert violations == NO_VIOLATIONS
    stored()(Story(scenario))


@pytest.mark.parametrize("processes", [1, 2])
def test_a_refused_parent_needs_room_for_one_remix_however_many_processes_request_it(
    faulty: FaultySandbox,
    new_scenario: NewScenario,
    matrix: Matrix,
    s3_url: str,
    processes: int,
) -> None:
    scenario = new_scenario(s3_url, settings=remix_rows.ON_S3)
    remix = LIVE.remix(clip(), scenario.stored_parent(LIVE))
    faulty.set_faults(rules=[{"fault": "refuse_video_uuids"}])
    generators = [scenario.generator() for _ in range(processes)]
    # Two may hold a place for the same remix at the same moment.
    scenario.request_at_once(generators, remix, limit_usd=processes * PRICE_USD)
    scenario.run_until_quiet()
    faulty.clear_faults()
    violations = check_invariants(scenario)
    matrix.record(f"UUID of the parent refused, requested {processes} times at once", violations)
    assert violations == NO_VIOLATIONS
    remix_rows.BY_ADDRESS(Story(scenario))


def test_the_check_notices_a_task_that_is_charged_twice(
    faulty: FaultySandbox, new_scenario: NewScenario
) -> None:
    """Replays against an API that charges them again: what the setting is there to prevent."""
    scenario = new_scenario()
    faulty.set_faults(
        known_uuids="charged_again",
        rules=[{"fault": "lose_answer", "nth": 1}, {"fault": "not_yet_known", "polls": 2}],
    )
    scenario.request(scenario.generator(), clip())
    faulty.clear_faults()
    scenario.run_until_quiet()
    violations = check_invariants(scenario)
    assert "charged 2 times" in violations[1][0]
    assert violations[3]


def test_the_check_notices_a_stored_video_that_is_not_whole(
    faulty: FaultySandbox, new_scenario: NewScenario
) -> None:
    scenario = new_scenario()
    scenario.request(scenario.generator(), clip())
    scenario.run_until_quiet()
    video = Story(scenario).manifest().videos[0]
    whole = scenario.root().read(video.key)
    scenario.root().write(video.key, whole[:-100])
    assert check_invariants(scenario)[2]


@pytest.mark.parametrize("secret", [b"?X-Amz-Signature=1", b"&signature=1", KEY.encode()])
def test_the_check_notices_a_stored_secret(new_scenario: NewScenario, secret: bytes) -> None:
    scenario = new_scenario()
    scenario.root().write("tasks/some", b'{"url": "' + secret + b'"}')
    assert check_invariants(scenario)[5]


def test_the_check_notices_what_is_left(new_scenario: NewScenario) -> None:
    scenario = new_scenario(settings=QUICK)
    scenario.request(scenario.generator(), clip())
    violations = check_invariants(scenario)
    assert violations[2]
    assert violations[3]
