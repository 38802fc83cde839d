"""A row of the fault matrix: a fault, the story played under it, and what must come of it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from sora_dagster.generation.generator import GenerationSettings
from sora_dagster.generation.protocol import layout
from sora_dagster.generation.protocol.records import ClipManifest, OutcomeRecord, SeenRecord
from sora_dagster.generation.requesting.results import RequestResult
from sora_dagster.prompts.clips import ClipRequest
from sora_dagster.runware.catalogue import RemixMode
from sora_dagster.runware.errors import RunwareError
from tests.protocol.families import PRICE_USD, SORA, Family
from tests.protocol.scenario import QUICK, Scenario, clip


@dataclass
class Story:
    """A scenario as a row plays it.

    Arguments:
        scenario: the scenario.
        answers: results of the first request; empty if it failed as a whole.
        error: how it failed as a whole.
    """

    scenario: Scenario
    answers: list[RequestResult] = field(default_factory=list)
    error: RunwareError | None = None

    def manifest(self, clip_id: str = "fox") -> ClipManifest:
        """The stored clip."""
        manifest = self.scenario.ledger().latest_manifest("clips", clip_id)
        assert manifest is not None, f"{clip_id} is not stored"
        return manifest

    def states(self, clip_id: str = "fox") -> list[str]:
        """How each attempt of a clip ended, in their order."""
        return [
            "open" if outcome is None else outcome.state
            for outcome in self.scenario.outcomes_of(clip_id)
        ]

    def outcome(self, clip_id: str = "fox") -> OutcomeRecord:
        """How the last attempt of a clip ended."""
        outcome = self.scenario.outcomes_of(clip_id)[-1]
        assert outcome is not None, f"{clip_id} has no outcome"
        return outcome

    def times_sent(self, clip_id: str = "fox") -> int:
        """How often the last attempt of a clip was sent."""
        record = self.scenario.attempts_of(clip_id)[-1]
        return len(self.scenario.ledger().task_files(record.task_uuid).sent)

    def proof(self, clip_id: str = "fox") -> str | None:
        """What proved that Runware has the last attempt of a clip."""
        record = self.scenario.attempts_of(clip_id)[-1]
        seen = self.scenario.ledger().read(layout.task_key(record.task_uuid, "seen"), SeenRecord)
        return None if seen is None else seen.how


Expectation = Callable[[Story], None]
# What distinguishes kinds of faults.
_KIND = ("fault", "moment", "status", "error", "reported", "reported_in", "part")


@dataclass(frozen=True)
class Row:
    """A row of the matrix.

    Arguments:
        fault: what goes wrong.
        plan: the sandbox's fault plan.
        expect: what must be true at the end, besides the invariants.
        clips: clips requested while the fault is in force.
        needs: what the row assumes of Runware, or of our settings.
        settings: how the generators work.
        webhook: whether requests name the webhook.
        until: when the fault ends; by default once every rule of the plan has struck.
        lasts: whether the fault lasts until there is nothing to do any more.
        during: what happens, or must be true, just before the fault ends.
        may_be_lost: states that a video may end in, by what the row needs.
        may_cost_more: whether our books may hold more than was charged, by what the row needs.
        may_leave_files: whether a process may end with a copy of a damaged video, which
            housekeeping removes.
        on_s3: whether the storage root is a bucket that Runware can put videos into.
        families: the families of models that it must run with; default: any of them.
        remix: for clips that are remixes of a stored clip, how; `default` for the first way of the
            family.
    """

    fault: str
    plan: dict[str, Any]
    expect: Expectation
    clips: tuple[ClipRequest, ...] = (clip(),)
    needs: str = ""
    settings: GenerationSettings = QUICK
    webhook: bool = False
    until: Callable[[Story], bool] | None = None
    lasts: bool = False
    during: Expectation | None = None
    may_be_lost: Collection[str] = ()
    may_cost_more: bool = False
    may_leave_files: bool = False
    on_s3: bool = False
    families: tuple[Family, ...] = ()
    remix: RemixMode | Literal["default"] | None = None

    @property
    def kinds(self) -> Iterator[str]:
        """The kinds of its faults."""
        for rule in self.plan.get("rules", ()):
            yield " ".join(str(rule[name]) for name in _KIND if name in rule)
        yield from (f"{name} {value}" for name, value in self.plan.items() if name != "rules")

    def requests(self, scenario: Scenario) -> tuple[ClipRequest, ...]:
        """What it requests; for remixes, their parent is stored first."""
        if self.remix is None:
            return self.clips
        family = scenario.family or SORA
        parent = scenario.stored_parent(family)
        mode = None if self.remix == "default" else self.remix
        return tuple(family.remix(request, parent, mode=mode) for request in self.clips)


def play(row: Row, scenario: Scenario) -> Story:
    """Request and collect under a row's fault, then let it end and collect until it is quiet."""
    story = Story(scenario)
    requests = row.requests(scenario)
    scenario.sandbox.set_faults(**row.plan)
    generator = scenario.generator()
    try:
        story.answers = scenario.request(generator, *requests)
    except RunwareError as error:
        story.error = error
    _request_more_than_is_left(scenario)
    if row.lasts:
        scenario.run_until_quiet()
    else:
        until = row.until or _every_rule_has_struck
        scenario.collect_until(lambda: until(story))
    if row.during is not None:
        row.during(story)
    assert sum(scenario.sandbox.struck().values()) or not row.plan.get("rules"), "nothing struck"
    scenario.sandbox.clear_faults()
    scenario.run_until_quiet()
    return story


def _every_rule_has_struck(story: Story) -> bool:
    return all(story.scenario.sandbox.struck().values())


def _request_more_than_is_left(scenario: Scenario) -> None:
    """Another run requests two clips with money for one and a half."""
    poor = scenario.generator()
    # If the request fails as a whole, its limit must hold all the same.
    with suppress(RunwareError):
        scenario.request(
            poor, clip("heron"), clip("newt"), root_run="poor run", limit_usd=1.5 * PRICE_USD
        )


# Expectations of many rows


def all_of(*expectations: Expectation) -> Expectation:
    """Several expectations."""

    def check(story: Story) -> None:
        for expectation in expectations:
            expectation(story)

    return check


def stored(*clip_ids: str, attempts: int = 1) -> Expectation:
    """Each clip is stored, by so many attempts."""

    def check(story: Story) -> None:
        for clip_id in clip_ids or ("fox",):
            assert story.states(clip_id)[-1] == "done"
            assert len(story.states(clip_id)) == attempts
            assert story.scenario.charges_of(clip_id) == attempts
            assert story.manifest(clip_id).cost_usd == pytest.approx(PRICE_USD)

    return check


def sent(times: int, *, proof: str | None = None) -> Expectation:
    """The fox's last attempt was sent so often, and what proved that Runware has it."""

    def check(story: Story) -> None:
        assert story.times_sent() == times
        if proof is not None:
            assert story.proof() == proof

    return check


def failed(kind: str, *, attempts: int = 1, state: str = "failed") -> Expectation:
    """The fox failed with an error of a kind, after so many attempts."""

    def check(story: Story) -> None:
        assert story.states() == [state] * attempts
        assert [error.kind for error in story.outcome().errors] == [kind]
        assert story.scenario.ledger().latest_manifest("clips", "fox") is None

    return check


def not_in_a_manifest(story: Story) -> None:
    """What arrived is not called stored."""
    assert story.scenario.ledger().latest_manifest("clips", "fox") is None
    assert story.states() == ["open"]
