"""Runs on one machine; the store, the database, the receiver and Runware on another one."""

from __future__ import annotations

import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import dagster as dg
import httpx
import pytest
import yaml

from sora_dagster.dataset import remix_partition
from sora_dagster.local.processes import ManagedProcess, running, wait_for_http, wait_until
from sora_dagster.storage import StorageRoot
from tests.command_line import api_of, clean_environment
from tests.deploy import durable_s3
from tests.deploy.tiny_dataset import RECIPE, write_tiny_dataset
from tests.deploy.topology import DEPLOY, ROOT
from tests.network import SecondMachine, second_machine
from tests.postgres_server import running_postgres
from tests.s3_server import make_bucket, s3_environment
from tests.sandbox_server import Sandbox, free_port

pytestmark = pytest.mark.daemon

CLIPS = [f"clip-{number}" for number in range(6)]
# Shorter than what the clients of the store, of Postgres and of Runware try again for.
CUT_SECONDS = 5.0
DONE_SECONDS = 240
SECRET = "of-the-test-of-two-machines"


@contextmanager
def services(
    folder: Path, machine: SecondMachine, models: str
) -> Iterator[tuple[Sandbox, dict[str, str]]]:
    """Store, database, sandbox and receiver; gives the sandbox and the settings to use them."""
    ports = {name: free_port() for name in ("s3", "sandbox", "receiver")}
    urls = {name: f"http://{machine.address}:{port}" for name, port in ports.items()}
    storage = s3_environment(urls["s3"]) | {
        "SORA_STORAGE": "s3://clips/sora",
        "SORA_WEBHOOK_SECRET": SECRET,
    }
    ours = [sys.executable, "-m", "sora_dagster"]
    commands = {
        "s3": [sys.executable, durable_s3.__file__, f"--file={folder / 's3'}"],
        "sandbox": [*ours, "sandbox", "--latency=2", "--reuse-rendered", f"--models={models}"],
        "receiver": [*ours, "webhook"],
    }
    paths = {"s3": "/moto-api/data.json", "sandbox": "/sandbox/ledger", "receiver": "/livez"}
    with ExitStack() as stack:
        for name, command in commands.items():
            address = [f"--host={machine.address}", f"--port={ports[name]}"]
            process = stack.enter_context(
                running(
                    name,
                    [*machine.prefix, *command, *address],
                    environment=storage,
                    log_path=folder / f"{name}.log",
                )
            )
            wait_for_http(urls[name] + paths[name], process, timeout_seconds=120)
            if name == "s3":
                make_bucket(urls["s3"], "clips")
        database = stack.enter_context(
            running_postgres(address=machine.address, prefix=machine.prefix)
        )
        sandbox = Sandbox(f"{urls['sandbox']}/v1")
        yield (
            sandbox,
            {
                **storage,
                **api_of(sandbox),
                "SORA_WEBHOOK_URL": f"{urls['receiver']}/runware",
                "DAGSTER_POSTGRES_URL": database.url,
            },
        )


def test_runs_need_the_network_only_and_survive_a_cable_that_is_cut_for_seconds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = tmp_path / "dagster"
    home.mkdir()
    shutil.copy(DEPLOY / "dagster.yaml", home)
    dataset = write_tiny_dataset(tmp_path, CLIPS)
    with (
        second_machine() as machine,
        services(tmp_path, machine, dataset["SORA_MODELS"]) as (sandbox, settings),
    ):
        for name, value in {**settings, "DAGSTER_HOME": str(home)}.items():
            monkeypatch.setenv(name, value)
        environment = clean_environment(**dataset, **settings, DAGSTER_HOME=str(home))
        execute = [
            *(sys.executable, "-m", "dagster", "job", "execute"),
            *("-f", str(ROOT / "definitions.py"), "-j"),
        ]
        (tmp_path / "run.yaml").write_text(
            yaml.safe_dump({"ops": {"request": {"config": {"everything": True}}}})
        )
        requested = subprocess.run(
            [*execute, "request_clips", "-c", str(tmp_path / "run.yaml")],
            env=environment,
            capture_output=True,
            text=True,
            timeout=DONE_SECONDS,
            check=False,
        )
        assert requested.returncode == 0, requested.stdout + requested.stderr
        run = ManagedProcess(
            "the run",
            [*execute, "collect_clips"],
            environment=environment,
            log_path=tmp_path / "run.log",
        )
        root = StorageRoot("s3://clips/sora")

        def stored() -> int:
            return sum(info.key.endswith("/clip.json") for info in root.list("clips"))

        assert wait_until(lambda: stored() > 0, timeout_seconds=DONE_SECONDS), run.last_output()
        machine.cut()
        time.sleep(CUT_SECONDS)
        assert not run.has_ended, run.last_output()
        machine.join()
        assert wait_until(lambda: run.has_ended, timeout_seconds=DONE_SECONDS), run.last_output()
        assert run.wait() == 0, run.last_output(lines=60)
        assert stored() == 2 * len(CLIPS)
        assert list(root.list("pending")) == []
        charges = Counter(charge["taskUUID"] for charge in sandbox.ledger()["charges"])
        assert set(charges.values()) == {1}
        assert len(charges) == 2 * len(CLIPS)
        receiver = settings["SORA_WEBHOOK_URL"].removesuffix("/runware")
        metrics = httpx.get(f"{receiver}/metrics").text
        assert 'sora_dagster_webhooks_accepted_total{as="marker"}' in metrics
        remixes = [remix_partition(clip, RECIPE) for clip in CLIPS]
        with dg.DagsterInstance.get() as instance:
            for asset, partitions in {"clips": CLIPS, "remixes": remixes}.items():
                records = instance.fetch_materializations(dg.AssetKey(asset), limit=1000).records
                assert Counter(record.partition_key for record in records) == Counter(partitions)
