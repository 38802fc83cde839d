"""Manual decisions about clips that brought no video, or whose records cannot be read."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from sora_dagster.generation.generator import Generator
from sora_dagster.generation.protocol import layout
from sora_dagster.generation.protocol.record_folder import stuck_folder
from sora_dagster.generation.protocol.records import OutcomeRecord, OutcomeState
from sora_dagster.generation.requesting.results import RequestState
from sora_dagster.generation.resolve import (
    ResolutionError,
    give_up,
    resend,
    retry_stuck,
)
from sora_dagster.prompts.clips import DEFAULT_DATASET, ClipRequest
from sora_dagster.runware.errors import ErrorRecord
from sora_dagster.storage import StorageRoot
from tests.generation.requesting import clip, collect, quick_generator, request_clips
from tests.generation.stored_takes import claim
from tests.protocol.faulty_sandbox import (
    KEY,
    FaultySandbox,
    faulty_sandbox,
    quick_requests,
)
from tests.sandbox_server import Sandbox

FOX: ClipRequest = clip("fox")


@pytest.fixture
def generator(sandbox: Sandbox, root: StorageRoot) -> Iterator[Generator]:
    with quick_generator(sandbox.base_url, root) as generator:
        yield generator


@pytest.fixture
def slow_api() -> Iterator[FaultySandbox]:
    """A sandbox that generates until its faults are cleared."""
    with quick_requests(), faulty_sandbox() as running:
        running.set_faults(rules=[{"fault": "late_result", "delay_seconds": 3}])
        yield running


def settle(generator: Generator, task_uuid: str, state: OutcomeState) -> None:
    """Have a task end without a video, on record."""
    generator.ledger.settle(
        task_uuid,
        OutcomeRecord(
            state=state,
            cost_usd=1.2,
            errors=(ErrorRecord(kind=state, message="nothing came"),),
            at=datetime.now(UTC),
            nonce=generator.ledger.new_nonce(),
        ),
    )
    generator.ledger.pending.remove(DEFAULT_DATASET, task_uuid)


def request_fox(generator: Generator) -> str:
    [requested] = request_clips(generator, FOX)
    assert requested.task_uuid is not None
    return requested.task_uuid


def set_aside(generator: Generator, task_uuid: str) -> None:
    """Take a task out of the index, as if one of its records could not be read."""
    entry = generator.ledger.pending.tasks(DEFAULT_DATASET)[task_uuid]
    generator.ledger.pending.mark_stuck(entry, "seen.json cannot be read")


def test_an_unsure_clip_is_not_sent_again_by_itself(generator: Generator, sandbox: Sandbox) -> None:
    settle(generator, request_fox(generator), "unsure")
    before = sandbox.charged()
    [again] = request_clips(generator, FOX)
    assert again.state is RequestState.FAILED
    assert "retry_failed" in again.detail
    assert sandbox.charged() == before


def test_resending_collects_what_runware_has_after_all_and_pays_nothing(
    generator: Generator, sandbox: Sandbox
) -> None:
    task = request_fox(generator)
    settle(generator, task, "unsure")
    before = sandbox.charged()
    requested = resend(generator, "clips", "fox", run_limit_usd=None)
    assert requested.state is RequestState.OUTSTANDING
    collect(generator)
    outcome = generator.ledger.outcome(task)
    assert outcome is not None
    assert outcome.state == "done"
    assert generator.ledger.manifest("clips", "fox", 1) is not None
    assert sandbox.charged() == before
    assert list(generator.ledger.root.list("pending")) == []


def test_resending_what_runware_never_had_makes_another_attempt(
    generator: Generator, sandbox: Sandbox
) -> None:
    generator.bind()
    # Claimed, and the first token taken, by a process that was killed before the POST.
    task = claim(generator.ledger).task_uuid
    settle(generator, task, "unsure")
    before = sandbox.charged()
    requested = resend(generator, "clips", "fox", run_limit_usd=None)
    assert (requested.state, requested.attempt) == (RequestState.SUBMITTED, 2)
    assert len(sandbox.charged() - before) == 1
    collect(generator)
    assert generator.ledger.manifest("clips", "fox", 1) is not None


def test_giving_up_is_put_on_record_and_sends_nothing(
    generator: Generator, sandbox: Sandbox
) -> None:
    task = request_fox(generator)
    settle(generator, task, "lost")
    before = sandbox.charged()
    assert give_up(generator.ledger, "clips", "fox").cost_usd == 1.2
    assert generator.ledger.root.exists(f"tasks/{task}/resolved.json")
    assert sandbox.charged() == before


def test_there_is_nothing_to_resolve_about_a_stored_clip(generator: Generator) -> None:
    request_fox(generator)
    collect(generator)
    with pytest.raises(ResolutionError, match="is stored"):
        give_up(generator.ledger, "clips", "fox")


def test_there_is_nothing_to_resolve_while_a_clip_is_outstanding(generator: Generator) -> None:
    request_fox(generator)
    with pytest.raises(ResolutionError, match="is outstanding: Runware"):
        resend(generator, "clips", "fox", run_limit_usd=None)


def test_a_clip_that_was_never_asked_for_is_said_to_be(generator: Generator) -> None:
    generator.bind()
    with pytest.raises(ResolutionError, match="never requested"):
        give_up(generator.ledger, "clips", "fox")


def test_resending_while_runware_still_generates_ends_with_the_video_stored(
    slow_api: FaultySandbox, root: StorageRoot
) -> None:
    with quick_generator(slow_api.base_url, root, key=KEY) as generator:
        task = request_fox(generator)
        settle(generator, task, "lost")
        first = resend(generator, "clips", "fox", run_limit_usd=None)
        assert first.state is RequestState.OUTSTANDING
        assert "Runware is still generating it, and it is collected when" in first.detail
        with pytest.raises(ResolutionError, match="Runware is still generating it"):
            resend(generator, "clips", "fox", run_limit_usd=None)
        collect(generator)
        assert generator.ledger.manifest("clips", "fox", 1) is not None
        with pytest.raises(ResolutionError, match="is stored"):
            resend(generator, "clips", "fox", run_limit_usd=None)
    assert len(slow_api.books()["charges"]) == 1


def test_a_deleted_record_is_collected_again_by_resending(
    generator: Generator, sandbox: Sandbox
) -> None:
    request_fox(generator)
    collect(generator)
    generator.ledger.root.delete(layout.manifest_key("clips", "fox", 1))
    before = sandbox.charged()
    requested = resend(generator, "clips", "fox", run_limit_usd=None)
    assert requested.state is RequestState.OUTSTANDING
    collect(generator)
    assert generator.ledger.manifest("clips", "fox", 1) is not None
    assert sandbox.charged() == before


def test_what_was_set_aside_is_collected_again(generator: Generator) -> None:
    task = request_fox(generator)
    set_aside(generator, task)
    assert retry_stuck(generator.ledger, "clips", "fox") == (task,)
    assert stuck_folder(generator.ledger, DEFAULT_DATASET).read() == {}
    collect(generator)
    assert generator.ledger.manifest("clips", "fox", 1) is not None


def test_what_was_set_aside_without_a_readable_index_entry_is_found_by_its_attempt(
    generator: Generator,
) -> None:
    task = request_fox(generator)
    generator.ledger.root.write(layout.pending_key(DEFAULT_DATASET, task), b"{damaged")
    set_aside(generator, task)
    assert retry_stuck(generator.ledger, "clips", "fox") == (task,)
    assert list(generator.ledger.pending.tasks(DEFAULT_DATASET)) == [task]


def test_what_cannot_be_read_at_all_has_to_be_restored_first(generator: Generator) -> None:
    task = request_fox(generator)
    slot = layout.attempt_key("clips", "fox", 1, 1)
    for key in (slot, layout.pending_key(DEFAULT_DATASET, task)):
        generator.ledger.root.write(key, b"{damaged")
    set_aside(generator, task)
    with pytest.raises(ResolutionError, match="Restore it, then run this command again"):
        retry_stuck(generator.ledger, "clips", "fox")
    assert list(stuck_folder(generator.ledger, DEFAULT_DATASET).read()) == [task]


def test_there_is_nothing_to_retry_about_a_clip_that_was_not_set_aside(
    generator: Generator,
) -> None:
    request_fox(generator)
    with pytest.raises(ResolutionError, match="was not set aside"):
        retry_stuck(generator.ledger, "clips", "fox")
