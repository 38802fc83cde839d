"""Processes that the command line starts."""

from __future__ import annotations

import signal
import sys
from pathlib import Path

import pytest

from sora_dagster.local.processes import ManagedProcess


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
