"""The Dagster code location of this project.

Settings come from the environment (see the README). Replace `build_definitions` by the builders
it calls to choose names, schedules and sensors of your own.
"""

from sora_dagster.definitions import build_definitions
from sora_dagster.settings import Settings

settings = Settings.from_environment()
defs = build_definitions(
    settings.dataset(),
    boards=settings.board_paths(),
    runware=settings.runware(),
    storage=settings.storage(),
)
