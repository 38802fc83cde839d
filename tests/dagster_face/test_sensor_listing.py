"""The cost of a tick depends on what is outstanding, not on what is stored."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import dagster as dg

from sora_dagster.dataset import VideoDataset
from sora_dagster.jobs.collect import build_collect_job
from sora_dagster.resources import ClipStorageResource
from sora_dagster.sensors import build_completion_sensor
from sora_dagster.storage import StorageRoot
from tests.generation.large_roots import filled_root

OUTSTANDING = 5


def test_a_tick_of_the_completion_sensor_lists_what_is_outstanding(tmp_path: Path) -> None:
    dataset = VideoDataset(tmp_path / "prompts.yaml")
    sensor = build_completion_sensor(dataset, build_collect_job(dataset), poll_after_seconds=0)
    costs = []
    for stored in (20, 3000):
        root = filled_root(stored, OUTSTANDING, api_base_url="https://api.example.com/v1")
        _Given.given = root
        storage = _Given(url="memory://")
        root.forget()
        with (
            dg.instance_for_test() as instance,
            dg.build_sensor_context(
                instance=instance, resources={"clip_storage": storage}
            ) as context,
        ):
            assert len(sensor.evaluate_tick(context).run_requests or ()) == 1
        costs.append(dict(root.counts))
    small, large = costs
    assert small == large
    assert large["listed"] <= 2 * OUTSTANDING


class _Given(ClipStorageResource):
    """The resource, with a root that is there already."""

    # Dagster copies resources, and a root in memory must not be copied.
    given: ClassVar[StorageRoot | None] = None

    def root(self) -> StorageRoot:
        assert self.given is not None
        return self.given
