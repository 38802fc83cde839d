"""`generate`, interrupted while its collecting run waits, and continued."""

from __future__ import annotations

import signal
from collections import Counter
from pathlib import Path

import dagster as dg
import pytest
import yaml

from sora_dagster.local.processes import wait_until
from tests.command_line import api_of, generate, started
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
        with started(folder, "generate", "prompts.yaml", **api_of(sandbox)) as process:

            def is_collecting() -> bool:
                assert process.poll() is None, (folder / "output.txt").read_text()
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


def test_nothing_more_is_bought_after_a_signal(tmp_path: Path) -> None:
    folder = tmp_path / "project"
    folder.mkdir()
    # Three submissions: a run sends 20 clips in one POST.
    rows = [{"id": f"clip-{number}", "prompt": f"clip {number}"} for number in range(60)]
    (folder / "prompts.yaml").write_text(yaml.safe_dump({"clips": rows}))
    with sandbox_process(tmp_path, ["--latency=1", "--reuse-rendered"]) as sandbox:
        # The first submission is accepted, and its answer never comes.
        sandbox.set_faults({"fault": "no_answer", "event": "submission"})
        environment = {**api_of(sandbox), "SORA_MAX_USD": "unlimited"}
        with started(folder, "generate", "prompts.yaml", **environment) as process:
            assert wait_until(lambda: any(sandbox.struck()), timeout_seconds=DEADLINE_SECONDS), (
                folder / "output.txt"
            ).read_text()
            process.send_signal(signal.SIGTERM)
            # Less than the minute that a submission may take to be answered.
            assert process.wait(timeout=40) == 143
        assert wait_until(lambda: our_processes(folder) == [], timeout_seconds=60)
        assert len(sandbox.charged()) == 20
        sandbox.set_faults()
        assert "60 clips" in generate(folder, sandbox, "--max-usd=unlimited")
        charges = Counter(charge["taskUUID"] for charge in sandbox.ledger()["charges"])
        assert set(charges.values()) == {1}
        assert len(charges) == 60
