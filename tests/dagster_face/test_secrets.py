"""Nothing that is written holds a secret: not the bucket, Dagster's databases, or any log."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest

from sora_dagster.web.webhook import create_app
from tests.dagster_face.conftest import FaultyStack
from tests.sandbox.images import image_bytes
from tests.sandbox_server import KEY
from tests.serving import serving

WEBHOOK_SECRET = "the-secret-of-the-receiver"
USER, PASSWORD = "frame-user", "frame-password"
SIGNATURE, MASK_SIGNATURE = "5ec4e7516e", "5ec4e7mask"
SECRETS = (WEBHOOK_SECRET, USER, PASSWORD, SIGNATURE, MASK_SIGNATURE, KEY)
MASK = f"https://{USER}:{PASSWORD}@example.com/mask.png?X-Amz-Signature={MASK_SIGNATURE}"
LTX = {"model": "lightricks:ltx@2.5-fast", "duration": 6, "settings": {"cameraMovement": MASK}}
FIRST_FAILS = {"fault": "fail", "error": "provider", "nth": [1]}


@pytest.fixture(scope="module")
def frame_url() -> Iterator[str]:
    """A presigned URL with user and password. Only its query gives access to the image."""

    async def app(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            status = 200 if SIGNATURE in scope["query_string"].decode() else 403
            await send({"type": "http.response.start", "status": status, "headers": []})
            await send({"type": "http.response.body", "body": image_bytes(1280, 720)})

    with serving(app) as url:
        yield f"http://{USER}:{PASSWORD}@{url[7:]}/lake.png?X-Amz-Signature={SIGNATURE}"


def row(frame_url: str) -> dict[str, Any]:
    return {"id": "fox", "first_frame": frame_url}


def test_nothing_that_is_written_holds_a_secret(
    faulty: FaultyStack,
    frame_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    caplog.set_level(logging.DEBUG, "sora_dagster")
    stack, sandbox = faulty(FIRST_FAILS)
    home = tmp_path / "home"
    home.mkdir()
    monkeypatch.setenv("SORA_WEBHOOK_SECRET", WEBHOOK_SECRET)
    with (
        dg.DagsterInstance.local_temp(str(home)) as instance,
        serving(create_app(stack.root, WEBHOOK_SECRET)) as receiver,
    ):
        stack.instance = instance
        stack.settings_changes["webhook_url"] = f"{receiver}/runware"
        stack.write(row(frame_url), {"id": "yak", **LTX})
        stack.tick_dataset_sensor()
        assert stack.run_job("request_clips").success
        # Another attempt of the fox takes the full URL from its row.
        assert stack.run_job("collect_clips").success
        assert stack.events("clips", "fox")
        assert stack.events("clips", "yak")
        reports = ["generation_costs", "cost_report", "gallery"]
        assert stack.materialize(reports, [""]).success
    # The sandbox charges the failed attempt, too.
    assert len(sandbox.charged()) == 3
    texts = {
        str(path): path.read_bytes()
        for path in tmp_path.rglob("*")
        if path.is_file() and path != stack.prompts_path
    }
    texts |= {"log": caplog.text.encode(), "output": "".join(capfd.readouterr()).encode()}
    assert any("runs.db" in name for name in texts)
    assert any("clip.json" in name for name in texts)
    assert any(b"/lake.png" in text for text in texts.values())
    found = {(name, it) for name, text in texts.items() for it in SECRETS if it.encode() in text}
    assert found == set()


@pytest.mark.parametrize("signed_again", [False, True])
def test_another_attempt_takes_a_url_from_the_current_row(
    faulty: FaultyStack, frame_url: str, signed_again: bool
) -> None:
    stack, sandbox = faulty(FIRST_FAILS)
    stack.write(row(frame_url))
    assert stack.run_job("request_clips").success
    if signed_again:
        stack.write(row(frame_url + "&X-Amz-Date=20261128"))
    assert stack.run_job("collect_clips").success
    assert stack.events("clips", "fox")
    assert len(sandbox.charged()) == 2


def test_without_its_row_a_failed_clip_stays_retryable(faulty: FaultyStack, frame_url: str) -> None:
    stack, sandbox = faulty(FIRST_FAILS)
    stack.write(row(frame_url))
    assert stack.run_job("request_clips").success
    stack.write({"id": "owl"})
    result = stack.run_job("collect_clips")
    assert not result.success
    assert "the full URL of http" in stack.log_of(result.run_id)
    assert len(sandbox.charged()) == 1
    stack.write(row(frame_url))
    assert stack.run_job("request_clips").success
    assert stack.run_job("collect_clips").success
    assert stack.events("clips", "fox")
    assert len(sandbox.charged()) == 2
