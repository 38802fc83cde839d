"""The code location that the command line starts: definitions from the environment."""

from sora_dagster.environment import Settings, build_definitions

defs = build_definitions(Settings.from_environment())
