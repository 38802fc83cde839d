"""Runs on Celery workers, as docs/how-to/deploy.md says; one is killed in the middle."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import dagster as dg
import pytest
import yaml

from sora_dagster.dataset import remix_partition
from sora_dagster.local.processes import ManagedProcess, wait_until
from tests.command_line import api_of, clean_environment
from tests.deploy.tiny_dataset import RECIPE, write_tiny_dataset
from tests.redis_server import running_redis
from tests.sandbox_server import sandbox_process

pytestmark = pytest.mark.daemon

PAGE = (Path(__file__).parent.parent.parent / "docs/how-to/deploy.md").read_text()
PROGRAMS = Path(sys.executable).parent
CLIPS = [f"clip-{number}" for number in range(6)]
# After this time without a sign of life, another process takes over.
DEAD_SECONDS = 100
DONE_SECONDS = 240


class Deployment:
    """A folder with the files of the page.

    Arguments:
        folder: the folder.
        settings: environment variables of every process.
    """

    def __init__(self, folder: Path, settings: dict[str, str]) -> None:
        self.folder = folder
        self.home = folder / "dagster"
        self.home.mkdir()
        path = f"{PROGRAMS}{os.pathsep}{os.environ['PATH']}"
        self.environment = clean_environment(**settings, DAGSTER_HOME=str(self.home), PATH=path)
        section = PAGE.partition("\n## Celery\n")[2].partition("\n## ")[0]
        for name, language in {"definitions.py": "python", "celery.yaml": "yaml"}.items():
            [text] = re.findall(rf"```{language}\n(.*?)```", section, flags=re.DOTALL)
            (folder / name).write_text(text)
        [worker] = re.findall(r"^dagster-celery worker start .*$", section, re.MULTILINE)
        self._worker = shlex.split(worker)

    def start_worker(self, number: int) -> ManagedProcess:
        """Start a worker with the command of the page, and wait until it takes steps."""
        log_path = self.folder / f"worker-{number}.log"
        worker = self._start("worker", self._worker, log_path)

        def is_ready() -> bool:
            worker.check()
            return "ready." in log_path.read_text()

        assert wait_until(is_ready, timeout_seconds=120), worker.last_output()
        return worker

    def start_job(self, job: str) -> ManagedProcess:
        """Start the run of a job."""
        return self._start(job, self._run_of(job), self.folder / f"{job}.log")

    def execute(self, job: str, config: dict[str, object] | None = None) -> None:
        """Run a job to its end."""
        (self.folder / "run.yaml").write_text(yaml.safe_dump(config or {}))
        result = subprocess.run(
            [*self._run_of(job), "-c", "run.yaml"],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=DONE_SECONDS,
            check=False,
        )
        assert result.returncode == 0, result.stdout + result.stderr

    def stored(self) -> int:
        """How many clips and remixes are stored."""
        return len(list((self.folder / "storage" / "clips").rglob("clip.json")))

    def let_time_pass(self, seconds: float) -> None:
        """Set the signs of life of all processes back, by the clock of the store."""
        for sign in (self.folder / "storage" / "claims").rglob("*.alive"):
            then = time.time() - seconds
            os.utime(sign, (then, then))

    def _start(self, name: str, command: Sequence[str], log_path: Path) -> ManagedProcess:
        return ManagedProcess(
            name,
            ["env", "-C", str(self.folder), *command],
            environment=self.environment,
            log_path=log_path,
        )

    @staticmethod
    def _run_of(job: str) -> list[str]:
        return ["dagster", "job", "execute", "-f", "definitions.py", "-j", job]


def test_a_killed_worker_costs_nothing_and_every_clip_is_stored_and_logged_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = write_tiny_dataset(tmp_path, CLIPS)
    options = ["--latency=2", "--reuse-rendered", f"--models={dataset['SORA_MODELS']}"]
    with running_redis(tmp_path) as redis_url, sandbox_process(tmp_path, options) as sandbox:
        settings = {
            **dataset,
            **api_of(sandbox),
            "SORA_STORAGE": str(tmp_path / "storage"),
            "CELERY_BROKER": f"{redis_url}/0",
            "CELERY_BACKEND": f"{redis_url}/1",
        }
        deployment = Deployment(tmp_path, settings)
        worker = deployment.start_worker(1)
        deployment.execute("request_clips", {"ops": {"request": {"config": {"everything": True}}}})
        run = deployment.start_job("collect_clips")
        assert wait_until(lambda: deployment.stored() > 0, timeout_seconds=DONE_SECONDS), (
            run.last_output() + worker.last_output()
        )
        os.killpg(worker.pid, signal.SIGKILL)
        worker.end()
        # The step is lost with the worker, and the run would wait for it.
        run.end()
        assert deployment.stored() < 2 * len(CLIPS)
        deployment.let_time_pass(DEAD_SECONDS)
        worker = deployment.start_worker(2)
        deployment.execute("collect_clips")
        worker.end()
        assert deployment.stored() == 2 * len(CLIPS)
        charges = Counter(charge["taskUUID"] for charge in sandbox.ledger()["charges"])
        assert set(charges.values()) == {1}
        assert len(charges) == 2 * len(CLIPS)
    pending = tmp_path / "storage" / "pending"
    assert [path for path in pending.rglob("*") if path.is_file()] == []
    monkeypatch.setenv("DAGSTER_HOME", str(deployment.home))
    remixes = [remix_partition(clip, RECIPE) for clip in CLIPS]
    with dg.DagsterInstance.get() as instance:
        for asset, partitions in {"clips": CLIPS, "remixes": remixes}.items():
            records = instance.fetch_materializations(dg.AssetKey(asset), limit=1000).records
            assert Counter(record.partition_key for record in records) == Counter(partitions)
        steps = [
            entry.message
            for run_record in instance.get_run_records()
            for entry in instance.all_logs(run_record.dagster_run.run_id)
            if "in celery worker" in entry.message
        ]
        assert len(steps) == 3
