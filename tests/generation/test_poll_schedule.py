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


def test_polls_that_fail_are_made_ever_more_seldom_up_to_a_minute_apart() -> None:
    schedule = PollSchedule(PollSettings(), new_jitter=lambda: 0.5)
    now, waits = 0.0, []
    assert schedule.due({"a"}, {}, now) == ["a"]
    for failures in range(1, 9):
        schedule.back_off(failures, now)
        before = now
        while not schedule.due({"a"}, {}, now):
            now += schedule.seconds_left(now)
        waits.append(now - before)
    assert waits[:3] == [4, 8, 16]
    assert waits[-1] == PollSettings().failing_seconds


def test_the_wait_of_each_process_differs_by_a_quarter_at_most() -> None:
    for jitter, wait in ((0.0, 3.0), (1.0, 5.0)):
        schedule = PollSchedule(PollSettings(), new_jitter=lambda jitter=jitter: jitter)
        schedule.due({"a"}, {}, 0)
        schedule.back_off(1, 0)
        assert schedule.due({"a"}, {}, wait - 0.01) == []
        assert schedule.due({"a"}, {}, wait) == ["a"]


def test_after_an_outage_tasks_are_polled_often_again() -> None:
    schedule = PollSchedule(PollSettings(), new_jitter=lambda: 0.5)
    schedule.due({"a"}, {}, 0)
    schedule.back_off(20, 0)
    schedule.due({"a"}, {}, 60)
    schedule.recover(60)
    assert schedule.due({"a"}, {}, 60 + PollSettings().first_seconds) == ["a"]


def test_a_marker_is_followed_by_a_poll_during_an_outage_too() -> None:
    schedule = PollSchedule(PollSettings())
    schedule.due({"a", "b"}, {}, 0)
    schedule.back_off(20, 0)
    assert schedule.due({"a", "b"}, {"b": ["inbox/b/1"]}, 1) == ["b"]
