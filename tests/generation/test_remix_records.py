"""The ledger's records of remixes: which are still due, and which were requested."""

from __future__ import annotations

from sora_dagster.generation.protocol.ledger import Ledger
from sora_dagster.prompts.clips import ClipRequest, ClipSpec
from tests.generation.stored_takes import claim


def remix(recipe: str, prompt: str) -> ClipRequest:
    spec = ClipSpec(clip_id="fox", prompt=prompt)
    return ClipRequest(asset="remixes", clip=f"fox|{recipe}", spec=spec, recipe=recipe)


def test_a_clip_whose_remixes_are_due_is_in_the_index_and_is_no_outstanding_task(
    ledger: Ledger,
) -> None:
    attempt = claim(ledger)
    ledger.pending.remove(attempt.dataset, attempt.task_uuid)
    ledger.remixes.mark_due(attempt)
    found = ledger.pending.outstanding("default")
    assert (dict(found.tasks), found.remixes_due) == ({}, (attempt.task_uuid,))
    assert ledger.remixes.due_attempt("default", attempt.task_uuid) == attempt
    assert ledger.pending.task_uuids() == frozenset()


def test_remixes_that_were_asked_for_are_no_longer_due(ledger: Ledger) -> None:
    attempt = claim(ledger)
    ledger.remixes.mark_due(attempt)
    ledger.remixes.clear_due("default", attempt.task_uuid)
    assert ledger.pending.outstanding("default").remixes_due == ()
    assert ledger.remixes.due_attempt("default", attempt.task_uuid) is None


def test_a_remix_is_known_by_its_parent_video_its_recipe_and_what_the_recipe_says(
    ledger: Ledger,
) -> None:
    first, second = claim(ledger).task_uuid, claim(ledger, take=2).task_uuid
    night, renamed = remix("night", "at night"), remix("dusk", "at night")
    changed = remix("night", "at midnight")
    ledger.remixes.add(first, night, answer="over_limit")
    assert ledger.remixes.never_requested(first, [night, renamed, changed]) == [renamed, changed]
    assert ledger.remixes.never_requested(second, [night]) == [night]


def test_the_record_of_a_remix_is_no_fact_about_how_its_parent_was_sent_or_ended(
    ledger: Ledger,
) -> None:
    task_uuid = claim(ledger).task_uuid
    before = ledger.task_files(task_uuid)
    ledger.remixes.add(task_uuid, remix("night", "at night"), answer="submitted")
    assert ledger.task_files(task_uuid) == before
