"""The command line with wrong input: a clear error, nothing paid, nothing half-written."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.command_line import api_of, run, run_here
from tests.generated import generated
from tests.sandbox_server import KEY, Sandbox

PROMPTS = "clips: [{id: fox, prompt: a fox}, {id: owl, prompt: an owl, duration: 8}]"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "prompts.yaml").write_text(PROMPTS)
    return tmp_path


def test_without_a_key_the_error_says_how_to_get_one_or_run_the_demo(folder: Path) -> None:
    result = run(folder, "generate", "prompts.yaml")
    assert result.returncode == 1
    assert "RUNWARE_API_KEY" in result.stderr
    assert "make demo" in result.stderr
    assert "Traceback" not in result.stderr


def test_an_unknown_delivery_is_reported_with_the_allowed_ones(folder: Path) -> None:
    result = run_here(
        folder, "generate", "prompts.yaml", RUNWARE_API_KEY=KEY, SORA_DELIVERY="pigeon"
    )
    assert result.returncode == 1
    assert "delivery 'pigeon' is not known; allowed are 'direct'" in result.stderr
    assert "Traceback" not in result.stderr


def test_a_wrong_key_is_reported_and_leaves_an_empty_root(folder: Path, sandbox: Sandbox) -> None:
    result = run_here(
        folder,
        "generate",
        "prompts.yaml",
        "--storage=clips",
        RUNWARE_API_KEY="wrong-key-0123456789",
        RUNWARE_BASE_URL=sandbox.base_url,
    )
    assert result.returncode == 1
    assert "key" in result.stderr
    assert "wrong-key-0123456789" not in result.stderr + result.stdout
    assert [path for path in (folder / "clips").rglob("*") if path.is_file()] == []


def test_an_unreachable_api_is_reported(folder: Path) -> None:
    result = run_here(
        folder,
        "generate",
        "prompts.yaml",
        RUNWARE_API_KEY=KEY,
        RUNWARE_BASE_URL="http://127.0.0.1:9/v1",
    )
    assert result.returncode == 1
    assert "127.0.0.1:9" in result.stderr
    assert "Traceback" not in result.stderr


def test_all_mistakes_in_a_dataset_are_reported_at_once(folder: Path) -> None:
    (folder / "bad.jsonl").write_text(
        '{"id": "../../etc/x", "prompt": "a fox"}\n'
        '{"id": "a|b", "prompt": "a fox"}\n'
        '{"id": "short", "prompt": "x"}\n'
        '{"id": "long", "prompt": "' + "x" * 6001 + '"}\n'
        '{"id": "size", "prompt": "a fox", "size": "100x100"}\n'
    )
    result = run_here(folder, "generate", "bad.jsonl", "--storage=clips", RUNWARE_API_KEY=KEY)
    assert result.returncode == 1
    for line in range(1, 6):
        assert f"bad.jsonl:{line}" in result.stderr
    assert not (folder / "clips").exists()


@pytest.mark.parametrize("prompts", ["absent.yaml", "no-such-folder/absent.yaml"])
def test_a_missing_dataset_is_reported(folder: Path, prompts: str) -> None:
    result = run_here(folder, "generate", prompts, "--storage=clips", RUNWARE_API_KEY=KEY)
    assert result.returncode == 1
    assert "absent.yaml" in result.stderr
    assert "Traceback" not in result.stderr
    assert not (folder / "no-such-folder").exists()


def test_a_storage_root_that_cannot_be_written_is_reported(folder: Path, sandbox: Sandbox) -> None:
    (folder / "file").write_text("in the way")
    result = run_here(
        folder,
        "generate",
        "prompts.yaml",
        "--storage=file/clips",
        RUNWARE_API_KEY=KEY,
        RUNWARE_BASE_URL=sandbox.base_url,
    )
    assert result.returncode == 1
    assert "Choose a folder" in result.stderr


def test_a_folder_with_other_files_is_not_used_as_a_storage_root(
    folder: Path, sandbox: Sandbox
) -> None:
    (folder / "clips").mkdir()
    (folder / "clips" / "holiday.jpg").write_bytes(b"")
    before = sandbox.charged()
    result = run_here(
        folder,
        "generate",
        "prompts.yaml",
        "--storage=clips",
        RUNWARE_API_KEY=KEY,
        RUNWARE_BASE_URL=sandbox.base_url,
    )
    assert result.returncode == 1
    assert "holiday.jpg" in result.stderr + result.stdout
    assert sandbox.charged() == before


@pytest.mark.parametrize("limit", ["lots", "-3"])
def test_an_invalid_limit_is_reported(folder: Path, limit: str) -> None:
    result = run_here(
        folder,
        "generate",
        "prompts.yaml",
        f"--max-usd={limit}",
        "--storage=clips",
        RUNWARE_API_KEY=KEY,
    )
    assert result.returncode == 1
    assert f"--max-usd: '{limit}' is not a spending limit" in result.stderr
    assert "'unlimited'" in result.stderr


@pytest.fixture
def taken_port() -> Iterator[int]:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        yield listener.getsockname()[1]


@pytest.mark.parametrize("command", ["sandbox", "webhook", "dev"])
def test_a_port_in_use_is_reported(folder: Path, taken_port: int, command: str) -> None:
    environment = {"SORA_WEBHOOK_SECRET": "s" * 32, "SORA_STORAGE": "clips"}
    result = run_here(folder, command, f"--port={taken_port}", **environment)
    assert result.returncode != 0
    assert str(taken_port) in result.stderr
    assert "--port" in result.stderr
    assert "Traceback" not in result.stderr


def test_the_receiver_needs_a_secret(folder: Path) -> None:
    result = run_here(folder, "webhook")
    assert result.returncode == 1
    assert "SORA_WEBHOOK_SECRET" in result.stderr


def test_an_estimate_shows_every_clip_and_the_total(folder: Path) -> None:
    result = run_here(folder, "estimate", "prompts.yaml")
    assert result.returncode == 0
    assert "3.60 USD" in result.stdout
    assert "fox" in result.stdout


def test_an_estimate_says_how_sure_each_price_is(folder: Path) -> None:
    (folder / "prompts.yaml").write_text(
        "clips:\n"
        "  - {id: fox, prompt: a fox, model: seedance-2.5, size: 1280x720, duration: 4}\n"
        "  - {id: owl, prompt: an owl, model: gen-4.5}\n"
        "  - {id: yak, prompt: a yak, model: veo-3.1-fast, size: 1280x720, duration: 4}\n"
    )
    result = run_here(folder, "estimate", "prompts.yaml")
    assert result.returncode == 0, result.stderr
    fox, owl, yak = (" ".join(line.split()) for line in result.stdout.splitlines()[1:4])
    assert fox == "fox Seedance 2.5 1280x720 4 1 1.15 approximate, +25% margin"
    assert owl == "owl Runway Gen-4.5 1280x720 5 1 unknown unknown"
    assert yak == "yak Veo 3.1 Fast 1280x720 4 1 0.60 published"
    total = "Total: about 1.75 USD (including a margin of 0.23 USD), and 1 of unknown price."
    assert total in " ".join(result.stdout.split())


def test_every_command_has_help(folder: Path) -> None:
    result = run_here(folder, "--help")
    for command in ("sandbox", "webhook", "generate", "estimate", "resolve", "demo", "dev"):
        assert command in result.stdout
        assert run_here(folder, command, "--help").returncode == 0


def test_resolving_needs_a_decision(folder: Path) -> None:
    result = run_here(folder, "resolve", "fox")
    assert result.returncode == 2
    assert "--resend, --retry or --give-up" in result.stderr


def test_resolving_a_clip_that_was_never_requested_is_refused(folder: Path) -> None:
    (folder / "clips").mkdir()
    result = run_here(folder, "resolve", "fox", "--give-up", "--storage=clips")
    assert result.returncode == 1
    assert "never requested" in result.stderr


@pytest.mark.parametrize(
    "command",
    [
        ["status", "--offline"],
        ["verify"],
        ["prune"],
        ["link", "fox"],
        ["resolve", "fox", "--retry"],
    ],
)
def test_a_storage_root_that_does_not_exist_is_refused_and_not_created(
    folder: Path, command: list[str]
) -> None:
    result = run_here(folder, *command, "--storage=typo")
    assert result.returncode == 1
    assert "the folder does not exist. Check --storage and SORA_STORAGE" in result.stderr
    assert not (folder / "typo").exists()


def test_retrying_a_clip_that_was_not_set_aside_is_refused(folder: Path) -> None:
    (folder / "clips").mkdir()
    result = run_here(folder, "resolve", "fox", "--retry", "--storage=clips")
    assert result.returncode == 1
    assert "clips/fox was not set aside" in result.stderr


def test_a_link_plays_a_stored_clip(folder: Path, sandbox: Sandbox) -> None:
    (folder / "prompts.yaml").write_text("clips: [{id: fox, prompt: a fox}]")
    local = {**api_of(sandbox), "SORA_STORAGE": generated(folder, sandbox).root.url}
    result = run_here(folder, "link", "fox", **local)
    assert result.returncode == 0, result.stderr
    assert Path(result.stdout.strip().removeprefix("file://")).read_bytes()[4:8] == b"ftyp"
    unknown = run_here(folder, "link", "ox", **local)
    assert unknown.returncode == 1
    assert "clips/ox is not stored" in unknown.stderr


def test_the_viewer_reports_a_port_in_use(folder: Path) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        result = run_here(folder, "viewer", f"--port={port}", "--storage=clips")
    assert result.returncode == 1
    assert f"cannot listen on 127.0.0.1:{port}" in result.stderr


@pytest.mark.parametrize("wait", ["soon", "0", "inf", "nan"])
def test_an_invalid_number_of_seconds_is_reported(folder: Path, wait: str) -> None:
    result = run_here(folder, "verify", SORA_WEBHOOK_WAIT=wait)
    assert result.returncode == 1
    assert f"SORA_WEBHOOK_WAIT is {wait!r}" in result.stderr
    assert "Traceback" not in result.stderr


# --- the storage root by default


def test_a_dataset_generated_from_two_folders_is_paid_once(
    folder: Path, tmp_path_factory: pytest.TempPathFactory, sandbox: Sandbox
) -> None:
    (folder / "prompts.yaml").write_text("clips: [{id: fox, prompt: a fox}]")
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    first = run(folder, "generate", "prompts.yaml", **api_of(sandbox))
    assert first.returncode == 0, first.stderr
    charged = sandbox.charged()
    again = run(elsewhere, "generate", str(folder / "prompts.yaml"), **api_of(sandbox))
    assert again.returncode == 0, again.stderr
    assert sandbox.charged() == charged
    said = f"Storage root: {(folder / '.sora' / 'storage').resolve().as_uri()}\n"
    assert first.stderr == again.stderr == said
    assert list(elsewhere.iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [("generate", "prompts.yaml"), ("resolve", "fox", "--resend"), ("verify",), ("webhook",)],
)
def test_an_api_that_costs_money_needs_an_explicit_storage_root(
    folder: Path, arguments: tuple[str, ...]
) -> None:
    # The address is reserved, so that nothing can be sent by mistake.
    result = run_here(
        folder,
        *arguments,
        RUNWARE_API_KEY=KEY,
        RUNWARE_BASE_URL="https://runware.invalid/v1",
        SORA_PROMPTS="prompts.yaml",
        SORA_WEBHOOK_SECRET="s" * 32,
    )
    assert result.returncode == 1
    assert "Set SORA_STORAGE (or --storage" in result.stderr
    assert "Traceback" not in result.stderr
    assert [path.name for path in folder.iterdir()] == ["prompts.yaml"]


@pytest.mark.parametrize("decisions", [(), ("--resend", "--give-up")])
def test_a_resolution_is_one_decision(folder: Path, decisions: tuple[str, ...]) -> None:
    result = run_here(folder, "resolve", "fox", *decisions, "--storage=clips")
    assert result.returncode == 2
    assert "choose one of --resend, --retry or --give-up" in result.stderr
    assert [path.name for path in folder.iterdir()] == ["prompts.yaml"]


def test_a_home_that_cannot_be_created_is_reported(folder: Path, sandbox: Sandbox) -> None:
    (folder / ".sora").write_text("in the way")
    result = run_here(folder, "generate", "prompts.yaml", "--storage=clips", **api_of(sandbox))
    assert result.returncode == 1
    assert "Choose another with --home" in result.stderr
    assert "Traceback" not in result.stderr
