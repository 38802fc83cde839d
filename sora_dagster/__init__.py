"""Generative video as Dagster assets.

Build the assets of a prompt dataset, and the jobs and sensors that go with them::

    graph = VideoGraph("prompts.yaml")
    assets = [*build_clip_assets(graph), *build_remix_assets(graph)]
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from dagster_shared.libraries import DagsterLibraryRegistry

if TYPE_CHECKING:
    from sora_dagster.assets import build_clip_assets, build_remix_assets
    from sora_dagster.environment import Settings, build_definitions
    from sora_dagster.generation.stored import StoredClip
    from sora_dagster.graph import VideoGraph
    from sora_dagster.io_manager import ClipIOManager
    from sora_dagster.jobs import build_collect_job, build_request_job
    from sora_dagster.resources import ClipStorageResource, RunwareResource
    from sora_dagster.sensors import build_completion_sensor, build_dataset_sensor

__version__ = version("sora-dagster")

__all__ = [
    "ClipIOManager",
    "ClipStorageResource",
    "RunwareResource",
    "Settings",
    "StoredClip",
    "VideoGraph",
    "build_clip_assets",
    "build_collect_job",
    "build_completion_sensor",
    "build_dataset_sensor",
    "build_definitions",
    "build_remix_assets",
    "build_request_job",
]

DagsterLibraryRegistry.register("sora-dagster", __version__, is_dagster_package=False)

# Names are imported when they are asked for: the sandbox and the receiver are of this package too,
# and need no Dagster.
_HOMES = {
    "ClipIOManager": "io_manager",
    "ClipStorageResource": "resources",
    "RunwareResource": "resources",
    "Settings": "environment",
    "StoredClip": "generation.stored",
    "VideoGraph": "graph",
    "build_clip_assets": "assets",
    "build_collect_job": "jobs",
    "build_completion_sensor": "sensors",
    "build_dataset_sensor": "sensors",
    "build_definitions": "environment",
    "build_remix_assets": "assets",
    "build_request_job": "jobs",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
