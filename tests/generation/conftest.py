"""Generators against the sandbox."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest

from sora_dagster.generation.generator import Generator
from sora_dagster.storage import StorageRoot
from tests.generation.requesting import quick_generator
from tests.sandbox_server import KEY, Sandbox


@pytest.fixture
def generate(sandbox: Sandbox, root: StorageRoot) -> Iterator[Callable[..., Generator]]:
    """Makes generators on one storage root, as processes on several machines would."""
    made: list[Generator] = []

    def make(storage: StorageRoot = root, key: str = KEY, **settings: Any) -> Generator:
        generator = quick_generator(sandbox.base_url, storage, key=key, **settings)
        made.append(generator)
        return generator

    yield make
    for generator in made:
        generator.close()
