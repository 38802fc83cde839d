"""The services of deploy/compose.yaml as processes of this machine, from the same commands.

Postgres is the installed one and the S3 server is moto with a file; all others have the command and
the environment of their service. Names of services become ports of 127.0.0.1.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import shutil
import signal
import socket
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import yaml

from sora_dagster.local.processes import ManagedProcess, wait_for_http, wait_until
from tests.command_line import clean_environment
from tests.postgres_server import PostgresServer
from tests.sandbox_server import Sandbox, free_port

ROOT = Path(__file__).parent.parent.parent
DEPLOY = ROOT / "deploy"
START_SECONDS = 180
_DEFAULT = re.compile(r"\$\{(\w+):-([^}]*)\}")
_PORT_OPTION = re.compile(r"(--port=)(\d+)")
_LAUNCH = """mutation($job: String!, $config: RunConfigData) {
  launchRun(executionParams: {
    selector: {
      repositoryLocationName: "sora_dagster", repositoryName: "__repository__", jobName: $job
    }
    runConfigData: $config
  }) { __typename ... on LaunchRunSuccess { run { runId } } ... on PythonError { message } }
}"""


def compose_services() -> dict[str, dict[str, Any]]:
    """The services of deploy/compose.yaml."""
    compose = yaml.safe_load((DEPLOY / "compose.yaml").read_text())
    services: dict[str, dict[str, Any]] = compose["services"]
    return services


def image_environment() -> dict[str, str]:
    """The environment of deploy/Dockerfile."""
    [line] = re.findall(r"^ENV (.+)$", (DEPLOY / "Dockerfile").read_text(), re.MULTILINE)
    return dict(assignment.split("=", 1) for assignment in line.split())


def with_defaults(text: str, variables: Mapping[str, str]) -> str:
    """A value of the file, with variables as Compose fills them in."""
    return _DEFAULT.sub(lambda found: variables.get(found[1]) or found[2], text)


class Topology:
    """The processes of one deployment.

    Arguments:
        folder: folder for the logs, the Dagster instances' files and the sandbox's.
        database: the Postgres server.
        variables: environment variables that replace those of the services.
        sandbox_options: more options of the sandbox.
    """

    def __init__(
        self,
        folder: Path,
        database: PostgresServer,
        *,
        variables: Mapping[str, str],
        sandbox_options: Sequence[str] = (),
    ) -> None:
        self.folder = folder
        self.database = database
        self._variables = variables
        self._sandbox_options = sandbox_options
        self._services = compose_services()
        self._ports: dict[tuple[str, int], int] = {}
        self._processes: dict[str, ManagedProcess] = {}
        self._starts = itertools.count()
        self.home = folder / "dagster"
        self.home.mkdir()
        shutil.copy(DEPLOY / "dagster.yaml", self.home)
        workspace = yaml.safe_load((DEPLOY / "workspace.yaml").read_text())
        for entry in workspace["load_from"]:
            server = entry["grpc_server"]
            server["port"] = self._port(server["host"], server["port"])
            server["host"] = "127.0.0.1"
        (self.home / "workspace.yaml").write_text(yaml.safe_dump(workspace))

    @property
    def sandbox(self) -> Sandbox:
        """The local Runware."""
        return Sandbox(f"http://127.0.0.1:{self._port('sandbox', 8787)}/v1")

    def environment(self, service: str) -> dict[str, str]:
        """The environment of a service, with addresses of this machine."""
        declared = image_environment() | self._services[service].get("environment", {})
        found = {
            name: self._local(with_defaults(str(value), {})) for name, value in declared.items()
        }
        found |= {name: value for name, value in self._variables.items() if name in found}
        if service == "code":
            found |= self._variables
        found["DAGSTER_HOME"] = str(self.home)
        if "DAGSTER_POSTGRES_URL" in found:
            found["DAGSTER_POSTGRES_URL"] = self.database.url
        return clean_environment(**found)

    def start_all(self) -> None:
        """Start everything, and wait until it answers."""
        self.start("s3")
        subprocess.run(
            self._command("bucket"), env=self.environment("bucket"), check=True, timeout=60
        )
        self.start("code", "sandbox", "receiver-1", "receiver-2", "viewer")
        self.start("webserver", "daemon")

    def start(self, *names: str, options: Sequence[str] = ()) -> None:
        """Start processes at once, and wait until they answer.

        Arguments:
            names: names of their services; `receiver-2` is the second receiver.
            options: more options of their commands.
        """
        for name in names:
            self._start(name, options)
        for name in names:
            self.wait_until_ready(name)

    def _start(self, name: str, options: Sequence[str]) -> None:
        service, _, number = name.partition("-")
        command = [*self._command(service), *options]
        if service == "sandbox":
            command += self._sandbox_options
        if number:
            command.append(f"--port={self._port(name, 8788)}")
        # `env -i`, since a process may have variables of the package that a service has not.
        environment = self.environment(service)
        self._processes[name] = ManagedProcess(
            name,
            ["env", "-i", *(f"{key}={value}" for key, value in environment.items()), *command],
            environment={},
            log_path=self.folder / "logs" / f"{name}-{next(self._starts)}.log",
        )

    def wait_until_ready(self, name: str) -> None:
        """Wait until a process answers as the health check of its service asks it to."""
        process = self._processes[name]
        match name.partition("-")[0]:
            case "webserver":
                self._wait_for(process, f"{self.webserver_url}/server_info")
            case "s3":
                self._wait_for(
                    process, f"http://127.0.0.1:{self._port('s3', 9000)}/moto-api/data.json"
                )
            case "receiver":
                self._wait_for(process, f"http://127.0.0.1:{self._port(name, 8788)}/livez")
            case "viewer":
                self._wait_for(process, f"http://127.0.0.1:{self._port('viewer', 8789)}/livez")
            case "sandbox":
                self._wait_for(process, self.sandbox.base_url.removesuffix("v1") + "sandbox/ledger")
            case "code":
                port = self._port("code", 4000)
                check = [_program("dagster"), "api", "grpc-health-check", f"--port={port}"]

                def is_healthy() -> bool:
                    process.check()
                    try:
                        # The check takes seconds of CPU: not before the port is open.
                        socket.create_connection(("127.0.0.1", port), timeout=5).close()
                    except OSError:
                        return False
                    return subprocess.run(check, capture_output=True, check=False).returncode == 0

                assert wait_until(is_healthy, timeout_seconds=START_SECONDS), process.last_output()

    @property
    def webserver_url(self) -> str:
        """Address of the Dagster UI."""
        return f"http://127.0.0.1:{self._port('webserver', 3000)}"

    def kill(self, name: str) -> None:
        """Kill a process, and everything that it started, as the loss of its container does.

        `postgres` is started again at once.
        """
        if name == "postgres":
            self.database.kill()
            self.database.start()
            return
        process = self._processes.pop(name)
        os.killpg(process.pid, signal.SIGKILL)
        process.end()

    @property
    def has_run_workers(self) -> bool:
        """Whether a process of a run is alive; they are started by the code location."""
        living = _living_in_group(self._processes["code"])
        return any("multiprocessing.spawn" in command for command in living)

    def terminate(self, *names: str, seconds: float) -> dict[str, float]:
        """Send SIGTERM to processes and what they started, as tini does.

        Arguments:
            names: names of the processes.
            seconds: time to wait for their ends.

        Returns:
            Seconds until each ended; without those that did not end in time.
        """
        processes = {name: self._processes.pop(name) for name in names}
        ended: dict[str, float] = {}
        started = time.monotonic()
        for process in processes.values():
            os.killpg(process.pid, signal.SIGTERM)

        def have_ended() -> bool:
            for name, process in processes.items():
                if name not in ended and _group_has_ended(process):
                    ended[name] = time.monotonic() - started
            return len(ended) == len(processes)

        wait_until(have_ended, timeout_seconds=seconds)
        for name, process in processes.items():
            if name not in ended:
                print(f"{name} is left: {_living_in_group(process)}\n{process.last_output()}")
            process.end()
        return ended

    def launch(self, job: str, config: Mapping[str, Any]) -> str:
        """Launch a run as the UI does; gives its id."""
        query = {"query": _LAUNCH, "variables": {"job": job, "config": dict(config)}}
        answer: dict[str, Any] = {}

        def is_launched() -> bool:
            # The code location is loaded some seconds after the webserver answers.
            data = httpx.post(f"{self.webserver_url}/graphql", json=query, timeout=60).json()
            answer.update(data["data"]["launchRun"])
            return bool(answer["__typename"] == "LaunchRunSuccess")

        assert wait_until(is_launched, timeout_seconds=START_SECONDS), answer
        return str(answer["run"]["runId"])

    def end(self) -> None:
        """End all processes."""
        for process in self._processes.values():
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        for process in self._processes.values():
            process.end()

    def logs(self) -> str:
        """The ends of all logs."""
        return "\n".join(
            f"== {path.name}\n" + "\n".join(path.read_text(errors="replace").splitlines()[-15:])
            for path in sorted((self.folder / "logs").iterdir())
        )

    def receiver_ports(self) -> list[int]:
        """The ports of the two receivers."""
        return [self._port(f"receiver-{number}", 8788) for number in (1, 2)]

    def use_receiver_port(self, port: int) -> None:
        """Set the port at which the receivers are reached by the name of their service."""
        self._ports["receiver", 8788] = port

    def _wait_for(self, process: ManagedProcess, url: str) -> None:
        wait_for_http(url, process, timeout_seconds=START_SECONDS)

    def _command(self, service: str) -> list[str]:
        if service == "s3":
            server, port = Path(__file__).with_name("durable_s3.py"), self._port("s3", 9000)
            return [sys.executable, str(server), f"--port={port}", f"--file={self.folder / 's3'}"]
        program, *arguments = (str(part) for part in self._services[service]["command"])
        local = [
            _PORT_OPTION.sub(lambda found: found[1] + str(self._port(service, int(found[2]))), part)
            .replace("--host=0.0.0.0", "--host=127.0.0.1")
            .replace("/opt/dagster", str(self.home))
            .replace("--data-dir=/data", f"--data-dir={self.folder / 'sandbox'}")
            .replace("--python-file=", f"--python-file={ROOT}/")
            for part in arguments
        ]
        return [_program(program), *local]

    def _local(self, text: str) -> str:
        """A value in which `//service:port` is the address of that service on this machine."""
        for service in self._services:
            text = re.sub(
                rf"//{service}:(\d+)",
                lambda found, name=service: f"//127.0.0.1:{self._port(name, int(found[1]))}",
                text,
            )
        return text

    def _port(self, service: str, port: int) -> int:
        return self._ports.setdefault((service, port), free_port())


@contextmanager
def running_topology(
    folder: Path,
    database: PostgresServer,
    *,
    variables: Mapping[str, str],
    sandbox_options: Sequence[str] = (),
) -> Iterator[Topology]:
    """A topology that runs while the block does, with its two receivers behind one port."""
    topology = Topology(folder, database, variables=variables, sandbox_options=sandbox_options)
    with _balancer(topology.receiver_ports()) as port:
        topology.use_receiver_port(port)
        try:
            topology.start_all()
            yield topology
        finally:
            topology.end()


@contextmanager
def _balancer(ports: Sequence[int]) -> Iterator[int]:
    """A port whose connections go to the first of some ports, in turn, that accepts them."""
    turns = itertools.count()

    class Handler(socketserver.BaseRequestHandler):
        def handle(self) -> None:
            first = next(turns)
            for offset in range(len(ports)):
                with contextlib.suppress(OSError):
                    target = ("127.0.0.1", ports[(first + offset) % len(ports)])
                    with socket.create_connection(target, timeout=10) as upstream:
                        back = threading.Thread(
                            target=_copy, args=(upstream, self.request), daemon=True
                        )
                        back.start()
                        _copy(self.request, upstream)
                        back.join()
                    return

    class Server(socketserver.ThreadingTCPServer):
        daemon_threads = True

    with Server(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield int(server.server_address[1])
        finally:
            server.shutdown()


def _copy(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while data := source.recv(65536):
            target.sendall(data)
    with contextlib.suppress(OSError):
        target.shutdown(socket.SHUT_WR)


def _program(name: str) -> str:
    if name == "python":
        return sys.executable
    return str(Path(sys.executable).parent / name)


def _group_has_ended(process: ManagedProcess) -> bool:
    return process.has_ended and not _living_in_group(process)


def _living_in_group(process: ManagedProcess) -> list[str]:
    """The commands of the processes of a group, without those that only wait to be reaped."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            state, _, group = (folder / "stat").read_text().rpartition(")")[2].split()[:3]
            command = (folder / "cmdline").read_bytes().replace(b"\0", b" ").decode().strip()
        except (FileNotFoundError, ProcessLookupError):
            continue
        if group == str(process.pid) and state != "Z":
            found.append(command)
    return found
