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
from tests.dagster_face.stack import Stack
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
