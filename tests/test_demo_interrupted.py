"""The demo, interrupted and continued."""

from __future__ import annotations

import signal
from pathlib import Path

import pytest

from sora_dagster.local.processes import wait_until
from sora_dagster.prompts.dataset import load_dataset
from sora_dagster.runware.catalogue import Catalogue
from tests.demo import (
    DEADLINE_SECONDS,
    SMALL,
    charges,
    demo,
    finish,
    manifests,
    our_processes,
)

pytestmark = pytest.mark.daemon


@pytest.mark.parametrize("end", [signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_run_leaves_no_process_and_can_be_continued(
    tmp_path: Path, end: signal.Signals
) -> None:
    prompts = tmp_path / "prompts.yaml"
    prompts.write_text(SMALL)
    with demo(tmp_path, prompts, "--latency=3") as process:
        assert wait_until(lambda: len(charges(tmp_path)) >= 2, timeout_seconds=DEADLINE_SECONDS), (
            tmp_path / "output.txt"
        ).read_text()
        process.send_signal(end)
        status = process.wait(timeout=60)
    assert status == {signal.SIGTERM: 143, signal.SIGKILL: -9}[end]
    assert wait_until(lambda: our_processes(tmp_path) == [], timeout_seconds=60), our_processes(
        tmp_path
    )
    finish(tmp_path, prompts, "--latency=1")
    dataset = load_dataset(prompts, catalogue=Catalogue.builtin())
    assert all(manifests(tmp_path, dataset).values())
    assert len({charge["taskUUID"] for charge in charges(tmp_path)}) == 3
    assert len(charges(tmp_path)) == 3
