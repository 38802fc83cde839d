"""The services of deploy/compose.yaml make clips, and each of them may be killed while they do."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import dagster as dg
import pytest
import yaml

from sora_dagster.dataset import remix_partition
from sora_dagster.generation.protocol.ledger import Ledger
from sora_dagster.local.processes import wait_until
from sora_dagster.storage import StorageRoot
from tests.deploy.topology import Topology, running_topology
from tests.postgres_server import running_postgres

pytestmark = pytest.mark.daemon

CLIPS = [f"clip-{number:02d}" for number in range(12)]
MODELS = [
    {
        "air": "tests:tiny@1",
        "name": "tiny",
        "sizes": {"tiny": ["160x90"]},
        "default_size": "160x90",
        "durations": {"values": [1], "default": 1},
        "inputs": {"videoId": {}},
        "rules": [{"exactly_one_of": ["inputs.videoId", "size"]}],
        "remix": {"remix": {"input": "videoId", "result_length": "parent"}},
        "prices": {"certainty": "published", "rates": [{"usd_per_second": 0.3}]},
    }
]
# A killed collecting run counts as dead after 100 s; then the sensor starts another.
DONE_SECONDS = 420
# Compose waits for 10 s; here the machine may be busy with other tests.
TERMINATION_SECONDS = 30


class Books:
    """What a topology paid for, stored and logged."""

    def __init__(self, topology: Topology) -> None:
        self._topology = topology
        self.ledger = Ledger(StorageRoot("s3://clips/sora"))

    def stored(self) -> int:
        """How many clips and remixes are stored."""
        return sum(key.endswith("/clip.json") for key in self._keys("clips"))

    def pending(self) -> list[str]:
        """What is still outstanding."""
        return self._keys("pending")

    def charges(self) -> Counter[str]:
        """How often each task was charged."""
        return Counter(charge["taskUUID"] for charge in self._topology.sandbox.ledger()["charges"])

    def _keys(self, folder: str) -> list[str]:
        return [entry.key for entry in self.ledger.root.list(folder)]


def test_each_service_is_killed_and_every_clip_is_paid_stored_and_logged_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "models.yaml").write_text(yaml.safe_dump(MODELS))
    clips = [{"id": clip, "prompt": f"a {clip}", "recipes": ["night"]} for clip in CLIPS]
    prompts = {"clips": clips, "recipes": {"night": "the same at night"}}
    (tmp_path / "prompts.yaml").write_text(yaml.safe_dump(prompts))
    variables = {
        "SORA_PROMPTS": str(tmp_path / "prompts.yaml"),
        "SORA_MODELS": str(tmp_path / "models.yaml"),
        "SORA_MODEL": "tiny",
    }
    options = ("--latency=4", "--reuse-rendered", f"--models={tmp_path / 'models.yaml'}")
    with (
        running_postgres() as database,
        running_topology(
            tmp_path, database, variables=variables, sandbox_options=options
        ) as topology,
    ):
        for name, value in topology.environment("code").items():
            monkeypatch.setenv(name, value)
        books = Books(topology)
        config = {"ops": {"request": {"config": {"everything": True}}}}
        topology.launch("request_clips", config)
        wait(topology, lambda: len(books.charges()) == len(CLIPS), "the clips are requested")
        for name in ("receiver-1", "daemon"):
            topology.kill(name)
        topology.start("daemon")
        wait(topology, lambda: books.stored() >= 2, "clips are stored")
        topology.kill("code")
        topology.kill("webserver")
        topology.kill("sandbox")
        topology.kill_database()
        for name in ("sandbox", "receiver-1", "code", "webserver"):
            topology.start(name)
        wait(topology, lambda: len(books.charges()) > len(CLIPS), "remixes are requested")
        topology.kill("receiver-2")
        topology.start("receiver-2")
        wait(
            topology,
            lambda: books.stored() == 2 * len(CLIPS) and not books.pending(),
            "all is stored",
        )
        charges = books.charges()
        assert set(charges.values()) == {1}
        assert len(charges) == 2 * len(CLIPS)
        remixes = [remix_partition(clip, "night") for clip in CLIPS]
        with dg.DagsterInstance.get() as instance:
            assert logged(instance, "clips") == Counter(CLIPS)
            assert logged(instance, "remixes") == Counter(remixes)
        for name in ("webserver", "receiver-2", "sandbox", "daemon", "code"):
            assert topology.terminate(name, seconds=TERMINATION_SECONDS), name


def logged(instance: dg.DagsterInstance, asset: str) -> Counter[str | None]:
    """How often Dagster's log has each partition of an asset."""
    records = instance.fetch_materializations(dg.AssetKey(asset), limit=1000).records
    return Counter(record.partition_key for record in records)


def wait(topology: Topology, condition: Callable[[], bool], what: str) -> None:
    """Wait until something holds; the logs of all processes say why it does not."""
    is_met = wait_until(
        condition,
        timeout_seconds=DONE_SECONDS,
        # Each look lists the bucket.
        sleep=lambda _seconds: time.sleep(0.5),
    )
    assert is_met, f"{what}: {topology.logs()}"
