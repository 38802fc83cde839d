"""A Dagster run of the collecting job that was killed is followed by another."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
from pathlib import Path

import dagster as dg
import pytest

from sora_dagster.generation.protocol.claims import ClaimReader, ClaimSettings
from sora_dagster.sandbox.server import running_sandbox
from sora_dagster.sandbox.settings import SandboxSettings
from tests.dagster_face.stack import Stack
from tests.protocol.child_processes import REPOSITORY
from tests.protocol.crash_child import CLIPS, MODELS, RUN_LIMIT_USD
from tests.protocol.matrix import Matrix
from tests.protocol.test_crash_matrix import Books, command, row_of
from tests.sandbox_server import KEY, Sandbox


def test_a_collecting_run_that_was_killed_and_stays_started_is_followed_by_another(
    matrix: Matrix, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check = row_of(matrix, "a collect_clips run, while it waits")
    monkeypatch.setenv("RUNWARE_API_KEY", KEY)
    monkeypatch.setenv("DAGSTER_DISABLE_TELEMETRY", "yes")
    (tmp_path / "dagster").mkdir()
    (tmp_path / "dagster" / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    settings = SandboxSettings(latency_seconds=0.05, reuse_rendered=True)
    with (
        running_sandbox(settings) as base_url,
        dg.DagsterInstance.from_config(str(tmp_path / "dagster")) as instance,
    ):
        sandbox = Sandbox(base_url)
        stack = Stack(tmp_path, base_url, instance)
        stack.write(
            *[
                {"id": clip, "model": model, "size": "1280x720", "duration": 4}
                for clip, model in zip(CLIPS, MODELS, strict=True)
            ]
        )
        books = Books(sandbox, tmp_path / "storage", limit_usd=RUN_LIMIT_USD)
        assert stack.run_job("request_clips").success
        [dataset] = {attempt.dataset for attempt in books.attempts}
        dies_waiting = ("--collect-job", str(tmp_path), "--crash-at", "poll, after")
        run = subprocess.run(
            command(sandbox, books.storage, *dies_waiting), cwd=REPOSITORY, check=False
        )
        assert run.returncode == -signal.SIGKILL
        [killed] = instance.get_runs(dg.RunsFilter(job_name="collect_clips"))
        assert killed.status is dg.DagsterRunStatus.STARTED
        assert is_collected(books, dataset)
        assert stack.tick_completion_sensor() == []
        let_time_pass(stack, ClaimSettings().dead_seconds)
        assert not is_collected(books, dataset)
        let_time_pass(stack, 600)
        assert len(stack.tick_completion_sensor()) == 1
        assert stack.run_job("collect_clips").success
        assert stack.tick_completion_sensor() == []
        assert [len(stack.events("clips", clip)) for clip in CLIPS] == [1, 1]
        still = instance.get_run_by_id(killed.run_id)
        assert still is not None
        assert still.status is dg.DagsterRunStatus.STARTED
        check(books)


def is_collected(books: Books, dataset: str) -> bool:
    """Whether a live process has claimed the rest of a dataset."""
    root = books.ledger.root
    return ClaimReader(books.ledger, dataset, store_time=root.store_time).view().rest is not None


def let_time_pass(stack: Stack, seconds: float) -> None:
    """Make everything that the stores hold older, as their own clocks would."""
    for path in (stack.folder / "storage").rglob("*"):
        if path.is_file():
            status = path.stat()
            os.utime(path, (status.st_atime - seconds, status.st_mtime - seconds))
    with sqlite3.connect(stack.folder / "dagster" / "history" / "runs.db") as database:
        database.execute(
            "UPDATE runs SET create_timestamp = datetime(create_timestamp, :by), "
            "update_timestamp = datetime(update_timestamp, :by)",
            {"by": f"-{seconds} seconds"},
        )
