"""What a look costs follows from what is outstanding, however many clips are stored."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import dagster as dg
import pytest

from sora_dagster.generation.generator import Generator
from sora_dagster.generation.ledger import Ledger
from sora_dagster.generation.overdue import Deadlines
from sora_dagster.generation.requested import RequestState
from sora_dagster.graph import VideoGraph
from sora_dagster.jobs import build_collect_job
from sora_dagster.resources import ClipStorageResource
from sora_dagster.sensors import build_completion_sensor
from sora_dagster.storage import StorageRoot
from tests.generation.asking import ask, clip
from tests.generation.large_roots import CountingRoot, add_those_that_matter, stored_clips

OUTSTANDING = 5


@pytest.fixture(scope="module")
def small() -> CountingRoot:
    return filled_root(20)


@pytest.fixture(scope="module")
def large() -> CountingRoot:
    return filled_root(3000)


def filled_root(stored: int) -> CountingRoot:
    root = CountingRoot("memory://")
    for key, body in stored_clips(stored):
        root.write(key, body)
    return root


def counts_of(
    root: CountingRoot, generator: Generator, act: Callable[[Generator], object]
) -> dict[str, int]:
    generator.bind()
    root.counts.clear()
    act(generator)
    return dict(root.counts)


@pytest.fixture
def costs(
    generate: Callable[..., Generator], small: CountingRoot, large: CountingRoot
) -> Callable[[Callable[[Generator], object]], list[dict[str, int]]]:
    """What some act costs on the small root and on the large one."""

    def compare(act: Callable[[Generator], object]) -> list[dict[str, int]]:
        compared = []
        for root in (small, large):
            if not root.exists("root.json"):
                bind_filled(generate(root))
            compared.append(counts_of(root, generate(root, deadlines=Deadlines()), act))
        return compared

    return compare


def bind_filled(generator: Generator) -> None:
    """Bind a root that is filled already, as no root is in life, and add what is outstanding."""
    root = generator.ledger.root
    other = Generator(generator.client, StorageRoot("memory://"))
    other.bind()
    root.write("root.json", other.ledger.root.read("root.json"))
    add_those_that_matter(Ledger(root), OUTSTANDING)


Costs = Callable[[Callable[[Generator], object]], list[dict[str, int]]]


def test_a_look_of_the_collector_lists_what_is_outstanding(costs: Costs) -> None:
    small, large = costs(lambda generator: generator.collector().look())
    assert small == large
    assert large["listed"] <= 4 * OUTSTANDING


def test_asking_for_a_stored_clip_lists_that_clip(costs: Costs) -> None:
    def ask_for_it(generator: Generator) -> None:
        manifest = generator.ledger.manifest("clips", "fox", 1)
        assert manifest is not None
        [requested] = ask(generator, manifest.request)
        assert requested.state is RequestState.STORED

    small, large = costs(ask_for_it)
    assert small == large
    assert large["listed"] <= 2


def test_asking_for_a_new_clip_lists_that_clip(costs: Costs) -> None:
    names = iter(("new in the small root", "new in the large root"))
    small, large = costs(lambda generator: ask(generator, clip(next(names))))
    assert small == large
    assert large.get("listed", 0) <= 2


def test_a_tick_of_the_completion_sensor_lists_what_is_outstanding(
    costs: Costs, tmp_path: Path
) -> None:
    graph = VideoGraph(tmp_path / "prompts.yaml")
    sensor = build_completion_sensor(graph, build_collect_job(graph), poll_after_seconds=0)

    def tick(generator: Generator) -> None:
        storage = _Given(url="memory://")
        _Given.given = generator.ledger.root
        with (
            dg.instance_for_test() as instance,
            dg.build_sensor_context(
                instance=instance, resources={"clip_storage": storage}
            ) as context,
        ):
            assert len(sensor.evaluate_tick(context).run_requests or ()) == 1

    small, large = costs(tick)
    assert small == large
    assert large["listed"] <= 2 * OUTSTANDING


@pytest.mark.parametrize("scheme", ["file", "memory", "s3"])
def test_a_listing_can_begin_after_a_key(
    scheme: str, request: pytest.FixtureRequest, tmp_path: Path
) -> None:
    url: Any = {"file": tmp_path / "listed", "memory": "memory://", "s3": None}[scheme]
    root = StorageRoot(url or request.getfixturevalue("s3_url"))
    for number in range(1, 13):
        root.write(f"log/day/{number:04}", b"")
    root.write("log/other day/0001", b"")
    found = sorted(info.key for info in root.list("log/day", after="log/day/0010"))
    assert found == ["log/day/0011", "log/day/0012"]
    assert list(root.list("log/day", after="log/day/0012")) == []


class _Given(ClipStorageResource):
    """The resource, with a root that is there already."""

    # Dagster copies resources, and a root in memory must not be copied.
    given: ClassVar[StorageRoot | None] = None

    def root(self) -> StorageRoot:
        assert self.given is not None
        return self.given
