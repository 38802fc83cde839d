"""A run worker, started as Dagster's launchers for containers start it, gets SIGTERM."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections import Counter
from pathlib import Path

import dagster as dg
import pytest
from dagster._core.definitions.reconstruct import ReconstructableRepository
from dagster._grpc.types import ExecuteRunArgs

from sora_dagster.dataset import remix_partition
from sora_dagster.generation.protocol.claims import ClaimReader
from sora_dagster.generation.protocol.ledger import Ledger
from sora_dagster.local.processes import running, wait_until
from sora_dagster.prompts.clips import DEFAULT_DATASET
from sora_dagster.storage import StorageRoot
from tests.command_line import api_of, clean_environment
from tests.deploy.tiny_dataset import RECIPE, write_tiny_dataset
from tests.sandbox_server import sandbox_process

pytestmark = pytest.mark.daemon

DEFINITIONS = Path(__file__).parent.parent.parent / "definitions.py"
CLIPS = [f"clip-{number}" for number in range(6)]
# More than the 10 s that are promised, and less than the minute in which a host may answer.
TERMINATION_SECONDS = 40
# What the runs wait for when they get SIGTERM: the first for its polls, the others for downloads.
WAITS = [
    {"fault": "no_answer", "event": "poll"},
    {"fault": "no_answer", "event": "download"},
    {"fault": "download_slow", "bytes_per_second": 1, "prompt_contains": RECIPE},
]


def test_collecting_runs_that_get_sigterm_end_soon_and_the_next_one_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "dagster"
    home.mkdir()
    dataset = write_tiny_dataset(tmp_path, CLIPS)
    options = ["--latency=2", "--reuse-rendered", f"--models={dataset['SORA_MODELS']}"]
    with sandbox_process(tmp_path, options) as sandbox:
        root = StorageRoot(tmp_path / "storage")
        settings = {
            **dataset,
            **api_of(sandbox),
            "SORA_STORAGE": root.url,
            "DAGSTER_HOME": str(home),
        }
        for name in set(os.environ) - set(clean_environment()):
            monkeypatch.delenv(name)
        for name, value in settings.items():
            monkeypatch.setenv(name, value)
        repository = ReconstructableRepository.for_file(str(DEFINITIONS), fn_name="defs")
        request = repository.get_reconstructable_job("request_clips").get_definition()
        collect = repository.get_reconstructable_job("collect_clips")
        with dg.DagsterInstance.get() as instance:
            assert request.execute_in_process(
                instance=instance,
                run_config={"ops": {"request": {"config": {"everything": True}}}},
            ).success
            ledger = Ledger(root)
            claims = ClaimReader(ledger, DEFAULT_DATASET, store_time=root.store_time)
            for wait in WAITS:
                sandbox.set_faults(wait)
                run = instance.create_run_for_job(
                    collect.get_definition(), job_code_origin=collect.get_python_origin()
                )
                arguments = ExecuteRunArgs(
                    collect.get_python_origin(), run.run_id, instance.get_ref()
                ).get_command_args()
                with running(
                    "the run worker",
                    [str(Path(sys.executable).parent / arguments[0]), *arguments[1:]],
                    environment={},
                    log_path=tmp_path / "worker.log",
                ) as worker:
                    assert wait_until(lambda: any(sandbox.struck()), timeout_seconds=240), (
                        worker.last_output()
                    )
                    os.killpg(worker.pid, signal.SIGTERM)
                    started = time.monotonic()
                    assert wait_until(lambda: worker.has_ended, timeout_seconds=TERMINATION_SECONDS)
                    print(f"{wait}: ended after {time.monotonic() - started:.1f} s")
                assert instance.get_run_by_id(run.run_id).status is dg.DagsterRunStatus.FAILURE
                view = claims.view()
                assert (view.rest, dict(view.tasks)) == (None, {})

            def stored(asset: str) -> int:
                return sum(info.key.endswith("/clip.json") for info in root.list(f"clips/{asset}"))

            assert stored("clips") > 0
            assert stored("remixes") == 0
            sandbox.set_faults()
            assert collect.get_definition().execute_in_process(instance=instance).success
            assert (stored("clips"), stored("remixes")) == (len(CLIPS), len(CLIPS))
            assert list(root.list("pending")) == []
            remixes = [remix_partition(clip, RECIPE) for clip in CLIPS]
            for asset, partitions in {"clips": CLIPS, "remixes": remixes}.items():
                records = instance.fetch_materializations(dg.AssetKey(asset), limit=1000).records
                assert Counter(record.partition_key for record in records) == Counter(partitions)
        charges = Counter(charge["taskUUID"] for charge in sandbox.ledger()["charges"])
        assert set(charges.values()) == {1}
        assert len(charges) == 2 * len(CLIPS)
