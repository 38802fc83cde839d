"""Whatever an object store does to a request: nothing is paid twice, and nothing paid is lost."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, Literal

import pytest

from sora_dagster.generation.protocol.record_folder import stuck_folder
from sora_dagster.generation.resolve import retry_stuck
from sora_dagster.prompts.clips import DEFAULT_DATASET
from sora_dagster.storage import StorageError
from tests.protocol.families import Family, with_families
from tests.protocol.faulty_sandbox import FaultySandbox
from tests.protocol.invariants import check_invariants
from tests.protocol.matrix import NO_VIOLATIONS, Matrix
from tests.protocol.row import Story
from tests.protocol.scenario import QUICK, Scenario, clip
from tests.s3_server import make_bucket, s3_client, s3_environment
from tests.store_faults import FaultyStore, StoreFault, faulty_store

# More than obstore tries a request, with our settings.
MANY = 8
KINDS = {
    "root": r"/root\.json$",
    "slot": r"/slots/",
    "sent": r"/sent-1\.json$",
    "seen": r"/seen\.json$",
    "pending": r"/pending/",
    "run budget": r"/budget/runs/",
    "day budget": r"/budget/\d",
    "video": r"\.mp4$",
    "manifest": r"/clip\.json$",
    "outcome": r"/outcome-0\.json$",
}


@dataclass(frozen=True)
class StoreRow:
    """A row of the matrix.

    Arguments:
        name: what goes wrong.
        fault: makes the fault.
        says: part of the message, where the run must fail; None where it may succeed.
        delivery: how the video comes into the store.
    """

    name: str
    fault: Callable[[], StoreFault]
    says: str | None = None
    delivery: Literal["direct", "download"] = "download"


def lost_answer(kind: str) -> StoreRow:
    return StoreRow(
        f"store: answer to the PUT of {kind} lost",
        lambda: StoreFault(None, methods="PUT", key=KINDS[kind], count=1),
    )


def slow_down(kind: str) -> StoreRow:
    return StoreRow(
        f"store: SlowDown for the PUT of {kind}",
        lambda: StoreFault("SlowDown", 503, methods="PUT", key=KINDS[kind], count=MANY),
        says="overloaded",
    )


def expired_after(kind: str) -> StoreRow:
    return StoreRow(
        f"store: credentials expire after the PUT of {kind}",
        lambda: StoreFault("ExpiredToken", 400, since=KINDS[kind]),
        says="expired",
    )


ROWS = [
    *map(lost_answer, KINDS),
    *map(slow_down, ("sent", "seen", "run budget", "day budget", "video", "outcome")),
    StoreRow(
        "store: SlowDown twice for everything",
        lambda: StoreFault("SlowDown", 503, count=2),
    ),
    *map(expired_after, ("root", "pending", "sent", "video", "manifest")),
    StoreRow(
        "store: answer to the copy of an upload lost",
        lambda: StoreFault(None, methods="PUT", key=KINDS["video"], count=1),
        delivery="direct",
    ),
    StoreRow(
        "store: an upload may not be copied",
        lambda: StoreFault("AccessDenied", methods="PUT", key=KINDS["video"]),
        says="refuses",
        delivery="direct",
    ),
    StoreRow(
        "store: the bucket is gone when the video comes",
        lambda: StoreFault("NoSuchBucket", 404, methods="PUT POST", key=KINDS["video"]),
        says="bucket does not exist",
    ),
    StoreRow(
        "store: the manifest may not be written",
        lambda: StoreFault("AccessDenied", 403, methods="PUT", key=KINDS["manifest"]),
        says="refuses",
    ),
]
WITH_FAMILIES = with_families(
    ROWS, fixed=lambda row: (), kinds=lambda row: [f"{row.fault().code} {row.delivery}"]
)


@pytest.fixture(scope="module")
def store(s3_endpoint: str) -> Iterator[FaultyStore]:
    with faulty_store(s3_endpoint) as running:
        yield running


@pytest.fixture
def on_s3(
    faulty: FaultySandbox,
    store: FaultyStore,
    s3_endpoint: str,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Scenario]:
    """A scenario whose root lies behind the proxy, in a bucket of its own."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    for name, value in s3_environment(store.endpoint).items():
        monkeypatch.setenv(name, value)
    store.faults.clear()
    scenario = Scenario(faulty, f"s3://{make_bucket(s3_endpoint)}/clips")
    yield scenario
    store.faults.clear()
    scenario.close()


def request_and_collect(scenario: Scenario) -> list[str]:
    """A run as a user starts it; gives what its two halves say of the store."""
    errors: list[str] = []
    steps: list[Callable[[], Any]] = [
        lambda: scenario.request(scenario.generator(), clip()),
        lambda: errors.extend(collect_once(scenario)),
    ]
    for step in steps:
        try:
            step()
        except StorageError as error:
            errors.append(str(error))
    return errors


def collect_once(scenario: Scenario) -> list[str]:
    """A collecting run; gives why it set clips aside."""
    with scenario.collection(scenario.generator()) as collection:
        while not collection.is_done:
            scenario.take_ended(collection)
    return list(collection.report.stuck.values())


@pytest.mark.parametrize(
    ("row", "family"),
    WITH_FAMILIES,
    ids=[f"{row.name.replace(' ', '-')}-{family}" for row, family in WITH_FAMILIES],
)
def test_a_fault_of_the_store_costs_nothing_twice_and_loses_nothing(
    row: StoreRow,
    family: Family,
    on_s3: Scenario,
    store: FaultyStore,
    s3_endpoint: str,
    matrix: Matrix,
) -> None:
    fault = row.fault()
    on_s3.family = family
    on_s3.settings = replace(QUICK, delivery=row.delivery)
    store.faults.append(fault)
    errors = request_and_collect(on_s3)
    assert fault.struck, "nothing struck"
    if row.says is not None:
        assert any(row.says in error for error in errors), errors

    store.faults.clear()
    on_s3.request(on_s3.generator(), clip())
    ledger = on_s3.ledger()
    if stuck_folder(ledger, DEFAULT_DATASET).read():
        retry_stuck(ledger, "clips", "fox")
    on_s3.run_until_quiet()
    assert Story(on_s3).manifest().videos
    assert len(on_s3.charges()) == 1
    bucket = on_s3.root_url.split("/")[2]
    assert "Uploads" not in s3_client(s3_endpoint).list_multipart_uploads(Bucket=bucket)
    violations = check_invariants(on_s3, may_leave_files=True)
    matrix.record(f"{row.name} ({family})", violations)
    assert violations == NO_VIOLATIONS
