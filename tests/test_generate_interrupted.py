"""`generate`, interrupted while its collecting run waits, and continued."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import dagster as dg
import pytest

from sora_dagster.local.processes import wait_until
from tests.command_line import api_of, clean_environment, generate
from tests.demo import DEADLINE_SECONDS, SMALL, our_processes
from tests.sandbox_server import sandbox_process

pytestmark = pytest.mark.daemon


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL])
def test_its_collecting_run_ends_with_it_and_the_next_command_goes_on(
    tmp_path: Path, end: signal.Signals
) -> None:
    folder = tmp_path / "project"
    folder.mkdir()
    (folder / "prompts.yaml").write_text(SMALL)
    with sandbox_process(tmp_path, ["--latency=6", "--reuse-rendered"]) as sandbox:
        with (tmp_path / "output.txt").open("w") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "sora_dagster", "generate", "prompts.yaml"],
                cwd=folder,
                env=clean_environment(**api_of(sandbox)),
                stdout=output,
                stderr=subprocess.STDOUT,
            )

        def is_collecting() -> bool:
            assert process.poll() is None, (tmp_path / "output.txt").read_text()
            return any(folder.rglob("claims/*/*.alive"))

        assert wait_until(is_collecting, timeout_seconds=DEADLINE_SECONDS)
        process.send_signal(end)
        assert process.wait(timeout=60) == {signal.SIGINT: 130, signal.SIGKILL: -9}[end]
        assert wait_until(lambda: our_processes(folder) == [], timeout_seconds=60), our_processes(
            folder
        )
        assert "3 clips, 3 videos" in generate(folder, sandbox)
        charges = Counter(charge["taskUUID"] for charge in sandbox.ledger()["charges"])
        assert sorted(charges.values()) == [1, 1, 1]
    [home] = folder.glob(".sora/generate/*/dagster")
    with dg.DagsterInstance.from_config(str(home)) as instance:
        statuses = Counter(
            run.status for run in instance.get_runs(dg.RunsFilter(job_name="collect_clips"))
        )
        logged = {
            asset: Counter(
                record.partition_key
                for record in instance.fetch_materializations(dg.AssetKey(asset), limit=9).records
            )
            for asset in ("clips", "remixes")
        }
    assert statuses == {dg.DagsterRunStatus.FAILURE: 1, dg.DagsterRunStatus.SUCCESS: 1}
    assert logged == {"clips": {"fox": 1, "owl": 1}, "remixes": {"fox|night": 1}}
