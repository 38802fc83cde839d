"""A team's way: the wheel in a new environment, a `dg` project, two datasets, the daemon."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import sysconfig
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import dagster as dg
import pytest
import yaml

from sora_dagster.generation.library.removed_rows import RemovedRows
from sora_dagster.generation.protocol.ledger import Ledger
from sora_dagster.local.processes import running, wait_until
from sora_dagster.storage import StorageRoot
from tests.sandbox_server import KEY, sandbox_process

pytestmark = pytest.mark.daemon

REPOSITORY = Path(__file__).parent.parent
CLIP = {"model": "veo-3.1", "duration": 4}
# In the folder of the project: in that of this checkout, its package would be imported.
DAEMON = """
import os, sys

os.chdir({folder!r})
sys.argv = ["dagster-daemon", "run", "-m", "team.definitions"]
from dagster._daemon.cli import main

main()
"""
BRIEFS = """
import dagster as dg


@dg.asset
def briefs() -> list[dict[str, object]]:
    return [{"id": "harbor", "prompt": "A harbor at dawn", "model": "veo-3.1", "duration": 4}]
"""


@dataclass(frozen=True)
class Project:
    """A `dg` project in an environment of its own, in which the wheel is installed."""

    python: Path
    folder: Path
    variables: Mapping[str, str]

    def run(self, module: str, *arguments: str) -> str:
        """Run a command of another package, by the module of its `main`."""
        package, _, name = module.partition(":")
        code = f"import sys; from {package} import {name}; sys.argv[0] = 'dg'; {name}()"
        return self.execute("-c", code, *arguments)

    def execute(self, *arguments: str) -> str:
        done = subprocess.run(
            [str(self.python), *arguments],
            cwd=self.folder,
            env={**os.environ, **self.variables},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
        return done.stdout + done.stderr

    def dagster(self, *arguments: str) -> str:
        return self.execute("-m", "dagster", *arguments, "-m", "team.definitions")

    def launch(self, job: str, op: str, **config: object) -> None:
        run_config = {"ops": {op: {"config": config}}}
        self.dagster("job", "launch", "-j", job, "--config-json", json.dumps(run_config))


def new_environment(folder: Path) -> Path:
    """An environment with the wheel; other packages are those of this one."""
    for command in (
        ["build", "--wheel", "--no-isolation", "--outdir", str(folder / "dist"), str(REPOSITORY)],
        ["venv", "--without-pip", str(folder / "env")],
    ):
        subprocess.run(
            [sys.executable, "-m", *command], check=True, capture_output=True, timeout=300
        )
    python = folder / "env" / "bin" / "python"
    [packages] = (folder / "env" / "lib").glob("python*/site-packages")
    # A path, whose own .pth files do not count: the editable package of this checkout is not seen.
    (packages / "others.pth").write_text(sysconfig.get_path("purelib"))
    [wheel] = (folder / "dist").glob("*.whl")
    subprocess.run(
        [sys.executable, "-m", "pip", "--python", str(python), "install", "--no-deps", "--quiet",
         "--no-index", "--ignore-installed", str(wheel)],
        check=True, timeout=300,
    )  # fmt: skip
    return python


def write_component(project: Project, name: str, attributes: dict[str, object]) -> None:
    path = project.folder / "src" / "team" / "defs" / name / "defs.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    component = {"type": "sora_dagster.VideoDatasetComponent", "attributes": attributes}
    path.write_text(yaml.safe_dump(component))


def wait(condition: Callable[[], bool]) -> None:
    assert wait_until(condition, timeout_seconds=300)


def make_database(path: Path) -> Callable[[str], None]:
    connection = sqlite3.connect(path)

    def execute(statement: str) -> None:
        with connection:
            connection.execute(statement)

    execute("CREATE TABLE prompts (id, prompt, model, duration, recipes)")
    execute("INSERT INTO prompts VALUES ('fox', 'A fox in the snow', 'veo-3.1', 4, 'night')")
    execute("INSERT INTO prompts VALUES ('owl', 'An owl at dusk', 'veo-3.1', 4, NULL)")
    return execute


def test_the_way_of_a_team(tmp_path: Path) -> None:
    python = new_environment(tmp_path)
    (tmp_path / "dagster").mkdir()
    (tmp_path / "dagster" / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    execute = make_database(tmp_path / "warehouse.sqlite")
    with sandbox_process(tmp_path, ["--latency=1"]) as sandbox:
        variables = {
            "PYTHONPATH": str(tmp_path / "team" / "src"),
            "DAGSTER_HOME": str(tmp_path / "dagster"),
            "RUNWARE_API_KEY": KEY,
            "RUNWARE_BASE_URL": sandbox.base_url,
            "SORA_STORAGE": str(tmp_path / "storage"),
            "WAREHOUSE_URL": f"sqlite:///{tmp_path / 'warehouse.sqlite'}",
        }
        start = Project(python, tmp_path, variables)
        start.run("create_dagster.cli:main", "project", "--no-uv-sync", "team")
        project = Project(python, tmp_path / "team", variables)

        where = project.execute("-c", "import sora_dagster; print(sora_dagster.__file__)")
        assert where.startswith(str(tmp_path / "env"))

        # The scaffolded component loads as it is.
        assert "sora_dagster.VideoDatasetComponent" in project.run(
            "dagster_dg_cli.cli:main", "list", "components", "--json"
        )
        project.run(
            "dagster_dg_cli.cli:main",
            "scaffold", "defs", "sora_dagster.VideoDatasetComponent", "ads",
        )  # fmt: skip
        project.run("dagster_dg_cli.cli:main", "check", "yaml")
        project.run("dagster_dg_cli.cli:main", "check", "defs")

        # Two datasets: one of a table, with remixes by edit; one of an upstream asset.
        write_component(
            project,
            "ads",
            {
                "source": {
                    "sql": {
                        "url": {"env": "WAREHOUSE_URL"},
                        "query": "SELECT * FROM prompts",
                        "version_query": "SELECT group_concat(id) FROM prompts",
                    },
                    "recipes": {
                        "night": {
                            "prompt": "The same at night", "model": "aleph-2.0", "mode": "edit"
                        }
                    },
                },
                "name": "ads",
                "checks": {"blocking": ["not_black"]},
            },
        )  # fmt: skip
        write_component(
            project,
            "films",
            {
                "source": {"asset": "briefs"},
                "name": "films",
                "checks": {"exclude": ["not_silent"]},
                "resource_prefix": "films",
                "runware": {"max_usd_per_run": 0.01},
            },
        )
        (project.folder / "src" / "team" / "defs" / "briefs.py").write_text(BRIEFS)
        root = StorageRoot(tmp_path / "storage")
        ledger = Ledger(root)
        with (
            running(
                "the Dagster daemon",
                [str(python), "-c", DAEMON.format(folder=str(project.folder))],
                environment=variables,
                log_path=tmp_path / "daemon.log",
            ),
            dg.DagsterInstance.from_config(str(tmp_path / "dagster")) as instance,
        ):
            project.launch("ads_request_clips", "ads_request", everything=True)
            project.dagster("asset", "materialize", "--select", "briefs")
            # The upstream asset alone updates the partitions of its dataset.
            wait(lambda: instance.get_dynamic_partitions("films_clips") == ["harbor"])
            project.launch("films_request_clips", "films_request", clip_ids=["harbor"])
            wait(
                lambda: any(
                    run.job_name == "films_request_clips" and run.is_finished
                    for run in instance.get_runs()
                )
            )
            # Its own limit stopped it, and not that of the other dataset.
            assert not ledger.takes("films/clips", "harbor")
            project.launch("films_request_clips", "films_request", clip_ids=["harbor"], max_usd=40)
            clips = [
                ("ads/clips", "fox"),
                ("ads/clips", "owl"),
                ("ads/remixes", "fox|night"),
                ("films/clips", "harbor"),
            ]
            wait(
                lambda: all(
                    instance.fetch_materializations(
                        dg.AssetRecordsFilter(
                            asset_key=dg.AssetKey(asset.split("/")), asset_partitions=[clip]
                        ),
                        limit=1,
                    ).records
                    for asset, clip in clips
                )
            )
            # A row that goes is marked, and its clip stays.
            execute("DELETE FROM prompts WHERE id = 'owl'")
            wait(lambda: "owl" in RemovedRows(root).of_asset("ads/clips"))

        tasks = set()
        for asset, clip in clips:
            manifest = ledger.latest_manifest(asset, clip)
            assert manifest is not None
            tasks.add(manifest.task_uuid)
        assert sandbox.charged() == tasks
        assert len(sandbox.ledger()["charges"]) == 4
        assert list(root.list("pending")) == []
