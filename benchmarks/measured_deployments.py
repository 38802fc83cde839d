"""Deployments of this package and of a plain asset, whose work is measured."""

from __future__ import annotations

import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import dagster as dg

from benchmarks.deployment import Cpu, Deployment, running_deployment
from benchmarks.tiny_clips import clip_id, tiny_sandbox, write_dataset
from tests.sandbox_server import KEY, Sandbox

_FOLDER = Path(__file__).parent
_LATENCY_SECONDS = 10.0
# The dataset sensor logs 500 rows every 30 s.
_SECONDS_PER_CLIP = 2.0
_MIN_WAIT_SECONDS = 300.0
# Dagster refuses more than 10,000.
_EVENTS_AT_ONCE = 1000


@dataclass(frozen=True)
class Usage:
    """What some work took.

    Arguments:
        cpu: CPU by process.
        wall_seconds: time.
        posts: API requests by kind.
    """

    cpu: Cpu
    wall_seconds: float
    posts: Counter[str]


class Bench:
    """A deployment with a local Runware.

    Arguments:
        folder: its folder.
        deployment: its processes.
        sandbox: the local Runware.
    """

    def __init__(self, folder: Path, deployment: Deployment, sandbox: Sandbox) -> None:
        self.folder = folder
        self.deployment = deployment
        self.sandbox = sandbox
        self.storage = folder / "storage"

    def measure(self, act: Callable[[], None]) -> Usage:
        """What an action takes."""
        began, posts, cpu = time.monotonic(), self._posts(), self.deployment.cpu()
        act()
        wall = time.monotonic() - began
        return Usage(self.deployment.cpu() - cpu, wall, self._posts() - posts)

    def wait_for(self, condition: Callable[[], bool], what: str, *, clips: int = 1) -> None:
        """Wait until something holds and no run is in progress.

        Arguments:
            condition: what must hold.
            what: the same in words.
            clips: number of clips that it takes.
        """
        seconds = _MIN_WAIT_SECONDS + _SECONDS_PER_CLIP * clips
        self.deployment.wait(condition, what, timeout_seconds=seconds)

    def run_counts(self) -> Counter[str]:
        """How many runs there were, by job.

        Raises:
            RuntimeError: if one failed.
        """
        with self.deployment.instance() as instance:
            runs = instance.get_runs()
        if bad := [run for run in runs if run.status is not dg.DagsterRunStatus.SUCCESS]:
            raise RuntimeError(f"{bad[0].job_name}, run {bad[0].run_id}: {bad[0].status.value}")
        return Counter(run.job_name for run in runs)

    def check_logged(self, asset: str, clips: int) -> None:
        """Check that each clip was charged and logged exactly once.

        Raises:
            RuntimeError: if not.
        """
        with self.deployment.instance() as instance:
            partitions: list[str | None] = []
            cursor, has_more = None, True
            while has_more:
                page = instance.fetch_materializations(
                    dg.AssetKey(asset), limit=_EVENTS_AT_ONCE, cursor=cursor
                )
                partitions += [record.partition_key for record in page.records]
                cursor, has_more = page.cursor, page.has_more
        charges = len(self.sandbox.ledger()["charges"])
        if not clips == charges == len(partitions) == len(set(partitions)):
            raise RuntimeError(
                f"{clips} clips: {charges} charges, and {len(partitions)} events for "
                f"{len(set(partitions))} partitions"
            )

    def _posts(self) -> Counter[str]:
        return Counter(self.sandbox.ledger()["posts"])


class SoraDagster(Bench):
    """The code location of this package."""

    def write_rows(self, clips: int, *, new: int) -> None:
        """Give the dataset so many rows, and wait until Dagster's log has the new ones."""
        write_dataset(self.folder, clips)
        with self.deployment.instance() as instance:

            def are_logged() -> bool:
                return len(instance.get_materialized_partitions(dg.AssetKey("prompts"))) >= clips

            self.wait_for(_at_most_every(5.0, are_logged), f"{clips} rows logged", clips=new)

    def make_clips(self, clips: int, config: dict[str, Any]) -> None:
        """Launch `request_clips`, and wait until so many clips are stored in all."""
        self.deployment.launch("request_clips", {"ops": {"request": {"config": config}}})
        self.wait_for(
            _at_most_every(
                2.0, lambda: self._count("stored") >= clips and self._count("pending") == 0
            ),
            f"{clips} clips stored",
            clips=clips,
        )

    def launch_and_wait(self, job: str, config: dict[str, Any] | None = None) -> None:
        """Launch a run, and wait until it has ended."""
        ended = dg.RunsFilter(job_name=job, statuses=[dg.DagsterRunStatus.SUCCESS])
        with self.deployment.instance() as instance:
            before = instance.get_runs_count(ended)
            self.deployment.launch(job, config)
            self.wait_for(
                _at_most_every(3.0, lambda: instance.get_runs_count(ended) > before),
                f"{job} ended",
            )

    def _count(self, folder: str) -> int:
        return sum(path.is_file() for path in (self.storage / folder).rglob("*"))


class Plain(Bench):
    """The code location of plain_asset.py."""

    def make_clips(self, first: int, clips: int) -> None:
        """Backfill so many partitions, and wait for their videos."""
        names = [clip_id(number) for number in range(first, first + clips)]
        self.deployment.backfill("plain_clips", names)
        self.wait_for(
            lambda: all((self.storage / f"{name}.mp4").exists() for name in names),
            f"{clips} videos downloaded",
            clips=clips,
        )


_Kind = TypeVar("_Kind", bound=Bench)


def _at_most_every(seconds: float, condition: Callable[[], bool]) -> Callable[[], bool]:
    """A condition that is evaluated only that often, since it takes time itself."""
    evaluated_at = -seconds

    def is_met() -> bool:
        nonlocal evaluated_at
        if time.monotonic() - evaluated_at < seconds:
            return False
        evaluated_at = time.monotonic()
        return condition()

    return is_met


@contextmanager
def _running(
    kind: type[_Kind],
    code: Path,
    *,
    rows: int,
    is_pooled: bool,
    variables: Mapping[str, str] | None = None,
) -> Iterator[_Kind]:
    """A deployment with its sandbox, with so many rows in its dataset."""
    with tempfile.TemporaryDirectory(prefix="scale-") as name:
        folder = Path(name)
        environment = {
            **write_dataset(folder, rows),
            "RUNWARE_API_KEY": KEY,
            "SORA_STORAGE": str(folder / "storage"),
            "SORA_MAX_USD": "unlimited",
            **(variables or {}),
        }
        (folder / "storage").mkdir()
        with tiny_sandbox(folder, latency_seconds=_LATENCY_SECONDS) as sandbox:
            environment["RUNWARE_BASE_URL"] = sandbox.base_url
            with running_deployment(
                folder, code=code, environment=environment, is_pooled=is_pooled
            ) as deployment:
                yield kind(folder, deployment, sandbox)


@contextmanager
def running_sora_dagster(*, is_pooled: bool) -> Iterator[SoraDagster]:
    """The package, which has made one clip, so that all processes are ready."""
    code = _FOLDER.parent / "definitions.py"
    with _running(SoraDagster, code, rows=1, is_pooled=is_pooled) as bench:
        bench.write_rows(1, new=1)
        bench.make_clips(1, {"everything": True})
        yield bench


@contextmanager
def running_plain(rows: int, variables: Mapping[str, str], *, is_pooled: bool) -> Iterator[Plain]:
    """The plain asset, which has made one clip."""
    code = _FOLDER / "plain_asset.py"
    with _running(Plain, code, rows=rows, is_pooled=is_pooled, variables=variables) as bench:
        bench.make_clips(0, 1)
        yield bench
