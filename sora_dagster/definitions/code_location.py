"""The code location that the command line starts: definitions from the environment."""

from sora_dagster.definitions.build import build_definitions
from sora_dagster.settings import Settings

settings = Settings.from_environment()
defs = build_definitions(
    settings.dataset(),
    boards=settings.board_paths(),
    runware=settings.runware(),
    storage=settings.storage(),
)
