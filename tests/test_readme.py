"""The examples, links and paths in the README and in docs/ are right."""

from __future__ import annotations

import re
from pathlib import Path

import dagster as dg
import pytest

import docs_hook
from sora_dagster.environment.declarations import settings_table
from sora_dagster.prompts.dataset import load_dataset
from sora_dagster.runware.catalogue import Catalogue

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text()
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md")), ROOT / "benchmarks/README.md"]


def blocks(language: str) -> list[str]:
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def test_the_definitions_load(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT / "examples")  # it names a dataset, which the examples have
    [code] = blocks("python")
    names: dict[str, object] = {}
    exec(code, names)
    definitions = names["defs"]
    assert isinstance(definitions, dg.Definitions)
    dg.Definitions.validate_loadable(definitions)
    assert [schedule.name for schedule in definitions.schedules or ()] == ["generation_schedule"]


def test_the_dataset_is_one(tmp_path: Path) -> None:
    [dataset] = blocks("yaml")
    (tmp_path / "prompts.yaml").write_text(dataset)
    loaded = load_dataset(tmp_path / "prompts.yaml", catalogue=Catalogue.builtin())
    assert loaded.remix_cells == (("night-market", "snowfall"),)


def test_the_examples_of_storage_resources_run() -> None:
    names: dict[str, object] = {}
    examples = re.findall(
        r"```python\n(.*?)```", (ROOT / "docs/how-to/storage.md").read_text(), re.DOTALL
    )
    assert len(examples) == 3
    for example in examples:
        exec(example, names)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_and_pictures_lead_somewhere(page: Path) -> None:
    for link in re.findall(r"\]\(([^)]+)\)", page.read_text()):
        if not link.startswith("http"):
            path, _, anchor = link.partition("#")
            target = page.parent / path if path else page
            assert target.exists(), link
            assert not anchor or anchor in anchors(target), link


def anchors(page: Path) -> set[str]:
    text = page.read_text().replace("<!-- python -->", docs_hook.python_names())
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    slugs = {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}
    return slugs | set(re.findall(r"^::: (\S+)$", text, re.MULTILINE))


def test_tests_that_the_guarantees_name_exist() -> None:
    rows = re.findall(
        r"^\|.*`tests/.*$", (ROOT / "docs/explanation/guarantees.md").read_text(), re.MULTILINE
    )
    assert len(rows) > 10
    for row in rows:
        folder = Path()
        for name in re.findall(r"`([\w/]+(?:\.py|/))`", row):
            # A name without a folder is in the folder of the one before it.
            path = Path(name) if name.startswith("tests/") else folder / name
            folder = path.parent
            assert (ROOT / path).exists(), path


def test_the_table_of_settings_lists_every_variable() -> None:
    rows = [f"| `{v.name}` | {v.description} | {v.default} |" for v in settings_table()]
    assert "\n".join(rows) in (ROOT / "docs/reference/settings.md").read_text()
