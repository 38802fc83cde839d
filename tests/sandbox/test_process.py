"""The sandbox as a separate process."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.sandbox.api import SandboxApi, until, video_task


@contextmanager
def sandbox_process(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "sora_dagster.sandbox", *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        yield process
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def base_url_of(process: subprocess.Popen[str]) -> str:
    """The base URL from the line that the sandbox prints when it is ready."""
    assert process.stdout is not None
    line = process.stdout.readline()
    assert line.startswith("listening on http://127.0.0.1:")
    assert line.endswith("/v1\n")
    return line.removeprefix("listening on ").strip()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_with_status_0_while_it_renders(number: signal.Signals) -> None:
    with sandbox_process("--latency=0") as process:
        api = SandboxApi(base_url_of(process))
        assert api.post(video_task(width=1920, height=1080, duration=20)).status_code == 200
        process.send_signal(number)
        _, errors = process.communicate(timeout=10)
        assert process.returncode == 0
        assert errors == ""


def test_it_answers_with_the_key_and_limits_of_its_options(tmp_path: Path) -> None:
    with sandbox_process(
        "--key=secret", "--max-tasks=1", "--latency=0", f"--data-dir={tmp_path / 'videos'}"
    ) as process:
        url = base_url_of(process)
        assert SandboxApi(url).post({"taskType": "ping"}).status_code == 401
        api = SandboxApi(url, key="secret")
        assert api.post({"taskType": "ping"}, {"taskType": "ping"}).status_code == 400
        row = api.video()
        stored = tmp_path / "videos" / f"{row['videoUUID']}.mp4"
        assert stored.read_bytes() == api.http.get(row["videoURL"]).content


def test_its_temporary_folder_is_gone_at_its_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    with sandbox_process("--latency=0") as process:
        api = SandboxApi(base_url_of(process))
        api.video()
        assert any(tmp_path.rglob("*.mp4"))
        process.terminate()
        process.communicate(timeout=10)
    assert list(tmp_path.iterdir()) == []


def test_a_running_download_does_not_keep_it_alive() -> None:
    with sandbox_process("--latency=0") as process:
        api = SandboxApi(base_url_of(process))
        row = api.video()
        with api.http.stream("GET", row["videoURL"]):
            process.terminate()
            assert process.wait(timeout=10) == 0


def test_a_port_in_use_is_one_line_and_status_2() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with sandbox_process(f"--port={port}") as process:
            output, errors = process.communicate(timeout=20)
    assert process.returncode == 2
    assert output == ""
    (line,) = errors.splitlines()
    assert f"127.0.0.1:{port}" in line
    assert "address already in use" in line
    assert "--port" in line


def test_it_can_be_killed_without_leaving_a_process_behind() -> None:
    with sandbox_process("--latency=0") as process:
        api = SandboxApi(base_url_of(process))
        api.post(video_task(duration=20))
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        if not children.exists():
            pytest.skip("this system does not list a process's children")
        until(lambda: api.rows, what="an answer")
        assert children.read_text() == ""


def test_it_takes_further_keys_of_other_organizations() -> None:
    with sandbox_process("--extra-key=other=11111111-1111-4111-8111-111111111111") as process:
        url = base_url_of(process)
        assert SandboxApi(url, key="other").post({"taskType": "ping"}).status_code == 200


def test_the_fault_plan_of_a_file_is_in_force_from_the_start(tmp_path: Path) -> None:
    plan = tmp_path / "faults.yaml"
    plan.write_text("rules:\n- {fault: status, event: submission, status: 503, nth: [1]}\n")
    with sandbox_process("--latency=0", f"--faults={plan}") as process:
        api = SandboxApi(base_url_of(process))
        assert [api.post(video_task()).status_code for _ in range(2)] == [503, 200]


def test_with_its_own_folder_it_still_knows_its_tasks_after_a_restart(
    tmp_path: Path,
) -> None:
    folder = f"--data-dir={tmp_path / 'data'}"
    remix = video_task(width=None, height=None)
    with sandbox_process("--latency=0", folder) as process:
        api = SandboxApi(base_url_of(process))
        row = api.video()
        remix["inputs"] = {"videoId": row["outputs"]["videoId"]}
        assert api.post(remix).status_code == 200
        api.results(remix["taskUUID"])
        ledger = api.ledger()
        process.kill()
        process.communicate(timeout=10)
    with sandbox_process("--latency=0", folder) as process:
        api = SandboxApi(base_url_of(process))
        assert until(lambda: api.ledger()["charges"] == ledger["charges"], what="the same ledger")
        again = until(lambda: next(iter(api.rows(row["taskUUID"])), None), what="the video")
        assert again["videoUUID"] == row["videoUUID"]
        assert until(
            lambda: [row for row in api.rows(remix["taskUUID"]) if row["status"] == "success"],
            what="the remix",
        )
        assert api.refusal(remix)["code"] == "conflictTaskUUID"
