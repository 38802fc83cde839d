"""A Postgres server of this machine, in a folder."""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

from sora_dagster.local.processes import wait_until
from tests.sandbox_server import free_port

_DEBIAN_FOLDER = Path("/usr/lib/postgresql")


def postgres_programs() -> Path | None:
    """The folder of Postgres's programs on this machine, or None."""
    found = sorted(_DEBIAN_FOLDER.glob("*/bin/initdb"))
    if found:
        return found[-1].parent
    path = shutil.which("initdb")
    return None if path is None else Path(path).resolve().parent


class PostgresServer:
    """A database server, as a user that is not root.

    Its files are in a folder of its own: the folders of tests can be read by one user only.

    Arguments:
        programs: folder of `initdb` and `pg_ctl`.
        address: the address at which it answers everybody.
        prefix: what a command begins with that runs at that address.
    """

    def __init__(
        self, programs: Path, *, address: str = "127.0.0.1", prefix: Sequence[str] = ()
    ) -> None:
        self._programs = programs
        self._address = address
        self._prefix = prefix
        self._data = Path(tempfile.mkdtemp(prefix="postgres-"))
        if os.getuid() == 0:
            shutil.chown(self._data, "postgres", "postgres")
        self._run("initdb", "-D", str(self._data), "-U", "dagster", "--auth=trust", "--no-sync")
        with (self._data / "pg_hba.conf").open("a") as rules:
            rules.write("host all all all trust\n")
        self._start_at_a_free_port()

    @property
    def url(self) -> str:
        """The URL of its database, in the form that `dagster-postgres` needs."""
        return f"postgresql+psycopg2://dagster@{self._address}:{self.port}/postgres"

    @property
    def pid(self) -> int:
        """The process id of the server's first process."""
        return int((self._data / "postmaster.pid").read_text().splitlines()[0])

    def start(self) -> None:
        """Start it, and wait until it answers."""
        options = f"-p {self.port} -k {self._data} -c listen_addresses={self._address}"
        log = str(self._data / "log")
        self._run("pg_ctl", "-D", str(self._data), "-o", options, "-l", log, "-w", "start")

    def _start_at_a_free_port(self) -> None:
        for is_last in (False, False, False, True):
            self.port = free_port()
            try:
                self.start()
            except subprocess.CalledProcessError:
                # Another program took the port in between.
                if is_last:
                    raise
            else:
                return

    def stop(self) -> None:
        """Stop it at once."""
        self._run("pg_ctl", "-D", str(self._data), "-m", "immediate", "stop")

    def remove(self) -> None:
        """Remove its files."""
        shutil.rmtree(self._data, ignore_errors=True)

    def kill(self) -> None:
        """Kill all its processes, and wait until they are gone."""
        first = self.pid
        group = [first, *_children(first)]
        for pid in group:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        assert wait_until(lambda: not any(map(_runs, group)), timeout_seconds=30)
        # Where nothing reaps the killed processes, Postgres takes them for living ones.
        for lock in [self._data / "postmaster.pid", *self._data.glob(".s.PGSQL.*")]:
            lock.unlink(missing_ok=True)

    def cpu_seconds(self) -> float:
        """CPU of the server so far: of its living processes, and of those that have ended."""
        postmaster, ticks = self.pid, 0
        for stat in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                fields = stat.read_text().rpartition(")")[2].split()
                pid, parent = int(stat.parent.name), int(fields[1])
                if pid == postmaster:
                    ticks += sum(int(fields[number]) for number in (11, 12, 13, 14))
                elif parent == postmaster:
                    ticks += sum(int(fields[number]) for number in (11, 12))
        return ticks / os.sysconf("SC_CLK_TCK")

    def _run(self, name: str, *arguments: str) -> None:
        command = [str(self._programs / name), *arguments]
        if os.getuid() == 0:
            command = ["runuser", "-u", "postgres", "--", *command]
        command = [*self._prefix, *command]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd="/")


def _children(parent: int) -> list[int]:
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            if int(stat.read_text().rpartition(")")[2].split()[1]) == parent:
                found.append(int(stat.parent.name))
    return found


def _runs(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


@contextmanager
def running_postgres(
    *, address: str = "127.0.0.1", prefix: Sequence[str] = ()
) -> Iterator[PostgresServer]:
    """A Postgres server, which runs while the block does. Skips the test if none is installed.

    Arguments:
        address: the address at which it answers everybody.
        prefix: what a command begins with that runs at that address.
    """
    programs = postgres_programs()
    if programs is None:
        pytest.skip("Postgres is not installed; on Debian: apt-get install postgresql")
    if os.getuid() == 0 and "postgres" not in {user.pw_name for user in pwd.getpwall()}:
        pytest.skip("Postgres does not run as root, and there is no user `postgres`")
    server = PostgresServer(programs, address=address, prefix=prefix)
    try:
        yield server
    finally:
        with contextlib.suppress(subprocess.CalledProcessError):
            # A test may have stopped it.
            server.stop()
        server.remove()
