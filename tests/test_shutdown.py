"""Commands end soon after SIGTERM, whatever does not answer them then."""

from __future__ import annotations

import signal
import socket
from pathlib import Path

import pytest

from sora_dagster.environment.values import example_prompts
from sora_dagster.generation.protocol.markers import WebhookUrl
from sora_dagster.local.processes import wait_until
from tests.command_line import started
from tests.s3_server import s3_environment
from tests.serving import silent_server

SECRET = "a-secret-of-the-tests"
DEFINITIONS = str(Path(__file__).parent.parent / "definitions.py")
# More than the 10 s that are promised.
TERMINATION_SECONDS = 40


def address(folder: Path) -> str:
    """The URL that a server prints once it is ready."""
    output = folder / "output.txt"
    assert wait_until(lambda: "listening on " in output.read_text(), timeout_seconds=60)
    return output.read_text().partition("listening on ")[2].split()[0]


def connected(url: str) -> socket.socket:
    host, _, port = url.split("/")[2].partition(":")
    return socket.create_connection((host, int(port)), timeout=30)


def test_a_viewer_ends_although_a_player_reads_no_further(tmp_path: Path) -> None:
    video = tmp_path / "root" / "clips" / "fox" / "video.mp4"
    video.parent.mkdir(parents=True)
    with video.open("wb") as file:
        file.truncate(200_000_000)
    with (
        started(tmp_path, "viewer", "--port=0", "--storage=root") as process,
        connected(address(tmp_path)) as player,
    ):
        player.sendall(b"GET /clips/fox/video.mp4 HTTP/1.1\r\nHost: localhost\r\n\r\n")
        assert player.recv(1000).startswith(b"HTTP/1.1 200")
        process.send_signal(signal.SIGTERM)
        assert process.wait(timeout=TERMINATION_SECONDS) == 143
    assert "Traceback" not in (tmp_path / "output.txt").read_text()


def test_a_receiver_ends_although_a_webhook_is_not_complete(tmp_path: Path) -> None:
    environment = {"SORA_WEBHOOK_SECRET": SECRET}
    with started(tmp_path, "webhook", "--port=0", "--storage=root", **environment) as process:
        url = address(tmp_path)
        signed = WebhookUrl(url, SECRET).for_task("clips", "00000000-0000-4000-8000-000000000001")
        path = "/" + signed.split("/", 3)[3]
        with connected(url) as sender:
            head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n"
            sender.sendall(f"{head}Expect: 100-continue\r\n\r\n".encode())
            # The receiver reads the body now.
            assert sender.recv(1000).startswith(b"HTTP/1.1 100")
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=TERMINATION_SECONDS) == 143
    assert "Traceback" not in (tmp_path / "output.txt").read_text()


@pytest.mark.parametrize(
    ("module", "arguments"),
    [
        ("sora_dagster", ["status", "--offline"]),
        ("sora_dagster", ["webhook", "--port=0"]),
        ("dagster", ["job", "execute", "-f", DEFINITIONS, "-a", "defs", "-j", "collect_clips"]),
    ],
)
def test_a_process_ends_although_the_object_store_does_not_answer(
    tmp_path: Path, module: str, arguments: list[str]
) -> None:
    with silent_server() as url:
        environment = {
            **s3_environment(url),
            "SORA_STORAGE": "s3://bucket/prefix",
            "SORA_WEBHOOK_SECRET": SECRET,
            "SORA_PROMPTS": str(example_prompts()),
            "RUNWARE_API_KEY": "key",
            "DAGSTER_HOME": str(tmp_path),
        }
        with started(tmp_path, *arguments, module=module, **environment) as process:
            assert wait_until(lambda: is_connected(process.pid, url), timeout_seconds=60), (
                tmp_path / "output.txt"
            ).read_text()
            process.send_signal(signal.SIGTERM)
            assert process.wait(timeout=TERMINATION_SECONDS) == 143


def is_connected(pid: int, url: str) -> bool:
    """Whether a process has a connection to a server."""
    port = f":{int(url.rpartition(':')[2]):04X}"
    sockets = {
        line.split()[9]
        for line in Path(f"/proc/{pid}/net/tcp").read_text().splitlines()[1:]
        if line.split()[2].endswith(port) and line.split()[3] == "01"
    }
    links = []
    for entry in Path(f"/proc/{pid}/fd").iterdir():
        try:
            links.append(str(entry.readlink()))
        except FileNotFoundError:
            continue
    return any(f"socket:[{inode}]" in links for inode in sockets)
