"""The jobs: scattered clips requested in one run, and everything collected in another."""

from __future__ import annotations

from pathlib import Path

import dagster as dg

import sora_dagster as sora
from sora_dagster.generation.collecting.settings import CollectionLimits
from tests.dagster_face.stack import Stack, failure_text, live_claim
from tests.sandbox_server import Sandbox

RECIPES = {"night": "at night", "snow": "in snow"}


def test_scattered_clips_are_requested_in_one_run_and_one_post(
    stack: Stack, sandbox: Sandbox
) -> None:
    stack.write(*[{"id": f"clip-{number:02}"} for number in range(12)])
    before = sandbox.charged()
    result = stack.run_job("request_clips", clip_ids=["clip-01", "clip-05", "clip-11"])
    assert result.success
    assert stack.submission_posts(result.run_id) == 1
    assert len(sandbox.charged() - before) == 3
    assert stack.instance.get_materialized_partitions(
        asset_key=stack.events("clip_requests", "clip-05")[0].asset_key
    ) == {"clip-01", "clip-05", "clip-11"}


def test_ids_in_any_script_are_partition_keys_and_storage_keys(
    stack: Stack, sandbox: Sandbox
) -> None:
    stack.write({"id": "हिन्दी", "recipes": ["night"]}, {"id": "cafe\u0301"}, recipes=RECIPES)
    stack.tick_dataset_sensor()
    before = sandbox.charged()
    assert stack.run_job("request_clips", clip_ids=["हिन्दी", "cafe\u0301"]).success
    assert stack.run_job("collect_clips").success
    assert len(sandbox.charged() - before) == 3
    for asset, partition in (
        ("clips", "हिन्दी"),
        ("clips", "caf\u00e9"),
        ("remixes", "हिन्दी|night"),
    ):
        assert stack.events(asset, partition)[0].metadata["cost_usd"].value == 1.2
    assert all(info.key.isascii() for info in stack.root.list(""))


def test_collecting_stores_clips_and_exactly_the_remixes_that_rows_list(
    stack: Stack, sandbox: Sandbox
) -> None:
    stack.write(
        {"id": "fox", "recipes": ["night", "snow"]},
        {"id": "owl", "recipes": ["night"]},
        {"id": "bee"},
        recipes=RECIPES,
    )
    before = sandbox.charged()
    assert stack.run_job("request_clips").success
    result = stack.run_job("collect_clips")
    assert result.success
    assert stack.submission_posts(result.run_id) == 1
    assert len(sandbox.charged() - before) == 6
    for partition in ("fox|night", "fox|snow", "owl|night"):
        assert stack.events("remixes", partition)[0].metadata["cost_usd"].value == 1.2
    stack.tick_dataset_sensor()
    assert (
        stack.stale(
            "prompts", "clip_requests", "clips", "remix_prompts", "remix_requests", "remixes"
        )
        == set()
    )
    assert list(stack.root.list("pending")) == []


def test_a_second_pass_over_an_unchanged_dataset_requests_nothing(
    stack: Stack, sandbox: Sandbox
) -> None:
    stack.write({"id": "fox", "recipes": ["night"]}, recipes=RECIPES)
    stack.run_job("request_clips")
    stack.run_job("collect_clips")
    before = sandbox.ledger()
    result = stack.run_job("request_clips")
    assert result.success
    assert stack.submission_posts(result.run_id) == 0
    assert sandbox.ledger()["total_usd"] == before["total_usd"]


def test_a_remix_that_a_row_lists_later_is_made_from_the_stored_clip(
    stack: Stack, sandbox: Sandbox
) -> None:
    stack.write({"id": "fox"}, recipes=RECIPES)
    stack.run_job("request_clips")
    stack.run_job("collect_clips")
    stack.write({"id": "fox", "recipes": ["snow"]}, recipes=RECIPES)
    before = sandbox.charged()
    stack.run_job("request_clips")
    stack.run_job("collect_clips")
    assert len(sandbox.charged() - before) == 1
    assert stack.events("remixes", "fox|snow")


def stored_but_not_reported(stack: Stack) -> None:
    """Have a process store what is outstanding and end before it reports or closes anything."""
    with stack.generator() as generator:
        limits = CollectionLimits(max_wait_seconds=60)
        with generator.collection(limits, holder="killed", datasets=["default"]) as collection:
            while not collection.wait():
                assert not collection.is_done


def test_an_event_that_a_killed_run_did_not_log_is_logged(stack: Stack) -> None:
    stack.write({"id": "fox"})
    stack.run_job("request_clips")
    stored_but_not_reported(stack)
    assert not stack.events("clips", "fox")
    assert stack.run_job("collect_clips").success
    assert len(stack.events("clips", "fox")) == 1


def test_two_runs_do_not_collect_at_once(stack: Stack) -> None:
    stack.write({"id": "fox"})
    stack.run_job("request_clips")
    with live_claim(stack.ledger, "default"):
        result = stack.run_job("collect_clips")
        assert result.success
        assert "another run collects" in stack.log_of(result.run_id)
        assert not stack.events("clips", "fox")
    stack.run_job("collect_clips")
    assert stack.events("clips", "fox")


def test_collecting_continues_while_the_dataset_is_broken(stack: Stack) -> None:
    stack.write({"id": "fox", "recipes": ["night"]}, recipes=RECIPES)
    stack.run_job("request_clips")
    stack.prompts_path.write_text("clips: [{id: fox, prompt: 3}]")
    stack.run_job("collect_clips")
    assert stack.events("clips", "fox")


def test_a_broken_dataset_requests_nothing_and_lists_its_problems(
    stack: Stack, sandbox: Sandbox
) -> None:
    stack.write({"id": "fox", "size": "1x1"}, {"id": "../../etc/x"}, {"id": "a|b"})
    before = sandbox.ledger()["posts"]
    result = stack.run_job("request_clips")
    text = failure_text(result)
    assert not result.success
    for problem in ("1x1", "'../../etc/x'", "'a|b'"):
        assert problem in text
    assert sandbox.ledger()["posts"] == before


def test_the_limit_of_a_run_includes_its_remixes(stack: Stack, sandbox: Sandbox) -> None:
    stack.write({"id": "fox", "recipes": ["night", "snow"]}, recipes=RECIPES)
    before = sandbox.charged()
    stack.run_job("request_clips", max_usd=2.5)
    result = stack.run_job("collect_clips")
    assert not result.success
    assert "spending limit" in failure_text(result)
    assert len(sandbox.charged() - before) == 2


def test_a_dry_run_shows_what_it_would_cost_and_pays_nothing(
    stack: Stack, sandbox: Sandbox
) -> None:
    stack.write({"id": "fox"}, {"id": "owl", "duration": 8})
    before = sandbox.charged()
    result = stack.run_job("request_clips", dry_run=True)
    assert result.success
    costs = {
        record.asset_observation.partition: record.asset_observation.metadata["estimate_usd"].value
        for record in stack.instance.fetch_observations(
            dg.AssetKey("clip_requests"), limit=10
        ).records
        if record.asset_observation is not None
    }
    assert costs == {"fox": 1.2, "owl": 2.4}
    assert sandbox.charged() == before
    assert not stack.events("clip_requests", "fox")
    assert list(stack.root.list("")) == []


def test_a_clip_that_is_missing_in_storage_is_fetched_again_for_free(
    stack: Stack, sandbox: Sandbox
) -> None:
    stack.write({"id": "fox"})
    stack.run_job("request_clips")
    stack.run_job("collect_clips")
    manifest = stack.ledger.latest_manifest("clips", "fox")
    assert manifest is not None
    stack.root.delete(manifest.videos[0].key)
    before = sandbox.charged()
    assert stack.run_job("request_clips").success
    info = stack.root.info(manifest.videos[0].key)
    assert info is not None
    assert info.size_bytes == manifest.videos[0].size_bytes
    assert sandbox.charged() == before
    assert "fetched again" in str(stack.events("clip_requests", "fox")[0].metadata["detail"].value)


def test_an_empty_selection_buys_nothing_and_says_what_everything_costs(
    stack: Stack, sandbox: Sandbox
) -> None:
    stack.write({"id": "fox", "recipes": ["night"]}, {"id": "owl"}, recipes=RECIPES)
    before = sandbox.charged()
    result = stack.run_job("request_clips", everything=False)
    assert "set `everything: true` to request the whole dataset" in failure_text(result)
    assert "2 clips and 1 remix missing; all of them would cost 3.60" in failure_text(result)
    both = stack.run_job("request_clips", clip_ids=["fox"], everything=True)
    assert not both.success
    assert sandbox.charged() == before
    assert stack.ledger.is_empty


def test_requesting_everything_logs_first_what_is_missing_and_its_cost(stack: Stack) -> None:
    stack.write({"id": "fox", "recipes": ["night"]}, {"id": "owl"}, recipes=RECIPES)
    assert stack.run_job("request_clips", clip_ids=["fox"]).success
    assert stack.run_job("collect_clips").success
    messages = stack.log_of(stack.run_job("request_clips", everything=True).run_id)
    cost = "requesting everything: 1 clip missing; all of them would cost 1.20 USD"
    assert messages.index(cost) < messages.index("owl: take 1 submitted")
    assert "stored and unchanged: 1 clip and 1 remix" in messages
    nothing = stack.run_job("request_clips", everything=True)
    assert "nothing is missing, so it costs nothing" in stack.log_of(nothing.run_id)


def test_a_run_logs_one_line_for_many_clips_with_the_same_result(stack: Stack) -> None:
    names = [f"clip-{number:02}" for number in range(8)]
    stack.write(*({"id": name} for name in names))
    lines = stack.log_of(stack.run_job("request_clips").run_id).splitlines()
    assert [line for line in lines if "take 1 submitted" in line] == [
        f"for each of {', '.join(names)}: take 1 submitted, price: 1.20 USD"
    ]


def test_the_launchpad_shows_the_selection_and_the_limit_and_no_resources(stack: Stack) -> None:
    stack.write({"id": "fox"})
    shown = stack.definitions.resolve_job_def("request_clips").run_config
    assert shown is not None
    assert list(shown) == ["ops"]
    assert list(shown["ops"]["request"]["config"])[:4] == [
        "clip_ids",
        "everything",
        "max_usd",
        "dry_run",
    ]


def test_an_executor_runs_the_assets_and_all_jobs(tmp_path: Path) -> None:
    executor = dg.multiprocess_executor.configured({"max_concurrent": 2}, name="two_at_once")
    dataset = sora.VideoDataset(tmp_path / "prompts.yaml")
    names = [job.name for job in sora.build_definitions(dataset).jobs or ()]
    for chosen, of_jobs, of_assets in (
        (None, "in_process", "multi_or_in_process_executor"),
        (executor, "two_at_once", "two_at_once"),
    ):
        definitions = sora.build_definitions(dataset, executor=chosen)
        used = {name: definitions.resolve_job_def(name).executor_def.name for name in names}
        assert set(used.values()) == {of_jobs}
        assets = definitions.resolve_implicit_global_asset_job_def()
        assert assets.executor_def.name == of_assets
