"""The protocol's points, one by one; docs/guarantees.md says what each is for.

Each is tried by the fault matrix, the crash matrix and the random walks too; here it is named.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from sora_dagster.generation.clips import ClipRequest, remix_spec
from sora_dagster.generation.generator import Generator, parent_video
from sora_dagster.generation.lease import Lease, is_live
from sora_dagster.generation.ledger import Ledger, RootMismatchError
from sora_dagster.generation.markers import drop_marker
from sora_dagster.generation.overdue import Deadlines
from sora_dagster.generation.requested import RequestState
from sora_dagster.generation.sender import SendSettings
from sora_dagster.sandbox.faults.plan import read_fault_plan
from sora_dagster.sandbox.server import running_sandbox
from sora_dagster.sandbox.settings import SandboxSettings
from sora_dagster.storage import StorageError, StorageRoot
from tests.generation.asking import ask, clip, collect, quick_generator
from tests.sandbox_server import Sandbox

Generate = Callable[..., Generator]


def faulty(*rules: dict[str, Any], **modes: Any) -> SandboxSettings:
    plan = read_fault_plan({"rules": list(rules), **modes})
    return SandboxSettings(latency_seconds=0, reuse_rendered=True, faults=plan)


def charged(base_url: str) -> list[str]:
    return [charge["taskUUID"] for charge in Sandbox(base_url).ledger()["charges"]]


def test_point_1_ids_are_derived_and_a_new_fingerprint_is_a_new_take(generate: Generate) -> None:
    first, second = generate(), generate()
    [asked] = ask(first, clip())
    [joined] = ask(second, clip())
    assert joined.task_uuid == asked.task_uuid
    collect(first)
    [changed] = ask(second, clip(prompt="a red fox"))
    [shared] = ask(first, clip(prompt="a red fox"))
    assert (changed.take, shared.task_uuid) == (2, changed.task_uuid)


def test_point_2_the_root_is_bound_to_one_api_and_account(generate: Generate) -> None:
    ask(generate(), clip())
    with running_sandbox(SandboxSettings(extra_keys={"other": "another-account"})) as base_url:
        other = quick_generator(base_url, StorageRoot(generate().ledger.root.url), key="other")
        with pytest.raises(RootMismatchError, match="another-account"):
            ask(other, clip("owl"))
        assert charged(base_url) == []


def test_point_3_a_store_where_a_second_create_succeeds_is_refused(
    generate: Generate, sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = generate()
    before = sandbox.charged()
    monkeypatch.setattr(generator.ledger.root, "create", lambda _key, _body: True)
    with pytest.raises(StorageError, match="created twice"):
        ask(generator, clip())
    assert sandbox.charged() == before


def test_point_4_everything_is_on_record_before_anything_is_sent(
    generate: Generate, root: StorageRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    generator = generate()
    seen: list[str] = []

    def look_around(_: object) -> list[object]:
        seen.extend(info.key.split("/")[0] for info in root.list(""))
        seen.extend(info.key.rsplit("/")[-1] for info in root.list("tasks"))
        raise KeyboardInterrupt

    monkeypatch.setattr(generator.client, "submit", look_around)
    with pytest.raises(KeyboardInterrupt):
        ask(generator, clip())
    assert {"pending", "slots", "budget", "sent-1.json"} <= set(seen)
    assert "seen.json" not in seen


def test_point_5_only_what_cannot_have_been_accepted_is_sent_again_in_place(
    root: StorageRoot,
) -> None:
    busy = {"fault": "status", "status": 429, "retry_after_seconds": 0, "nth": [1]}
    with running_sandbox(faulty(busy)) as base_url, quick_generator(base_url, root) as generator:
        [asked] = ask(generator, clip())
        assert asked.state is RequestState.SUBMITTED
        assert generator.client.posts.submissions == 2
        assert len(charged(base_url)) == 1


def test_point_6_an_uncertain_submission_is_polled_for_and_replayed_in_the_window(
    root: StorageRoot,
) -> None:
    lost = {"fault": "reset", "moment": "before", "nth": [1]}
    with running_sandbox(faulty(lost)) as base_url, quick_generator(base_url, root) as generator:
        [asked] = ask(generator, clip())
        assert asked.state is RequestState.SUBMITTED
        assert root.exists(f"tasks/{asked.task_uuid}/sent-2.json")
        assert charged(base_url) == [asked.task_uuid]


def test_point_6_replays_can_be_turned_off(root: StorageRoot) -> None:
    lost = {"fault": "reset", "moment": "before", "nth": [1]}
    sending = SendSettings(confirm_seconds=0.05, replays=False)
    with (
        running_sandbox(faulty(lost)) as base_url,
        quick_generator(
            base_url,
            root,
            sending=sending,
            deadlines=Deadlines(unknown_seconds=0.1, generation_seconds=1.0),
        ) as generator,
    ):
        [asked] = ask(generator, clip())
        assert asked.state is RequestState.UNCONFIRMED
        [finished] = collect(generator)
        assert finished.outcome.state == "unsure"
        assert "sora-dagster resolve" in finished.failure_sentence
        assert charged(base_url) == []


def test_point_7_what_was_seen_is_never_sent_again(root: StorageRoot) -> None:
    forgotten = {"fault": "forgotten", "seconds": 0.01}
    with (
        running_sandbox(faulty(forgotten)) as base_url,
        quick_generator(
            base_url,
            root,
            deadlines=Deadlines(unknown_seconds=0.1, generation_seconds=1.0),
        ) as generator,
    ):
        [asked] = ask(generator, clip())
        [finished] = collect(generator)
        assert finished.outcome.state in ("lost", "done")
        assert charged(base_url) == [asked.task_uuid]
        assert len(list(root.list(f"tasks/{asked.task_uuid}"))) >= 2
        assert not root.exists(f"tasks/{asked.task_uuid}/sent-2.json")


def test_point_8_a_marker_only_wakes(generate: Generate, root: StorageRoot) -> None:
    generator = generate()
    [asked] = ask(generator, clip())
    assert asked.task_uuid is not None
    lie = {"taskUUID": asked.task_uuid, "errors": [{"code": "contentPolicyViolation"}]}
    drop_marker(root, asked.task_uuid, json.dumps(lie).encode())
    [finished] = collect(generator)
    assert finished.outcome.state == "done"


def test_point_9_collecting_may_be_repeated_from_any_step(generate: Generate) -> None:
    generator = generate()
    ask(generator, clip())
    collector = generator.collector()
    while not (ready := collector.look().ready):
        collector.wait()
    first, again = (generator.archive.store(ready[0]) for _ in range(2))
    assert first.manifest == again.manifest
    assert first.outcome == again.outcome
    [finished] = collect(generate())
    assert finished.manifest == first.manifest
    assert generator.ledger.pending() == {}


def test_point_10_a_runs_limit_counts_its_retries_and_other_processes(generate: Generate) -> None:
    first, second = generate(), generate()
    ask(first, clip("fox"), run_limit_usd=2.0, root_run="one")
    [refused] = ask(second, clip("owl"), run_limit_usd=2.0, root_run="one")
    [other] = ask(second, clip("owl"), run_limit_usd=2.0, root_run="two")
    assert refused.state is RequestState.OVER_LIMIT
    assert other.state is RequestState.SUBMITTED


def test_point_11_ages_are_by_the_stores_clock(root: StorageRoot) -> None:
    wrong = root.store_time() - timedelta(days=400)
    ledger = Ledger(root, clock=lambda: wrong)
    ledger.bind(api_base_url="https://api.example.com/v1", account=None)
    assert Lease(ledger, "holder").take()
    assert is_live(Ledger(root))


def test_point_12_a_remix_pins_its_parent(generate: Generate, tmp_path: Path) -> None:
    generator = generate()
    ask(generator, clip())
    [parent] = collect(generator)
    assert parent.manifest is not None
    remix = ClipRequest(
        asset="remixes",
        clip="fox|night",
        spec=remix_spec(clip().spec, prompt="at night"),
        recipe="night",
        parent=parent_video(parent.manifest),
    )
    ask(generator, remix)
    slot = generator.ledger.takes("remixes", "fox|night")[-1].latest
    assert slot.parent is not None
    assert (slot.parent.take, slot.parent.video_id) == (1, parent.manifest.videos[0].video_id)
    newer = remix.model_copy(
        update={"parent": slot.parent.model_copy(update={"video_id": "another", "take": 2})}
    )
    [kept] = ask(generator, newer, regenerate_stale=False)
    assert kept.state is RequestState.STALE


def test_point_13_credentials_that_die_sooner_than_the_address_must_live_are_not_used(
    generate: Generate, s3_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    bucket = StorageRoot(s3_url)
    generator = generate(bucket)
    ask(generator, clip("fox"))
    monkeypatch.setattr(bucket, "signing_seconds_left", lambda: 60.0)
    ask(generator, clip("owl"))
    collect(generator)
    manifests = [generator.ledger.manifest("clips", name, 1) for name in ("fox", "owl")]
    assert [it and it.delivery for it in manifests] == ["direct", "download"]
    assert list(bucket.list("incoming")) == []
