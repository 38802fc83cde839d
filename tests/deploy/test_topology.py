"""The services of deploy/compose.yaml make clips while each of them is killed."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import dagster as dg
import pytest

from sora_dagster.dataset import remix_partition
from sora_dagster.generation.protocol.ledger import Ledger
from sora_dagster.local.processes import wait_until
from sora_dagster.storage import StorageRoot
from tests.deploy.tiny_dataset import RECIPE, write_tiny_dataset
from tests.deploy.topology import Topology, running_topology
from tests.postgres_server import running_postgres

pytestmark = pytest.mark.daemon

CLIPS = [f"clip-{number:02d}" for number in range(40)]
# A killed collecting run counts as dead after 100 s by the clock of the store. The store comes back
# with a clock that is so far ahead, so that the test does not wait for it.
LATER = ["--clock-ahead=100"]
DONE_SECONDS = 420
# Compose waits for 10 s; here the machine may be busy with other tests.
TERMINATION_SECONDS = 60


class Books:
    """What a topology paid for, stored and logged, and what was killed meanwhile.

    Arguments:
        topology: the topology.
    """

    def __init__(self, topology: Topology) -> None:
        self._topology = topology
        self._started = time.monotonic()
        self._kills: list[tuple[str, ...]] = []
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

    def logged(self, asset: str) -> Counter[str | None]:
        """How often Dagster's log has each partition of an asset."""
        with dg.DagsterInstance.get() as instance:
            records = instance.fetch_materializations(dg.AssetKey(asset), limit=1000).records
        return Counter(record.partition_key for record in records)

    def note(self, what: str) -> None:
        """Note the state at an event, for the table."""
        seconds = time.monotonic() - self._started
        events = self.logged("clips").total() + self.logged("remixes").total()
        numbers = (self.charges().total(), self.stored(), events)
        self._kills.append((f"{seconds:.0f} s", what, *map(str, numbers)))

    def kill(self, name: str) -> None:
        """Kill a process while clips are outstanding, and note the state before."""
        assert self.pending(), f"nothing was outstanding when {name} was to be killed"
        self.note(name)
        self._topology.kill(name)

    def kill_and_start(self, name: str, options: Sequence[str] = ()) -> None:
        """Kill a process, and start it again."""
        self.kill(name)
        if name != "postgres":
            self._topology.start(name, options=options)

    def table(self) -> str:
        """What was killed when, and what was charged, stored and logged by then."""
        rows = [("time", "killed", "charges", "clips stored", "events"), *self._kills]
        return "\n".join(f"| {' | '.join(row)} |" for row in [rows[0], ("---",) * 5, *rows[1:]])

    def _keys(self, folder: str) -> list[str]:
        return [entry.key for entry in self.ledger.root.list(folder)]


def test_each_service_is_killed_and_every_clip_is_paid_stored_and_logged_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    variables = write_tiny_dataset(tmp_path, CLIPS)
    options = ("--latency=4", "--reuse-rendered", f"--models={variables['SORA_MODELS']}")
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
        books.kill("receiver-1")
        books.kill_and_start("daemon")
        books.kill_and_start("viewer")
        wait(topology, lambda: books.stored() >= 2, "clips are stored")
        # The run workers are processes of the code location's container.
        for name in ("code", "sandbox", "webserver", "postgres"):
            books.kill_and_start(name)
        books.kill_and_start("s3", LATER)
        topology.start("receiver-1")
        wait(topology, lambda: len(books.charges()) > len(CLIPS), "remixes are requested")
        books.kill_and_start("receiver-2")
        books.kill_and_start("s3", LATER)
        wait(
            topology,
            lambda: books.stored() == 2 * len(CLIPS) and not books.pending(),
            "all is stored",
        )
        books.note("(end)")
        print(f"\n{books.table()}")
        charges = books.charges()
        assert set(charges.values()) == {1}
        assert len(charges) == 2 * len(CLIPS)
        assert books.logged("clips") == Counter(CLIPS)
        assert books.logged("remixes") == Counter(remix_partition(clip, RECIPE) for clip in CLIPS)
        # The daemon first, so that no run starts. A run that is terminated has a test of its own.
        ended = topology.terminate("daemon", seconds=TERMINATION_SECONDS)
        wait(topology, lambda: not topology.has_run_workers, "the last runs end")
        services = ("webserver", "receiver-2", "viewer", "sandbox")
        ended |= topology.terminate(*services, seconds=TERMINATION_SECONDS)
        # Dagster's server does not end if one of its runs ended while Postgres was away: its thread
        # that looks after runs is gone, and SIGTERM waits for it. docs/how-to/deploy.md says so.
        topology.kill("code")
        topology.start("code")
        ended |= topology.terminate("code", seconds=TERMINATION_SECONDS)
        print({name: f"ended after {seconds:.1f} s" for name, seconds in ended.items()})
        assert set(ended) == {"daemon", *services, "code"}


def wait(topology: Topology, condition: Callable[[], bool], what: str) -> None:
    """Wait until something holds; the logs of all processes say why it does not."""
    is_met = wait_until(
        condition,
        timeout_seconds=DONE_SECONDS,
        # Each look lists the bucket.
        sleep=lambda _seconds: time.sleep(0.5),
    )
    assert is_met, f"{what}: {topology.logs()}"
