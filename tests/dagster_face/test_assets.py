"""The assets by hand and by backfill: range runs, single runs, staleness, failures."""

from __future__ import annotations

import dagster as dg
import pytest

from sora_dagster.assets.clips import build_clip_assets, build_remix_assets
from sora_dagster.assets.reports import build_report_assets
from sora_dagster.dataset import VideoDataset
from tests.dagster_face.stack import Stack, failure_text
from tests.sandbox_server import Sandbox

METADATA = {
    "cost_usd",
    "seed",
    "model",
    "prompt",
    "size",
    "duration_seconds",
    "task_uuid",
    "video_uuid",
    "video_id",
    "take",
    "size_bytes",
    "sha256",
    "generation_seconds",
    "dagster/uri",
}
FOX, OWL, BEE = {"id": "fox"}, {"id": "owl"}, {"id": "bee"}


def test_a_range_run_goes_the_whole_way_without_webhook_or_sensor(
    stack: Stack, sandbox: Sandbox
) -> None:
    stack.write(FOX, OWL, BEE)
    stack.tick_dataset_sensor()
    before = sandbox.charged()
    result = stack.materialize(["clip_requests", "clips"], ["fox", "bee"])
    assert result.success
    assert len(sandbox.charged() - before) == 3
    assert stack.submission_posts(result.run_id) == 1
    for clip in ("fox", "owl", "bee"):
        event = stack.events("clips", clip)[0]
        assert set(event.metadata) >= METADATA
        manifest = stack.ledger.latest_manifest("clips", clip)
        assert manifest is not None
        assert event.tags is not None
        assert event.tags["dagster/data_version"] == manifest.videos[0].sha256
    assert list(stack.root.list("pending")) == []


def test_a_single_run_carries_the_same_metadata_in_one_event(stack: Stack) -> None:
    stack.write(FOX)
    stack.tick_dataset_sensor()
    assert stack.materialize(["clip_requests", "clips"], ["fox"]).success
    [event] = stack.events("clips", "fox")
    assert set(event.metadata) >= METADATA
    assert event.tags is not None
    assert event.tags["dagster/data_version"] == event.metadata["sha256"].value


def test_the_options_of_a_row_are_shown_with_the_row_its_request_and_its_clip(
    stack: Stack,
) -> None:
    settings = {"seed": 7, "audio": False, "settings": {"promptExtend": False}}
    stack.write({"id": "fox", "model": "wan-3.0", "duration": 2, **settings})
    stack.tick_dataset_sensor()
    assert stack.materialize(["clip_requests", "clips"], ["fox"]).success
    for asset in ("prompts", "clip_requests", "clips"):
        shown = stack.events(asset, "fox")[0].metadata["options"].value
        assert shown == {"seed": 7, "audio": False, "promptExtend": False}


def test_several_videos_of_a_clip_are_shown_as_a_table(stack: Stack) -> None:
    stack.write({"id": "fox", "number_results": 2})
    stack.tick_dataset_sensor()
    stack.materialize(["clip_requests", "clips"], ["fox"])
    table = stack.events("clips", "fox")[0].metadata["videos"]
    assert isinstance(table, dg.TableMetadataValue)
    assert len(table.records) == 2


def test_materializing_again_is_free_and_changes_nothing(stack: Stack, sandbox: Sandbox) -> None:
    stack.write(FOX, OWL)
    stack.tick_dataset_sensor()
    stack.materialize(["clip_requests", "clips"], ["fox", "owl"])
    before = sandbox.charged()
    assert stack.materialize(["clip_requests"], ["fox", "owl"]).success
    assert stack.materialize(["clips"], ["owl"]).success
    assert sandbox.charged() == before
    assert stack.stale("clip_requests", "clips") == set()
    detail = stack.events("clip_requests", "fox")[0].metadata["detail"].value
    assert "already generated, 0.00 USD" in str(detail)


def test_a_changed_row_makes_its_own_clip_stale_and_no_other(
    stack: Stack, sandbox: Sandbox
) -> None:
    stack.write(FOX, OWL, BEE)
    stack.tick_dataset_sensor()
    stack.materialize(["clip_requests", "clips"], ["fox", "bee"])
    assert stack.stale("clip_requests", "clips") == set()
    stack.write(FOX, {"id": "owl", "prompt": "a snowy owl"}, BEE)
    assert stack.tick_dataset_sensor() == ["owl"]
    assert stack.stale("clip_requests", "clips") == {"clip_requests/owl", "clips/owl"}
    before = sandbox.charged()
    stack.materialize(["clip_requests", "clips"], ["owl"])
    assert len(sandbox.charged() - before) == 1
    assert stack.stale("clip_requests", "clips") == set()


def test_a_changed_tag_makes_nothing_stale(stack: Stack) -> None:
    stack.write(FOX)
    stack.tick_dataset_sensor()
    stack.materialize(["clip_requests", "clips"], ["fox"])
    stack.write({"id": "fox", "tags": ["hero"]})
    assert stack.tick_dataset_sensor() == []
    assert stack.stale("clip_requests", "clips") == set()


def test_a_clip_stays_stale_where_its_row_changed_while_it_was_generated(stack: Stack) -> None:
    stack.write(FOX)
    stack.tick_dataset_sensor()
    stack.materialize(["clip_requests"], ["fox"])
    stack.write({"id": "fox", "prompt": "a red fox"})
    stack.tick_dataset_sensor()
    assert stack.materialize(["clips"], ["fox"]).success
    assert "clips/fox" in stack.stale("clips")


def test_rows_can_be_read_again_by_materializing_them(stack: Stack) -> None:
    stack.write(FOX, OWL)
    stack.tick_dataset_sensor()
    stack.write({"id": "fox", "prompt": "a red fox"}, OWL)
    assert stack.materialize(["prompts"], ["fox", "owl"]).success
    assert stack.events("prompts", "fox")[0].metadata["prompt"].value == "a red fox"
    assert stack.tick_dataset_sensor() == []


def test_only_clips_that_were_never_requested_fail(stack: Stack) -> None:
    stack.write(FOX, OWL)
    stack.tick_dataset_sensor()
    stack.materialize(["clip_requests"], ["owl"])
    result = stack.materialize(["clips"], ["fox", "owl"])
    assert not result.success
    assert "fox: it was never requested" in failure_text(result)
    assert stack.events("clips", "owl")
    assert not stack.events("clips", "fox")


def test_a_run_stops_waiting_and_loses_nothing(stack: Stack) -> None:
    stack.write(FOX)
    stack.tick_dataset_sensor()
    stack.materialize(["clip_requests"], ["fox"])
    result = stack.materialize(
        ["clips"], ["fox"], run_config={"ops": {"clips": {"config": {"max_wait_minutes": 0}}}}
    )
    if not result.success:
        assert "not lost" in failure_text(result)
    assert stack.materialize(["clips"], ["fox"]).success
    assert stack.events("clips", "fox")


def test_remixes_of_stored_clips_can_be_materialized(stack: Stack, sandbox: Sandbox) -> None:
    stack.write({"id": "fox", "recipes": ["night"]}, OWL, recipes={"night": "at night"})
    stack.tick_dataset_sensor()
    stack.materialize(["clip_requests", "clips"], ["fox"])
    before = sandbox.charged()
    result = stack.materialize(["remix_requests", "remixes"], ["fox|night"])
    assert result.success, failure_text(result)
    assert len(sandbox.charged() - before) == 1
    event = stack.events("remixes", "fox|night")[0]
    assert event.metadata["parent_partition"].value == "fox"
    assert stack.stale("remix_requests", "remixes") == set()


def test_a_remix_that_no_row_lists_is_skipped_and_not_paid(stack: Stack, sandbox: Sandbox) -> None:
    recipes = {"night": "at night"}
    stack.write({"id": "fox", "recipes": ["night"]}, OWL, recipes=recipes)
    stack.tick_dataset_sensor()
    stack.materialize(["clip_requests", "clips"], ["fox", "owl"])
    before = sandbox.charged()
    assets = ["remix_prompts", "remix_requests", "remixes"]
    for asset in assets:
        result = stack.materialize([asset], ["owl|night"])
        assert result.success, failure_text(result)
        [event] = stack.events(asset, "owl|night")
        assert event.metadata["state"].value == "not requested"
    detail = stack.events("remix_requests", "owl|night")[0].metadata["detail"].value
    assert "does not list the recipe 'night'" in str(detail)
    assert sandbox.charged() == before
    assert stack.stale(*assets) == set()


def test_a_range_of_the_remix_grid_succeeds_with_cells_that_no_row_lists(
    stack: Stack, sandbox: Sandbox
) -> None:
    recipes = {"night": "at night"}
    stack.write({"id": "fox", "recipes": ["night"]}, OWL, recipes=recipes)
    stack.tick_dataset_sensor()
    stack.materialize(["clip_requests", "clips"], ["fox", "owl"])
    before = sandbox.charged()
    assets = ["remix_prompts", "remix_requests", "remixes"]
    result = stack.materialize(assets, ["fox|night", "owl|night"])
    assert result.success, failure_text(result)
    assert len(sandbox.charged() - before) == 1
    for asset in assets:
        states = [
            stack.events(asset, f"{clip}|night")[0].metadata.get("state") for clip in ("fox", "owl")
        ]
        assert [getattr(state, "value", None) == "not requested" for state in states] == [
            False,
            True,
        ]
    assert stack.stale(*assets) == set()


def test_a_skipped_remix_is_stale_and_requested_once_a_row_lists_it(
    stack: Stack, sandbox: Sandbox
) -> None:
    recipes = {"night": "at night"}
    stack.write({"id": "fox", "recipes": ["night"]}, OWL, recipes=recipes)
    stack.tick_dataset_sensor()
    stack.materialize(["clip_requests", "clips"], ["fox", "owl"])
    stack.materialize(["remix_requests", "remixes"], ["fox|night", "owl|night"])
    stack.write(*({"id": name, "recipes": ["night"]} for name in ("fox", "owl")), recipes=recipes)
    assert stack.tick_dataset_sensor() == ["owl|night"]
    assert stack.stale("remix_requests", "remixes") == {
        "remix_requests/owl|night",
        "remixes/owl|night",
    }
    before = sandbox.charged()
    assert stack.run_job("request_clips", clip_ids=["owl"]).success
    assert len(sandbox.charged() - before) == 1
    assert stack.events("remix_requests", "owl|night")[0].metadata["state"].value == "submitted"


def test_a_stored_remix_that_its_row_no_longer_lists_stays_stored(
    stack: Stack, sandbox: Sandbox
) -> None:
    recipes = {"night": "at night"}
    stack.write({"id": "fox", "recipes": ["night"]}, recipes=recipes)
    stack.tick_dataset_sensor()
    stack.materialize(["clip_requests", "clips"], ["fox"])
    stack.materialize(["remix_requests", "remixes"], ["fox|night"])
    stack.write({"id": "fox"}, recipes=recipes)
    before = sandbox.charged()
    result = stack.materialize(["remix_requests", "remixes"], ["fox|night"])
    assert result.success, failure_text(result)
    assert sandbox.charged() == before
    tags = stack.events("remixes", "fox|night")[0].tags or {}
    assert tags["dagster/data_version"] != "not requested"


def test_a_new_take_of_a_clip_makes_its_remix_stale(stack: Stack) -> None:
    stack.write({"id": "fox", "recipes": ["night"]}, recipes={"night": "at night"})
    stack.tick_dataset_sensor()
    stack.materialize(["clip_requests", "clips"], ["fox"])
    stack.materialize(["remix_requests", "remixes"], ["fox|night"])
    stack.write({"id": "fox", "recipes": ["night"], "duration": 8}, recipes={"night": "at night"})
    stack.tick_dataset_sensor()
    stack.materialize(["clip_requests", "clips"], ["fox"])
    assert "remixes/fox|night" in stack.stale("remixes")


def test_no_new_take_is_bought_automatically_after_a_change(stack: Stack, sandbox: Sandbox) -> None:
    stack.write({"id": "fox", "recipes": ["night"]}, recipes={"night": "at night"})
    stack.tick_dataset_sensor()
    stack.materialize(["clip_requests", "clips"], ["fox"])
    stack.materialize(["remix_requests", "remixes"], ["fox|night"])
    stack.write({"id": "fox", "recipes": ["night"], "take": 2}, recipes={"night": "at night"})
    stack.tick_dataset_sensor()
    stack.materialize(["clip_requests", "clips"], ["fox"])
    before = sandbox.charged()
    result = stack.materialize(
        ["remix_requests"], ["fox|night"], tags={"dagster/from_automation_condition": "true"}
    )
    assert result.success
    assert sandbox.charged() == before


def test_the_key_shows_nowhere(stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNWARE_API_KEY", "a-key-that-must-not-show")
    stack.write(FOX)
    stack.tick_dataset_sensor()
    result = stack.materialize(["clip_requests"], ["fox"])
    assert not result.success
    for event in stack.instance.all_logs(result.run_id):
        assert "a-key-that-must-not-show" not in repr(event)
    assert "a-key-that-must-not-show" not in repr(stack.definitions.resources)


def test_without_a_key_the_run_says_how_to_get_one(
    stack: Stack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("RUNWARE_API_KEY")
    stack.write(FOX)
    stack.tick_dataset_sensor()
    result = stack.materialize(["clip_requests"], ["fox"])
    assert "RUNWARE_API_KEY" in failure_text(result)


def test_a_dry_run_of_the_asset_materializes_nothing_and_pays_nothing(
    stack: Stack, sandbox: Sandbox
) -> None:
    stack.write(FOX, OWL)
    stack.tick_dataset_sensor()
    before = sandbox.charged()
    result = stack.materialize(
        ["clip_requests"],
        ["fox", "owl"],
        run_config={"ops": {"clip_requests": {"config": {"dry_run": True}}}},
    )
    assert result.success
    assert not stack.events("clip_requests", "fox")
    assert sandbox.charged() == before
    observations = stack.instance.fetch_observations(dg.AssetKey("clip_requests"), limit=5).records
    assert [
        record.asset_observation.metadata["priced_by"].value
        for record in observations
        if record.asset_observation is not None
    ] == ["api", "api"]


def test_new_rows_are_requested_automatically_with_a_request_condition(stack: Stack) -> None:
    stack.write(FOX, OWL)
    stack.tick_dataset_sensor()
    dataset = VideoDataset(stack.prompts_path)
    assets = build_clip_assets(dataset, request_condition=dg.AutomationCondition.on_missing())
    definitions = dg.Definitions(assets=assets, resources=stack.definitions.resources)
    first = dg.evaluate_automation_conditions(definitions, instance=stack.instance)
    requested = first.get_requested_partitions(dataset.clip_requests)
    # Rows that were there before the condition was are for a backfill, or a schedule.
    stack.write(FOX, OWL, {"id": "yak"})
    stack.tick_dataset_sensor()
    second = dg.evaluate_automation_conditions(
        definitions, instance=stack.instance, cursor=first.cursor
    )
    assert "yak" in requested | second.get_requested_partitions(dataset.clip_requests)
    assert "yak" not in requested


def test_owners_tags_and_group_are_those_of_the_dataset(stack: Stack) -> None:
    dataset = VideoDataset(
        stack.prompts_path, group_name="trailers", owners=["team:video"], tags={"domain": "media"}
    )
    definitions = dg.Definitions(
        assets=[
            *build_clip_assets(dataset),
            *build_remix_assets(dataset),
            build_report_assets(dataset),
        ],
        resources=stack.definitions.resources,
    )
    for spec in definitions.resolve_all_asset_specs():
        assert (spec.group_name, list(spec.owners)) == ("trailers", ["team:video"]), spec.key
        assert spec.tags["domain"] == "media", spec.key
        assert spec.description, spec.key
        assert spec.kinds, spec.key
