"""What a tick of the dataset sensor costs, by the number of rows.

    python -m benchmarks.dataset_ticks
    python -m benchmarks.dataset_ticks --rows 100 1000 --images 0

Each size has its own dataset and Dagster instance (SQLite). Ticks log the rows until none is left;
then one without changes, one after a changed row, and one with a lost cursor. CPU time includes
Dagster's. The last column is the ratio to reading and checking the dataset once, in the same run.
"""

from __future__ import annotations

import argparse
import itertools
import json
import logging
import os
import resource
import tempfile
import time
from pathlib import Path
from typing import Any

import dagster as dg
from PIL import Image

from sora_dagster.dataset import VideoDataset
from sora_dagster.resources import ClipStorageResource
from sora_dagster.sensors import build_dataset_sensor

_IMAGE_SIZE = (1280, 720)


class Ticks:
    """Evaluates the sensor of a dataset tick by tick, as the daemon does.

    Arguments:
        dataset: the dataset.
        instance: the Dagster instance.
        folder: the storage root.
        read_seconds: CPU time of reading the dataset once, in seconds.
    """

    def __init__(
        self, dataset: VideoDataset, instance: dg.DagsterInstance, folder: Path, read_seconds: float
    ) -> None:
        self._sensor = build_dataset_sensor(dataset)
        self._instance = instance
        self._storage = ClipStorageResource(url=str(folder))
        self._read_seconds = read_seconds
        self.cursor: str | None = None

    def tick(self, name: str, rows: int) -> bool:
        """Evaluate one tick, apply its result, and print its row; False if the cursor stays."""
        before = self.cursor
        cpu, wall = time.process_time(), time.monotonic()
        with dg.build_sensor_context(
            instance=self._instance,
            cursor=self.cursor,
            resources={"clip_storage": self._storage},
        ) as context:
            data = self._sensor.evaluate_tick(context)
        cpu, wall = time.process_time() - cpu, time.monotonic() - wall
        for request in data.dynamic_partitions_requests or ():
            self._instance.add_dynamic_partitions(
                request.partitions_def_name, list(request.partition_keys)
            )
        for event in data.asset_events:
            self._instance.report_runless_asset_event(event)
        self.cursor = data.cursor or self.cursor
        events = len(data.asset_events)
        print(
            f"| {rows:,} | {name} | {cpu:.2f} | {wall:.2f} | {events} | "
            f"{len(self.cursor or ''):,} | {cpu / self._read_seconds:.2f} |",
            flush=True,
        )
        return self.cursor != before


def measure(rows: int, images: int, folder: Path) -> None:
    """Measure the ticks of a dataset."""
    folder.mkdir()
    path = folder / "prompts.jsonl"
    names = [f"{number}.png" for number in range(images)]
    for name in names:
        # Of noise, so that it stays as large as it is.
        Image.frombytes("RGB", _IMAGE_SIZE, os.urandom(3 * _IMAGE_SIZE[0] * _IMAGE_SIZE[1])).save(
            folder / name
        )

    def row(number: int, prompt: str) -> dict[str, Any]:
        frame = {"first_frame": names[number]} if number < images else {}
        return {"id": f"clip-{number}", "prompt": prompt, "model": "veo-3.1", "duration": 8} | frame

    def write(changed: int = 0) -> None:
        lines = [
            json.dumps(row(number, f"Scene {number}{', at night' if number < changed else ''}"))
            for number in range(rows)
        ]
        path.write_text("\n".join(lines))

    write()
    dataset = VideoDataset(path)
    started = time.process_time()
    dataset.load_prompts()
    read_seconds = time.process_time() - started
    print(f"| {rows:,} | the dataset is read | {read_seconds:.2f} | | | | 1.00 |", flush=True)
    with dg.instance_for_test() as instance:
        ticks = Ticks(dataset, instance, folder / "storage", read_seconds)
        ticks.tick("first", rows)
        for number in itertools.count(2):
            if not ticks.tick(str(number), rows):
                break
        write(changed=1)
        ticks.tick("one row changed", rows)
        ticks.cursor = None
        ticks.tick("the cursor is lost", rows)
        while ticks.tick("the same, goes on", rows):
            pass


def main() -> None:
    """Measure all sizes, each in an own folder."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rows", type=int, nargs="+", default=[1000, 5000, 20000])
    parser.add_argument("--images", type=int, default=60, help="first frames of 2.8 MB each")
    arguments = parser.parse_args()
    logging.getLogger("dagster").setLevel(logging.WARNING)
    print("| rows | tick | CPU s | s | events | bytes of cursor | to reading |")
    print("| ---: | --- | ---: | ---: | ---: | ---: | ---: |")
    with tempfile.TemporaryDirectory() as folder:
        for rows in arguments.rows:
            measure(rows, min(rows, arguments.images), Path(folder) / str(rows))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(f"\nlargest memory of the process: {peak:.0f} MB")


if __name__ == "__main__":
    main()
