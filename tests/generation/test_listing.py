"""The cost of a look depends on what is outstanding, not on what is stored."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from sora_dagster.generation.collecting.settings import CollectionLimits, Deadlines
from sora_dagster.generation.generator import Generator
from sora_dagster.generation.protocol import layout
from sora_dagster.generation.protocol.claims import ClaimSettings
from sora_dagster.generation.protocol.markers import markers_of, write_marker
from sora_dagster.generation.requesting.results import RequestState
from sora_dagster.prompts.clips import DEFAULT_DATASET
from sora_dagster.storage import StorageRoot
from tests.generation.large_roots import CountingRoot, filled_root
from tests.generation.requesting import clip, request_clips
from tests.sandbox_server import Sandbox

OUTSTANDING = 5


@pytest.fixture(scope="module")
def roots(sandbox: Sandbox) -> tuple[CountingRoot, CountingRoot]:
    """A small root and a large one."""
    return (
        filled_root(20, OUTSTANDING, api_base_url=sandbox.base_url),
        filled_root(3000, OUTSTANDING, api_base_url=sandbox.base_url),
    )


Costs = Callable[[Callable[[Generator], object]], tuple[dict[str, int], dict[str, int]]]


@pytest.fixture
def costs(generate: Callable[..., Generator], roots: tuple[CountingRoot, CountingRoot]) -> Costs:
    """What some act costs on the small root and on the large one."""

    def cost(act: Callable[[Generator], object], root: CountingRoot) -> dict[str, int]:
        # Claims and deadlines as in life, so that no timer adds to what is counted.
        generator = generate(root, deadlines=Deadlines(), claims=ClaimSettings())
        generator.bind()
        root.forget()
        act(generator)
        return dict(root.counts)

    def compare(act: Callable[[Generator], object]) -> tuple[dict[str, int], dict[str, int]]:
        small, large = roots
        return cost(act, small), cost(act, large)

    return compare


def look(generator: Generator) -> None:
    """Look once for what is outstanding."""
    limits = CollectionLimits(max_wait_seconds=60)
    with generator.collection(limits, holder="a test", datasets=[DEFAULT_DATASET]) as collection:
        assert collection.wait() == []
        assert len(collection.outstanding) >= OUTSTANDING


def test_a_look_of_the_collection_lists_what_is_outstanding(costs: Costs) -> None:
    small, large = costs(look)
    assert small == large
    assert large["listed"] <= 4 * OUTSTANDING


def test_asking_for_a_stored_clip_lists_that_clip(costs: Costs) -> None:
    def ask_for_it(generator: Generator) -> None:
        manifest = generator.ledger.manifest("clips", "fox", 1)
        assert manifest is not None
        [requested] = request_clips(generator, manifest.request)
        assert requested.state is RequestState.STORED

    small, large = costs(ask_for_it)
    assert small == large
    assert large["listed"] <= 2


def test_asking_for_a_new_clip_lists_that_clip(costs: Costs) -> None:
    names = iter(("new in the small root", "new in the large root"))
    small, large = costs(lambda generator: request_clips(generator, clip(next(names))))
    assert small == large
    assert large.get("listed", 0) <= 2


def test_looking_for_markers_of_one_task_never_lists_the_inbox() -> None:
    root = CountingRoot("memory://")
    for number in range(20):
        write_marker(root, DEFAULT_DATASET, f"task-{number}", b"{}")
    root.forget()
    [marker] = markers_of(root, DEFAULT_DATASET, "task-7")
    assert marker.task_uuid == "task-7"
    assert root.counts == {"list": 1, "listed": 1}
    assert list(root.listed_folders) == [layout.inbox_folder(DEFAULT_DATASET, "task-7")]


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
