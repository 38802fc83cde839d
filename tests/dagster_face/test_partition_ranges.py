"""Ranges of partitions by Dagster's own command, and what a backfill launches for them."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import dagster as dg

from sora_dagster.dataset import VideoDataset
from sora_dagster.generation.protocol.ledger import Ledger
from sora_dagster.storage import StorageRoot
from tests.command_line import clean_environment
from tests.dagster_face.stack import Stack, failure_text
from tests.sandbox_server import KEY, Sandbox

PROJECT = """
import sora_dagster as sora

defs = sora.build_definitions(sora.VideoDataset())
"""


def test_dagsters_command_materializes_a_range_in_one_run(tmp_path: Path, sandbox: Sandbox) -> None:
    (tmp_path / "defs.py").write_text(PROJECT)
    (tmp_path / "prompts.yaml").write_text(
        "".join(f"- {{id: {name}, prompt: a {name}}}\n" for name in ("fox", "owl", "bee", "yak"))
    )
    home = tmp_path / "home"
    home.mkdir()
    (home / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    with dg.DagsterInstance.from_config(str(home)) as instance:
        instance.add_dynamic_partitions("clips", ["fox", "owl", "bee", "yak"])
    before = sandbox.charged()
    ended = subprocess.run(
        [
            *(sys.executable, "-m", "dagster", "asset", "materialize", "-f", "defs.py"),
            *("--select", "clip_requests,clips", "--partition-range", "fox...bee"),
        ],
        cwd=tmp_path,
        env=clean_environment(
            DAGSTER_HOME=str(home),
            RUNWARE_API_KEY=KEY,
            RUNWARE_BASE_URL=sandbox.base_url,
            SORA_PROMPTS="prompts.yaml",
            SORA_STORAGE=str(tmp_path / "storage"),
            SORA_MAX_USD="unlimited",
        ),
        capture_output=True,
        text=True,
        timeout=400,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    assert "did not yield expected outputs" not in ended.stderr
    assert len(sandbox.charged() - before) == 3
    ledger = Ledger(StorageRoot(tmp_path / "storage"))
    stored = [name for name in ("fox", "owl", "bee", "yak") if ledger.takes("clips", name)]
    assert stored == ["fox", "owl", "bee"]
    with dg.DagsterInstance.from_config(str(home)) as instance:
        assert instance.get_runs_count() == 1
        assert instance.get_materialized_partitions(dg.AssetKey("clips")) == set(stored)


def test_every_asset_with_partitions_takes_a_range_in_one_run(stack: Stack) -> None:
    stack.write({"id": "fox"})
    dataset = VideoDataset(stack.prompts_path)
    graph = stack.definitions.resolve_asset_graph()
    for key in (
        dataset.prompts,
        dataset.clip_requests,
        dataset.clips,
        dataset.remix_prompts,
        dataset.remix_requests,
        dataset.remixes,
    ):
        assert graph.get(key).backfill_policy == dg.BackfillPolicy.single_run(), key


def test_the_whole_group_can_be_materialized_at_once(stack: Stack) -> None:
    """Dagster's backfills need one partitions definition for all assets that they start from."""
    graph = stack.definitions.resolve_asset_graph()
    partitioned = [key for key in graph.get_all_asset_keys() if graph.get(key).is_partitioned]
    assert len(partitioned) == 6
    roots = dg.AssetSelection.assets(*partitioned).roots().resolve(graph)
    assert roots == {dg.AssetKey("prompts")}


def test_a_removed_row_does_not_block_the_other_clips_of_a_range(stack: Stack) -> None:
    stack.write({"id": "fox"}, {"id": "owl"}, {"id": "bee"})
    stack.tick_dataset_sensor()
    stack.write({"id": "fox"}, {"id": "bee"})
    assets = ["prompts", "clip_requests", "clips"]
    result = stack.materialize(assets, ["fox", "owl", "bee"])
    assert result.success, failure_text(result)
    for asset in assets:
        assert bool(stack.events(asset, "fox")), asset
        assert bool(stack.events(asset, "bee")), asset
    assert stack.events("clips", "owl") == []
    assert "owl" in stack.log_of(result.run_id)


def test_a_run_for_a_removed_row_alone_says_that_it_was_removed(stack: Stack) -> None:
    stack.write({"id": "fox"}, {"id": "owl"})
    stack.tick_dataset_sensor()
    stack.write({"id": "fox"})
    result = stack.materialize(["clip_requests"], ["owl"])
    assert "its row was removed or renamed" in failure_text(result)
    assert "Restore the row" in failure_text(result)
