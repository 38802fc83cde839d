"""CPU per clip of requesting and collecting with Dagster's storage on Postgres.

    .venv/bin/python -m benchmarks.events_on_postgres [--clips 100 1000]

It starts a Postgres server (Debian's package `postgresql`) and a local Runware that gives every
video the same tiny file, and runs the jobs `request_clips` and `collect_clips` as processes for two
datasets of different size. The difference between the two is the cost of the clips, without the
start of Python and Dagster. CPU is that of the worker's process, and of all processes of the
database server.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import yaml

from tests.postgres_server import PostgresServer, postgres_programs

KEY = "sandbox-key"
MODELS = [
    {
        "air": "bench:tiny@1",
        "name": "tiny",
        "sizes": {"tiny": ["160x90"]},
        "default_size": "160x90",
        "durations": {"values": [1], "default": 1},
        "prices": {"certainty": "published", "rates": [{"usd_per_second": 0.01}]},
    }
]
SANDBOX = """
import sys, time
from sora_dagster.runware.catalogue import Catalogue
from sora_dagster.sandbox.server import running_sandbox
from sora_dagster.sandbox.settings import SandboxSettings
settings = SandboxSettings(latency_seconds=1, reuse_rendered=True, balance_usd=1_000_000)
with running_sandbox(settings, catalogue=Catalogue.from_yaml(sys.argv[1])) as url:
    print("listening on", url, flush=True)
    while True:
        time.sleep(60)
"""
JOB = """
import sys, dagster as dg
from sora_dagster.local.request_runs import load_code_location
job = load_code_location().resolve_job_def(sys.argv[1])
with dg.DagsterInstance.get() as instance:
    result = job.execute_in_process(
        instance=instance,
        raise_on_error=False,
        run_config={"loggers": {"console": {"config": {"log_level": "CRITICAL"}}}},
    )
for event in result.all_events:
    if event.is_failure:
        print(event.message, event.event_specific_data, file=sys.stderr)
sys.exit(0 if result.success else 1)
"""


@contextlib.contextmanager
def _sandbox(folder: Path, environment: dict[str, str]) -> Iterator[str]:
    log = (folder / "sandbox.log").open("w+")
    process = subprocess.Popen(
        [sys.executable, "-c", SANDBOX, str(folder / "models.yaml")],
        stdout=log,
        stderr=subprocess.STDOUT,
        env=environment,
    )
    try:
        while True:
            lines = Path(log.name).read_text().splitlines()
            if found := [line for line in lines if line.startswith("listening on ")]:
                yield found[0].removeprefix("listening on ").strip()
                return
            if process.poll() is not None:
                sys.exit("\n".join(lines))
            time.sleep(0.1)
    finally:
        process.terminate()
        process.wait()


def _run_job(name: str, environment: dict[str, str]) -> tuple[float, float]:
    """CPU and wall time of one run, in seconds."""
    before, began = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    done = subprocess.run([sys.executable, "-c", JOB, name], env=environment, check=False)
    if done.returncode:
        sys.exit(f"{name} failed")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return cpu, time.monotonic() - began


def measure(clips: int) -> dict[str, float]:
    """What a dataset of so many clips costs, from request to stored."""
    with tempfile.TemporaryDirectory(prefix="events-on-postgres-") as name:
        folder = Path(name)
        home = folder / "dagster"
        home.mkdir()
        programs = postgres_programs()
        if programs is None:
            sys.exit("Postgres is not installed; on Debian: apt-get install postgresql")
        database = PostgresServer(programs)
        try:
            config = {
                "storage": {"postgres": {"postgres_url": database.url}},
                "telemetry": {"enabled": False},
            }
            (home / "dagster.yaml").write_text(yaml.safe_dump(config))
            (folder / "models.yaml").write_text(yaml.safe_dump(MODELS))
            rows = [
                {"id": f"clip-{number:05d}", "prompt": f"clip {number}", "model": "bench:tiny@1"}
                for number in range(clips)
            ]
            (folder / "prompts.jsonl").write_text("\n".join(map(json.dumps, rows)))
            environment = {
                **os.environ,
                "RUNWARE_API_KEY": KEY,
                "DAGSTER_HOME": str(home),
                "SORA_STORAGE": str(folder / "storage"),
                "SORA_PROMPTS": str(folder / "prompts.jsonl"),
                "SORA_MODELS": str(folder / "models.yaml"),
                "SORA_MAX_USD": "unlimited",
            }
            with _sandbox(folder, environment) as base_url:
                environment["RUNWARE_BASE_URL"] = base_url
                database_before = database.cpu_seconds()
                request_cpu, request_wall = _run_job("request_clips", environment)
                collect_cpu, collect_wall = _run_job("collect_clips", environment)
                database_cpu = database.cpu_seconds() - database_before
                books = httpx.get(base_url.removesuffix("/v1") + "/sandbox/ledger").json()
            events = _count_events(environment)
            return {
                "clips": clips,
                "request CPU s": request_cpu,
                "collect CPU s": collect_cpu,
                "database CPU s": database_cpu,
                "wall s": request_wall + collect_wall,
                "polls": books["posts"]["polls"],
                "charges": len(books["charges"]),
                **events,
            }
        finally:
            database.stop()
            database.remove()


def _count_events(environment: dict[str, str]) -> dict[str, int]:
    """How many events of each kind stand in Dagster's log, and materializations of clips."""
    count = """
import json, dagster as dg
with dg.DagsterInstance.get() as instance:
    clips = instance.fetch_materializations(dg.AssetKey("clips"), limit=10_000).records
    requests = instance.fetch_materializations(dg.AssetKey("clip_requests"), limit=10_000)
    checks = 0
    for run in instance.get_runs():
        kind = dg.DagsterEventType.ASSET_CHECK_EVALUATION
        checks += len(instance.all_logs(run.run_id, of_type=kind))
print(json.dumps({"materializations of clips": len(clips),
    "of clip_requests": len(requests.records), "check evaluations": checks}))
"""
    done = subprocess.run(
        [sys.executable, "-c", count], env=environment, check=True, capture_output=True, text=True
    )
    found: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--clips", type=int, nargs=2, default=[100, 1000])
    few, many = (measure(clips) for clips in parser.parse_args().clips)
    names = list(few)
    print("| " + " | ".join(names) + " |")
    print("|" + " ---: |" * len(names))
    for row in (few, many):
        print("| " + " | ".join(f"{row[name]:,.4g}" for name in names) + " |")
    more = many["clips"] - few["clips"]
    worker = sum(many[name] - few[name] for name in ("request CPU s", "collect CPU s")) / more
    database = (many["database CPU s"] - few["database CPU s"]) / more
    print(f"\na clip: {worker:.3f} s CPU in the worker, {database:.3f} s in the database")


if __name__ == "__main__":
    main()
