"""The Dagster code location of this project.

Settings come from the environment (see the README). Replace `build_definitions` by the builders
it calls to choose names, schedules and sensors of your own.
"""

from sora_dagster.definitions import build_definitions
from sora_dagster.settings import Settings

defs = build_definitions(Settings.from_environment())
