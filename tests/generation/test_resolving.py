"""A person's word on clips that brought no video."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from sora_dagster.generation.clips import ClipRequest, ClipSpec
from sora_dagster.generation.collector import PollSettings
from sora_dagster.generation.generator import GenerationSettings, Generator
from sora_dagster.generation.records import OutcomeRecord
from sora_dagster.generation.requested import RequestState
from sora_dagster.generation.requester import Asking
from sora_dagster.generation.resolving import ResolutionError, give_up, resend, undecided
from sora_dagster.runware.client import RunwareClient
from sora_dagster.runware.errors import ErrorRecord
from sora_dagster.storage import StorageRoot
from tests.sandbox_server import KEY, Sandbox

FOX = ClipRequest(
    asset="clips",
    clip="fox",
    spec=ClipSpec.model_validate(
        {"clip_id": "fox", "prompt": "a fox", "size": "1280x720", "duration_seconds": 4}
    ),
)


@pytest.fixture
def generator(sandbox: Sandbox, root: StorageRoot) -> Iterator[Generator]:
    polls = PollSettings(first_seconds=0.1, longest_seconds=0.3, look_seconds=0.05)
    client = RunwareClient(KEY, base_url=sandbox.base_url)
    with Generator(client, root, GenerationSettings(polls=polls)) as generator:
        yield generator


def settle(generator: Generator, task_uuid: str, state: str) -> None:
    """Have a task end without a video, on record."""
    generator.ledger.settle(
        task_uuid,
        OutcomeRecord.model_validate(
            {
                "state": state,
                "cost_usd": 1.2,
                "errors": [ErrorRecord(kind=state, message="nothing came")],
                "at": datetime.now(UTC),
                "nonce": generator.ledger.new_nonce(),
            }
        ),
    )
    generator.ledger.forget_pending(task_uuid)


def ask(generator: Generator) -> str:
    [requested] = generator.request([FOX], Asking("run", None))
    assert requested.task_uuid is not None
    return requested.task_uuid


def collect(generator: Generator) -> None:
    collector = generator.collector()
    while not (look := collector.look()).is_idle:
        for done in [*look.finished, *map(generator.archive.store, look.ready)]:
            generator.archive.close(done, ())
        collector.wait()


def test_an_unsure_clip_is_not_sent_again_by_itself(generator: Generator, sandbox: Sandbox) -> None:
    settle(generator, ask(generator), "unsure")
    before = sandbox.charged()
    [again] = generator.request([FOX], Asking("run", None))
    assert again.state is RequestState.FAILED
    assert "retry_failed" in again.detail
    assert sandbox.charged() == before


def test_resending_collects_what_runware_has_after_all_and_pays_nothing(
    generator: Generator, sandbox: Sandbox
) -> None:
    task = ask(generator)
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
    client_submit = generator.client.submit
    generator.client.submit = lambda _: (_ for _ in ()).throw(KeyboardInterrupt)  # type: ignore[method-assign, assignment]
    with pytest.raises(KeyboardInterrupt):
        ask(generator)
    generator.client.submit = client_submit  # type: ignore[method-assign]
    [task] = generator.ledger.pending()
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
    task = ask(generator)
    settle(generator, task, "lost")
    before = sandbox.charged()
    assert give_up(generator.ledger, "clips", "fox").cost_usd == 1.2
    assert generator.ledger.root.exists(f"tasks/{task}/resolved.json")
    assert sandbox.charged() == before


def test_there_is_nothing_to_resolve_about_a_stored_clip(generator: Generator) -> None:
    ask(generator)
    collect(generator)
    with pytest.raises(ResolutionError, match="is stored"):
        undecided(generator.ledger, "clips", "fox")


def test_there_is_nothing_to_resolve_while_a_clip_is_under_way(generator: Generator) -> None:
    ask(generator)
    with pytest.raises(ResolutionError, match="under way"):
        resend(generator, "clips", "fox", run_limit_usd=None)


def test_a_clip_that_was_never_asked_for_is_said_to_be(generator: Generator) -> None:
    generator.bind()
    with pytest.raises(ResolutionError, match="never asked for"):
        give_up(generator.ledger, "clips", "fox")
