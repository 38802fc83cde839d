"""The definitions of a dataset: everything in one call."""

from sora_dagster.definitions.build import build_definitions

__all__ = ["build_definitions"]
