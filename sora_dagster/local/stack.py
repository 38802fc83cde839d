"""The processes of a local run: sandbox, webhook receiver, Dagster daemon and UI."""

from __future__ import annotations

import os
import secrets
import shutil
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from sora_dagster.local.home import LocalHome
from sora_dagster.local.processes import ManagedProcess, ProcessError, running
from sora_dagster.settings import Settings

_HOST = "127.0.0.1"
_SANDBOX_KEY = "sandbox-key"


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
    command = [sys.executable, "-m", "sora_dagster"]
    with ExitStack() as stack:
        sandbox = stack.enter_context(
            running(
                "the sandbox",
                [
                    *command,
                    "sandbox",
                    f"--host={_HOST}",
                    "--port=0",
                    f"--latency={latency_seconds}",
                    f"--data-dir={home.folder / 'sandbox'}",
                ],
                environment=environment,
                log_path=home.log_path("sandbox"),
            )
        )
        base_url = sandbox.wait_for_line("listening on ")
        settings = settings.updated(
            base_url=base_url, storage_url=storage_url or home.storage.as_uri()
        )
        receiver = stack.enter_context(
            running(
                "the webhook receiver",
                [*command, "webhook", f"--host={_HOST}", "--port=0"],
                environment={**environment, **settings.to_environment()},
                log_path=home.log_path("webhook"),
            )
        )
        viewer = stack.enter_context(
            running(
                "the viewer",
                [*command, "viewer", f"--host={_HOST}", f"--port={home.viewer_port(_HOST)}"],
                environment={**environment, **settings.to_environment()},
                log_path=home.log_path("viewer"),
            )
        )
        yield (
            settings.updated(
                webhook_url=receiver.wait_for_line("listening on "),
                viewer_url=viewer.wait_for_line("listening on "),
            ),
            environment,
        )


@contextmanager
def dagster_daemon(home: LocalHome, environment: Mapping[str, str]) -> Iterator[ManagedProcess]:
    """The Dagster daemon on the code location, which runs while the block does."""
    with running(
        "the Dagster daemon",
        [_script("dagster-daemon"), "run", *code_location_arguments()],
        environment={**environment, "DAGSTER_HOME": str(home.dagster_home)},
        log_path=home.log_path("daemon"),
    ) as daemon:
        yield daemon


@contextmanager
def dagster_ui(
    home: LocalHome, environment: Mapping[str, str], *, host: str, port: int
) -> Iterator[ManagedProcess]:
    """The Dagster UI and daemon on the code location, which run while the block does."""
    with running(
        "the Dagster UI",
        [
            _script("dagster"),
            "dev",
            *code_location_arguments(),
            f"--host={host}",
            f"--port={port}",
        ],
        environment={**environment, "DAGSTER_HOME": str(home.dagster_home)},
        log_path=home.log_path("ui"),
    ) as ui:
        yield ui


def code_location_arguments() -> list[str]:
    """Arguments that name the definitions: the project's workspace, or the package's."""
    workspace = Path("workspace.yaml")
    if workspace.exists():
        return ["-w", str(workspace.resolve())]
    return ["-m", "sora_dagster.local.code_location"]


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
