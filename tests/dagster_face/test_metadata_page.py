"""The page of metadata keys: what events have is on it, and what it names is in the code."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from sora_dagster.generation.requesting.results import RequestState
from tests.dagster_face.stack import Stack, failure_text

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "reference" / "metadata.md").read_text()
SECTIONS = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE))
SOURCE = "\n".join(path.read_text() for path in (ROOT / "sora_dagster").rglob("*.py"))


def keys(subject: str) -> set[str]:
    """The keys in the section about an asset, or "Checks"."""
    [section] = [
        title for title in SECTIONS if title == subject or f"`{subject}`" in title.split(", ")
    ]
    return set(re.findall(r"`([\w/]+)`", SECTIONS[section]))


def test_what_events_of_a_run_have_is_on_the_page(stack: Stack) -> None:
    stack.write(
        {"id": "fox", "tags": ["snow"], "recipes": ["night"], "number_results": 2},
        recipes={"night": "the same at night"},
    )
    stack.tick_dataset_sensor()
    requested = stack.run_job("request_clips")
    assert requested.success, failure_text(requested)
    collected = stack.run_job("collect_clips")
    assert collected.success, failure_text(collected)
    partitions = {
        "prompts": "fox",
        "clip_requests": "fox",
        "clips": "fox",
        "remix_prompts": "fox|night",
        "remix_requests": "fox|night",
        "remixes": "fox|night",
    }
    for asset, partition in partitions.items():
        event = stack.events(asset, partition)[0]
        assert set(event.metadata) <= keys(asset), asset
    checks = [entry.asset_check_evaluation for entry in stack.instance.all_logs(collected.run_id)]
    names = {key for check in checks if check for key in check.metadata}
    assert "checks" in names
    assert names <= keys("Checks")


def test_every_state_of_a_request_is_on_the_page() -> None:
    assert {state.value for state in RequestState} <= keys("clip_requests")


@pytest.mark.parametrize("title", [title for title in SECTIONS if title.startswith("`")])
def test_every_key_on_the_page_is_in_the_code(title: str) -> None:
    first_cells = re.findall(r"^\| (`.*?) \|", SECTIONS[title], re.MULTILINE)
    named = [key for cell in first_cells for key in re.findall(r"`([\w/]+)`", cell)]
    assert named
    # The keys of errors are made from the fields of the error.
    assert [key for key in named if f'"{key.removeprefix("error_")}"' not in SOURCE] == []
