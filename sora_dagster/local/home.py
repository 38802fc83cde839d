"""The folder of a local Dagster instance."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

# No newsletter dialog, no telemetry. Runs start at once, and dead runs are detected.
_DAGSTER_YAML = """\
telemetry:
  enabled: false
nux:
  enabled: false
run_coordinator:
  module: dagster.core.run_coordinator
  class: QueuedRunCoordinator
  config:
    dequeue_interval_seconds: 1
run_monitoring:
  enabled: true
"""


class HomeInUseError(Exception):
    """Another command uses the same folder."""


class LocalHome:
    """A folder with a Dagster instance, logs and, for the demo, clips.

    Arguments:
        folder: the folder; created if it is missing.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder.resolve()

    @property
    def dagster_home(self) -> Path:
        """Value of DAGSTER_HOME."""
        return self.folder / "dagster"

    @property
    def storage(self) -> Path:
        """Storage root of the demo."""
        return self.folder / "storage"

    def log_path(self, name: str) -> Path:
        """File for a process's output."""
        return self.folder / "logs" / f"{name}.log"

    def port(self, server: str, host: str) -> int:
        """Port of a server; the same each time if it is free.

        Events link to the viewer, and a run that outlived a killed command polls the sandbox.

        Arguments:
            server: name of the server, such as ``viewer``.
            host: address that it listens at.
        """
        kept = self.folder / f"{server}-port"
        before = int(kept.read_text()) if kept.exists() else 0
        for wanted in (before, 0):
            with socket.socket() as probe, contextlib.suppress(OSError):
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((host, wanted))
                port = int(probe.getsockname()[1])
                kept.write_text(str(port))
                return port
        raise OSError(f"no port of {host} is free")

    def prepare(self) -> None:
        """Create the folder and its `dagster.yaml`, unless they exist.

        Raises:
            OSError: if the folder cannot be written.
        """
        try:
            self.dagster_home.mkdir(parents=True, exist_ok=True)
            config = self.dagster_home / "dagster.yaml"
            if not config.exists():
                config.write_text(_DAGSTER_YAML)
        except OSError as error:
            raise OSError(
                f"the folder {self.folder} cannot be written: {error.strerror}. Choose another "
                f"with --home."
            ) from error

    @contextmanager
    def in_use(self) -> Iterator[None]:
        """Keep other commands out of the folder while the block runs.

        Raises:
            HomeInUseError: if another command uses it.
        """
        self.prepare()
        with (self.folder / "lock").open("a+") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError as error:
                lock.seek(0)
                raise HomeInUseError(
                    f"{self.folder} is in use by process {lock.read().strip() or 'unknown'}. Stop "
                    f"that process, or choose another folder with --home."
                ) from error
            lock.truncate(0)
            lock.write(str(os.getpid()))
            lock.flush()
            yield
