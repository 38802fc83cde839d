"""Cost of lost responses and killed processes: the official SDK and sora-dagster, on one sandbox.

    python -m benchmarks.lost_responses            # --quick

Each scenario requests one clip, as a user would: a run that ends without the clip is repeated at
once, at most twice. The SDK's run is `client.run` in a separate process, over REST, with the SDK's
default settings; sora-dagster's is `sora-dagster generate`. The sandbox counts charges.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import platform
import signal
import sys
import tempfile
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import httpx

from sora_dagster.local.processes import ManagedProcess, running, wait_until
from sora_dagster.storage import StorageRoot

KEY = "sandbox-key"
LATENCY_SECONDS = 8.0
MOST_RUNS = 3
_LONGEST_RUN_SECONDS = 300.0

LOST = {"fault": "lose_answer", "nth": 1}
GATEWAY_TIMEOUT = {"fault": "status", "status": 504, "moment": "after", "nth": 1}
WHILE_RUNNING = "refused_while_running"
CHARGED_AGAIN = "charged_again"


@dataclass(frozen=True)
class Scenario:
    """What goes wrong.

    Arguments:
        name: its name in the table.
        known_uuids: how the API treats a task UUID that it has received before.
        rules: faults of the sandbox.
        is_killed: whether the first run's process is killed with SIGKILL while it waits.
        keeps_uuid: whether the SDK's user sets the task UUID, the same in each run.
    """

    name: str
    known_uuids: str = WHILE_RUNNING
    rules: tuple[dict[str, Any], ...] = ()
    is_killed: bool = False
    keeps_uuid: bool = False


SCENARIOS = (
    Scenario("nothing goes wrong"),
    Scenario("the response is lost: connection closed", rules=(LOST,)),
    Scenario("the response is lost: HTTP 504", rules=(GATEWAY_TIMEOUT,)),
    Scenario("the response is lost: connection closed", CHARGED_AGAIN, rules=(LOST,)),
    Scenario("the process is killed while it waits", is_killed=True),
    Scenario("the same; the SDK's user keeps the UUID", is_killed=True, keeps_uuid=True),
    Scenario("the same; the SDK's user keeps the UUID", CHARGED_AGAIN, (), True, True),
)
QUICK = (0, 1, 4)


@dataclass(frozen=True)
class Sandbox:
    """The local Runware that both are run against.

    Arguments:
        base_url: address of its API.
    """

    base_url: str

    def charges(self) -> list[float]:
        """Every charge since its start, in USD."""
        return [charge["cost"] for charge in self._ask("GET", "ledger")["charges"]]

    def set_faults(self, scenario: Scenario) -> None:
        """Apply a scenario's faults and reset their counts."""
        plan = {"known_uuids": scenario.known_uuids, "rules": scenario.rules}
        self._ask("PUT", "faults", json=plan)

    def is_idle(self) -> bool:
        """Whether no generation is running."""
        return bool(self._ask("GET", "health")["tasks_running"] == 0)

    def _ask(self, method: str, name: str, **options: Any) -> Any:
        url = self.base_url.removesuffix("/v1") + f"/sandbox/{name}"
        answer = httpx.request(method, url, **options)
        answer.raise_for_status()
        return answer.json()


@dataclass(frozen=True)
class Measured:
    """Result of one scenario.

    Arguments:
        runs: number of runs.
        charges: charges of the sandbox, in USD each.
        clips: number of clips at the end.
    """

    runs: int
    charges: list[float]
    clips: int


class SdkUser:
    """A user who generates a clip with the official SDK.

    Arguments:
        folder: where results are written.
        scenario: what goes wrong.
    """

    def __init__(self, folder: Path, scenario: Scenario) -> None:
        self._results = folder / "results.json"
        self._task_uuid = str(uuid.uuid4()) if scenario.keeps_uuid else None

    def command(self, sandbox: Sandbox) -> list[str]:
        """The command that the user runs."""
        command = [sys.executable, __file__, "--sdk-run", str(self._results)]
        command += ["--base-url", sandbox.base_url]
        return command + (["--task-uuid", self._task_uuid] if self._task_uuid else [])

    def clips(self) -> int:
        """Number of results that the SDK returned."""
        return len(json.loads(self._results.read_text())) if self._results.exists() else 0


class SoraDagsterUser:
    """A user who generates a clip with sora-dagster.

    Arguments:
        folder: where the dataset, the storage root and the Dagster instance are.
    """

    def __init__(self, folder: Path, _: Scenario) -> None:
        self._folder = folder
        (folder / "prompts.yaml").write_text(
            "clips: [{id: fox, prompt: a fox in snow, size: 1280x720, duration: 4}]\n"
        )

    def command(self, _: Sandbox) -> list[str]:
        """The command that the user runs."""
        folder = self._folder
        command = [sys.executable, "-m", "sora_dagster", "generate", str(folder / "prompts.yaml")]
        return [*command, "--storage", str(folder / "storage"), "--home", str(folder / "home")]

    def clips(self) -> int:
        """Number of clips that are stored."""
        keys = [info.key for info in StorageRoot(self._folder / "storage").list("clips")]
        return sum(key.endswith("/clip.json") for key in keys)


def measure(
    user_of: Callable[[Path, Scenario], SdkUser | SoraDagsterUser],
    scenario: Scenario,
    sandbox: Sandbox,
    folder: Path,
) -> Measured:
    """Run a scenario for a user."""
    folder.mkdir(parents=True)
    user = user_of(folder, scenario)
    before = len(sandbox.charges())
    sandbox.set_faults(scenario)
    runs = 0
    while runs < MOST_RUNS and user.clips() == 0:
        runs += 1
        with running(
            "the run",
            user.command(sandbox),
            environment={"RUNWARE_API_KEY": KEY, "RUNWARE_BASE_URL": sandbox.base_url},
            log_path=folder / f"run-{runs}.log",
        ) as process:
            if scenario.is_killed and runs == 1:
                kill_while_it_waits(process, lambda: len(sandbox.charges()) > before)
            elif not wait_until(
                lambda process=process: process.has_ended,  # type: ignore[misc]
                timeout_seconds=_LONGEST_RUN_SECONDS,
            ):
                raise SystemExit(f"a run did not end:\n{process.last_output()}")
    # Running generations are charged already; they must not affect the next scenario.
    wait_until(sandbox.is_idle, timeout_seconds=_LONGEST_RUN_SECONDS)
    return Measured(runs, sandbox.charges()[before:], user.clips())


def kill_while_it_waits(process: ManagedProcess, is_charged: Callable[[], bool]) -> None:
    """Kill a process, and all that it started, once it has submitted."""
    if not wait_until(is_charged, timeout_seconds=_LONGEST_RUN_SECONDS):
        raise SystemExit(f"a run submitted nothing:\n{process.last_output()}")
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()


async def sdk_run(base_url: str, results_path: Path, task_uuid: str | None) -> None:
    """What the SDK's user runs."""
    from runware import Runware

    task: dict[str, Any] = {
        "taskType": "videoInference",
        "model": "openai:3@2",
        "positivePrompt": "a fox in snow",
        "width": 1280,
        "height": 720,
        "duration": 4,
        "includeCost": True,
    }
    if task_uuid is not None:
        task["taskUUID"] = task_uuid
    async with Runware(api_key=KEY, transport="rest", http_base_url=base_url) as client:
        results = await client.run(task)
    results_path.write_text(json.dumps(results))


def table_of(rows: Sequence[tuple[Scenario, Measured, Measured]]) -> str:
    """The table of what was measured, in Markdown."""
    figures = ("runs", "charges", "USD", "clips")
    headings = ["scenario", "a known UUID is"]
    headings += [f"{who} {name}" for who in ("SDK:", "sora-dagster:") for name in figures]
    headings.append("USD: SDK / sora-dagster")
    table = [headings, ["---"] * 2 + ["---:"] * (len(headings) - 2)]
    for scenario, *measured in rows:
        row = [scenario.name, scenario.known_uuids.replace("_", " ")]
        for one in measured:
            row += [str(one.runs), str(len(one.charges)), f"{sum(one.charges):.2f}", str(one.clips)]
        sdk, ours = (sum(one.charges) for one in measured)
        row.append(f"{sdk / ours:.2f}")
        table.append(row)
    return "\n".join(f"| {' | '.join(row)} |" for row in table)


def main() -> None:
    """Measure every scenario, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="one scenario of each kind")
    parser.add_argument("--sdk-run", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--base-url", help=argparse.SUPPRESS)
    parser.add_argument("--task-uuid", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.sdk_run is not None:
        asyncio.run(sdk_run(options.base_url, options.sdk_run, options.task_uuid))
        return
    rows: list[tuple[Scenario, Measured, Measured]] = []
    with tempfile.TemporaryDirectory(prefix="lost-answers-") as name:
        folder = Path(name)
        command = [sys.executable, "-m", "sora_dagster", "sandbox", "--port=0", "--reuse-rendered"]
        with running(
            "the sandbox",
            [*command, f"--latency={LATENCY_SECONDS:g}"],
            environment={},
            log_path=folder / "sandbox.log",
        ) as process:
            sandbox = Sandbox(process.wait_for_line("listening on "))
            scenarios = [SCENARIOS[number] for number in QUICK] if options.quick else SCENARIOS
            for number, scenario in enumerate(scenarios):
                print(f"{scenario.name} (a known UUID is {scenario.known_uuids}) …", flush=True)
                sdk = measure(SdkUser, scenario, sandbox, folder / f"{number}-sdk")
                ours = measure(SoraDagsterUser, scenario, sandbox, folder / f"{number}-ours")
                rows.append((scenario, sdk, ours))
    print(f"\n{table_of(rows)}\n")
    print(
        f"runware-sdk {version('runware-sdk')}, sora-dagster {version('sora-dagster')}, "
        f"dagster {version('dagster')}, Python {platform.python_version()}"
    )


if __name__ == "__main__":
    main()
