"""Rows of the fault matrix: what can go wrong with a submission and its answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from sora_dagster.generation.requesting.results import RequestState
from tests.protocol.families import BOTH, PRICE_USD
from tests.protocol.row import Row, Story, all_of, failed, sent, stored
from tests.protocol.scenario import HASTY, QUICK, clip

NO_REPLAYS = replace(QUICK, sending=replace(QUICK.sending, replays=False))


def lose_answer(moment: str = "after", **more: Any) -> dict[str, Any]:
    """The answer of the first submission is lost."""
    return {"fault": "lose_answer", "moment": moment, **({"nth": 1} | more)}


def _says_to_look_it_up(story: Story) -> None:
    outcome = story.outcome()
    assert story.states() == ["unsure"]
    assert "sora-dagster resolve" in outcome.errors[0].message
    assert outcome.cost_usd == PRICE_USD
    assert outcome.cost_is_estimate
    assert story.scenario.charges_of("fox") == 0


def _is_void_and_free_to_ask_again(story: Story) -> None:
    assert story.answers[0].state is RequestState.REFUSED
    assert story.states() == ["void"]
    assert story.scenario.charges_of("fox") == 0
    scenario = story.scenario
    [again] = scenario.request(scenario.generator(), clip())
    assert (again.state, again.attempt) == (RequestState.SUBMITTED, 2)
    scenario.run_until_quiet()
    assert story.states() == ["void", "done"]


def times_sent_is(times: int) -> Callable[[Story], bool]:
    """Whether the fox's last attempt was sent so often."""
    return lambda story: story.times_sent() >= times


def _posted(times: int) -> Any:
    def check(story: Story) -> None:
        # The poor run posts once.
        assert story.scenario.submissions == times + 1

    return check


def _others_are_stored(story: Story) -> None:
    assert [story.states(name) for name in ("fox", "owl", "crab")] == [
        ["done"],
        ["failed"],
        ["done"],
    ]
    assert story.outcome("owl").errors[0].kind == "validation"
    assert not story.outcome("owl").was_accepted
    assert story.scenario.charges_of("owl") == 0
    assert story.answers[1].state is RequestState.REFUSED


_UNSURE = (
    "Runware says neither yes nor no: ends `unsure`, reported and counted at its estimate, though "
    "not charged"
)

ROWS = [
    Row(
        "answer lost after accepting",
        {"rules": [lose_answer()]},
        all_of(stored(), sent(1, proof="polled")),
    ),
    Row(
        "answer lost before accepting",
        {"rules": [lose_answer("before")]},
        all_of(stored(), sent(2, proof="acknowledged")),
    ),
    Row(
        "reset after accepting",
        {"rules": [{"fault": "reset", "nth": 1}]},
        all_of(stored(), sent(1, proof="polled")),
    ),
    Row(
        "reset before accepting",
        {"rules": [{"fault": "reset", "nth": 1, "moment": "before"}]},
        all_of(stored(), sent(2)),
    ),
    Row(
        "never answered, accepted",
        {"rules": [{"fault": "no_answer", "nth": 1}]},
        all_of(stored(), sent(1, proof="polled")),
    ),
    Row(
        "answer is not JSON, accepted",
        {"rules": [{"fault": "garbage", "nth": 1}]},
        all_of(stored(), sent(1, proof="polled")),
    ),
    Row(
        "answer is `data: []`, accepted",
        {"rules": [{"fault": "empty_data", "nth": 1}]},
        all_of(stored(), sent(1, proof="polled")),
    ),
    Row(
        "answer is `data: []`, not accepted",
        {"rules": [{"fault": "empty_data", "nth": 1, "moment": "before"}]},
        all_of(stored(), sent(2)),
    ),
    Row(
        "known UUID refused always",
        {
            "known_uuids": "refused_always",
            "rules": [lose_answer(), {"fault": "not_yet_known", "polls": 2}],
        },
        all_of(stored(), sent(2, proof="conflict")),
    ),
    Row(
        "known UUID refused only while it runs",
        {
            "known_uuids": "refused_while_running",
            "rules": [
                lose_answer(),
                {"fault": "not_yet_known", "polls": 1, "prompt_contains": "fox"},
                {"fault": "late_result", "delay_seconds": 5.0},
            ],
        },
        all_of(stored(), sent(2, proof="conflict")),
        settings=replace(QUICK, sending=replace(QUICK.sending, replay_window_seconds=4.0)),
        needs="a generation, a failing one too, takes longer than the replay window (30 s)",
    ),
    Row(
        "known UUID made and charged again",
        {
            "known_uuids": "charged_again",
            "rules": [lose_answer(), {"fault": "not_yet_known", "polls": 3}],
        },
        all_of(stored(), sent(1, proof="polled")),
        needs="replays turned off (SendSettings.replays)",
        settings=NO_REPLAYS,
    ),
    Row(
        "known UUID charged again, POST lost before accepting",
        {"known_uuids": "charged_again", "rules": [lose_answer("before")]},
        all_of(_says_to_look_it_up, sent(1)),
        needs=f"replays turned off; {_UNSURE}",
        settings=replace(HASTY, sending=NO_REPLAYS.sending),
        lasts=True,
    ),
    Row(
        "polls silent about running and unknown, all POSTs lost before accepting",
        {
            "unknown_polls": "silent_running",
            "rules": [lose_answer("before", nth=None, times=99, prompt_contains="fox")],
        },
        _says_to_look_it_up,
        needs=_UNSURE,
        settings=HASTY,
        lasts=True,
    ),
    Row(
        "six answers lost before accepting, within the replay window",
        {"rules": [lose_answer("before", nth=None, times=6, prompt_contains="fox")]},
        all_of(stored(), sent(7, proof="acknowledged")),
    ),
    Row(
        "answers lost before accepting, longer than the replay window",
        {"rules": [lose_answer("before", nth=None, prompt_contains="fox")]},
        all_of(stored(), sent(3, proof="acknowledged")),
        # No replay at once; two late ones, of which the fault lets the second through.
        settings=replace(HASTY, sending=replace(HASTY.sending, replay_window_seconds=0.0)),
        until=times_sent_is(2),
    ),
    Row(
        "429 with Retry-After, twice",
        {"rules": [{"fault": "status", "status": 429, "retry_after_seconds": 1, "times": 2}]},
        all_of(stored(), sent(1, proof="acknowledged"), _posted(3)),
    ),
    Row(
        "429 with a Retry-After of an hour",
        {
            "rules": [
                {
                    "fault": "status",
                    "status": 429,
                    "retry_after_seconds": 3600,
                    "prompt_contains": "fox",
                }
            ]
        },
        all_of(_posted(1), _is_void_and_free_to_ask_again),
    ),
    Row(
        "402, no balance",
        {"rules": [{"fault": "status", "status": 402, "prompt_contains": "fox"}]},
        all_of(_posted(1), _is_void_and_free_to_ask_again),
    ),
    *[
        Row(
            f"{status} on submissions and polls, before accepting",
            {
                "rules": [
                    {
                        "fault": "status",
                        "status": status,
                        "event": ["submission", "poll"],
                        "times": 5,
                        "body": body,
                    }
                ]
            },
            stored(),
            settings=HASTY,
            lasts=True,
        )
        for status, body in ((500, "json"), (503, "html"), (504, "json"))
    ],
    *[
        Row(
            f"{status} on submissions after accepting, and on polls",
            {
                "rules": [
                    {"fault": "status", "status": status, "moment": "after", "times": 2},
                    {"fault": "status", "status": status, "event": "poll", "times": 5},
                ]
            },
            all_of(stored(), sent(2, proof="polled")),
        )
        for status in (500, 503, 504)
    ],
    Row(
        "mixed batch",
        {"rules": [{"fault": "refuse", "error": "validation", "positions": 1, "times": 1}]},
        _others_are_stored,
        clips=(clip("fox"), clip("owl"), clip("crab")),
        families=BOTH,
    ),
    Row(
        "safety refusal of the prompt",
        {"rules": [{"fault": "refuse", "error": "safety", "prompt_contains": "fox"}]},
        all_of(failed("safety"), _posted(1)),
        families=BOTH,
    ),
    Row(
        "model disabled",
        {"rules": [{"fault": "refuse", "error": "model", "prompt_contains": "fox"}]},
        all_of(failed("model"), _posted(1)),
        families=BOTH,
    ),
]
