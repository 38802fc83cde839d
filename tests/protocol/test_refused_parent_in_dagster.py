"""In Dagster, a parent whose UUID is refused costs one remix, and no signature is recorded."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pytest

from sora_dagster.sandbox.server import running_sandbox
from sora_dagster.sandbox.settings import SandboxSettings
from tests.dagster_face.stack import Stack
from tests.protocol.faulty_sandbox import FaultySandbox
from tests.protocol.invariants import SECRETS, secrets_in
from tests.sandbox_server import KEY


def test_no_signature_is_recorded_where_a_parents_uuid_is_refused(
    tmp_path: Path, s3_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("RUNWARE_API_KEY", KEY)
    monkeypatch.setenv("DAGSTER_DISABLE_TELEMETRY", "yes")
    monkeypatch.setenv("DAGSTER_HOME", str(tmp_path / "dagster"))
    (tmp_path / "dagster").mkdir()
    (tmp_path / "dagster" / "dagster.yaml").write_text("telemetry: {enabled: false}\n")
    settings = SandboxSettings(latency_seconds=0.05, reuse_rendered=True)
    with (
        running_sandbox(settings) as base_url,
        dg.DagsterInstance.from_config(str(tmp_path / "dagster")) as instance,
    ):
        faults = FaultySandbox(base_url)
        faults.set_faults(rules=[{"fault": "refuse_video_uuids"}])
        stack = Stack(tmp_path, base_url, instance, storage_url=s3_url)
        stack.write(
            {
                "id": "fox",
                "model": "veo-3.1-fast",
                "size": "1280x720",
                "duration": 4,
                "recipes": ["longer"],
            },
            recipes={"longer": {"prompt": "It runs on.", "mode": "extend"}},
        )
        assert stack.run_job("request_clips").success
        assert stack.run_job("collect_clips").success
        assert len(stack.events("remixes", "fox|longer")) == 1
        assert faults.struck() == {"refuse_video_uuids": 1}
        charges = faults.books()["charges"]
        assert len(charges) == len({charge["taskUUID"] for charge in charges}) == 2
        attempts = [
            attempt
            for take in stack.ledger.takes("remixes", "fox|longer")
            for attempt in take.attempts
        ]
        assert [attempt.carrier for attempt in attempts] == ["uuid", "address"]
        assert secrets_in(stack.root) == []
    recorded = {
        path: path.read_bytes() for path in (tmp_path / "dagster").rglob("*") if path.is_file()
    }
    assert any(path.suffix == ".db" and b"fox|longer" in body for path, body in recorded.items())
    for path, body in recorded.items():
        assert [secret for secret in SECRETS if secret in body] == [], path
