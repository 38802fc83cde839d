"""Requesting clips: what is bought and what is not, what is written when, how it is sent."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import httpx
import pytest

from sora_dagster.generation.protocol import layout
from sora_dagster.generation.protocol.budget import Budget, BudgetDecision
from sora_dagster.generation.protocol.ledger import Ledger
from sora_dagster.generation.protocol.records import (
    AttemptRecord,
    OutcomeRecord,
    OutcomeState,
    SeenRecord,
)
from sora_dagster.generation.protocol.spending_limits import SpendingLimits
from sora_dagster.generation.requesting.direct_delivery import DirectDelivery
from sora_dagster.generation.requesting.estimates import estimate
from sora_dagster.generation.requesting.options import RequestOptions, options_after
from sora_dagster.generation.requesting.requester import Requester
from sora_dagster.generation.requesting.results import RequestResult, RequestState, failure_reasons
from sora_dagster.generation.requesting.sender import Sender, SendSettings
from sora_dagster.prompts.clips import DEFAULT_DATASET, ClipRequest, ClipSpec, ParentVideo
from sora_dagster.runware.client import RunwareClient
from sora_dagster.runware.errors import ErrorRecord
from sora_dagster.runware.pricing import Price
from sora_dagster.storage import StorageRoot
from tests.generation.stored_takes import stored_take
from tests.protocol.families import CATALOGUE, PRICE_USD, TINY
from tests.protocol.faulty_sandbox import (
    KEY,
    FaultySandbox,
    faulty_sandbox,
    quick_requests,
)

BATCH_SIZE = 2
QUICK = SendSettings(confirm_seconds=0.01, replay_window_seconds=0.3)


@pytest.fixture(scope="module")
def _running_sandbox() -> Iterator[FaultySandbox]:
    with quick_requests(), faulty_sandbox() as running:
        yield running


@pytest.fixture
def api(_running_sandbox: FaultySandbox) -> Iterator[FaultySandbox]:
    """The sandbox, without faults at first."""
    _running_sandbox.clear_faults()
    yield _running_sandbox
    _running_sandbox.clear_faults()


@pytest.fixture
def ledger(api: FaultySandbox, root: StorageRoot) -> Ledger:
    ledger = Ledger(root)
    ledger.bind(api_base_url=api.base_url, account=None)
    return ledger


class Process:
    """One process that requests clips.

    Arguments:
        api: the sandbox.
        ledger: the ledger as this process sees it.
        sending: how it clears up unclear answers.
        clocks: the sender's clocks and waits.
        transport: what carries its requests.
        unsent_seconds: age after which a claim that was never sent may be voided.
        budget: its spending limits.
    """

    def __init__(
        self,
        api: FaultySandbox,
        ledger: Ledger,
        *,
        sending: SendSettings = QUICK,
        clocks: Mapping[str, Any] | None = None,
        transport: httpx.BaseTransport | None = None,
        unsent_seconds: float = 300.0,
        budget: Budget | None = None,
    ) -> None:
        self.api = api
        self.ledger = ledger
        self.client = RunwareClient(
            KEY,
            base_url=api.base_url,
            catalogue=CATALOGUE,
            timeout_seconds=1.0,
            submit_batch_size=BATCH_SIZE,
            retry_attempts=3,
            transport=transport,
        )
        self.sender = Sender(self.client, ledger, settings=sending, **(clocks or {}))
        self.requester = Requester(
            self.client,
            ledger,
            self.sender,
            budget=budget or Budget(ledger, store_time=ledger.root.store_time),
            direct=DirectDelivery(
                ledger.root,
                setting="download",
                api_base_url=api.base_url,
                generation_seconds=60,
            ),
            store_time=ledger.root.store_time,
            unsent_seconds=unsent_seconds,
        )
        self._submissions_before = self._submissions()
        self._charges_before = len(self._charges())

    def request(
        self, *requests: ClipRequest, limit_usd: float | None = None, **options: Any
    ) -> Any:
        """Request clips; the result of one, or a list for several."""
        answers = self.requester.request(requests, RequestOptions("run", limit_usd, **options))
        return answers[0] if len(requests) == 1 else answers

    @property
    def submissions(self) -> int:
        """POSTs of submissions that reached the sandbox since this process began."""
        return self._submissions() - self._submissions_before

    @property
    def charges(self) -> int:
        """Tasks that were charged since this process began."""
        return len(self._charges()) - self._charges_before

    def _submissions(self) -> int:
        return int(self.api.books()["posts"]["submissions"])

    def _charges(self) -> list[Any]:
        charges: list[Any] = self.api.books()["charges"]
        return charges


@pytest.fixture
def process(api: FaultySandbox, ledger: Ledger) -> Process:
    return Process(api, ledger)


def clip(clip_id: str = "fox", *, prompt: str | None = None, **fields: Any) -> ClipRequest:
    """A clip of the tiny model; its prompt holds its id, so that faults can be aimed at it."""
    spec = {"clip_id": clip_id, "model": TINY.air, "size": "160x90", **fields}
    spec["prompt"] = prompt or f"a {clip_id} in snow"
    return ClipRequest(asset="clips", clip=clip_id, spec=ClipSpec.model_validate(spec))


def clips(count: int) -> list[ClipRequest]:
    return [clip(f"clip-{number}") for number in range(count)]


def changed(request: ClipRequest) -> ClipRequest:
    spec = request.spec.model_copy(update={"prompt": "another prompt"})
    return request.model_copy(update={"spec": spec})


def states(answers: list[RequestResult]) -> list[str]:
    return [answer.state.value for answer in answers]


def keys(ledger: Ledger) -> set[str]:
    return {info.key for info in ledger.root.list("")}


def attempt_of(ledger: Ledger, clip_id: str = "fox") -> AttemptRecord:
    """The newest attempt of a clip."""
    return ledger.takes("clips", clip_id)[-1].latest


def settle(ledger: Ledger, state: OutcomeState, *errors: ErrorRecord, clip_id: str = "fox") -> None:
    """Have the newest attempt of a clip end, on record."""
    attempt = attempt_of(ledger, clip_id)
    ledger.settle(
        attempt.task_uuid,
        OutcomeRecord(
            state=state,
            cost_usd=PRICE_USD,
            errors=errors,
            at=datetime.now(UTC),
            nonce=ledger.new_nonce(),
        ),
    )
    ledger.pending.remove(attempt.dataset, attempt.task_uuid)


def forget_at_runware(api: FaultySandbox) -> None:
    """Have Runware say that it knows no task."""
    api.set_faults(rules=[{"fault": "unknown"}])


PASSING = ErrorRecord(kind="provider", message="the provider failed", retryable=True)


def store(ledger: Ledger) -> ClipRequest:
    return stored_take(ledger).request


# Changed rows


def in_state(state: str, process: Process) -> ClipRequest:
    """A clip that was requested and is in a state now."""
    if state == "stored":
        return store(process.ledger)
    request = clip()
    process.request(request)
    if state != "outstanding":
        settle(process.ledger, "lost" if state == "lost" else "unsure")
    return request


@pytest.mark.parametrize("state", ["stored", "outstanding", "lost", "unsure"])
def test_a_changed_row_is_not_bought_by_the_way(
    api: FaultySandbox, ledger: Ledger, state: str
) -> None:
    request = in_state(state, Process(api, ledger))
    process, before = Process(api, ledger), keys(ledger)
    answer = process.request(changed(request))
    assert answer.state is RequestState.CHANGED
    assert answer.take == 1
    assert answer.price is None
    assert answer.new_take_price is not None
    assert answer.new_take_price.usd
    assert f"a new take would cost {answer.new_take_price.text}" in answer.detail
    assert "its row changed and take 1 is kept" in answer.detail
    assert process.submissions == 0
    assert keys(ledger) == before


@pytest.mark.parametrize(
    ("state", "is_ok"), [("stored", True), ("outstanding", True), ("lost", False)]
)
def test_a_changed_row_counts_as_its_kept_take_stands(
    process: Process, state: str, is_ok: bool
) -> None:
    answer = process.request(changed(in_state(state, process)))
    assert answer.clip_state.value == ("failed" if state == "lost" else state)
    assert answer.ok is is_ok
    assert failure_reasons([answer]) == ({} if is_ok else {"fox": answer.detail})


@pytest.mark.parametrize("state", ["stored", "outstanding", "lost", "unsure"])
def test_a_changed_row_is_bought_with_regenerate_changed(process: Process, state: str) -> None:
    request = changed(in_state(state, process))
    answer = process.request(request, regenerate_changed=True)
    assert (answer.state, answer.take) == (RequestState.SUBMITTED, 2)
    assert process.request(request, regenerate_changed=True).state is RequestState.OUTSTANDING


def test_a_new_take_of_a_changed_row_has_at_least_the_rows_number(process: Process) -> None:
    request = store(process.ledger)
    answer = process.request(
        changed(request).model_copy(
            update={"spec": request.spec.model_copy(update={"prompt": "other", "take": 5})}
        ),
        regenerate_changed=True,
    )
    assert answer.take == 5


def test_a_raised_take_is_bought_without_a_flag(process: Process) -> None:
    request = store(process.ledger)
    raised = request.model_copy(update={"spec": request.spec.model_copy(update={"take": 2})})
    answer = process.request(raised)
    assert (answer.state, answer.take) == (RequestState.SUBMITTED, 2)


def test_a_row_that_is_changed_after_a_refusal_is_bought(process: Process) -> None:
    refusal = {"fault": "refuse", "error": "safety", "prompt_contains": "fox"}
    process.api.set_faults(rules=[refusal])
    assert process.request(clip()).state is RequestState.REFUSED
    answer = process.request(clip(prompt="an owl in rain"))
    assert (answer.state, answer.take) == (RequestState.SUBMITTED, 2)


def test_a_new_take_that_failed_leaves_the_earlier_one_kept(process: Process) -> None:
    request = store(process.ledger)
    newer = changed(request)
    process.request(newer, regenerate_changed=True)
    settle(process.ledger, "failed", ErrorRecord(kind="safety", message="refused"))
    forget_at_runware(process.api)
    before = process.submissions
    answer = process.request(request)
    assert (answer.state, answer.take) == (RequestState.CHANGED, 1)
    assert answer.clip_state is RequestState.STORED
    assert process.submissions == before


def remix(parent: ParentVideo, prompt: str = "the same at night") -> ClipRequest:
    spec = ClipSpec(clip_id="fox", prompt=prompt, model=TINY.air)
    return ClipRequest(asset="remixes", clip="fox|night", spec=spec, recipe="night", parent=parent)


def parent(video: str) -> ParentVideo:
    return ParentVideo.model_validate(
        {
            "asset": "clips",
            "clip": "fox",
            "take": 1,
            "content_hash": "1" * 64,
            "video_uuid": video,
            "video_id": video,
            "size": "160x90",
            "duration_seconds": 1,
        }
    )


def test_a_changed_recipe_and_a_parents_new_video_are_changes(process: Process) -> None:
    claim(process.ledger, remix(parent("11111111-1111-4111-8111-111111111111")))
    by_recipe, by_parent, neither = process.request(
        remix(parent("11111111-1111-4111-8111-111111111111"), prompt="the same at dawn"),
        remix(parent("22222222-2222-4222-8222-222222222222")),
        remix(parent("11111111-1111-4111-8111-111111111111")),
    )
    assert "its recipe" in by_recipe.detail
    assert "the video of its parent fox" in by_parent.detail
    assert states([by_recipe, by_parent]) == ["changed", "changed"]
    assert neither.state is not RequestState.CHANGED


def test_a_claim_that_was_never_sent_does_not_hold_a_changed_row_back_for_ever(
    api: FaultySandbox, ledger: Ledger
) -> None:
    claim(ledger, clip())
    young = Process(api, ledger).request(changed(clip()))
    assert young.state is RequestState.CHANGED
    old = Process(api, ledger, unsent_seconds=-1).request(changed(clip()))
    assert (old.state, old.take) == (RequestState.SUBMITTED, 2)
    first = ledger.takes("clips", "fox")[0].latest
    sent, outcome = ledger.sent(first.task_uuid), ledger.outcome(first.task_uuid)
    assert sent is not None
    assert sent.purpose == "void"
    assert outcome is not None
    assert not outcome.was_accepted


def test_an_estimate_lists_what_changed_and_writes_nothing(process: Process) -> None:
    request = store(process.ledger)
    before = keys(process.ledger)
    planner, options = process.requester.planner, RequestOptions("run", None)
    kept, new = estimate(
        process.client,
        [changed(request), clip("owl")],
        plan=lambda request: planner.plan(request, options, is_dry_run=True),
    )
    assert kept.price is None
    assert kept.new_take_price is not None
    assert kept.new_take_price.usd
    assert new.price is not None
    assert (new.price.usd, new.new_take_price) == (pytest.approx(PRICE_USD), None)
    assert keys(process.ledger) == before


# What the records say


def test_a_manifest_outranks_any_outcome(process: Process) -> None:
    request = store(process.ledger)
    attempt = attempt_of(process.ledger)
    process.ledger.root.write(
        layout.task_key(attempt.task_uuid, "outcome-0"),
        OutcomeRecord(state="lost", cost_usd=1, at=datetime.now(UTC), nonce="n").to_json(),
    )
    assert process.request(request).state is RequestState.STORED


def test_a_deleted_record_is_made_again_while_runware_hosts_the_video(process: Process) -> None:
    process.request(clip())
    task_uuid = attempt_of(process.ledger).task_uuid
    while not process.client.poll([task_uuid])[task_uuid].results:
        """Runware still generates it."""
    settle(process.ledger, "done")
    answer = process.request(clip())
    assert answer.state is RequestState.OUTSTANDING
    assert "its record is missing; Runware still hosts the video" in answer.detail
    attempt = attempt_of(process.ledger)
    entry = process.ledger.pending.tasks(attempt.dataset)[attempt.task_uuid]
    assert entry.reopening == 1
    assert process.submissions == 1
    forget_at_runware(process.api)
    assert process.request(clip()).state is RequestState.OUTSTANDING


def test_a_deleted_record_that_runware_cannot_replace_fails_with_advice(process: Process) -> None:
    request = store(process.ledger)
    process.ledger.root.delete(layout.manifest_key("clips", "fox", 1))
    answer = process.request(request)
    assert answer.state is RequestState.FAILED
    assert "its record is missing" in answer.detail
    assert "Restore the take's folder from a backup, or raise the clip's take" in answer.detail
    assert process.submissions == 0


def test_a_pruned_take_is_stored(process: Process) -> None:
    manifest = stored_take(process.ledger)
    process.ledger.mark_pruned(manifest, pruned_at=datetime.now(UTC))
    process.ledger.root.delete(layout.manifest_key("clips", "fox", 1))
    assert process.request(manifest.request).state is RequestState.STORED


def test_attempts_that_were_never_accepted_do_not_use_up_the_attempts(process: Process) -> None:
    no_balance = {"fault": "status", "status": 402}
    process.api.set_faults(rules=[no_balance])
    for _ in range(3):
        assert process.request(clip()).state is RequestState.REFUSED
    process.api.clear_faults()
    assert process.request(clip()).attempt == 4
    settle(process.ledger, "failed", PASSING)
    forget_at_runware(process.api)
    answer = process.request(clip())
    assert (answer.state, answer.attempt) == (RequestState.SUBMITTED, 5)


def test_accepted_attempts_are_limited(process: Process) -> None:
    forget_at_runware(process.api)
    for attempt in (1, 2, 3):
        assert process.request(clip()).attempt == attempt
        settle(process.ledger, "failed", PASSING)
    assert process.request(clip()).state is RequestState.FAILED
    assert process.request(clip(), retry_failed=True).attempt == 4


@pytest.mark.parametrize("state", ["lost", "unsure"])
def test_what_may_have_been_paid_for_is_not_sent_again_by_itself(
    process: Process, state: OutcomeState
) -> None:
    process.request(clip())
    settle(process.ledger, state, ErrorRecord(kind=state, message="nothing came"))
    answer = process.request(clip())
    assert answer.state is RequestState.FAILED
    assert "sora-dagster resolve 'fox' --asset clips --resend" in answer.detail
    forget_at_runware(process.api)
    assert process.request(clip(), retry_failed=True).attempt == 2


def test_what_runware_is_still_generating_is_collected_and_not_sent_again(
    process: Process,
) -> None:
    process.api.set_faults(rules=[{"fault": "late_result", "delay_seconds": 3600}])
    process.request(clip())
    settle(process.ledger, "lost")
    answer = process.request(clip(), retry_failed=True)
    assert answer.state is RequestState.OUTSTANDING
    assert "Runware is still generating it" in answer.detail
    assert process.submissions == 1


@pytest.mark.parametrize("record", ["slot", "sent-1", "outcome-0", "manifest"])
def test_an_unreadable_record_stops_its_own_clip_alone(process: Process, record: str) -> None:
    process.request(clip())
    attempt = attempt_of(process.ledger)
    key = {
        "slot": layout.attempt_key("clips", "fox", 1, 1),
        "manifest": layout.manifest_key("clips", "fox", 1),
    }.get(record, layout.task_key(attempt.task_uuid, record))
    process.ledger.root.write(key, b"{damaged")
    damaged, other = process.request(clip(), clip("owl"), retry_failed=True)
    assert damaged.state is RequestState.FAILED
    assert "until that is fixed it is not paid for again" in damaged.detail
    assert key in damaged.detail
    assert other.state is RequestState.SUBMITTED
    assert process.submissions == 2


def test_a_failed_poll_stops_its_own_clip_alone(process: Process) -> None:
    process.request(clip())
    settle(process.ledger, "failed", PASSING)
    process.api.set_faults(rules=[{"fault": "status", "status": 503, "event": "poll"}])
    unchecked, other = process.request(clip(), clip("owl"))
    assert unchecked.state is RequestState.FAILED
    assert "could not be polled again" in unchecked.detail
    assert other.state is RequestState.SUBMITTED


def test_a_clip_that_was_set_aside_is_not_put_back_by_asking(process: Process) -> None:
    process.request(clip())
    attempt = attempt_of(process.ledger)
    entry = process.ledger.pending.tasks(attempt.dataset)[attempt.task_uuid]
    process.ledger.pending.mark_stuck(entry, "seen.json cannot be read")
    answer = process.request(clip())
    assert answer.state is RequestState.FAILED
    assert "sora-dagster resolve 'fox' --asset clips --retry" in answer.detail
    assert process.ledger.pending.tasks(attempt.dataset) == {}


def test_a_clip_asked_for_twice_at_once_is_bought_once(process: Process) -> None:
    first, second = process.request(clip(), clip())
    assert states([first, second]) == ["submitted", "outstanding"]
    assert process.charges == 1


# The order of writes


def claim(ledger: Ledger, request: ClipRequest) -> AttemptRecord:
    """An attempt that another run claimed and has not sent."""
    attempt = AttemptRecord(
        request=request,
        take=1,
        attempt=1,
        fingerprint=request.spec.fingerprint,
        task_uuid=ledger.task_uuid(request.asset, request.clip, 1, 1),
        wire={},
        estimate=Price(usd=PRICE_USD, certainty="published"),
        root_run="another run",
        run_limit_usd=9.0,
        created_at=datetime.now(UTC),
        nonce=ledger.new_nonce(),
    )
    ledger.claim_attempt(attempt)
    return attempt


def test_what_passes_the_limit_writes_nothing(process: Process) -> None:
    process.request(clip("owl"), limit_usd=PRICE_USD)
    before = keys(process.ledger)
    for _ in range(2):
        answer = process.request(clip(), limit_usd=PRICE_USD)
        assert answer.state is RequestState.OVER_LIMIT
    assert keys(process.ledger) == before
    assert process.request(clip(), limit_usd=2 * PRICE_USD).attempt == 1


class RacedBudget(Budget):
    """Another process of the same run takes the rest of the limit right after it was read."""

    def check(
        self,
        estimates_usd: Mapping[str, float | None],
        *,
        root_run: str,
        limits: SpendingLimits,
        dataset: str = DEFAULT_DATASET,
    ) -> BudgetDecision:
        read = super().check(estimates_usd, root_run=root_run, limits=limits, dataset=dataset)
        Budget(self._ledger, store_time=self._ledger.root.store_time).reserve(
            {"another task": 1.0}, root_run=root_run, limits=SpendingLimits()
        )
        return read


def raced(api: FaultySandbox, ledger: Ledger) -> Process:
    budget = RacedBudget(ledger, store_time=ledger.root.store_time)
    return Process(api, ledger, budget=budget)


def test_a_run_that_loses_the_last_of_its_limit_voids_its_own_claim(
    api: FaultySandbox, ledger: Ledger
) -> None:
    process = raced(api, ledger)
    assert process.request(clip(), limit_usd=1.0).state is RequestState.OVER_LIMIT
    attempt = attempt_of(ledger)
    sent, outcome = ledger.sent(attempt.task_uuid), ledger.outcome(attempt.task_uuid)
    assert sent is not None
    assert sent.purpose == "void"
    assert outcome is not None
    assert (outcome.state, outcome.was_accepted) == ("void", False)
    assert ledger.pending.tasks(attempt.dataset) == {}
    assert Process(api, ledger).request(clip()).attempt == 2


@pytest.mark.parametrize("is_raced", [False, True])
def test_a_run_over_its_limit_does_not_void_another_runs_claim(
    api: FaultySandbox, ledger: Ledger, is_raced: bool
) -> None:
    attempt = claim(ledger, clip())
    process = raced(api, ledger) if is_raced else Process(api, ledger)
    answer = process.request(clip(), limit_usd=1.0 if is_raced else 0.1)
    assert answer.state is RequestState.OVER_LIMIT
    assert ledger.sent(attempt.task_uuid) is None
    assert attempt.task_uuid in ledger.pending.tasks(attempt.dataset)


def test_a_claim_that_was_not_sent_is_sent_and_paid_by_the_run_that_sends_it(
    process: Process,
) -> None:
    attempt = claim(process.ledger, clip())
    answer = process.request(clip(), limit_usd=5.0)
    assert (answer.state, answer.task_uuid) == (RequestState.SUBMITTED, attempt.task_uuid)
    options = options_after(process.ledger, attempt)
    assert (options.root_run, options.run_limit_usd) == ("run", 5.0)
    assert not options.regenerate_changed


def test_an_attempt_that_was_not_sent_is_retried_for_the_run_that_claimed_it(
    ledger: Ledger,
) -> None:
    options = options_after(ledger, claim(ledger, clip()))
    assert (options.root_run, options.run_limit_usd) == ("another run", 9.0)


def test_a_claim_that_another_run_voids_in_between_is_followed_by_the_next_attempt(
    api: FaultySandbox, ledger: Ledger
) -> None:
    attempt = claim(ledger, clip())

    class VoidingBudget(Budget):
        def reserve(self, *arguments: Any, **options: Any) -> BudgetDecision:
            ledger.take_right_to_void(attempt.task_uuid)
            return super().reserve(*arguments, **options)

    budget = VoidingBudget(ledger, store_time=ledger.root.store_time)
    answer = Process(api, ledger, budget=budget).request(clip())
    assert (answer.state, answer.attempt) == (RequestState.SUBMITTED, 2)


def test_a_claim_that_another_run_sends_in_between_is_joined(
    api: FaultySandbox, ledger: Ledger
) -> None:
    class SendingBudget(Budget):
        def reserve(self, *arguments: Any, **options: Any) -> BudgetDecision:
            ledger.take_right_to_send(attempt_of(ledger).task_uuid, root_run="another run")
            return super().reserve(*arguments, **options)

    budget = SendingBudget(ledger, store_time=ledger.root.store_time)
    process = Process(api, ledger, budget=budget)
    assert process.request(clip()).state is RequestState.OUTSTANDING
    assert process.submissions == 0


def test_a_damaged_spending_log_stops_buying_and_says_which(process: Process) -> None:
    process.request(clip("owl"))
    [entry] = process.ledger.root.list(layout.budget_folder(layout.run_log("run")))
    process.ledger.root.write(entry.key, b"{damaged")
    fresh = Process(process.api, process.ledger)
    before = keys(process.ledger)
    new, outstanding = fresh.request(clip(), clip("owl"))
    assert states([new, outstanding]) == ["not_sent", "outstanding"]
    assert entry.key in new.detail
    assert keys(process.ledger) == before


# The account first


@pytest.mark.parametrize("status", [401, 402, 403, 429])
def test_after_a_refusal_of_the_account_nothing_more_is_submitted(
    process: Process, status: int
) -> None:
    retried = 1 if status != 429 else 3
    numbers = list(range(2, 2 + retried))
    process.api.set_faults(rules=[{"fault": "status", "status": status, "nth": numbers}])
    stored = store(process.ledger)
    answers = process.request(*clips(6), stored)
    assert states(answers) == [
        *["submitted"] * 2,
        *["refused"] * 2,
        *["not_sent"] * 2,
        "stored",
    ]
    assert process.submissions == 1 + retried
    assert process.ledger.takes("clips", "clip-4") == ()
    assert {answer.price for answer in answers[2:]} == {None}
    assert set(failure_reasons(answers)) == {"clip-2", "clip-3", "clip-4", "clip-5"}
    refused = process.ledger.outcome(attempt_of(process.ledger, "clip-2").task_uuid)
    assert refused is not None
    assert refused.state == "void"
    again = process.request(*clips(6), limit_usd=6 * PRICE_USD)
    assert states(again) == ["outstanding"] * 2 + ["submitted"] * 4


def test_a_refusal_that_names_a_task_does_not_stop_the_others(process: Process) -> None:
    refusal = {"fault": "refuse", "code": "insufficientCredits", "prompt_contains": "clip-0"}
    process.api.set_faults(rules=[refusal])
    assert states(process.request(*clips(4))) == ["refused", *["submitted"] * 3]


def test_two_failing_submissions_in_a_row_stop_the_run(process: Process) -> None:
    failing = {"fault": "status", "status": 503, "nth": list(range(2, 40))}
    process.api.set_faults(rules=[failing])
    answers = process.request(*clips(8))
    assert states(answers) == [
        *["submitted"] * 2,
        *["unconfirmed"] * 2,
        *["not_sent"] * 4,
    ]
    assert process.submissions == 3
    assert not answers[2].is_clear
    assert set(failure_reasons(answers)) == {f"clip-{number}" for number in range(2, 8)}
    assert "2 submissions in a row failed" in answers[4].detail


def test_an_api_that_cannot_be_reached_is_asked_once(api: FaultySandbox, ledger: Ledger) -> None:
    class NoNetwork(httpx.BaseTransport):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            raise httpx.ConnectError("connection refused", request=request)

    answers = Process(api, ledger, transport=NoNetwork()).request(*clips(4))
    assert states(answers) == ["refused"] * 2 + ["not_sent"] * 2
    assert ledger.pending.tasks("default") == {}


# Unclear answers


def test_an_uncertain_batch_is_sent_again_as_a_batch(process: Process) -> None:
    process.api.set_faults(rules=[{"fault": "lose_answer", "moment": "before", "nth": 1}])
    answers = process.request(*clips(2))
    assert states(answers) == ["submitted"] * 2
    assert process.submissions == 2
    assert process.charges == 2


def test_an_accepted_batch_whose_answer_was_lost_is_not_sent_again(process: Process) -> None:
    process.api.set_faults(rules=[{"fault": "lose_answer", "nth": 1}])
    assert states(process.request(*clips(2))) == ["submitted"] * 2
    assert process.submissions == 1


def test_replays_can_be_turned_off(api: FaultySandbox, ledger: Ledger) -> None:
    api.set_faults(rules=[{"fault": "lose_answer", "moment": "before"}])
    sending = SendSettings(confirm_seconds=0.01, replays=False)
    process = Process(api, ledger, sending=sending)
    assert process.request(clip()).state is RequestState.UNCONFIRMED
    assert process.submissions == 1


def test_a_task_is_sent_again_only_if_its_tokens_are_close_by_the_stores_clock(
    api: FaultySandbox, ledger: Ledger
) -> None:
    def sleep(_: float) -> None:
        """The store's clock says that the first token is old, whatever the local ones say."""
        token = layout.task_key(attempt_of(ledger).task_uuid, "sent-1")
        path = ledger.root.local_path(token)
        assert path is not None
        long_ago = (datetime.now(UTC) - timedelta(seconds=60)).timestamp()
        os.utime(path, (long_ago, long_ago))

    api.set_faults(rules=[{"fault": "lose_answer", "moment": "before"}])
    sending = SendSettings(confirm_seconds=0.01, replay_window_seconds=30)
    process = Process(api, ledger, sending=sending, clocks={"sleep": sleep})
    assert process.request(clip()).state is RequestState.UNCONFIRMED
    assert process.submissions == 1


def test_late_replays_go_in_batches_and_a_conflict_proves_the_task(process: Process) -> None:
    process.request(*clips(5))
    attempts = [attempt_of(process.ledger, f"clip-{number}") for number in range(5)]
    for attempt in attempts:
        process.ledger.root.delete(layout.task_key(attempt.task_uuid, "seen"))
    before = process.submissions
    tokens = {attempt.task_uuid: 2 for attempt in attempts}
    answers = process.sender.replay(
        [process.requester.rebuild(attempt) for attempt in attempts], tokens
    )
    assert {answer.state for answer in answers.values()} == {"seen"}
    assert process.submissions - before == 3
    seen = process.ledger.read(layout.task_key(attempts[0].task_uuid, "seen"), SeenRecord)
    assert seen is not None
    assert seen.how == "conflict"
    assert process.charges == 5


def test_a_replay_that_is_refused_decides_nothing(process: Process) -> None:
    process.request(clip())
    attempt = attempt_of(process.ledger)
    process.api.set_faults(rules=[{"fault": "status", "status": 402}])
    inference = process.requester.rebuild(attempt)
    [answer] = process.sender.replay([inference], {attempt.task_uuid: 2}).values()
    assert answer.state == "unconfirmed"
    assert process.ledger.outcome(attempt.task_uuid) is None


class Clock:
    """A clock in seconds that moves when it is set."""

    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


class PausedLedger(Ledger):
    """The ledger of a process that is stopped right after it has taken a right to send."""

    def __init__(self, root: StorageRoot, pause: Callable[[], None]) -> None:
        super().__init__(root)
        self._pause = pause

    def take_right_to_send(self, *arguments: Any, **options: Any) -> bool:
        won = super().take_right_to_send(*arguments, **options)
        self._pause()
        return won


@pytest.mark.parametrize("name", ["wall_clock", "elapsed"])
def test_a_process_that_was_stopped_before_its_post_does_not_send(
    api: FaultySandbox, ledger: Ledger, name: str
) -> None:
    clock = Clock()

    def pause() -> None:
        clock.seconds += 21

    paused = PausedLedger(ledger.root, pause)
    process = Process(api, paused, clocks={name: clock})
    answer = process.request(clip())
    assert answer.state is RequestState.UNCONFIRMED
    assert process.submissions == 0
    # Others may have sent it meanwhile, so that nothing is concluded about it here.
    assert ledger.outcome(answer.task_uuid) is None
    assert list(ledger.task_files(answer.task_uuid).sent) == [1]
    assert answer.task_uuid in ledger.pending.tasks("default")


def test_a_refusal_that_is_read_long_after_its_post_concludes_nothing(
    api: FaultySandbox, ledger: Ledger
) -> None:
    clock = Clock()

    class SuspendedNetwork(httpx.HTTPTransport):
        def handle_request(self, request: httpx.Request) -> httpx.Response:
            response = super().handle_request(request)
            clock.seconds += 3600
            return response

    api.set_faults(rules=[{"fault": "status", "status": 402}])
    process = Process(
        api, ledger, clocks={"elapsed": clock}, transport=SuspendedNetwork(verify=False)
    )
    answer = process.request(clip())
    assert answer.state is RequestState.UNCONFIRMED
    assert ledger.outcome(answer.task_uuid) is None


def test_a_batch_that_is_too_large_is_sent_in_halves(process: Process) -> None:
    process.api.set_faults(rules=[{"fault": "status", "status": 413, "nth": 1}])
    assert states(process.request(*clips(2))) == ["submitted"] * 2
    assert process.submissions == 3
