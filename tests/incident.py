"""A storage root in trouble, and what `sora-dagster status` and the Dagster UI show of it."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path

import dagster as dg
import pytest
import yaml

from sora_dagster.generation.protocol import layout
from sora_dagster.local.processes import running, wait_for_http
from tests.command_line import api_of, clean_environment, run_on_a_terminal
from tests.dagster_face.stack import Stack, failure_text, stack_in
from tests.sandbox_server import free_port, sandbox_process

CLIPS = ("clockwork-market", "paper-boat", "glass-cello", "night-ferry", "desert-tram", "ice-cave")
STORED, STUCK, OUTSTANDING = CLIPS[:3], CLIPS[3], CLIPS[4:]
# 90 % are used: a clip costs 1.20 USD.
DAY_LIMIT_USD = 8.0
COLUMNS = 110
OUTSTANDING_FOR = timedelta(minutes=25)
_DAGSTER = {"telemetry": {"enabled": False}, "nux": {"enabled": False}}


@dataclass(frozen=True)
class Incident:
    """What is shown.

    Arguments:
        command: a command.
        status: what it prints on a terminal, with its colors.
        ui_url: address of a Dagster UI in which the status checks failed.
    """

    command: str
    status: str
    ui_url: str


@contextmanager
def running_incident(folder: Path) -> Iterator[Incident]:
    """Some clips are stored, one is stuck, two take long, and then Runware refuses the key.

    Arguments:
        folder: a folder for it.
    """
    home = folder / "dagster"
    home.mkdir()
    (home / "dagster.yaml").write_text(yaml.safe_dump(_DAGSTER))
    options = ["--latency=0.5", "--reuse-rendered", "--balance=40"]
    with (
        pytest.MonkeyPatch.context() as environment,
        sandbox_process(folder, options) as sandbox,
        stack_in(folder, sandbox.base_url) as stack,
    ):
        environment.setenv("DAGSTER_HOME", str(home))
        instance = dg.DagsterInstance.get()
        stack = replace(
            stack, instance=instance, settings_changes={"max_usd_per_day": DAY_LIMIT_USD}
        )
        stack.write(*[{"id": clip} for clip in CLIPS])
        _generate(stack)
        settings = {
            **api_of(sandbox),
            "SORA_STORAGE": str(folder / "storage"),
            "SORA_PROMPTS": str(stack.prompts_path),
            "SORA_MAX_USD_PER_DAY": str(DAY_LIMIT_USD),
        }
        status = run_on_a_terminal(folder, "status", columns=COLUMNS, **settings)[1]
        environment.setenv("RUNWARE_API_KEY", "a-key-that-was-revoked")
        _check(stack)
    with _webserver(folder, home, settings) as url:
        yield Incident("sora-dagster status", status, url)


def _generate(stack: Stack) -> None:
    requested = stack.run_job("request_clips", clip_ids=[*STORED, STUCK])
    assert requested.success, failure_text(requested)
    stack.root.write(layout.attempt_key("clips", STUCK, 1, 1), b"{")
    # It fails, because of the stuck clip.
    stack.run_job("collect_clips")
    assert stack.run_job("request_clips", clip_ids=list(OUTSTANDING)).success
    then = time.time() - OUTSTANDING_FOR.total_seconds()
    for entry in (stack.folder / "storage" / "pending").rglob("*"):
        os.utime(entry, (then, then))


def _check(stack: Stack) -> None:
    """Run the status checks, as the button Execute does."""
    checks = dg.define_asset_job(
        "checks", dg.AssetSelection.checks_for_assets(dg.AssetKey("generation_costs"))
    )
    definitions = dg.Definitions.merge(stack.definitions, dg.Definitions(jobs=[checks]))
    definitions.resolve_job_def("checks").execute_in_process(
        instance=stack.instance, raise_on_error=False
    )


@contextmanager
def _webserver(folder: Path, home: Path, settings: dict[str, str]) -> Iterator[str]:
    port = free_port()
    program = Path(sys.executable).parent / "dagster-webserver"
    definitions = Path(__file__).parent.parent / "definitions.py"
    with running(
        "the webserver",
        [str(program), f"--python-file={definitions}", f"--port={port}"],
        environment=clean_environment(**settings, DAGSTER_HOME=str(home)),
        log_path=folder / "webserver.log",
    ) as process:
        url = f"http://127.0.0.1:{port}"
        wait_for_http(f"{url}/server_info", process, timeout_seconds=180)
        yield url
