"""The pages of the documentation site: their examples run, and the site builds."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
import yaml

import sora_dagster as sora
from docs_hook import commands_text
from sora_dagster.prompts.boards import load_board
from sora_dagster.prompts.dataset import load_dataset
from sora_dagster.runware.catalogue import Catalogue
from tests.command_line import api_of, run
from tests.sandbox_server import Sandbox

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
# Its examples need each other: test_readme.py.
STORAGE = DOCS / "how-to/storage.md"
# The help of each command.
HELP = dict(re.findall(r"^## (.+?)\n(.*?)(?=^## |\Z)", commands_text(), re.DOTALL | re.MULTILINE))
# What a page calls its datasets, and the examples do not have.
OTHER_DATASETS = ("ads.yaml", "trailers.yaml")


def blocks(language: str) -> list[object]:
    return [
        pytest.param(block, id=f"{page.stem}-{number}")
        for page in PAGES
        for number, block in enumerate(
            re.findall(rf"```{language}\n(.*?)```", page.read_text(), flags=re.DOTALL)
        )
        if page != STORAGE
    ]


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the files that the pages name."""
    shutil.copytree(ROOT / "examples", tmp_path, dirs_exist_ok=True)
    for name in OTHER_DATASETS:
        shutil.copy(ROOT / "examples/prompts.yaml", tmp_path / name)
    page = (DOCS / "how-to/another-model.md").read_text()
    entries = [e for e in re.findall(r"```yaml\n(.*?)```", page, re.DOTALL) if "air:" in e]
    (tmp_path / "models.yaml").write_text("\n".join(entries))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("code", blocks("python"))
def test_definitions_of_a_page_load(code: str) -> None:
    names: dict[str, object] = {}
    exec(code, names)
    if "defs" in code:
        definitions = names["defs"]
        assert isinstance(definitions, dg.Definitions)
        dg.Definitions.validate_loadable(definitions)
    else:
        assert isinstance(names["dataset"], sora.VideoDataset)


@pytest.mark.parametrize("text", blocks("yaml"))
def test_files_of_a_page_are_valid(text: str, project: Path) -> None:
    path = project / "page.yaml"
    path.write_text(text)
    if text.startswith("shots:"):
        assert [shot.parent for shot in load_board(path, catalogue=Catalogue.builtin()).shots] == [
            None,
            "monsoon",
            "dawn",
        ]
    elif text.startswith("clips:"):
        assert load_dataset(path, catalogue=Catalogue.builtin()).clip_ids
    elif text.startswith("- air:"):
        [entry] = yaml.safe_load(text)
        assert Catalogue.from_yaml(path).get(entry["air"]).name == entry["name"]
    else:
        assert yaml.safe_load(text)


def test_storyboards_of_the_page_on_projects_are_collected_with_its_dataset(project: Path) -> None:
    page = (DOCS / "how-to/own-project.md").read_text()
    code = next(b for b in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "boards=[" in b)
    names: dict[str, Any] = {}
    exec(code, names)
    sensor = names["defs"].resolve_sensor_def("completion_sensor")
    assert sensor.metadata["sora_dagster/datasets"].value == ["default", "mangrove"]


def commands() -> list[object]:
    """Every call of the command line in the README and on the pages."""
    texts = {page.stem: page.read_text() for page in [ROOT / "README.md", *PAGES]}
    pattern = r"(sora-dagster [a-z][^`#\n]*)"
    calls = []
    for stem, text in texts.items():
        fenced = "\n".join(re.findall(r"^```\w*\n(.*?)^```", text, re.DOTALL | re.MULTILINE))
        prose = re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE)
        found = re.findall(rf"(?:^|=sandbox-key ){pattern}", fenced, re.MULTILINE)
        found += re.findall(f"`{pattern}`", prose)
        calls += [pytest.param(call, id=f"{stem}-{number}") for number, call in enumerate(found)]
    return calls


@pytest.mark.parametrize("call", commands())
def test_commands_and_options_of_a_page_exist(call: str) -> None:
    words = re.sub(r"[\[\]|]", " ", call).split()
    path = "sora-dagster"
    for word in words[1:]:
        if f"{path} {word}" not in HELP:
            break
        path += f" {word}"
    assert path != "sora-dagster"
    options = re.findall(r"(?<![\w-])--[a-z-]+", HELP[path])
    assert {word for word in words if word.startswith("--")} <= set(options)


@pytest.mark.daemon
def test_the_start_page_leads_to_a_clip(tmp_path: Path, sandbox: Sandbox) -> None:
    page = (DOCS / "start.md").read_text()
    [dataset] = re.findall(r"```yaml\n(.*?)```", page, flags=re.DOTALL)
    commands = re.findall(
        r"^sora-dagster ((?:estimate|generate) prompts\.yaml)$", page, re.MULTILINE
    )
    assert [command.split()[0] for command in commands] == ["estimate", "generate"]
    (tmp_path / "prompts.yaml").write_text(dataset)
    for command in commands:
        result = run(tmp_path, *command.split(), **api_of(sandbox))
        assert result.returncode == 0, result.stdout + result.stderr
    assert len(list((tmp_path / ".sora/storage/clips").rglob("*.mp4"))) == 1


def test_the_site_builds_with_all_links_right(tmp_path: Path) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    settings = (tmp_path / "reference/settings.html").read_text()
    assert "SORA_MAX_USD" in settings
    assert "facts_from" in (tmp_path / "reference/manifest.html").read_text()
    assert "build_definitions" in (tmp_path / "reference/python.html").read_text()
    assert "sora-dagster generate" in (tmp_path / "reference/cli.html").read_text()
    pages = [page.read_text() for page in tmp_path.rglob("*.html")]
    # Nothing is loaded from another server.
    assert not [page for page in pages if re.search(r'(?:src|<link[^>]+href)="https?://', page)]


@pytest.mark.parametrize("name", ["CONTRIBUTING.md", "AGENTS.md", "SECURITY.md"])
def test_paths_that_a_page_names_exist(name: str) -> None:
    paths = re.findall(
        r"`((?:sora_dagster|tests|docs|benchmarks|examples)/[\w./-]*)`", (ROOT / name).read_text()
    )
    assert paths or name == "SECURITY.md"
    assert [path for path in paths if not (ROOT / path).exists()] == []


def test_the_wheel_and_the_sdist_have_what_users_need(tmp_path: Path) -> None:
    source = tmp_path / "source"
    listed = subprocess.run(
        ["git", "ls-files"], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()
    for name in listed:
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, source / name)
    result = subprocess.run(
        [
            sys.executable,
            "-m",
            "build",
            "--no-isolation",
            "--outdir",
            str(tmp_path / "dist"),
            str(source),
        ],
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout + result.stderr
    [wheel] = (tmp_path / "dist").glob("*.whl")
    [sdist] = (tmp_path / "dist").glob("*.tar.gz")
    shutil.unpack_archive(wheel, tmp_path / "wheel", "zip")
    shutil.unpack_archive(sdist, tmp_path / "sdist")
    top = {path.name.partition("-")[0] for path in (tmp_path / "wheel").iterdir()}
    assert top == {"sora_dagster"}
    package = tmp_path / "wheel" / "sora_dagster"
    assert (package / "py.typed").exists()
    assert (package / "examples" / "prompts.yaml").exists()
    assert list((tmp_path / "wheel").glob("*.dist-info/licenses/LICENSE"))
    [unpacked] = (tmp_path / "sdist").iterdir()
    assert {path.name for path in unpacked.iterdir()} == {
        ".gitignore",
        "CHANGELOG.md",
        "LICENSE",
        "PKG-INFO",
        "README.md",
        "examples",
        "pyproject.toml",
        "sora_dagster",
    }
