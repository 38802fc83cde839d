"""PgBouncer in front of a Postgres server."""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from benchmarks.process_usage import ProcessTable
from sora_dagster.local.processes import ManagedProcess, wait_until
from tests.postgres_server import PostgresServer
from tests.sandbox_server import free_port

_CONFIG = """
[databases]
* = host=127.0.0.1 port={database_port} user=dagster
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
pool_mode = session
default_pool_size = 50
logfile = {folder}/pgbouncer.log
"""


class Pooler:
    """A PgBouncer that keeps connections to a Postgres server open.

    Arguments:
        database: the server.
        folder: an empty folder.
    """

    def __init__(self, database: PostgresServer, folder: Path) -> None:
        program = shutil.which("pgbouncer")
        if program is None:
            sys.exit("PgBouncer is not installed; on Debian: apt-get install pgbouncer")
        port = free_port()
        config = folder / "pgbouncer.ini"
        config.write_text(_CONFIG.format(database_port=database.port, port=port, folder=folder))
        user = ["runuser", "-u", "postgres", "--"] if os.getuid() == 0 else []
        if user:
            shutil.chown(folder, "postgres", "postgres")
        self.url = database.url.replace(f":{database.port}/", f":{port}/")
        self._process = ManagedProcess(
            "pgbouncer",
            [*user, program, "-q", str(config)],
            environment={},
            log_path=folder / "output.log",
        )

        def is_ready() -> bool:
            self._process.check()
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port)):
                return True
            return False

        if not wait_until(is_ready, timeout_seconds=30):
            raise TimeoutError(f"PgBouncer is not ready: {self._process.last_output()}")

    def cpu_seconds(self) -> float:
        """Its CPU so far."""
        table = ProcessTable()
        return table.own_seconds(self._process.pid) + table.seconds_of_descendants(
            self._process.pid
        )

    def end(self) -> None:
        """Stop it."""
        self._process.end()


@contextmanager
def running_pooler(database: PostgresServer) -> Iterator[Pooler]:
    """A pooler, which runs while the block does."""
    with tempfile.TemporaryDirectory(prefix="pooler-") as name:
        pooler = Pooler(database, Path(name))
        try:
            yield pooler
        finally:
            pooler.end()
