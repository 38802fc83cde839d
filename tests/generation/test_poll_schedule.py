"""When outstanding tasks are polled, in virtual time."""

from __future__ import annotations

from itertools import pairwise

from sora_dagster.generation.collecting.poll_schedule import PollSchedule
from sora_dagster.generation.collecting.settings import PollSettings


def polls_until(schedule: PollSchedule, outstanding: set[str], end: float) -> list[float]:
    """When all of some tasks are polled, up to the first poll at or after some time."""
    now, polls = 0.0, [-1.0]
    while polls[-1] < end:
        if schedule.due(outstanding, {}, now) != []:
            polls.append(now)
        now += schedule.seconds_left(now)
    return polls[1:]


def test_what_was_outstanding_before_is_polled_at_once_and_then_ever_more_seldom() -> None:
    polls = polls_until(PollSchedule(PollSettings()), {"a", "b"}, 60)
    waits = [later - earlier for earlier, later in pairwise(polls)]
    assert polls[0] == 0
    assert waits == sorted(waits)
    assert waits[-1] == PollSettings().longest_seconds


def test_a_generation_of_20_seconds_takes_four_polls() -> None:
    polls = polls_until(PollSchedule(PollSettings()), {"a", "b"}, 20)
    assert len(polls) == 4
    # And it is found soon after its end.
    assert polls[-1] <= 25


def test_what_is_new_is_polled_soon_however_long_the_others_have_been_waited_for() -> None:
    settings = PollSettings()
    schedule = PollSchedule(settings)
    now = polls_until(schedule, {"a"}, 60)[-1]
    assert schedule.due({"a", "b"}, {}, now) == []
    assert set(schedule.due({"a", "b"}, {}, now + settings.first_seconds)) == {"a", "b"}


def test_a_marker_brings_forward_the_poll_of_its_task_alone_and_once() -> None:
    schedule = PollSchedule(PollSettings())
    assert set(schedule.due({"a", "b"}, {}, 0)) == {"a", "b"}
    assert schedule.due({"a", "b"}, {"a": ["inbox/a/1"]}, 1) == ["a"]
    assert schedule.due({"a", "b"}, {"a": ["inbox/a/1"]}, 2) == []
