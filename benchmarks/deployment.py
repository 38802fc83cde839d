"""A Dagster deployment for benchmarks: code server, daemon and webserver on a Postgres server."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Self

import dagster as dg
import httpx
import yaml

from benchmarks.pooler import Pooler, running_pooler
from benchmarks.process_usage import (
    AS_SUBREAPER,
    ProcessTable,
    command_line,
    memory_megabytes,
    settled_process_table,
)
from sora_dagster.local.processes import ManagedProcess, wait_until
from tests.command_line import clean_environment
from tests.postgres_server import PostgresServer, postgres_programs
from tests.sandbox_server import free_port

_DAGSTER_YAML = Path(__file__).parent.parent / "deploy" / "dagster.yaml"
_START_SECONDS = 180
_LOCATION = "benchmark"
_LAUNCH_RUN = """mutation($job: String!, $config: RunConfigData) {
  result: launchRun(executionParams: {
    selector: {
      repositoryLocationName: "benchmark", repositoryName: "__repository__", jobName: $job
    }
    runConfigData: $config
  }) { __typename ... on PythonError { message } }
}"""
_LAUNCH_BACKFILL = """mutation($asset: [String!]!, $partitions: [String!]!) {
  result: launchPartitionBackfill(backfillParams: {
    assetSelection: [{path: $asset}], partitionNames: $partitions
  }) { __typename ... on PythonError { message } }
}"""
_LAUNCHED = ("LaunchRunSuccess", "LaunchBackfillSuccess")


@dataclass(frozen=True)
class Cpu:
    """CPU seconds by process.

    Arguments:
        runs: the processes of runs, and of their steps.
        code_server: the server of the definitions, which evaluates sensors.
        daemon: the Dagster daemon.
        database: all processes of the Postgres server, and of the pooler.
    """

    runs: float
    code_server: float
    daemon: float
    database: float

    @property
    def total(self) -> float:
        """All of them."""
        return self.runs + self.code_server + self.daemon + self.database

    def __sub__(self, other: Self) -> Cpu:
        return Cpu(
            **{
                field.name: getattr(self, field.name) - getattr(other, field.name)
                for field in fields(self)
            }
        )


class Deployment:
    """The processes of a deployment.

    The webserver only launches runs and backfills, as a person does, and is not counted.

    Arguments:
        folder: folder for the Dagster instance's files and the logs.
        database: the Postgres server; it must be used by this deployment only.
        pooler: a pooler in front of it. None: processes connect to the server itself.
        code: path of the file with the definitions.
        environment: variables of the code server and of its runs.
    """

    def __init__(
        self,
        folder: Path,
        database: PostgresServer,
        *,
        pooler: Pooler | None,
        code: Path,
        environment: Mapping[str, str],
    ) -> None:
        self._database = database
        self._pooler = pooler
        self._home = folder / "dagster"
        self._home.mkdir()
        shutil.copy(_DAGSTER_YAML, self._home)
        port, self._webserver_port = free_port(), free_port()
        server = {"host": "127.0.0.1", "port": port, "location_name": _LOCATION}
        workspace = self._home / "workspace.yaml"
        workspace.write_text(yaml.safe_dump({"load_from": [{"grpc_server": server}]}))
        self._variables = {
            "DAGSTER_POSTGRES_URL": database.url if pooler is None else pooler.url,
            "DAGSTER_HOME": str(self._home),
        }
        commands = {
            "code": ["dagster", "api", "grpc", f"--port={port}", f"--python-file={code}"],
            "daemon": ["dagster-daemon", "run", f"--workspace={workspace}"],
            "webserver": [
                "dagster-webserver",
                f"--port={self._webserver_port}",
                f"--workspace={workspace}",
            ],
        }
        self._processes = {
            name: ManagedProcess(
                name,
                [*AS_SUBREAPER, str(Path(sys.executable).parent / program), *arguments],
                environment=clean_environment(**self._variables, **environment),
                log_path=folder / "logs" / f"{name}.log",
            )
            for name, (program, *arguments) in commands.items()
        }
        self.peak_megabytes: dict[str, float] = {}
        self._has_ended = threading.Event()
        self._sampler = threading.Thread(target=self._sample_memory, daemon=True)
        self._sampler.start()

    def launch(self, job: str, config: Mapping[str, Any] | None = None) -> None:
        """Launch a run of a job, as the UI does."""
        self._launch(_LAUNCH_RUN, {"job": job, "config": dict(config or {})})

    def backfill(self, asset: str, partitions: Sequence[str]) -> None:
        """Launch a backfill of an asset, as the UI does."""
        self._launch(_LAUNCH_BACKFILL, {"asset": [asset], "partitions": list(partitions)})

    def cpu(self) -> Cpu:
        """CPU so far."""
        code, daemon = self._processes["code"].pid, self._processes["daemon"].pid
        table = settled_process_table(code, daemon)
        return Cpu(
            runs=table.seconds_of_descendants(code),
            code_server=table.own_seconds(code),
            daemon=table.own_seconds(daemon) + table.seconds_of_descendants(daemon),
            database=self._database.cpu_seconds()
            + (0 if self._pooler is None else self._pooler.cpu_seconds()),
        )

    def wait(self, condition: Callable[[], bool], what: str, *, timeout_seconds: float) -> None:
        """Wait until something holds and no run is in progress.

        Raises:
            TimeoutError: if that takes too long.
        """

        def is_met() -> bool:
            for process in self._processes.values():
                process.check()
            return condition() and not self._worker_pids(ProcessTable())

        if not wait_until(
            is_met, timeout_seconds=timeout_seconds, sleep=lambda _seconds: time.sleep(1)
        ):
            ends = "\n".join(process.last_output() for process in self._processes.values())
            raise TimeoutError(f"after {timeout_seconds:.0f} s, not {what}\n{ends}")

    @contextmanager
    def instance(self) -> Iterator[dg.DagsterInstance]:
        """Its Dagster instance. Queries cost CPU of the database."""
        os.environ.update(self._variables)
        with dg.DagsterInstance.from_config(str(self._home)) as instance:
            yield instance

    def end(self) -> None:
        """End all its processes."""
        self._has_ended.set()
        self._sampler.join()
        for process in self._processes.values():
            process.end()

    def _launch(self, query: str, variables: Mapping[str, Any]) -> None:
        answer: dict[str, Any] = {}

        def is_launched() -> bool:
            # The webserver starts, and then loads the definitions, for some seconds.
            self._processes["webserver"].check()
            with contextlib.suppress(httpx.TransportError):
                response = httpx.post(
                    f"http://127.0.0.1:{self._webserver_port}/graphql",
                    json={"query": query, "variables": variables},
                    timeout=60,
                )
                answer.update(response.json())
            return bool(answer) and answer["data"]["result"]["__typename"] in _LAUNCHED

        if not wait_until(is_launched, timeout_seconds=_START_SECONDS):
            raise TimeoutError(f"not launched: {answer}")

    def _worker_pids(self, table: ProcessTable) -> list[int]:
        """The processes of runs that are in progress."""
        code = self._processes["code"].pid
        return [
            record.pid
            for record in table.descendants(code)
            if record.is_running and "resource_tracker" not in command_line(record.pid)
        ]

    def _sample_memory(self) -> None:
        while not self._has_ended.wait(timeout=2):
            table = ProcessTable()
            code = self._processes["code"].pid
            groups = {
                "runs": self._worker_pids(table),
                "code_server": [code],
                "daemon": table.with_descendants(self._processes["daemon"].pid),
                "database": table.with_descendants(self._database.pid),
            }
            for name, pids in groups.items():
                found = memory_megabytes(pids)
                self.peak_megabytes[name] = max(self.peak_megabytes.get(name, 0.0), found)


@contextmanager
def running_database() -> Iterator[PostgresServer]:
    """A Postgres server, which runs while the block does."""
    programs = postgres_programs()
    if programs is None:
        sys.exit("Postgres is not installed; on Debian: apt-get install postgresql")
    database = PostgresServer(programs)
    try:
        yield database
    finally:
        database.stop()
        database.remove()


@contextmanager
def running_deployment(
    folder: Path, *, code: Path, environment: Mapping[str, str], is_pooled: bool
) -> Iterator[Deployment]:
    """A deployment with a Postgres server of its own, which runs while the block does.

    Arguments:
        folder: an empty folder.
        code: path of the file with the definitions.
        environment: variables of the code server and of its runs.
        is_pooled: whether a pooler is in front of the Postgres server.
    """
    with contextlib.ExitStack() as stack:
        database = stack.enter_context(running_database())
        pooler = stack.enter_context(running_pooler(database)) if is_pooled else None
        deployment = Deployment(folder, database, pooler=pooler, code=code, environment=environment)
        try:
            yield deployment
        finally:
            deployment.end()
