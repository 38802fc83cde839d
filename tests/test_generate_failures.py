"""`generate` with real processes: why clips failed, and how to continue."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.command_line import api_of, generate, run
from tests.sandbox_server import sandbox_process

pytestmark = pytest.mark.daemon


def test_a_failed_clip_is_requested_again_with_retry_failed(tmp_path: Path) -> None:
    (tmp_path / "prompts.yaml").write_text("clips: [{id: fox, prompt: a fox}]")
    plan = tmp_path / "faults.yaml"
    plan.write_text("rules: [{fault: fail, error: safety, nth: [1]}]")
    options = ["--latency=0.3", "--reuse-rendered", f"--faults={plan}"]
    with sandbox_process(tmp_path, options) as sandbox:
        for _ in range(2):
            result = run(tmp_path, "generate", "prompts.yaml", **api_of(sandbox))
            assert result.returncode == 1
            assert "fox: failed: " in result.stdout
            assert "run the same command with --retry-failed" in result.stdout
        retried = generate(tmp_path, sandbox, "--retry-failed")
    assert "To generate: 1 failed clip (1.20 USD)" in retried
    assert "1 clip, 1 video, 1.20 USD in total" in retried


def test_a_clip_that_cannot_be_stored_has_its_reason_shown_and_nothing_is_lost(
    tmp_path: Path,
) -> None:
    (tmp_path / "prompts.yaml").write_text("clips: [{id: fox, prompt: a fox}]")
    plan = tmp_path / "faults.yaml"
    plan.write_text("rules: [{fault: download_gone}]")
    options = ["--latency=0.3", "--reuse-rendered"]
    with sandbox_process(tmp_path, [*options, f"--faults={plan}"]) as sandbox:
        result = run(
            tmp_path,
            "generate",
            "prompts.yaml",
            "--stall-timeout-minutes=1",
            PYTHONIOENCODING="ascii",
            **api_of(sandbox),
        )
    lines = result.stdout.splitlines()
    assert result.returncode == 1
    assert any(line.startswith("fox: it was generated and cannot be stored yet") for line in lines)
    assert any(
        line.startswith("fox: generating: it was generated and cannot be stored yet")
        for line in lines
    )
    assert "Nothing changed for 1 min" in result.stdout
    assert "Nothing is lost" in result.stdout


def test_a_message_of_the_api_is_printed_as_it_is_and_once_on_a_terminal_without_unicode(
    tmp_path: Path,
) -> None:
    (tmp_path / "prompts.yaml").write_text(
        "clips: [{id: fox, prompt: a fox}, {id: owl, prompt: an owl that is refused}]"
    )
    plan = tmp_path / "faults.yaml"
    plan.write_text(
        "rules:\n"
        "- {fault: refuse, prompt_contains: refused, message: 'owls [/b] are refused'}\n"
        "- {fault: fail, error: safety, message: 'no [/video/mp4] für :fox:'}\n",
        encoding="utf-8",
    )
    options = ["--latency=0.3", "--reuse-rendered", f"--faults={plan}"]
    with sandbox_process(tmp_path, options) as sandbox:
        result = run(
            tmp_path,
            "generate",
            "prompts.yaml",
            PYTHONIOENCODING="ascii",
            **api_of(sandbox),
        )
    assert (result.returncode, "Traceback" in result.stderr) == (1, False)
    progress, summary = result.stdout.split("API requests: ")
    for part in (progress, summary):
        lines = part.splitlines()
        of_fox = [line for line in lines if "no [/video/mp4] f\\xfcr :fox:" in line]
        of_owl = [line for line in lines if "owls [/b] are refused" in line]
        assert [line.partition(":")[0] for line in of_fox + of_owl] == ["fox", "owl"]
        assert all(line.endswith(".") for line in of_fox + of_owl)
