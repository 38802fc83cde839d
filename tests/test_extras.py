"""What works without the packages of an extra, and what says which extra to install."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from collections.abc import Sequence
from pathlib import Path

import pytest

from sora_dagster.extras import EXTRAS
from tests.command_line import clean_environment

HEAVY = ("av", "numpy", "PIL", "matplotlib", "pyarrow", "dagster", "dagster_webserver")
# The name of an installed package, where it differs from the name that is imported.
INSTALLED_NAMES = {
    "dagster_postgres": "dagster-postgres",
    "dagster_webserver": "dagster-webserver",
    "PIL": "pillow",
    "prometheus_client": "prometheus-client",
    "psycopg2": "psycopg2-binary",
}


def run_without(
    blocked: Sequence[str], folder: Path, *arguments: str
) -> subprocess.CompletedProcess[str]:
    """Run the command in a process that cannot import some packages."""
    code = (
        f"import sys; sys.modules.update(dict.fromkeys({list(blocked)!r})); "
        f"sys.argv = ['sora-dagster', *{list(arguments)!r}]; "
        f"from sora_dagster.cli.main import main; main()"
    )
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder,
        env=clean_environment(RUNWARE_API_KEY="key-0123456789", SORA_WEBHOOK_SECRET="s" * 32),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_each_extra_installs_the_packages_that_its_features_need() -> None:
    project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())
    extras = project["project"]["optional-dependencies"]
    assert extras["all"] == [f"sora-dagster[{','.join(EXTRAS)}]"]
    declared = {
        extra: {re.split(r"[><=]", line)[0] for line in lines}
        for extra, lines in extras.items()
        if extra not in ("dev", "all")
    }
    assert declared == {
        extra: {INSTALLED_NAMES.get(name, name) for name in names}
        for extra, names in EXTRAS.items()
    }


@pytest.mark.parametrize("server", ["webhook", "viewer"])
def test_the_servers_start_without_dagster_and_without_packages_of_other_extras(
    tmp_path: Path, server: str
) -> None:
    # A port that cannot be used ends the command after everything is imported.
    result = run_without(
        HEAVY, tmp_path, server, "--storage=clips", "--host=192.0.2.1", "--port=80"
    )
    assert result.returncode == 1
    assert result.stderr.startswith("Error: cannot listen on 192.0.2.1:80")


@pytest.mark.parametrize(
    ("blocked", "arguments", "extras"),
    [
        (["uvicorn"], ["webhook"], "webhook"),
        (["starlette"], ["viewer"], "viewer"),
        (["uvicorn"], ["sandbox"], "sandbox"),
        (["starlette"], ["demo"], "sandbox,webhook,viewer"),
        (["matplotlib"], ["demo"], "reports"),
        (["dagster_webserver"], ["dev"], "ui"),
        (["av"], ["demo"], "media,sandbox"),
        (["av"], ["generate", "prompts.yaml", "--storage=clips"], "media"),
        (["pyarrow"], ["estimate", "prompts.parquet"], "parquet"),
        (["pyarrow"], ["generate", "prompts.parquet", "--storage=clips"], "parquet"),
    ],
)
def test_a_command_whose_extra_is_missing_says_how_to_install_it(
    tmp_path: Path, blocked: list[str], arguments: list[str], extras: str
) -> None:
    (tmp_path / "prompts.parquet").write_bytes(b"PAR1")
    (tmp_path / "prompts.yaml").write_text("clips: [{id: fox, prompt: a fox}]")
    result = run_without(blocked, tmp_path, *arguments)
    assert result.returncode == 1
    [line] = result.stderr.splitlines()
    assert line.endswith(f'Install with: pip install "sora-dagster[{extras}]"')
    assert blocked[0] in line
