"""Storyboards as assets: families of shots, requested level by level, each stored once finished."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from sora_dagster.generation.collecting.settings import CollectionLimits
from sora_dagster.generation.library.stored_clip import StoredClip
from sora_dagster.generation.protocol.records import ClipManifest
from sora_dagster.sandbox.faults.plan import read_fault_plan
from sora_dagster.sandbox.server import running_sandbox
from sora_dagster.sandbox.settings import SandboxSettings
from sora_dagster.settings import Settings
from tests.dagster_face.stack import Stack, definitions_of, failure_text
from tests.sandbox_server import Sandbox

ROOT = {"id": "fox", "prompt": "a fox in a glade"}
FAMILY = {
    **ROOT,
    "remixes": [
        {
            "id": "night",
            "prompt": "the same at night",
            "remixes": [{"id": "moon", "prompt": "the moon rises"}],
        },
        {
            "id": "snow",
            "prompt": "the same in snow",
            "remixes": [{"id": "storm", "prompt": "it storms"}],
        },
    ],
}
COUPLE = {**ROOT, "remixes": [{"id": "night", "prompt": "the same at night"}]}
PARENTS = {"night": "fox", "snow": "fox", "moon": "night", "storm": "snow"}


def manifest(stack: Stack, shot: str) -> ClipManifest:
    stored = stack.ledger.latest_manifest(f"glade/{shot}", shot)
    assert stored is not None
    return stored


def test_a_family_is_made_level_by_level_each_shot_from_its_parents_video(
    stack: Stack, sandbox: Sandbox
) -> None:
    stack.write_board(FAMILY)
    before = sandbox.charged()
    result = stack.materialize_shots()
    assert result.success, failure_text(result)
    charges = [c for c in sandbox.ledger()["charges"] if c["taskUUID"] not in before]
    assert len(charges) == 5
    assert stack.submission_posts(result.run_id) == 3
    for shot, parent in PARENTS.items():
        made = manifest(stack, shot)
        assert made.wire["inputs"] == {"videoId": manifest(stack, parent).videos[0].video_id}
        assert made.request.parent is not None
        assert made.request.parent.asset == f"glade/{parent}"
    assert list(stack.root.list("pending")) == []
    assert stack.stale_shots() == set()


def test_shots_of_live_models_follow_by_an_edit_and_by_the_last_frame(
    stack: Stack, sandbox: Sandbox
) -> None:
    stack.write_board(
        {
            **ROOT,
            "model": "wan-3.0",
            "size": "832x480",
            "duration": 2,
            "remixes": [
                {"id": "night", "prompt": "the same at night", "model": "aleph-2.0"},
                {"id": "after", "prompt": "it runs away", "mode": "continue", "duration": 3},
            ],
        }
    )
    before = sandbox.charged()
    result = stack.materialize_shots()
    assert result.success, failure_text(result)
    assert len(sandbox.charged() - before) == 3
    fox, night, after = (manifest(stack, shot) for shot in ("fox", "night", "after"))
    assert night.wire["inputs"] == {"video": fox.videos[0].video_uuid}
    assert "frameImages" in str(after.wire["inputs"])
    assert [round(shot.videos[0].duration_seconds) for shot in (fox, night, after)] == [2, 2, 3]
    [event] = stack.shot_events("night")
    assert event.metadata["remix_mode"].value == "edit"
    assert event.metadata["parent_video_uuid"].value == fox.videos[0].video_uuid
    assert stack.stale_shots() == set()


def test_the_event_of_a_shot_has_the_facts_of_its_video_and_its_inputs(stack: Stack) -> None:
    stack.write_board(COUPLE)
    assert stack.materialize_shots().success
    [event] = stack.shot_events("night")
    parent = manifest(stack, "fox")
    assert event.partition is None
    assert event.metadata["cost_usd"].value == 1.2
    assert event.metadata["parent_video_id"].value == parent.videos[0].video_id
    assert event.tags is not None
    assert event.tags["dagster/data_version"] == manifest(stack, "night").content_hash
    assert event.tags["dagster/input_data_version/glade/fox"] == parent.content_hash
    assert event.tags["dagster/code_version"] == manifest(stack, "night").fingerprint


def test_materializing_a_stored_board_again_is_free_and_says_so_whatever_its_tags(
    stack: Stack, sandbox: Sandbox
) -> None:
    stack.write_board(COUPLE)
    stack.materialize_shots()
    stack.write_board({**COUPLE, "tags": ["hero"]})
    assert stack.stale_shots() == set()
    before = sandbox.charged()
    result = stack.materialize_shots()
    assert result.success
    assert sandbox.charged() == before
    assert stack.submission_posts(result.run_id) == 0
    assert stack.stale_shots() == set()
    said = [entry.user_message for entry in stack.instance.all_logs(result.run_id)]
    assert "glade/night: take 1 is already generated, 0.00 USD" in said


def test_a_selected_shot_takes_its_parent_from_storage(stack: Stack, sandbox: Sandbox) -> None:
    stack.write_board(FAMILY)
    assert stack.materialize_shots("fox").success
    before = sandbox.charged()
    result = stack.materialize_shots("night")
    assert result.success, failure_text(result)
    assert len(sandbox.charged() - before) == 1
    assert stack.shot_events("night")
    assert not stack.shot_events("snow")
    assert stack.stale_shots() == set()


def test_a_shot_without_its_parent_is_not_sent_and_says_what_to_materialize(
    stack: Stack, sandbox: Sandbox
) -> None:
    stack.write_board(FAMILY, {"id": "owl", "prompt": "an owl"})
    before = sandbox.charged()
    result = stack.materialize_shots("owl", "night", "moon")
    assert not result.success
    text = failure_text(result)
    assert "glade/night: it is a remix of 'fox', which is neither stored nor among" in text
    assert "Materialize glade/fox with it, or first" in text
    assert "glade/moon: it is a remix of 'night', which failed" in text
    assert len(sandbox.charged() - before) == 1
    assert stack.shot_events("owl")
    assert not stack.shot_events("night")


def test_a_changed_prompt_makes_its_shot_stale_and_no_other(stack: Stack, sandbox: Sandbox) -> None:
    stack.write_board(COUPLE)
    stack.materialize_shots()
    stack.write_board({**ROOT, "remixes": [{"id": "night", "prompt": "the same at dusk"}]})
    assert stack.stale_shots() == {"night"}
    before = sandbox.charged()
    assert stack.materialize_shots("night").success
    assert len(sandbox.charged() - before) == 1
    assert manifest(stack, "night").take == 2
    assert stack.stale_shots() == set()


def test_a_new_take_makes_the_remixes_of_its_shot_stale_and_buys_none(
    stack: Stack, sandbox: Sandbox
) -> None:
    stack.write_board(COUPLE)
    stack.materialize_shots()
    # Another length, since the sandbox gives videos of one size and length the same bytes.
    stack.write_board({**COUPLE, "duration": 8})
    before = sandbox.charged()
    assert stack.materialize_shots("fox").success
    assert len(sandbox.charged() - before) == 1
    assert stack.stale_shots() == {"night"}
    assert stack.materialize_shots("night").success
    assert manifest(stack, "night").take == 2
    parent = manifest(stack, "fox").videos[0]
    assert manifest(stack, "night").wire["inputs"] == {"videoId": parent.video_id}
    assert stack.stale_shots() == set()


def test_a_changed_shot_is_not_bought_by_a_run_of_the_whole_board(
    stack: Stack, sandbox: Sandbox
) -> None:
    stack.write_board(COUPLE)
    stack.materialize_shots()
    stack.write_board({**ROOT, "remixes": [{"id": "night", "prompt": "the same at dusk"}]})
    before = sandbox.charged()
    assert stack.materialize_shots().success
    assert sandbox.charged() == before
    assert stack.stale_shots() == {"night"}
    assert stack.materialize_shots(regenerate_changed=True).success
    assert len(sandbox.charged() - before) == 1
    assert stack.stale_shots() == set()


def test_a_run_that_stops_waiting_is_finished_by_the_collecting_run_alone(
    stack: Stack, sandbox: Sandbox
) -> None:
    stack.write({"id": "bee"})
    stack.write_board(COUPLE)
    before = sandbox.charged()
    result = stack.materialize_shots(max_wait_minutes=0)
    assert not result.success
    text = failure_text(result)
    assert "glade/fox: take 1 was not finished within 0 s. It is not lost" in text
    assert "glade/night: it is a remix of 'fox', which was not finished" in text
    assert not stack.shot_events("fox")
    collected = stack.run_job("collect_clips")
    assert collected.success, failure_text(collected)
    # The collecting run stores requested shots; a run of the board requests their remixes.
    assert len(sandbox.charged() - before) == 1
    [event] = stack.shot_events("fox")
    assert event.partition is None
    assert stack.stale_shots() == set()
    assert list(stack.root.list("pending")) == []
    assert stack.materialize_shots().success
    assert len(sandbox.charged() - before) == 2
    assert stack.stale_shots() == set()


def test_a_shot_that_was_stored_and_not_reported_is_reported_by_the_collecting_run(
    stack: Stack,
) -> None:
    stack.write_board(ROOT)
    stack.materialize_shots(max_wait_minutes=0)
    with stack.definitions.resources["runware"].generator(  # type: ignore[index]
        stack.definitions.resources["clip_storage"]  # type: ignore[index]
    ) as generator:
        limits = CollectionLimits(max_wait_seconds=60)
        with generator.collection(limits, holder="a test", datasets=["glade"]) as collection:
            while not collection.wait():
                pass
    assert not stack.shot_events("fox")
    assert stack.run_job("collect_clips").success
    assert len(stack.shot_events("fox")) == 1


def test_a_shot_whose_parent_is_still_generated_elsewhere_says_so(
    stack: Stack, sandbox: Sandbox
) -> None:
    stack.write_board(COUPLE)
    stack.materialize_shots("fox", max_wait_minutes=0)
    before = sandbox.charged()
    result = stack.materialize_shots("night")
    assert not result.success
    assert "'fox', which is being generated; nothing was sent" in failure_text(result)
    assert sandbox.charged() == before


def test_a_dry_run_prices_the_whole_family_and_pays_nothing(stack: Stack, sandbox: Sandbox) -> None:
    stack.write_board(FAMILY)
    before = sandbox.charged()
    assert stack.materialize_shots(dry_run=True).success
    prices = {
        record.asset_observation.asset_key.path[-1]: record.asset_observation.metadata
        for shot in ("fox", "night", "moon")
        for record in stack.instance.fetch_observations(
            dg.AssetKey(["glade", shot]), limit=1
        ).records
        if record.asset_observation is not None
    }
    assert {shot: metadata["estimate_usd"].value for shot, metadata in prices.items()} == {
        "fox": 1.2,
        "night": 1.2,
        "moon": 1.2,
    }
    assert sandbox.charged() == before
    assert list(stack.root.list("")) == []
    assert not stack.shot_events("fox")


def test_the_limit_of_a_run_holds_for_all_its_levels(stack: Stack, sandbox: Sandbox) -> None:
    stack.write_board(COUPLE)
    before = sandbox.charged()
    result = stack.materialize_shots(max_usd=1.5)
    assert not result.success
    assert "spending limit" in failure_text(result)
    assert len(sandbox.charged() - before) == 1
    assert stack.shot_events("fox")


def test_an_asset_downstream_loads_a_shot_by_the_io_manager(stack: Stack) -> None:
    stack.write_board(ROOT)
    loaded: list[StoredClip] = []

    @dg.asset(ins={"clip": dg.AssetIn(key=dg.AssetKey(["glade", "fox"]))})
    def poster(clip: StoredClip) -> None:
        loaded.append(clip)

    definitions = dg.Definitions.merge(stack.definitions, dg.Definitions(assets=[poster]))
    job = definitions.resolve_implicit_global_asset_job_def()
    keys = [dg.AssetKey(["glade", "fox"]), poster.key]
    for selection in (keys, keys[1:]):
        result = job.execute_in_process(
            instance=stack.instance, asset_selection=selection, raise_on_error=False
        )
        assert result.success, failure_text(result)
    assert [clip.manifest.asset for clip in loaded] == ["glade/fox"] * 2


def test_a_broken_board_is_replaced_by_one_asset_with_the_error(
    stack: Stack,
) -> None:
    stack.write({"id": "bee"})
    stack.write_board({"id": "fox", "prompt": "a fox", "parent": "wolf"})
    result = stack.materialize_shots()
    assert not result.success
    assert "there is no shot 'wolf'" in failure_text(result)
    stack.run_job("request_clips")
    assert stack.run_job("collect_clips").success
    assert stack.events("clips", "bee")


SANDBOX = {"RUNWARE_BASE_URL": "http://127.0.0.1:8787/v1"}


def boards_of(**environment: str) -> list[str]:
    settings = Settings.from_environment(environment)
    # The processes that are started have the same boards, the example's among them.
    assert Settings.from_environment(settings.to_environment()).board_paths() == (
        settings.board_paths()
    )
    return [Path(path).name for path in settings.board_paths()]


def test_the_example_board_comes_only_with_the_example_dataset() -> None:
    assert boards_of(**SANDBOX) == ["mangrove.yaml"]
    assert boards_of(**SANDBOX, SORA_PROMPTS="mine.jsonl") == []
    assert boards_of(**SANDBOX, SORA_BOARDS="a.yaml, b.yaml") == ["a.yaml", "b.yaml"]
    assert boards_of() == []


def test_the_lineage_of_the_example_board_is_its_family() -> None:
    graph = definitions_of(Settings.from_environment(SANDBOX)).resolve_asset_graph()
    shot = graph.get(dg.AssetKey(["mangrove", "dawn_departure"]))
    assert shot.parent_keys == {dg.AssetKey(["mangrove", "dawn"])}
    assert graph.get(dg.AssetKey(["mangrove", "monsoon"])).parent_keys == set()
    assert "nature" in shot.tags
    assert "blows it out" in str(shot.description)


@pytest.fixture
def faulty(stack: Stack) -> Iterator[Callable[..., Stack]]:
    """The stack against a separate sandbox with faults."""
    with ExitStack() as stopping:

        def make(*rules: dict[str, Any]) -> Stack:
            settings = SandboxSettings(
                latency_seconds=0,
                latency_step_seconds=0,
                reuse_rendered=True,
                faults=read_fault_plan({"rules": list(rules)}),
            )
            stack.base_url = stopping.enter_context(running_sandbox(settings))
            stack.settings_changes = {"retry_wait_seconds": 0.1, "confirm_seconds": 0.1}
            return stack

        yield make


def test_a_failed_shot_fails_only_its_descendants(
    faulty: Callable[..., Stack],
) -> None:
    stack = faulty({"fault": "fail", "error": "safety", "prompt_contains": "night"})
    stack.write_board(FAMILY)
    result = stack.materialize_shots()
    assert not result.success
    text = failure_text(result)
    assert "glade/night: " in text
    assert "glade/moon: it is a remix of 'night', which failed; nothing was sent" in text
    assert {shot for shot in ["fox", *PARENTS] if stack.shot_events(shot)} == {
        "fox",
        "snow",
        "storm",
    }
    assert len(Sandbox(stack.base_url).ledger()["charges"]) == 4
    [record] = stack.instance.fetch_observations(dg.AssetKey(["glade", "night"]), limit=5).records
    assert record.asset_observation is not None
    metadata = record.asset_observation.metadata
    assert metadata["state"].value == "failed"
    assert metadata["error_kind"].value == "safety"
    assert metadata["take"].value == 1
    assert metadata["task_uuid"].value
    assert "retry_failed" in str(metadata["what_to_do"].value)


def test_a_transient_failure_is_tried_again_within_the_run(
    faulty: Callable[..., Stack],
) -> None:
    stack = faulty({"fault": "fail", "error": "provider", "nth": [2]})
    stack.write_board(COUPLE)
    result = stack.materialize_shots()
    assert result.success, failure_text(result)
    assert manifest(stack, "night").attempt == 2
    assert list(stack.root.list("pending")) == []
