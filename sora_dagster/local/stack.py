"""The processes of a local run: sandbox, webhook receiver, jobs, Dagster daemon and UI."""

from __future__ import annotations

import os
import secrets
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path

from sora_dagster.local.code_location import job_arguments, workspace_arguments
from sora_dagster.local.home import LocalHome
from sora_dagster.local.processes import ManagedProcess, ProcessError, running
from sora_dagster.settings import Settings

_HOST = "127.0.0.1"
_SANDBOX_KEY = "sandbox-key"
_READY_PREFIX = "listening on "


@contextmanager
def local_runware(
    home: LocalHome,
    settings: Settings,
    *,
    latency_seconds: float,
    storage_url: str | None = None,
) -> Iterator[tuple[Settings, Mapping[str, str]]]:
    """A sandbox, a webhook receiver and a viewer, which run while the block does.

    Arguments:
        home: folder for logs, the sandbox's files and the clips.
        settings: dataset and limits; its API, storage root and webhook are replaced.
        latency_seconds: how long the sandbox takes for a video.
        storage_url: storage root of the clips. None: a folder of the home.

    Yields:
        Settings that use these processes, and their secrets as environment variables.

    Raises:
        ProcessError: if a process does not start.
    """
    home.prepare()
    environment = {
        "RUNWARE_API_KEY": _SANDBOX_KEY,
        "SORA_WEBHOOK_SECRET": secrets.token_urlsafe(32),
    }
    variables = dict(environment)
    with ExitStack() as stack:

        def start(name: str, command: str, *arguments: str) -> ManagedProcess:
            program = [sys.executable, "-m", "sora_dagster", command, f"--host={_HOST}"]
            return stack.enter_context(
                running(
                    name,
                    [*program, *arguments],
                    environment=variables,
                    log_path=home.log_path(command),
                )
            )

        sandbox = start(
            "the sandbox",
            "sandbox",
            f"--port={home.port('sandbox', _HOST)}",
            f"--latency={latency_seconds}",
            f"--data-dir={home.folder / 'sandbox'}",
            *([f"--models={settings.models_path}"] if settings.models_path else []),
        )
        settings = settings.updated(
            base_url=sandbox.wait_for_line(_READY_PREFIX),
            storage_url=storage_url or home.storage.as_uri(),
        )
        variables |= settings.to_environment()
        receiver = start("the webhook receiver", "webhook", "--port=0")
        viewer = start("the viewer", "viewer", f"--port={home.port('viewer', _HOST)}")
        yield (
            settings.updated(
                webhook_url=receiver.wait_for_line(_READY_PREFIX),
                viewer_url=viewer.wait_for_line(_READY_PREFIX),
            ),
            environment,
        )


def dagster_daemon(
    home: LocalHome, environment: Mapping[str, str]
) -> AbstractContextManager[ManagedProcess]:
    """The Dagster daemon on the code location, which runs while the block does."""
    return _dagster(home, environment, "the Dagster daemon", "daemon", "dagster-daemon", "run")


def dagster_ui(
    home: LocalHome, environment: Mapping[str, str], *, host: str, port: int
) -> AbstractContextManager[ManagedProcess]:
    """The Dagster UI and daemon on the code location, which run while the block does."""
    options = (f"--host={host}", f"--port={port}")
    return _dagster(home, environment, "the Dagster UI", "ui", "dagster", "dev", *options)


def job_command(job: str) -> list[str]:
    """The command that executes a job of the code location in a process.

    Arguments:
        job: name of the job.

    Raises:
        ProcessError: if Dagster's command is not installed.
    """
    return [_script("dagster"), "job", "execute", *job_arguments(), f"--job={job}"]


def _dagster(
    home: LocalHome,
    environment: Mapping[str, str],
    name: str,
    log_name: str,
    script: str,
    command: str,
    *options: str,
) -> AbstractContextManager[ManagedProcess]:
    return running(
        name,
        [_script(script), command, *workspace_arguments(), *options],
        environment={**environment, "DAGSTER_HOME": str(home.dagster_home)},
        log_path=home.log_path(log_name),
    )


def _script(name: str) -> str:
    """Path of a command that is installed next to this Python.

    Raises:
        ProcessError: if it is not installed.
    """
    search = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    found = shutil.which(name, path=search)
    if found is None:
        raise ProcessError(f'{name} is not installed. Install with: pip install "sora-dagster[ui]"')
    return found
