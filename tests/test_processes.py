"""Processes that the command line starts."""

from __future__ import annotations

import signal
import sys
from pathlib import Path
from weakref import WeakSet

import pytest

from sora_dagster.local import processes as processes_module
from sora_dagster.local.processes import ManagedProcess, terminate_all


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere, nothing runs before the program")
def test_a_process_of_a_command_in_the_background_can_be_stopped(tmp_path: Path) -> None:
    # Shells have background commands ignore SIGINT.
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        code = "import signal; print(signal.getsignal(signal.SIGINT).__name__)"
        process = ManagedProcess(
            "python", [sys.executable, "-c", code], environment={}, log_path=tmp_path / "log"
        )
    finally:
        signal.signal(signal.SIGINT, before)
    assert process.wait() == 0
    assert process.last_output() == "default_int_handler"


def test_several_stubborn_processes_are_ended_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Not those of other tests.
    monkeypatch.setattr(processes_module, "_processes", WeakSet())
    code = "import signal, time; signal.signal(15, signal.SIG_IGN); print('up', flush=True)\n"
    processes = [
        ManagedProcess(
            f"python {number}",
            [sys.executable, "-c", f"{code}time.sleep(600)"],
            environment={},
            log_path=tmp_path / f"{number}.log",
        )
        for number in range(3)
    ]
    for process in processes:
        process.wait_for_line("up")
    terminate_all()
    for process in processes:
        process.end(grace_seconds=0.2)
        assert process.wait() == -signal.SIGKILL
