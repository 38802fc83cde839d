"""Rows of the fault matrix: remixes, and parents whose videos Runware does not know by their UUIDs.

How long Runware knows the UUID of a video is not documented. If it refuses one, the next attempt of
the take carries a presigned address of the stored video.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from sora_dagster.generation.collecting.settings import Deadlines
from sora_dagster.generation.protocol.claims import ClaimSettings
from sora_dagster.generation.requesting.results import RequestState
from sora_dagster.generation.resolve import resend
from sora_dagster.runware.catalogue import RemixMode
from tests.protocol.families import BOTH, LIVE, PRICE_USD
from tests.protocol.row import Expectation, Row, Story, all_of, failed, sent, stored
from tests.protocol.scenario import HASTY, QUICK, clip
from tests.protocol.submission_rows import lose_answer

# The store's clock shows whole seconds, so that nothing shorter can be measured with it.
ON_S3 = replace(
    HASTY,
    deadlines=Deadlines(
        unknown_seconds=1.2, generation_seconds=1.0, unsent_seconds=1.5, fetch_seconds=60.0
    ),
    delivery="download",
    claims=ClaimSettings(beat_seconds=0.5, dead_seconds=5.0),
)
_REFUSED = {"fault": "refuse_video_uuids", "prompt_contains": "fox"}


def _fox(fault: str, **more: Any) -> dict[str, Any]:
    return {"fault": fault, "prompt_contains": "fox", **more}


def _row(fault: str, *rules: dict[str, Any], remix: RemixMode | None = None, **more: Any) -> Row:
    """A fault that strikes a remix."""
    return Row(
        f"{remix or 'remix'}: {fault}",
        {"rules": list(rules), **more.pop("plan", {})},
        more.pop("expect", stored()),
        **{"remix": remix or "default", "families": BOTH, "lasts": True, **more},
    )


def _refused_row(fault: str, *rules: dict[str, Any], expect: Expectation, **more: Any) -> Row:
    """The UUID of the parent's video is refused."""
    return Row(
        f"UUID of the parent refused{fault}",
        {"rules": [more.pop("refusal", _REFUSED), *rules]},
        expect,
        **{
            "remix": "default",
            "families": (LIVE,),
            "settings": ON_S3,
            "on_s3": True,
            "lasts": True,
            **more,
        },
    )


def _carried(*carriers: str) -> Expectation:
    """How the video of the parent was sent in each attempt."""

    def check(story: Story) -> None:
        attempts = story.scenario.attempts_of("fox")
        assert [attempt.carrier for attempt in attempts] == list(carriers)

    return check


def _ended(*states: str) -> Expectation:
    def check(story: Story) -> None:
        assert story.states() == list(states)

    return check


def _charged(times: int) -> Expectation:
    def check(story: Story) -> None:
        assert story.scenario.charges_of("fox") == times

    return check


def _stays(state: RequestState) -> Expectation:
    """Requesting it again sends nothing, and has this answer."""

    def check(story: Story) -> None:
        scenario, before = story.scenario, story.scenario.submissions
        request = scenario.attempts_of("fox")[0].request
        [again] = scenario.request(scenario.generator(), request)
        assert again.state is state
        assert scenario.submissions == before

    return check


def _is_requested_again(*carriers: str) -> Expectation:
    """Requesting it again has it generated; gives how its parent was sent in each attempt."""

    def check(story: Story) -> None:
        scenario = story.scenario
        request = scenario.attempts_of("fox")[0].request
        scenario.sandbox.set_faults(rules=[_REFUSED])
        [again] = scenario.request(scenario.generator(), request)
        scenario.sandbox.clear_faults()
        assert again.state is RequestState.SUBMITTED
        scenario.run_until_quiet()
        assert story.states()[-1] == "done"
        _carried(*carriers)(story)
        _charged(1)(story)

    return check


def _is_resolved_by_a_person(story: Story) -> None:
    """Nothing proves that the lost answer was a refusal, so that a person has to decide."""
    assert story.states() == ["unsure"]
    assert "sora-dagster resolve" in story.outcome().errors[0].message
    assert story.outcome().cost_usd == PRICE_USD
    _charged(0)(story)
    _stays(RequestState.FAILED)(story)
    scenario = story.scenario
    scenario.sandbox.set_faults(rules=[_REFUSED])
    generator = scenario.generator()
    scenario.limits_usd["resolve"] = 10.0
    answer = resend(generator, "clips", "fox", run_limit_usd=10.0)
    scenario.sandbox.clear_faults()
    assert answer.state is RequestState.SUBMITTED
    scenario.run_until_quiet()
    assert story.states() == ["unsure", "failed", "done"]
    _carried("uuid", "uuid", "address")(story)


def _cannot_sign(story: Story) -> None:
    [answer] = story.answers
    assert answer.state is RequestState.REFUSED
    assert answer.error is not None
    assert "cannot sign URLs" in answer.error.message
    assert "nothing paid" in answer.detail
    assert story.states() == ["failed"]
    assert not story.outcome().was_accepted
    _charged(0)(story)
    _stays(RequestState.REFUSED)(story)


def _was_refused_first(story: Story) -> None:
    first = story.scenario.outcomes_of("fox")[0]
    assert first is not None
    assert (first.state, first.was_accepted, first.cost_usd) == ("failed", False, 0.0)
    assert [error.parameter for error in first.errors] == ["inputs.video"]


BY_ADDRESS = all_of(
    _ended("failed", "done"), _carried("uuid", "address"), _charged(1), _was_refused_first
)

_REMIX_ROWS = [
    _row(
        "answer lost after accepting", lose_answer(), expect=all_of(stored(), sent(1)), lasts=False
    ),
    _row(
        "answer lost before accepting",
        lose_answer("before"),
        expect=all_of(stored(), sent(2, proof="acknowledged")),
        lasts=False,
    ),
    _row(
        "provider error, once", _fox("fail", error="provider", times=1), expect=stored(attempts=2)
    ),
    _row("safety refusal", _fox("refuse", error="safety"), expect=failed("safety")),
    _row("video truncated once", _fox("download_truncated", times=1)),
    _row(
        "task forgotten after its end for good, webhook came",
        {"fault": "forgotten", "polls": 0},
        webhook=True,
    ),
    _row(
        "1 of 2 results fails",
        _fox("fail", error="provider", results=[1]),
        expect=_ended("partial"),
        clips=(clip(number_results=2),),
    ),
    _row("answer lost before accepting", lose_answer("before"), remix="continue", lasts=False),
    _row(
        "answers lost before accepting, longer than the replay window",
        lose_answer("before", nth=None, prompt_contains="fox"),
        remix="continue",
        # No replay at once; two late ones, of which the fault lets the second through.
        settings=replace(HASTY, sending=replace(HASTY.sending, replay_window_seconds=0.0)),
        expect=all_of(stored(), sent(3, proof="acknowledged")),
        until=lambda story: story.times_sent() >= 2,
        lasts=False,
    ),
    _row(
        "answer lost after accepting",
        lose_answer(),
        remix="extend",
        families=(LIVE,),
        expect=all_of(stored(), sent(1)),
        lasts=False,
    ),
]

_REFUSED_ROWS = [
    _refused_row("", expect=BY_ADDRESS),
    _refused_row(", extend", remix="extend", expect=BY_ADDRESS),
    _refused_row(
        ", direct delivery",
        settings=replace(ON_S3, delivery="direct"),
        expect=BY_ADDRESS,
    ),
    _refused_row(
        ", its answer lost",
        lose_answer(nth=None, times=1, prompt_contains="fox"),
        expect=_is_resolved_by_a_person,
        needs="Runware says neither yes nor no: ends `unsure`, though not charged",
    ),
    _refused_row(
        " once, its answer lost",
        lose_answer(nth=None, times=1, prompt_contains="fox"),
        refusal={**_REFUSED, "times": 1},
        expect=all_of(stored(), sent(2, proof="acknowledged"), _carried("uuid")),
        settings=replace(ON_S3, sending=QUICK.sending),
    ),
    *[
        _refused_row(
            f", answer to its address lost {moment} accepting",
            lose_answer(moment, nth=2, prompt_contains="fox"),
            expect=all_of(BY_ADDRESS, sent(times)),
            settings=replace(ON_S3, sending=QUICK.sending),
        )
        for moment, times in (("before", 2), ("after", 1))
    ],
    _refused_row(
        ", answer to its address lost before accepting, replayed by another process",
        lose_answer("before", nth=2, prompt_contains="fox"),
        expect=all_of(BY_ADDRESS, sent(2, proof="acknowledged")),
        settings=replace(ON_S3, sending=replace(ON_S3.sending, replay_window_seconds=0.0)),
    ),
    _refused_row(
        ", its address refused too",
        _fox("refuse", error="validation"),
        expect=all_of(
            _ended("failed", "failed"),
            _carried("uuid", "address"),
            _charged(0),
            _stays(RequestState.FAILED),
        ),
    ),
    _refused_row(
        ", 402 for its address",
        _fox("status", status=402, nth=2),
        expect=all_of(_ended("failed", "void"), _is_requested_again("uuid", "address", "address")),
    ),
    _refused_row(
        " in a root that cannot sign URLs",
        expect=_cannot_sign,
        settings=QUICK,
        on_s3=False,
    ),
]

ROWS = [*_REMIX_ROWS, *_REFUSED_ROWS]
