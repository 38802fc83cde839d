"""Prometheus metrics of the receiver and of a storage root, read by Prometheus' own parser."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import httpx
from prometheus_client.parser import text_string_to_metric_families

from sora_dagster.generation.protocol.ledger import Ledger
from sora_dagster.generation.protocol.markers import WebhookUrl
from sora_dagster.generation.status.root_status import RootStatus, SpendingStatus
from sora_dagster.storage import StorageError, StorageRoot
from sora_dagster.web.counters import REFUSAL_REASONS
from sora_dagster.web.metrics import STATUS_SECONDS, StatusCache
from sora_dagster.web.webhook import create_app
from tests.command_line import api_of, run_here
from tests.generated import generated
from tests.sandbox_server import Sandbox
from tests.serving import serving

SECRET = "a secret of more than thirty-two characters"


def samples(text: str) -> dict[tuple[str, ...], float]:
    """The values by name and labels."""
    return {
        (sample.name, *(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_the_receiver_counts_what_it_accepts_and_refuses(ledger: Ledger) -> None:
    task_uuid = ledger.task_uuid("clips", "fox", 1, 1)
    ledger.take_right_to_send(task_uuid)
    with serving(create_app(ledger.root, SECRET)) as url:
        address = WebhookUrl(f"{url}/runware", SECRET).for_task("default", task_uuid)
        for _ in range(2):
            httpx.post(address, json={"videoUUID": "v"})
        httpx.post(f"{address}0", json={})
        answer = httpx.get(f"{url}/metrics")
    assert answer.headers["content-type"].startswith("text/plain; version=0.0.4")
    found = samples(answer.text)
    assert found["sora_dagster_webhooks_accepted_total", "marker"] == 1
    assert found["sora_dagster_webhooks_accepted_total", "duplicate"] == 1
    assert found["sora_dagster_webhooks_refused_total", "signature"] == 1
    reasons = {key[1] for key in found if key[0] == "sora_dagster_webhooks_refused_total"}
    assert reasons == set(REFUSAL_REASONS)
    # Nothing of the storage root, which anyone could make it list.
    assert {key[0] for key in found} == {
        "sora_dagster_webhooks_accepted_total",
        "sora_dagster_webhooks_refused_total",
    }


def test_the_command_prints_the_state_of_the_root_as_metrics(
    tmp_path: Path, sandbox: Sandbox
) -> None:
    (tmp_path / "prompts.yaml").write_text("clips:\n- {id: fox, prompt: a fox}\n")
    environment = {
        **api_of(sandbox),
        "SORA_STORAGE": generated(tmp_path, sandbox).root.url,
        "SORA_MAX_USD_PER_DAY": "500",
    }
    printed = run_here(tmp_path, "status", "--metrics", **environment)
    assert printed.returncode == 0, printed.stdout + printed.stderr
    [name] = {key[1] for key in samples(printed.stdout) if key[0] == "sora_dagster_markers_waiting"}
    found = samples(printed.stdout)
    assert found["sora_dagster_clips_stored_total", name] == 1
    assert found["sora_dagster_tasks", name, "accepted"] == 0
    assert found["sora_dagster_oldest_task_seconds", name] == 0
    assert found["sora_dagster_day_limit_usd",] == 500
    assert found["sora_dagster_spent_today_usd",] > 0
    assert found["sora_dagster_balance_usd",] > 0
    assert found["sora_dagster_runware_up", ""] == 1

    shown = run_here(tmp_path, "status", **environment)
    assert shown.returncode == 0, shown.stdout + shown.stderr
    assert "none outstanding" in shown.stdout
    assert "1 clips stored so far" in shown.stdout
    assert "Nothing needs attention." in shown.stdout

    environment["SORA_MAX_USD_PER_DAY"] = "0.01"
    short = run_here(tmp_path, "status", "--json", "--offline", **environment)
    assert short.returncode == 1
    assert '"subject": "budget_use"' in short.stdout


def test_the_root_is_read_at_most_every_30_seconds_whoever_asks(tmp_path: Path) -> None:
    now, reads = [0.0], []

    def read() -> RootStatus:
        reads.append(now[0])
        if len(reads) == 2:
            raise StorageError("the store is away")
        spending = SpendingStatus(day_usd=1.0, day_limit_usd=None)
        at = datetime(2026, 1, 1, tzinfo=UTC)
        return RootStatus(url="memory://", at=at, datasets=(), spending=spending)

    app = create_app(StorageRoot("memory://"), SECRET, read_status=read, monotonic=lambda: now[0])
    with serving(app) as url:
        for _ in range(3):
            found = samples(httpx.get(f"{url}/metrics").text)
            assert found["sora_dagster_spent_today_usd",] == 1
        now[0] = STATUS_SECONDS
        # An error leaves them out; the counters of the receiver are still there.
        found = samples(httpx.get(f"{url}/metrics").text)
    assert ("sora_dagster_spent_today_usd",) not in found
    assert ("sora_dagster_webhooks_accepted_total", "marker") in found
    assert reads == [0.0, STATUS_SECONDS]
    assert StatusCache(read, clock=lambda: now[0]).status() is not None
