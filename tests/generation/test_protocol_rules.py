"""The rules of the protocol, in the order of docs/explanation/guarantees.md.

Each is tried by the fault matrix, the crash matrix and the random walks too; here it is named.
Rules about money are in test_requests.py, about claims in test_claims.py, about what Runware does
not show in test_missing_tasks.py, and about storing in test_collection.py.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from sora_dagster.generation.collecting.settings import Deadlines, PollSettings
from sora_dagster.generation.collecting.tracked import ReadyTask
from sora_dagster.generation.generator import Generator, parent_video
from sora_dagster.generation.protocol.claims import ClaimReader, Claims
from sora_dagster.generation.protocol.ledger import Ledger
from sora_dagster.generation.protocol.markers import write_marker
from sora_dagster.generation.protocol.records import AttemptRecord
from sora_dagster.generation.protocol.root_binding import RootMismatchError
from sora_dagster.generation.requesting.results import RequestState
from sora_dagster.generation.requesting.sender import SendSettings
from sora_dagster.local.processes import wait_until
from sora_dagster.prompts.clips import DEFAULT_DATASET, ClipRequest
from sora_dagster.prompts.recipes import Recipe, remix_spec
from sora_dagster.runware.catalogue import Catalogue
from sora_dagster.runware.results import TaskStatus
from sora_dagster.sandbox.faults.plan import read_fault_plan
from sora_dagster.sandbox.server import running_sandbox
from sora_dagster.sandbox.settings import SandboxSettings
from sora_dagster.storage import StorageError, StorageRoot
from tests.generation.requesting import clip, collect, quick_generator, request_clips
from tests.sandbox_server import Sandbox

Generate = Callable[..., Generator]
OFTEN = PollSettings(first_seconds=0.05, factor=1.0, longest_seconds=0.05, refresh_seconds=0.05)


def faulty(*rules: dict[str, Any], **modes: Any) -> SandboxSettings:
    plan = read_fault_plan({"rules": list(rules), **modes})
    return SandboxSettings(latency_seconds=0, reuse_rendered=True, faults=plan)


def charged(base_url: str) -> list[str]:
    return [charge["taskUUID"] for charge in Sandbox(base_url).ledger()["charges"]]


def test_ids_are_derived_and_a_new_fingerprint_is_a_new_take(generate: Generate) -> None:
    first, second = generate(), generate()
    [result] = request_clips(first, clip())
    [joined] = request_clips(second, clip())
    assert joined.task_uuid == result.task_uuid
    collect(first)
    [changed] = request_clips(second, clip(prompt="a red fox"), regenerate_changed=True)
    [shared] = request_clips(first, clip(prompt="a red fox"), regenerate_changed=True)
    assert (changed.take, shared.task_uuid) == (2, changed.task_uuid)


def test_the_root_is_bound_to_one_api_and_account(generate: Generate) -> None:
    request_clips(generate(), clip())
    with running_sandbox(SandboxSettings(extra_keys={"other": "another-account"})) as base_url:
        other = quick_generator(base_url, StorageRoot(generate().ledger.root.url), key="other")
        with pytest.raises(RootMismatchError, match="another-account"):
            request_clips(other, clip("owl"))
        assert charged(base_url) == []


def test_a_store_where_a_second_create_succeeds_is_refused(
    generate: Generate, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = generate()
    before = sandbox.charged()
    monkeypatch.setattr(generator.ledger.root, "create", lambda _key, _body: True)
    with pytest.raises(StorageError, match="created twice"):
        request_clips(generator, clip())
    assert sandbox.charged() == before


def test_everything_is_on_record_before_anything_is_sent(
    generate: Generate, root: StorageRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = generate()
    seen: list[str] = []

    def look_around(*_: object, **__: object) -> list[object]:
        seen.extend(info.key.split("/")[0] for info in root.list(""))
        seen.extend(info.key.rsplit("/")[-1] for info in root.list("tasks"))
        raise KeyboardInterrupt

    monkeypatch.setattr(generator.client, "submit", look_around)
    with pytest.raises(KeyboardInterrupt):
        request_clips(generator, clip())
    assert {"pending", "slots", "budget", "sent-1.json"} <= set(seen)
    assert "seen.json" not in seen


def test_only_what_cannot_have_been_accepted_is_sent_again_in_place(
    root: StorageRoot,
) -> None:
    busy = {"fault": "status", "status": 429, "retry_after_seconds": 0, "nth": [1]}
    with running_sandbox(faulty(busy)) as base_url, quick_generator(base_url, root) as generator:
        [result] = request_clips(generator, clip())
        assert result.state is RequestState.SUBMITTED
        assert generator.client.posts.submissions == 2
        assert len(charged(base_url)) == 1


def test_an_uncertain_submission_is_polled_for_and_replayed_in_the_window(
    root: StorageRoot,
) -> None:
    lost = {"fault": "reset", "moment": "before", "nth": [1]}
    with running_sandbox(faulty(lost)) as base_url, quick_generator(base_url, root) as generator:
        [result] = request_clips(generator, clip())
        assert result.state is RequestState.SUBMITTED
        assert root.exists(f"tasks/{result.task_uuid}/sent-2.json")
        assert charged(base_url) == [result.task_uuid]


def test_replays_can_be_turned_off(root: StorageRoot) -> None:
    lost = {"fault": "reset", "moment": "before", "nth": [1]}
    sending = SendSettings(confirm_seconds=0.05, replays=False)
    with (
        running_sandbox(faulty(lost)) as base_url,
        quick_generator(
            base_url,
            root,
            sending=sending,
            polls=OFTEN,
            deadlines=Deadlines(unknown_seconds=0.4, generation_seconds=1.0),
        ) as generator,
    ):
        [result] = request_clips(generator, clip())
        assert result.state is RequestState.UNCONFIRMED
        [finished] = collect(generator)
        assert finished.outcome.state == "unsure"
        assert "sora-dagster resolve" in finished.failure_sentence
        assert charged(base_url) == []


def test_what_was_seen_is_never_sent_again(root: StorageRoot) -> None:
    forgotten = {"fault": "unknown"}
    with (
        running_sandbox(faulty(forgotten)) as base_url,
        quick_generator(
            base_url,
            root,
            polls=OFTEN,
            deadlines=Deadlines(unknown_seconds=0.4, generation_seconds=1.0),
        ) as generator,
    ):
        [result] = request_clips(generator, clip())
        [finished] = collect(generator)
        assert finished.outcome.state == "lost"
        assert charged(base_url) == [result.task_uuid]
        assert not root.exists(f"tasks/{result.task_uuid}/sent-2.json")


def test_a_marker_only_wakes(generate: Generate, root: StorageRoot) -> None:
    generator = generate()
    [result] = request_clips(generator, clip())
    assert result.task_uuid is not None
    lie = {"taskUUID": result.task_uuid, "errors": [{"code": "contentPolicyViolation"}]}
    write_marker(root, DEFAULT_DATASET, result.task_uuid, json.dumps(lie).encode())
    [finished] = collect(generator)
    assert finished.outcome.state == "done"


def test_collecting_may_be_repeated_from_any_step(generate: Generate) -> None:
    generator = generate()
    request_clips(generator, clip())
    [attempt] = [it.latest for it in generator.ledger.takes("clips", "fox")]
    ready = when_over(generator, attempt)
    first, again = (generator.archive.store(ready) for _ in range(2))
    assert first.manifest == again.manifest
    assert first.outcome == again.outcome
    [finished] = collect(generate())
    assert finished.manifest == first.manifest
    assert generator.ledger.pending.tasks(DEFAULT_DATASET) == {}


def when_over(generator: Generator, attempt: AttemptRecord) -> ReadyTask:
    """A task that is over at Runware, and not yet stored."""
    found: dict[str, TaskStatus] = {}

    def is_over() -> bool:
        found.update(generator.client.poll([attempt.task_uuid]))
        return bool(found[attempt.task_uuid].results)

    assert wait_until(is_over, timeout_seconds=30)
    return ReadyTask(attempt, found[attempt.task_uuid], generator.store_time())


def test_a_runs_limit_counts_its_retries_and_other_processes(generate: Generate) -> None:
    first, second = generate(), generate()
    request_clips(first, clip("fox"), run_limit_usd=2.0, root_run="one")
    [refused] = request_clips(second, clip("owl"), run_limit_usd=2.0, root_run="one")
    [other] = request_clips(second, clip("owl"), run_limit_usd=2.0, root_run="two")
    assert refused.state is RequestState.OVER_LIMIT
    assert other.state is RequestState.SUBMITTED


def test_ages_are_by_the_stores_clock(root: StorageRoot) -> None:
    wrong = root.store_time() - timedelta(days=400)
    ledger = Ledger(root, clock=lambda: wrong)
    ledger.bind(api_base_url="https://api.example.com/v1", account=None)
    claims = Claims(ledger, DEFAULT_DATASET, holder="a run", store_time=root.store_time)
    try:
        assert claims.claim_rest()
        other = ClaimReader(Ledger(root), DEFAULT_DATASET, store_time=root.store_time)
        assert other.view().rest == claims.process
    finally:
        claims.release()


def test_a_remix_pins_its_parent(generate: Generate, tmp_path: Path) -> None:
    generator = generate()
    request_clips(generator, clip())
    [parent] = collect(generator)
    assert parent.manifest is not None
    remix = ClipRequest(
        asset="remixes",
        clip="fox|night",
        spec=remix_spec(clip().spec, Recipe("night", "at night"), Catalogue.builtin()),
        recipe="night",
        parent=parent_video(parent.manifest),
    )
    request_clips(generator, remix)
    slot = generator.ledger.takes("remixes", "fox|night")[-1].latest
    assert slot.parent is not None
    assert (slot.parent.take, slot.parent.video_id) == (1, parent.manifest.videos[0].video_id)
    newer = remix.model_copy(
        update={"parent": slot.parent.model_copy(update={"video_uuid": "another", "take": 2})}
    )
    [kept] = request_clips(generator, newer)
    assert kept.state is RequestState.CHANGED


def test_credentials_that_die_sooner_than_the_address_must_live_are_not_used(
    generate: Generate, s3_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = StorageRoot(s3_url)
    generator = generate(bucket)
    request_clips(generator, clip("fox"))
    monkeypatch.setattr(bucket, "signing_seconds_left", lambda: 60.0)
    request_clips(generator, clip("owl"))
    collect(generator)
    manifests = [generator.ledger.manifest("clips", name, 1) for name in ("fox", "owl")]
    assert [it and it.delivery for it in manifests] == ["direct", "download"]
    assert list(bucket.list("incoming")) == []
