"""`generate` with real processes: changed rows are kept or bought as wanted."""

from __future__ import annotations

from pathlib import Path

import pytest

from sora_dagster.generation.library.removed_rows import RemovedRows
from sora_dagster.storage import StorageRoot
from tests.command_line import api_of, generate, generate_on_a_terminal, run
from tests.sandbox_server import Sandbox

pytestmark = pytest.mark.daemon

REMIXED = """
recipes: {{night: {night}}}
clips: [{{id: fox, prompt: {prompt}, take: {take}, recipes: [night]}}]
"""
CHANGED = "1 row changed and 1 remix depends on new takes; new takes would cost 2.40 USD"


def write(folder: Path, *, prompt: str = "a fox", night: str = "at night", take: int = 1) -> None:
    (folder / "prompts.yaml").write_text(REMIXED.format(prompt=prompt, night=night, take=take))


def test_a_changed_row_and_its_remix_are_bought_after_confirmation(
    tmp_path: Path, sandbox: Sandbox
) -> None:
    write(tmp_path)
    before = len(sandbox.charged())
    first = generate(tmp_path, sandbox)
    assert "To generate: 2 new clips (2.40 USD). Estimated total: 2.40 USD" in first
    assert len(sandbox.charged()) == before + 2

    write(tmp_path, prompt="a red fox")
    kept = generate(tmp_path, sandbox)
    assert CHANGED in kept
    assert "fox: its row changed; take 1 is kept; a new take would cost 1.20 USD" in kept
    assert "run the same command with --regenerate-changed" in kept

    question = f"{CHANGED}. Generate them? [y/N]"
    assert question in generate_on_a_terminal(tmp_path, sandbox, "n")
    assert len(sandbox.charged()) == before + 2

    bought = generate_on_a_terminal(tmp_path, sandbox, "y")
    assert question in bought
    assert "paid now: 2.40 USD" in bought
    assert len(sandbox.charged()) == before + 4
    assert "Nothing was generated or paid" in generate(tmp_path, sandbox)


def test_a_raised_take_is_bought_without_confirmation_and_its_remix_is_kept(
    tmp_path: Path, sandbox: Sandbox
) -> None:
    write(tmp_path)
    before = len(sandbox.charged())
    generate(tmp_path, sandbox)
    write(tmp_path, take=2)
    raised = generate(tmp_path, sandbox)
    assert "To generate: 1 raised take (1.20 USD)" in raised
    assert len(sandbox.charged()) == before + 3
    assert "fox|night: the video of its parent fox changed; take 1 is kept" in raised

    write(tmp_path, take=2, night="in moonlight")
    kept = generate(tmp_path, sandbox)
    assert "1 row changed; new takes would cost 1.20 USD" in kept
    assert len(sandbox.charged()) == before + 3
    bought = generate(tmp_path, sandbox, "--regenerate-changed")
    assert "To generate: 1 changed row (1.20 USD)" in bought
    assert len(sandbox.charged()) == before + 4


def test_a_video_that_is_fetched_again_is_not_counted_as_paid_now(
    tmp_path: Path, sandbox: Sandbox
) -> None:
    (tmp_path / "prompts.yaml").write_text("clips: [{id: fox, prompt: a fox}]")
    before = len(sandbox.charged())
    assert "paid now: 1.20 USD" in generate(tmp_path, sandbox)
    [manifest] = tmp_path.glob(".sora/storage/clips/clips/*/take-1/clip.json")
    manifest.unlink()
    assert "1.20 USD in total; paid now: 0.00 USD" in generate(tmp_path, sandbox)
    assert manifest.exists()
    assert len(sandbox.charged()) == before + 1


PROJECT = """
import dagster as dg
import sora_dagster as sora

settings = sora.Settings.from_environment()
dataset, storage = settings.dataset(), settings.storage()
clips = dg.Definitions(
    assets=[*sora.build_clip_assets(dataset), *sora.build_remix_assets(dataset)],
    jobs=[sora.build_request_job(dataset), sora.build_collect_job(dataset)],
    resources={
        "runware": settings.runware(),
        "clip_storage": storage,
        "clip_io_manager": sora.ClipIOManager(storage=storage),
    },
)


@dg.asset
def brief() -> None: ...


defs = dg.Definitions.merge(clips, dg.Definitions(assets=[brief]))
print("the definitions of the project")
"""


def test_the_definitions_of_the_project_are_used(tmp_path: Path, sandbox: Sandbox) -> None:
    (tmp_path / "definitions.py").write_text(PROJECT)
    (tmp_path / "workspace.yaml").write_text(
        "load_from: [{python_file: {relative_path: definitions.py, attribute: defs}}]"
    )
    (tmp_path / "prompts.yaml").write_text("clips: [{id: fox, prompt: a fox}]")
    printed = generate(tmp_path, sandbox)
    assert "1 clip, 1 video" in printed
    for job in ("sync_dataset", "make_reports"):
        assert f"{job} was not run" in printed
    (log,) = tmp_path.glob(".sora/generate/*/logs/collect.log")
    assert "the definitions of the project" in log.read_text()


def test_a_project_without_the_collecting_job_is_refused_before_anything_is_paid(
    tmp_path: Path, sandbox: Sandbox
) -> None:
    (tmp_path / "definitions.py").write_text("import dagster as dg\ndefs = dg.Definitions()\n")
    (tmp_path / "workspace.yaml").write_text("load_from: [{python_file: definitions.py}]")
    (tmp_path / "prompts.yaml").write_text("clips: [{id: fox, prompt: a fox}]")
    before = sandbox.charged()
    result = run(tmp_path, "generate", "prompts.yaml", **api_of(sandbox))
    assert result.returncode == 1
    assert "collect_clips" in result.stderr
    assert "Traceback" not in result.stderr
    assert sandbox.charged() == before


def test_a_removed_row_is_marked_in_the_gallery(tmp_path: Path, sandbox: Sandbox) -> None:
    (tmp_path / "prompts.yaml").write_text(
        "clips: [{id: fox, prompt: a fox}, {id: owl, prompt: an owl}]"
    )
    generate(tmp_path, sandbox)
    (tmp_path / "prompts.yaml").write_text(
        "clips: [{id: fox, prompt: a fox}, {id: hare, prompt: a hare}]"
    )
    generate(tmp_path, sandbox)
    root = StorageRoot(tmp_path / ".sora" / "storage")
    removed = RemovedRows(root).of_asset("clips")
    assert [clip for clip in ("fox", "owl", "hare") if clip in removed] == ["owl"]
