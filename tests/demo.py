"""`sora-dagster demo` as a process, and what it leaves in its folder."""

from __future__ import annotations

import json
from contextlib import AbstractContextManager
from pathlib import Path
from subprocess import Popen
from typing import Any

from sora_dagster.dataset import remix_partition
from sora_dagster.generation.protocol.ledger import Ledger
from sora_dagster.generation.protocol.records import ClipManifest
from sora_dagster.prompts.dataset import PromptDataset
from sora_dagster.storage import StorageRoot
from tests.command_line import started

SMALL = """
clips:
  - {id: fox, prompt: a fox in snow, recipes: [night]}
  - {id: owl, prompt: an owl on a branch}
recipes: {night: the same at night}
"""
# Only ends a test that hangs: on a busy machine the demo takes several minutes.
DEADLINE_SECONDS = 400


def demo(folder: Path, prompts: Path, *arguments: str) -> AbstractContextManager[Popen[str]]:
    """The demo in a folder; ended with the block if it has not ended before."""
    environment = {"SORA_PROMPTS": str(prompts), "COLUMNS": "200"}
    return started(folder, "demo", "--home=home", *arguments, **environment)


def finish(folder: Path, prompts: Path, *arguments: str) -> str:
    """Run the demo to its end; gives what it printed."""
    (folder / "output.txt").unlink(missing_ok=True)
    with demo(folder, prompts, *arguments) as process:
        status = process.wait(timeout=DEADLINE_SECONDS)
    output = (folder / "output.txt").read_text()
    assert status == 0, output
    return output


def ledger_of(folder: Path) -> Ledger:
    return Ledger(StorageRoot(folder / "home" / "storage"))


def charges(folder: Path) -> list[dict[str, Any]]:
    """What the sandbox charged in all its lives."""
    journal = folder / "home" / "sandbox" / "tasks.jsonl"
    if not journal.exists():
        return []
    return [json.loads(line) for line in journal.read_text().splitlines()]


def our_processes(folder: Path) -> list[str]:
    """Command lines of all processes that work in a folder."""
    found = []
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            command = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode()
            environment = (entry / "environ").read_bytes().decode(errors="replace")
            state = (entry / "stat").read_text().rpartition(")")[2].split()[0]
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue
        if state != "Z" and str(folder) in command + environment:
            found.append(command)
    return found


def manifests(folder: Path, dataset: PromptDataset) -> dict[str, ClipManifest | None]:
    ledger = ledger_of(folder)
    found = {clip: ledger.latest_manifest("clips", clip) for clip in dataset.clip_ids}
    for cell in dataset.remix_cells:
        partition = remix_partition(*cell)
        found[partition] = ledger.latest_manifest("remixes", partition)
    return found
