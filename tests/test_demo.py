"""The whole way with real processes: sandbox, receiver, Dagster daemon, and the command line."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from sora_dagster.dataset import remix_partition
from sora_dagster.generation.protocol.ledger import Ledger
from sora_dagster.generation.protocol.records import ClipManifest
from sora_dagster.local.processes import wait_until
from sora_dagster.prompts.dataset import PromptDataset, load_dataset
from sora_dagster.runware.catalogue import Catalogue
from sora_dagster.settings import example_prompts
from sora_dagster.storage import StorageRoot
from tests.command_line import clean_environment
from tests.media.probing import probe

pytestmark = pytest.mark.daemon

SMALL = """
clips:
  - {id: fox, prompt: a fox in snow, recipes: [night]}
  - {id: owl, prompt: an owl on a branch}
recipes: {night: the same at night}
"""
DEADLINE_SECONDS = 150


@contextmanager
def demo(folder: Path, prompts: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """The demo in a folder; ended with the block if it has not ended before."""
    with (folder / "output.txt").open("a") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "sora_dagster", "demo", "--home=home", *arguments],
            cwd=folder,
            env=clean_environment(SORA_PROMPTS=str(prompts), COLUMNS="200"),
            stdout=output,
            stderr=subprocess.STDOUT,
            text=True,
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait()


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


def test_the_example_dataset_goes_from_rows_to_stored_remixes_by_webhook_and_sensor(
    tmp_path: Path,
) -> None:
    dataset = load_dataset(example_prompts(), catalogue=Catalogue.builtin())
    output = finish(tmp_path, example_prompts(), "--latency=1")
    stored = manifests(tmp_path, dataset)
    assert all(stored.values()), output

    # Only what the dataset asks for was bought, in one POST for the clips and one for the remixes.
    assert len(charges(tmp_path)) == len(dataset.clips) + len(dataset.remix_cells)
    assert "2 submissions" in output
    assert f"{sum(charge['cost'] for charge in charges(tmp_path)):.2f} USD in total" in output

    # The page that the output names shows every clip.
    [page] = re.findall(r"Gallery: file://(\S+)", output)
    for manifest in stored.values():
        assert manifest is not None
        assert manifest.videos[0].key in Path(page).read_text()

    # Everything went by webhook: no poll was made before a marker came, and none is left.
    root = ledger_of(tmp_path).root
    for folder in ("pending", "inbox"):
        assert list(root.list(folder)) == []
    log = (tmp_path / "home" / "logs" / "daemon.log").read_text()
    assert re.search(r"outstanding, [1-9]\d* markers have arrived", log)

    # Every video decodes to its end, and is what was asked for.
    for clip, manifest in stored.items():
        assert manifest is not None
        spec = manifest.request.spec
        for video in manifest.videos:
            with root.open(video.key) as file:
                media = probe(file)
            if spec.size is not None:
                assert (media.width, media.height) == spec.size, clip
            if spec.duration_seconds is not None:
                assert media.duration_seconds == pytest.approx(
                    spec.duration_seconds, abs=1 / media.frames_per_second
                )
            assert media.audio_codec is not None
        assert len(manifest.videos) == spec.number_results

    # A second pass over the unchanged dataset requests nothing and pays nothing.
    again = finish(tmp_path, example_prompts())
    assert "Nothing was generated or paid" in again
    assert "0 submissions" in again
    assert len(charges(tmp_path)) == len(stored)
    assert our_processes(tmp_path) == []


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_an_interrupted_run_leaves_no_process_and_can_be_continued(
    tmp_path: Path, end: signal.Signals
) -> None:
    prompts = tmp_path / "prompts.yaml"
    prompts.write_text(SMALL)
    with demo(tmp_path, prompts, "--latency=3") as process:
        assert wait_until(lambda: len(charges(tmp_path)) >= 2, timeout_seconds=DEADLINE_SECONDS), (
            tmp_path / "output.txt"
        ).read_text()
        process.send_signal(end)
        status = process.wait(timeout=60)
    assert status == {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: -9}[end]
    assert wait_until(lambda: our_processes(tmp_path) == [], timeout_seconds=60), our_processes(
        tmp_path
    )
    finish(tmp_path, prompts, "--latency=1")
    dataset = load_dataset(prompts, catalogue=Catalogue.builtin())
    assert all(manifests(tmp_path, dataset).values())
    assert len({charge["taskUUID"] for charge in charges(tmp_path)}) == 3
    assert len(charges(tmp_path)) == 3


def test_two_demos_in_one_folder_are_refused(tmp_path: Path) -> None:
    prompts = tmp_path / "prompts.yaml"
    prompts.write_text(SMALL)
    with demo(tmp_path, prompts) as first:
        assert wait_until(
            lambda: (
                (tmp_path / "home" / "lock").exists()
                and (tmp_path / "home" / "lock").read_text() == str(first.pid)
            ),
            timeout_seconds=60,
        )
        with demo(tmp_path, prompts) as second:
            assert second.wait(timeout=60) == 1
    assert "is in use" in (tmp_path / "output.txt").read_text()
