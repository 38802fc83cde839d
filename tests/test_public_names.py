"""The public names: listed by `dir` and `help`, and documented down to each parameter."""

from __future__ import annotations

import dataclasses
import inspect
import pydoc
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dagster as dg
import pytest
from pydantic import BaseModel

import sora_dagster


def undocumented(name: str, value: Any) -> Iterator[str]:
    """Names, parameters and fields without documentation: of a function, or a class."""
    text = inspect.getdoc(value) or ""
    if not text or text.startswith(f"{name}("):
        yield name
    known = set(re.findall(r"^ {4}(\w+): \S", text.partition("Arguments:\n")[2], re.MULTILINE))
    if dataclasses.is_dataclass(value):
        wanted = [field.name for field in dataclasses.fields(value)]
    elif inspect.isclass(value) and issubclass(value, BaseModel):
        # The fields of a component are described where its YAML is.
        model = value.get_model_cls() if issubclass(value, dg.Component) else value
        wanted = [item for item, field in model.model_fields.items() if not field.description]
    else:
        wanted = [item for item in inspect.signature(value).parameters if item != "self"]
    # The summary of a method says what its only parameter is.
    if inspect.isclass(value) or "." not in name or len(wanted) > 1:
        yield from (f"{name}: {item}" for item in wanted if item not in known)
    for method in vars(value).values() if inspect.isclass(value) else ():
        is_own = inspect.isfunction(method) and method.__module__ == value.__module__
        if is_own and not method.__name__.startswith("_"):
            yield from undocumented(f"{name}.{method.__name__}", method)


@pytest.mark.parametrize("name", sora_dagster.__all__)
def test_a_public_name_and_its_parameters_are_documented(name: str) -> None:
    assert list(undocumented(name, getattr(sora_dagster, name))) == []


def test_the_public_names_are_those_of_the_package_and_of_its_help() -> None:
    assert set(sora_dagster.__all__) <= set(dir(sora_dagster))
    text = pydoc.plain(pydoc.render_doc(sora_dagster))
    for name in sora_dagster.__all__:
        assert re.search(rf"^    (class )?{name}\(", text, re.MULTILINE), name


def test_the_package_is_typed_and_imports_dagster_only_when_a_name_of_it_is_used() -> None:
    assert (Path(sora_dagster.__file__).parent / "py.typed").exists()
    code = "import sys, sora_dagster.web, sora_dagster.sandbox; print('dagster' in sys.modules)"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "False"
