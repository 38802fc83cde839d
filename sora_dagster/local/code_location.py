"""Which definitions the local commands use: those of the project in this folder, or our own."""

from __future__ import annotations

import importlib.util
from functools import cache
from pathlib import Path
from types import ModuleType

import dagster as dg

# Loaded by its name, as Dagster's commands load it: definitions from the environment.
_MODULE = "sora_dagster.definitions.code_location"


@cache
def load_code_location() -> dg.Definitions:
    """The definitions of the project in this folder, or the package's own. Loaded once.

    Raises:
        ImportError: if `definitions.py` cannot be loaded.
        TypeError: if it has no `defs`.
    """
    path = _own_definitions()
    module = importlib.import_module(_MODULE) if path is None else _load_file(path)
    loaded = getattr(module, "defs", None)
    if not isinstance(loaded, dg.Definitions):
        raise TypeError(f"{path or _MODULE} has no `defs` of type dagster.Definitions")
    return loaded


def _load_file(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("definitions", path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} cannot be loaded")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def job_arguments() -> list[str]:
    """Arguments of `dagster job execute` that name the definitions."""
    path = _own_definitions()
    return [*(["-m", _MODULE] if path is None else ["-f", str(path)]), "-a", "defs"]


def workspace_arguments() -> list[str]:
    """Arguments of Dagster's servers that name the project's workspace, or our definitions."""
    workspace = Path("workspace.yaml")
    return ["-w", str(workspace.resolve())] if workspace.exists() else ["-m", _MODULE]


def _own_definitions() -> Path | None:
    path = Path("definitions.py")
    return path.resolve() if path.exists() and Path("workspace.yaml").exists() else None
