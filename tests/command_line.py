"""The command line as people start it: a separate process with a clean environment."""

from __future__ import annotations

import contextlib
import errno
import io
import os
import pty
import re
import signal
import subprocess
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path

import pytest

from sora_dagster.cli.main import main
from tests.sandbox_server import KEY, Sandbox

_ESCAPE_SEQUENCE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def clean_environment(**variables: str) -> dict[str, str]:
    """The environment of this process without variables of the package and of Dagster.

    Arguments:
        variables: added to it.
    """
    inherited = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("SORA_", "RUNWARE_", "DAGSTER_"))
    }
    return {**inherited, **variables}


@contextlib.contextmanager
def started(
    folder: Path,
    *arguments: str,
    module: str = "sora_dagster",
    **environment: str,
) -> Iterator[subprocess.Popen[str]]:
    """A command that runs in a folder; ended with the block if it has not ended before.

    Arguments:
        folder: where it runs; what it prints is added to `output.txt` there.
        arguments: of the command.
        module: the Python module that is the command.
        environment: environment variables.
    """
    with (folder / "output.txt").open("a") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", module, *arguments],
            cwd=folder,
            env=clean_environment(**environment),
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def run(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run the command in a folder, with nothing of ours in its environment but what is given."""
    return subprocess.run(
        [sys.executable, "-m", "sora_dagster", *arguments],
        cwd=folder,
        env=clean_environment(**environment),
        capture_output=True,
        text=True,
        # Only ends a command that hangs.
        timeout=400,
        check=False,
    )


def run_here(folder: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a command that starts no process, in this one: it takes a tenth of the time.

    Arguments:
        folder: where it runs.
        arguments: of the command.
        environment: environment variables.
    """
    stdout, stderr = io.StringIO(), io.StringIO()
    with (
        pytest.MonkeyPatch.context() as process,
        contextlib.redirect_stdout(stdout),
        contextlib.redirect_stderr(stderr),
        _kept_signals(),
    ):
        for name in set(os.environ) - set(clean_environment()):
            process.delenv(name)
        for name, value in environment.items():
            process.setenv(name, value)
        process.chdir(folder)
        process.setattr(sys, "argv", ["sora-dagster", *arguments])
        try:
            main()
        except SystemExit as end:
            status = end.code if isinstance(end.code, int) else 1
        except Exception:  # noqa: BLE001 - as Python shows it where the command is a process
            traceback.print_exc()
            status = 1
    return subprocess.CompletedProcess(arguments, status, stdout.getvalue(), stderr.getvalue())


@contextlib.contextmanager
def _kept_signals() -> Iterator[None]:
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def api_of(sandbox: Sandbox) -> dict[str, str]:
    """Environment variables that select a sandbox."""
    return {"RUNWARE_API_KEY": KEY, "RUNWARE_BASE_URL": sandbox.base_url}


def generate(folder: Path, sandbox: Sandbox, *arguments: str) -> str:
    """Generate `prompts.yaml` without a terminal; gives what was printed."""
    result = run(folder, "generate", "prompts.yaml", *arguments, **api_of(sandbox))
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


def generate_on_a_terminal(folder: Path, sandbox: Sandbox, answer: str) -> str:
    """Generate `prompts.yaml` on a terminal and answer the question; gives what it shows."""
    status, screen = run_on_a_terminal(
        folder, "generate", "prompts.yaml", answer=answer, **api_of(sandbox)
    )
    text = _ESCAPE_SEQUENCE.sub("", screen)
    assert status == 0, text
    return text


def run_on_a_terminal(
    folder: Path, *arguments: str, answer: str = "", columns: int = 200, **environment: str
) -> tuple[int, str]:
    """Run the command on a terminal; gives its exit status and what it shows, with colors.

    Arguments:
        folder: where it runs.
        arguments: of the command.
        answer: answer to its question.
        columns: width of the terminal.
        environment: environment variables.
    """
    ours, theirs = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-m", "sora_dagster", *arguments],
        cwd=folder,
        env=clean_environment(**environment, COLUMNS=str(columns), TERM="xterm"),
        stdin=theirs,
        stdout=theirs,
        stderr=theirs,
    )
    os.close(theirs)
    screen, is_answered = b"", False
    try:
        while part := _read_terminal(ours):
            screen += part
            if not is_answered and b"[y/N]" in screen:
                os.write(ours, f"{answer}\n".encode())
                is_answered = True
        return process.wait(timeout=60), screen.decode().replace("\r\n", "\n")
    finally:
        os.close(ours)
        process.kill()


def _read_terminal(descriptor: int) -> bytes:
    """What is shown next; empty once all processes at the terminal have ended."""
    try:
        return os.read(descriptor, 65536)
    except OSError as error:
        if error.errno != errno.EIO:
            raise
        return b""
