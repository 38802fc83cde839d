"""The code location that the command line starts: definitions from the environment."""

from sora_dagster.definitions import build_definitions
from sora_dagster.settings import Settings

defs = build_definitions(Settings.from_environment())
