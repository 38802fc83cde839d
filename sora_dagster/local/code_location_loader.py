"""Loading the definitions that the local processes use, in this process."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import dagster as dg


def load_code_location() -> dg.Definitions:
    """The definitions of the project in this folder, or the package's own.

    Raises:
        ImportError: if `definitions.py` cannot be loaded.
        TypeError: if it has no `defs`.
    """
    path = Path("definitions.py")
    if not (path.exists() and Path("workspace.yaml").exists()):
        from sora_dagster.local.code_location import defs

        return defs
    spec = importlib.util.spec_from_file_location("definitions", path.resolve())
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} cannot be loaded")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    loaded = getattr(module, "defs", None)
    if not isinstance(loaded, dg.Definitions):
        raise TypeError(f"{path} has no `defs` of type dagster.Definitions")
    return loaded
