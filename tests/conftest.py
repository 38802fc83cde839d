"""Fixtures that tests of several floors use."""

from __future__ import annotations

import gc
import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import certifi
import pytest
from hypothesis import HealthCheck
from hypothesis import settings as hypothesis_settings
from playwright.sync_api import Browser

from sora_dagster.generation.protocol.ledger import Ledger
from sora_dagster.storage import StorageRoot
from tests.browser import running_browser
from tests.s3_server import make_bucket, running_s3, s3_environment
from tests.sandbox_server import Sandbox, sandbox_process
from tests.store_faults import FaultyStore, faulty_store

# How long an example takes is the machine's affair, and says nothing of the code.
hypothesis_settings.register_profile(
    "untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow]
)
hypothesis_settings.load_profile("untimed")


# Loading thousands of tests leaves no garbage.
gc.disable()

_MEMORY_DISK = Path("/dev/shm")
_MEMORY_DISK_BYTES = 8 * 2**30


def pytest_configure(config: pytest.Config) -> None:
    """Put temporary folders in memory where there is room: SQLite waits for the disk otherwise."""
    if config.option.basetemp is not None or not os.access(_MEMORY_DISK, os.W_OK):
        return
    if shutil.disk_usage(_MEMORY_DISK).free >= _MEMORY_DISK_BYTES:
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(_MEMORY_DISK))


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Spread the files with daemons among the first of the others.

    Beside one of them, which keeps a core busy, the others wait for their timers and servers.
    """
    files: dict[Path, list[pytest.Item]] = {}
    for item in items:
        files.setdefault(item.path, []).append(item)
    with_daemons = [file for file in files.values() if any(map(_has_daemon, file))]
    others = [file for file in files.values() if not any(map(_has_daemon, file))]
    # Those with daemons take as long as all others together; none of them is the last to start.
    between = int(len(others) * 0.7 / max(len(with_daemons), 1))
    ordered: list[list[pytest.Item]] = []
    for number, file in enumerate(with_daemons):
        ordered += [file, *others[number * between : (number + 1) * between]]
    ordered += others[len(with_daemons) * between :]
    items[:] = [item for file in ordered for item in file]


def _has_daemon(item: pytest.Item) -> bool:
    return item.get_closest_marker("daemon") is not None


def pytest_collection_finish() -> None:
    """Look for garbage again, but not in the tests and modules, which stay."""
    gc.freeze()
    gc.enable()


@pytest.fixture(scope="session", autouse=True)
def _one_authority(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Let HTTP clients trust one certificate authority only.

    Each client reads the list of authorities when it is made, and nearly no connection of the tests
    is encrypted: a list of some hundred took 25 ms, thousands of times.
    """
    ending = "-----END CERTIFICATE-----"
    authorities = Path(certifi.where()).read_text(encoding="utf-8")
    short_list = tmp_path_factory.mktemp("authorities") / "authority.pem"
    short_list.write_text(authorities.partition(ending)[0] + ending + "\n", encoding="utf-8")
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("SSL_CERT_FILE", str(short_list))
        yield


@dataclass
class ManualClock:
    """A clock that is moved by hand."""

    now: datetime = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now

    def move(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def root(tmp_path: Path) -> StorageRoot:
    return StorageRoot(tmp_path / "storage")


@pytest.fixture
def ledger(root: StorageRoot) -> Ledger:
    ledger = Ledger(root)
    ledger.bind(api_base_url="https://api.example.com/v1", account="account-1")
    return ledger


@pytest.fixture(scope="session")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    """One quick sandbox for all tests; storage roots differ, and so do their task UUIDs."""
    with sandbox_process(
        tmp_path_factory.mktemp("sandbox"), ["--latency=0.3", "--reuse-rendered"]
    ) as running_sandbox:
        yield running_sandbox


@pytest.fixture(scope="session")
def s3_endpoint() -> Iterator[str]:
    """One S3 server for all tests; buckets differ."""
    with running_s3() as endpoint:
        yield endpoint


@pytest.fixture
def s3_url(s3_endpoint: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """A storage root in a new bucket, and the environment to use it."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in s3_environment(s3_endpoint).items():
        monkeypatch.setenv(name, value)
    return f"s3://{make_bucket(s3_endpoint)}/some/prefix"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A headless Chromium; where there is none, its tests are skipped."""
    with running_browser() as running:
        yield running


@pytest.fixture
def watched(
    s3_endpoint: str, s3_url: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[FaultyStore]:
    """The S3 server behind a proxy that notes who asks for what, and breaks it on request."""
    with faulty_store(s3_endpoint) as store:
        monkeypatch.setenv("AWS_ENDPOINT_URL", store.endpoint)
        yield store
