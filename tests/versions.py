"""Runs a fast part of the tests with other versions of Python and of the dependencies.

``python -m tests.versions`` (``make test-versions``), or with the names of some environments. It
needs `uv <https://docs.astral.sh/uv/>`_ (``pip install uv``), and the Pythons, which it does not
download. An environment whose Python is missing is reported, and counts as a failure.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parent.parent
# One file of each part that depends on other packages; all of them in a few minutes of CPU.
TESTS = (
    "tests/dagster_face/test_schedules.py",
    "tests/media/test_analysis.py",
    "tests/prompts/test_formats.py",
    "tests/prompts/test_sql_source.py",
    "tests/runware",
    "tests/sandbox/test_command.py",
    "tests/storage",
    "tests/test_component.py",
)


@dataclass(frozen=True)
class Environment:
    """An environment to test in.

    Arguments:
        python: version of Python.
        resolution: which versions of the dependencies uv chooses. Default: those of
            constraints.txt.
    """

    python: str
    resolution: str | None = None


ENVIRONMENTS = {
    "lowest": Environment("3.11", "lowest-direct"),
    "newest": Environment("3.13", "highest"),
    "python3.12": Environment("3.12"),
    "python3.13": Environment("3.13"),
}


def run_tests(name: str, folder: Path) -> bool:
    """Install an environment into a folder and run the tests in it."""
    environment = ENVIRONMENTS[name]
    uv = ["uv", "--quiet", "--no-python-downloads"]
    python = str(folder / "bin" / "python")
    install = [*uv, "pip", "install", "--python", python, "--editable", f"{ROOT}[dev]"]
    if environment.resolution is None:
        install += ["--constraint", str(ROOT / "constraints.txt")]
    else:
        install += ["--resolution", environment.resolution]
    tests = [python, "-m", "pytest", "-q", "-m", "not daemon", "-p", "no:cacheprovider", *TESTS]
    path = f"{folder / 'bin'}{os.pathsep}{os.environ['PATH']}"
    for command in ([*uv, "venv", "--python", environment.python, str(folder)], install, tests):
        if subprocess.run(command, cwd=ROOT, env={**os.environ, "PATH": path}).returncode != 0:
            return False
    return True


def main(names: list[str]) -> int:
    """Test each environment, and say which failed."""
    failed = []
    for name in names or list(ENVIRONMENTS):
        print(f"{name}: {ENVIRONMENTS[name]}", flush=True)
        with tempfile.TemporaryDirectory(prefix=f"sora-dagster-{name}-") as folder:
            if not run_tests(name, Path(folder)):
                failed.append(name)
    print(f"failed: {', '.join(failed)}" if failed else "all passed")
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
