"""`sora-dagster models` with what the local Runware publishes, and its entries used there."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st

from sora_dagster.cli.main import cli
from sora_dagster.runware.catalogue.published.draft import DraftEntry, draft_entry
from sora_dagster.runware.published_catalogue import PublishedAddresses, PublishedCatalogue
from sora_dagster.runware.rules import broken_rules
from sora_dagster.sandbox.server import running_sandbox
from sora_dagster.sandbox.settings import SandboxSettings
from tests.command_line import run, run_here
from tests.runware.model_requests import (
    ENTRIES,
    allowed_requests,
    entry_named,
    forbidden_requests,
)
from tests.runware.published.documents import AIR, EXAMPLE_PATH
from tests.sandbox_server import KEY, sandbox_process

every_model = pytest.mark.parametrize("name", [entry.short_name for entry in ENTRIES])
models_with_rules = pytest.mark.parametrize(
    "name", [entry.short_name for entry in ENTRIES if entry.rules]
)


@pytest.fixture(scope="module")
def base_url() -> Iterator[str]:
    """A sandbox with the built-in models."""
    with running_sandbox(SandboxSettings()) as url:
        yield url


@pytest.fixture(scope="module")
def drafts(base_url: str) -> dict[str, DraftEntry]:
    """The entries made from what the sandbox publishes, by short name."""
    with PublishedCatalogue(PublishedAddresses.for_api(base_url)) as published:
        return {
            entry.short_name: draft_entry(published.model(entry.air), today=date(2026, 11, 28))
            for entry in ENTRIES
        }


def models(base_url: str, *arguments: str) -> Result:
    return CliRunner().invoke(cli, ["models", *arguments], env={"RUNWARE_BASE_URL": base_url})


def test_the_builtin_models_are_what_the_sandbox_publishes(base_url: str) -> None:
    result = models(base_url, "check")
    assert result.exit_code == 0, result.output
    assert f"{len(ENTRIES)} models checked, no differences" in result.stdout


@every_model
def test_every_rule_of_a_published_schema_is_translated(
    name: str, drafts: dict[str, DraftEntry]
) -> None:
    notes = [note for note in drafts[name].notes if "rule" in note.partition(":")[0]]
    assert notes == []


@every_model
@settings(max_examples=40)
@given(data=st.data())
def test_an_entry_made_from_a_schema_allows_what_the_model_takes(
    name: str, data: st.DataObject, drafts: dict[str, DraftEntry]
) -> None:
    request = data.draw(allowed_requests(entry_named(name)))
    assert broken_rules(request, drafts[name].entry) == []


@models_with_rules
@settings(max_examples=40)
@given(data=st.data())
def test_an_entry_made_from_a_schema_refuses_what_the_model_refuses(
    name: str, data: st.DataObject, drafts: dict[str, DraftEntry]
) -> None:
    request, _ = data.draw(forbidden_requests(entry_named(name)))
    assert broken_rules(request, drafts[name].entry) != []


@pytest.mark.daemon
def test_an_added_model_generates(tmp_path: Path) -> None:
    added = run_here(tmp_path, "models", "add", str(EXAMPLE_PATH), "--output", "models.yaml")
    assert added.returncode == 0, added.stderr
    (tmp_path / "prompts.yaml").write_text(
        f"clips: [{{id: fox, prompt: a fox, model: example-video-1, size: 854x480}},"
        f" {{id: owl, prompt: an owl, model: '{AIR}', size: 720x1280, duration: 6}}]"
    )
    with sandbox_process(
        tmp_path, [f"--models={tmp_path / 'models.yaml'}", "--latency=0"]
    ) as sandbox:
        result = run(
            tmp_path,
            "generate",
            "prompts.yaml",
            RUNWARE_API_KEY=KEY,
            RUNWARE_BASE_URL=sandbox.base_url,
            SORA_MODELS=str(tmp_path / "models.yaml"),
            SORA_SCHEMA_CHECK="refuse",
        )
        charges = sandbox.ledger()["charges"]
    assert result.returncode == 0, result.stdout + result.stderr
    assert "854x480" in result.stdout
    assert "720x1280" in result.stdout
    assert len(charges) == 2
    assert "retired" not in result.stdout + result.stderr
