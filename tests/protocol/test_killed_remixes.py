"""Processes killed while they request a remix: its parent is refused, or its last frame is cut."""

from __future__ import annotations

import hashlib
import signal
from pathlib import Path

import pytest

from sora_dagster.generation.protocol import layout
from sora_dagster.generation.requesting.results import RequestState
from sora_dagster.generation.resolve import resend
from tests.protocol.child_processes import Ended, Processes
from tests.protocol.crash_child import ROOT_RUN, TINY_RUN_LIMIT_USD
from tests.protocol.families import BOTH, LIVE, RUNS_ALL_WITH_BOTH, Family
from tests.protocol.faulty_sandbox import FaultySandbox
from tests.protocol.invariants import check_invariants
from tests.protocol.matrix import INVARIANTS, NO_VIOLATIONS, Matrix
from tests.protocol.remix_rows import ON_S3
from tests.protocol.row import Story
from tests.protocol.scenario import QUICK, Scenario
from tests.sandbox_server import Sandbox

_REFUSED = [{"fault": "refuse_video_uuids"}]


def _around(*names: str) -> list[str]:
    """The moments after some steps; the moment before a step is that after the one before it."""
    moments = ("before", "after") if RUNS_ALL_WITH_BOTH else ("after",)
    return [f"{name}, {moment}" for name in names for moment in moments]


# The process may have had the refusal, or not have sent anything: its records do not say.
UNSURE = ("sent-1 taken, after", "POST, before", "POST, after", "refusal recorded, before")
# Until the POST the records are those of any clip; a refused POST adds nothing to them.
BEFORE_THE_REFUSAL = _around("attempt claimed", "day budget reserved", "sent-1 taken")
REFUSED = (BEFORE_THE_REFUSAL if RUNS_ALL_WITH_BOTH else []) + _around(
    "POST",
    "refusal recorded",
    "day budget settled",
    "run budget settled",
    "pending removed",
    "second pending written",
    "attempt by address claimed",
    "run budget reserved again",
    "day budget reserved again",
    "second sent-1 taken",
    "POST of the address",
    "seen",
    "manifest written",
)
# Before the last frame is kept, it is cut.
CONTINUED = dict.fromkeys(["last frame kept, before", *_around("last frame kept", "POST")])


@pytest.fixture
def faults(crash_sandbox: Sandbox) -> FaultySandbox:
    faults = FaultySandbox(crash_sandbox.base_url)
    faults.clear_faults()
    return faults


def check_in(matrix: Matrix, name: str, scenario: Scenario) -> None:
    violations = check_invariants(scenario, may_leave_files=True)
    matrix.record(name, violations)
    assert violations == NO_VIOLATIONS


@pytest.mark.parametrize("point", REFUSED)
def test_a_process_that_is_killed_while_a_parent_is_refused_pays_once(
    processes: Processes,
    crash_sandbox: Sandbox,
    faults: FaultySandbox,
    matrix: Matrix,
    s3_endpoint: str,
    s3_url: str,
    point: str,
) -> None:
    name = f"killed: the parent is refused: {point}"
    matrix.record(name, {number: ["it did not end"] for number in INVARIANTS})
    scenario = Scenario(faults, s3_url, ON_S3, limits_usd={ROOT_RUN: TINY_RUN_LIMIT_USD})
    scenario.stored_parent(LIVE)
    faults.set_faults(rules=_REFUSED)
    try:
        on_s3 = ("--s3-endpoint", s3_endpoint)
        asks = ("--request", "--remix", "edit", "--families", str(LIVE))
        killed = processes.run(crash_sandbox, s3_url, *on_s3, *asks, "--crash-at", point)
        assert (killed.status, killed.said[-1:]) == (-signal.SIGKILL, [f"killed at {point}"])
        assert processes.run(crash_sandbox, s3_url, *on_s3) == Ended(0, [])
        again = processes.run(crash_sandbox, s3_url, *on_s3, *asks)
        assert again.status == 0, "\n".join(again.said)
        check_in(matrix, name, scenario)
        story = Story(scenario)
        if point in UNSURE:
            is_resolved(story)
    finally:
        faults.clear_faults()
        scenario.close()
    assert scenario.charges_of("fox") == 1
    carriers = [attempt.carrier for attempt in scenario.attempts_of("fox")]
    assert story.states()[-1] == "done"
    for state, carrier in zip(story.states(), carriers, strict=True):
        # What is void was never sent.
        assert state == "void" or carrier == ("address" if state == "done" else "uuid")
    assert "failed" in story.states()


def is_resolved(story: Story) -> None:
    """A person decides about a submission whose answer was lost."""
    assert story.states() == ["unsure"]
    assert story.scenario.charges_of("fox") == 0
    generator = story.scenario.generator()
    answer = resend(generator, "clips", "fox", run_limit_usd=1.0)
    assert answer.state is RequestState.SUBMITTED
    story.scenario.run_until_quiet(generator)


@pytest.mark.parametrize("family", BOTH, ids=str)
@pytest.mark.parametrize("point", CONTINUED)
def test_a_process_that_is_killed_around_the_last_frame_sends_the_same_one_once(
    processes: Processes,
    crash_sandbox: Sandbox,
    faults: FaultySandbox,
    matrix: Matrix,
    tmp_path: Path,
    point: str,
    family: Family,
) -> None:
    name = f"killed: continue: {point} ({family})"
    matrix.record(name, {number: ["it did not end"] for number in INVARIANTS})
    storage = tmp_path / "storage"
    scenario = Scenario(faults, str(storage), QUICK, limits_usd={ROOT_RUN: TINY_RUN_LIMIT_USD})
    parent = scenario.stored_parent(family)
    asks = ("--request", "--remix", "continue", "--families", str(family))
    killed = processes.run(crash_sandbox, storage, *asks, "--crash-at", point)
    assert (killed.status, killed.said[-1:]) == (-signal.SIGKILL, [f"killed at {point}"])
    assert processes.run(crash_sandbox, storage) == Ended(0, [])
    again = processes.run(crash_sandbox, storage, *asks)
    assert again.status == 0, "\n".join(again.said)
    check_in(matrix, name, scenario)
    scenario.close()
    story = Story(scenario)
    assert story.states()[-1] == "done"
    assert set(story.states()[:-1]) <= {"void"}
    assert scenario.charges_of("fox") == 1
    [video] = story.manifest(parent.clip).videos
    [kept] = scenario.keys(layout.LAST_FRAMES_FOLDER)
    assert kept == layout.last_frame_key(video.sha256)
    digest = hashlib.sha256(scenario.root().read(kept)).hexdigest()
    for attempt in scenario.attempts_of("fox"):
        assert attempt.carrier == "frame"
        assert digest in str(attempt.wire["inputs"])
