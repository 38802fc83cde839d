"""Rows of the fault matrix: what can go wrong with a generation, and with what polls tell of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from sora_dagster.generation.protocol.record_folder import note_folder
from sora_dagster.generation.requesting.results import RequestState
from sora_dagster.prompts.clips import DEFAULT_DATASET
from tests.protocol.families import BOTH, PRICE_USD
from tests.protocol.row import Row, Story, all_of, failed, sent, stored
from tests.protocol.scenario import HASTY, QUICK, clip
from tests.protocol.submission_rows import lose_answer, times_sent_is

_SLOW_IS_LOST = replace(HASTY, deadlines=replace(HASTY.deadlines, running_seconds=1.5))
_LOST = "it ends `lost`, reported and counted at its estimate"


def _fail(error: str, **more: Any) -> dict[str, Any]:
    return {"fault": "fail", "error": error, "prompt_contains": "fox", **more}


def _is_refused_when_asked_again(story: Story) -> None:
    before = story.scenario.submissions
    [again] = story.scenario.request(story.scenario.generator(), clip())
    assert again.state is RequestState.FAILED
    assert story.scenario.submissions == before


def _is_charged_times(times: int) -> Any:
    def check(story: Story) -> None:
        assert story.scenario.charges_of("fox") == times

    return check


def _has_two_of_four(story: Story) -> None:
    manifest = story.manifest()
    assert story.states() == ["partial"]
    assert manifest.state == "partial"
    assert len(manifest.videos) == 2
    assert [error.kind for error in manifest.errors] == ["provider", "provider"]
    assert story.outcome().cost_usd == pytest.approx(4 * PRICE_USD)


def _is_flagged(story: Story) -> None:
    assert [video.nsfw for video in story.manifest().videos] == [True]


def _is_estimated(story: Story) -> None:
    assert story.manifest().cost_is_estimate
    assert story.manifest().videos[0].cost_usd is None


def _waits_for_a_clue(story: Story) -> None:
    assert story.states() == ["open"]


def _has_both(story: Story) -> None:
    assert story.states() == ["done"]
    assert len(story.manifest().videos) == 2


def _was_left_as_slow(story: Story) -> bool:
    """A run has ended and left the task, running at Runware, to a later one."""
    ledger = story.scenario.ledger()
    entries = ledger.pending.tasks(DEFAULT_DATASET).values()
    return any(record.times_left for entry in entries if (record := ledger.pending.record(entry)))


def _is_reported_as_slow(story: Story) -> None:
    assert story.states() == ["open"]
    [note] = note_folder(story.scenario.ledger(), DEFAULT_DATASET).read().values()
    assert note is not None
    assert (note.asset, note.clip) == ("clips", "fox")
    assert "still generating" in note.reason


def _is_noted_no_more(story: Story) -> None:
    assert note_folder(story.scenario.ledger(), DEFAULT_DATASET).read() == {}


def _by_marker(story: Story) -> None:
    assert story.manifest().facts_from == "marker"


ROWS = [
    Row(
        "provider error, always",
        {"rules": [_fail("provider")]},
        all_of(failed("provider", attempts=3), _is_charged_times(3), _is_refused_when_asked_again),
        lasts=True,
    ),
    Row(
        "provider error, once",
        {"rules": [_fail("provider", times=1, reported_in="data")]},
        stored(attempts=2),
        lasts=True,
    ),
    Row(
        "provider ran out of time, once",
        {"rules": [_fail("timeout", times=1)]},
        stored(attempts=2),
        lasts=True,
    ),
    Row(
        "safety refusal of the video",
        {"rules": [_fail("safety")]},
        all_of(failed("safety"), _is_charged_times(1), _is_refused_when_asked_again),
        lasts=True,
    ),
    Row(
        "safety refusal, failed results not charged",
        {"failed_are_charged": False, "rules": [_fail("safety")]},
        failed("safety"),
        needs="where a failed result is not charged, our books hold more than was paid",
        lasts=True,
        may_cost_more=True,
    ),
    Row(
        "NSFW flag",
        {"rules": [{"fault": "nsfw"}]},
        all_of(stored(), _is_flagged),
        families=BOTH,
    ),
    Row(
        "2 of 4 results fail",
        {"rules": [_fail("provider", results=[1, 3])]},
        all_of(_has_two_of_four, _is_charged_times(1)),
        clips=(clip(number_results=4),),
        lasts=True,
        families=BOTH,
    ),
    Row(
        "cost missing",
        {"rules": [{"fault": "wrong_cost", "reported": "missing"}]},
        all_of(stored(), _is_estimated),
        needs="the catalogue's price is right",
        families=BOTH,
    ),
    Row(
        "cost 0",
        {"rules": [{"fault": "wrong_cost", "reported": "zero"}]},
        all_of(stored(), _is_estimated),
        needs="the catalogue's price is right",
        families=BOTH,
    ),
    Row(
        "generation never ends",
        {"rules": [{"fault": "never_ends", "prompt_contains": "fox"}]},
        all_of(failed("lost", state="lost"), sent(1)),
        needs=f"after running_seconds (a day) {_LOST}",
        settings=_SLOW_IS_LOST,
        lasts=True,
        may_be_lost=("lost",),
    ),
    Row(
        "generation runs past the deadline, then ends",
        {"rules": [{"fault": "late_result", "delay_seconds": 3.0, "prompt_contains": "fox"}]},
        all_of(stored(), sent(1), _is_noted_no_more),
        settings=HASTY,
        until=_was_left_as_slow,
        during=_is_reported_as_slow,
    ),
    Row(
        "polls silent about running and unknown alike",
        {
            "unknown_polls": "silent_running",
            "rules": [{"fault": "late_result", "delay_seconds": 0.4}],
        },
        all_of(stored(), sent(1)),
        lasts=True,
    ),
    Row(
        "polls silent about running and unknown alike, answer lost after accepting",
        {
            "unknown_polls": "silent_running",
            "rules": [lose_answer(), {"fault": "late_result", "delay_seconds": 0.4}],
        },
        all_of(stored(), sent(2, proof="conflict")),
        lasts=True,
    ),
    Row(
        "polls 'unknown task' for a while after accepting",
        {"rules": [{"fault": "not_yet_known", "polls": 8}]},
        all_of(stored(), sent(1, proof="acknowledged")),
        lasts=True,
    ),
    Row(
        "polls and archive 'unknown task' for long, answer lost after accepting",
        {"rules": [lose_answer(), {"fault": "unknown", "prompt_contains": "fox"}]},
        all_of(stored(), sent(2, proof="conflict")),
        needs="a known UUID is refused, or is known again within unknown_seconds (10 min)",
        settings=replace(HASTY, sending=replace(HASTY.sending, replay_window_seconds=0.0)),
        until=times_sent_is(2),
    ),
    Row(
        "task forgotten after its end, for a while",
        {"rules": [{"fault": "forgotten", "polls": 0}]},
        all_of(stored(), sent(1)),
        until=lambda story: story.scenario.sandbox.struck()["forgotten"] > 10,
        during=_waits_for_a_clue,
    ),
    Row(
        "task forgotten after its end for good",
        {"rules": [{"fault": "forgotten", "polls": 0, "prompt_contains": "fox"}]},
        all_of(failed("lost", state="lost"), sent(1), _is_charged_times(1)),
        needs=f"no webhook; {_LOST}",
        settings=HASTY,
        lasts=True,
        may_be_lost=("lost",),
    ),
    Row(
        "task forgotten after its end for good, webhook came",
        {"rules": [{"fault": "forgotten", "polls": 0}]},
        all_of(stored(), sent(1), _by_marker),
        webhook=True,
        lasts=True,
        families=BOTH,
    ),
    Row(
        "polls 'unknown task' for a while, webhook of one of two results came",
        {
            "rules": [
                {"fault": "not_yet_known", "seconds": 0.5},
                {"fault": "late_result", "delay_seconds": 0.7, "results": 1},
            ]
        },
        _has_both,
        clips=(clip(number_results=2),),
        webhook=True,
        lasts=True,
        families=BOTH,
    ),
    Row(
        "archive returns the refusal of a replay",
        {
            "rules": [
                # The second failing answer, to the refused replay, ends the run's submissions.
                {
                    "fault": "status",
                    "status": 500,
                    "moment": "after",
                    "times": 2,
                    "prompt_contains": "fox",
                },
                {"fault": "unknown", "event": "poll"},
                {"fault": "archived_refusal", "prompt_contains": "fox"},
            ]
        },
        all_of(stored(), sent(2, proof="polled")),
        settings=replace(HASTY, sending=QUICK.sending),
        until=lambda story: story.scenario.sandbox.struck()["archived_refusal"] > 0,
        during=_waits_for_a_clue,
        families=BOTH,
    ),
    Row(
        "batched polls refused",
        {"rules": [{"fault": "refuse_batch"}]},
        stored("fox", "owl", "crab"),
        clips=(clip("fox"), clip("owl"), clip("crab")),
        lasts=True,
    ),
    Row(
        "429 with Retry-After on polls",
        {
            "rules": [
                {
                    "fault": "status",
                    "status": 429,
                    "retry_after_seconds": 1,
                    "event": "poll",
                    "times": 7,
                }
            ]
        },
        all_of(stored(), sent(1)),
    ),
]
