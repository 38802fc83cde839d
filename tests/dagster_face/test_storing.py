"""How an asset run stores its clips: several at once, each paid for once, and none lost."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import dagster as dg
import pytest

from sora_dagster.clip_stream import ClipStream
from sora_dagster.generation.archive import ClipArchive, FinishedTask, ReadyTask
from sora_dagster.generation.generator import Generator
from sora_dagster.generation.records import ClipManifest
from sora_dagster.generation.spending_log import BudgetEntry
from sora_dagster.io_manager import ClipIOManager
from sora_dagster.processes import wait_until
from sora_dagster.sandbox.faults.plan import read_fault_plan
from sora_dagster.sandbox.server import running_sandbox
from sora_dagster.sandbox.settings import SandboxSettings
from sora_dagster.storage import StorageRoot
from tests.dagster_face.stack import RANGE_END, RANGE_START, Stack, failure_text
from tests.generation.asking import ask, clip, quick_generator
from tests.sandbox_server import Sandbox

CLIPS = ["clip-0", "clip-1", "clip-2", "clip-3", "clip-4", "clip-5"]
SECONDS = 60.0


@pytest.fixture
def finished(sandbox: Sandbox, root: StorageRoot) -> Iterator[Generator]:
    """A generator whose six clips are finished at Runware, and not stored."""
    with quick_generator(sandbox.base_url, root) as generator:
        asked = ask(generator, *map(clip, CLIPS))
        tasks = [str(requested.task_uuid) for requested in asked]
        assert wait_until(
            lambda: all(status.is_over(1) for status in generator.client.poll(tasks).values()),
            timeout_seconds=SECONDS,
        )
        yield generator


def stream(generator: Generator, stored: list[str], warnings: list[str]) -> ClipStream:
    main_thread = threading.current_thread()

    def on_stored(manifest: ClipManifest) -> None:
        assert threading.current_thread() is main_thread
        stored.append(manifest.clip)

    return ClipStream(
        generator,
        asset="clips",
        clips=CLIPS,
        timeout_seconds=SECONDS,
        on_stored=on_stored,
        on_end=lambda failures: None,
        on_warning=warnings.append,
    )


def test_as_many_clips_as_allowed_are_stored_at_once(
    finished: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, at_once = ClipArchive.store, threading.Barrier(3)
    lock, now, most = threading.Lock(), 0, 0

    def store_with_two_others(archive: ClipArchive, ready: ReadyTask) -> FinishedTask:
        nonlocal now, most
        with lock:
            now += 1
            most = max(most, now)
        at_once.wait(SECONDS)
        try:
            return store(archive, ready)
        except BaseException:
            at_once.abort()
            raise
        finally:
            with lock:
                now -= 1

    monkeypatch.setattr(ClipArchive, "store", store_with_two_others)
    stored: list[str] = []
    given = list(stream(finished, stored, []).store(parallel_clips=3))
    assert most == 3
    assert sorted(stored) == sorted(arrival.clip for arrival in given) == CLIPS


def test_a_consumer_that_stops_leaves_the_others_to_the_next(finished: Generator) -> None:
    stored: list[str] = []
    arrivals = stream(finished, stored, []).store(parallel_clips=1)
    first = next(arrivals)
    arrivals.close()
    assert stored == [first.clip]
    # None was closed, so that whoever collects next logs what this one stored.
    assert len(finished.ledger.pending()) == len(CLIPS)
    assert len(list(stream(finished, stored, []).store(parallel_clips=4))) == len(CLIPS)
    assert sorted(set(stored)) == CLIPS


def test_an_asset_run_settles_each_task_once(stack: Stack) -> None:
    stack.write({"id": "fox"}, {"id": "owl"}, {"id": "yak"})
    stack.tick_dataset_sensor()
    assert stack.materialize(["clip_requests", "clips"], ["fox", "yak"]).success
    settled: dict[bool, list[str]] = {True: [], False: []}
    for info in stack.root.list("budget"):
        is_of_run = info.key.startswith("budget/runs/")
        entry = BudgetEntry.model_validate_json(stack.root.read(info.key))
        settled[is_of_run] += entry.costs_usd
    tasks = sorted(
        stack.ledger.takes("clips", clip_id)[-1].latest.task_uuid
        for clip_id in ("fox", "owl", "yak")
    )
    assert (sorted(settled[True]), sorted(settled[False])) == (tasks, tasks)


def materialize(stack: Stack, **settings: Any) -> dg.ExecuteInProcessResult:
    """Materialize three clips with an IO manager of these settings."""
    definitions = stack.definitions
    resources = dict(definitions.resources or {})
    manager = ClipIOManager(storage=resources["clip_storage"], **settings)
    return (
        dg.Definitions(definitions.assets, resources={**resources, "clip_io_manager": manager})
        .resolve_implicit_global_asset_job_def()
        .execute_in_process(
            instance=stack.instance,
            asset_selection=[dg.AssetKey("clip_requests"), dg.AssetKey("clips")],
            tags={RANGE_START: "fox", RANGE_END: "yak"},
            raise_on_error=False,
        )
    )


def test_a_run_in_which_fetching_fails_too_often_ends_and_the_next_stores_everything(
    stack: Stack,
) -> None:
    # The first run meets one to three of them, the second the rest.
    gone = {"fault": "download_gone", "times": 4, "status": 404}
    settings = SandboxSettings(
        latency_seconds=0,
        latency_step_seconds=0,
        reuse_rendered=True,
        faults=read_fault_plan({"rules": [gone]}),
    )
    with running_sandbox(settings) as stack.base_url:
        stack.write({"id": "fox"}, {"id": "owl"}, {"id": "yak"})
        stack.tick_dataset_sensor()
        first = materialize(stack, max_fetch_failures=1)
        assert not first.success
        assert "404" in failure_text(first)
        assert list(stack.root.list("pending"))
        second = materialize(stack, max_fetch_failures=100)
    assert second.success, failure_text(second)
    logged = [entry.user_message for entry in stack.instance.all_logs(second.run_id)]
    assert any("could not be stored yet and is tried again" in message for message in logged)
    for clip_id in ("fox", "owl", "yak"):
        assert stack.events("clips", clip_id)
    assert list(stack.root.list("pending")) == []
