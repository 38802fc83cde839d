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
    from sora_dagster.boards.assets import build_storyboard_assets
    from sora_dagster.environment import Settings, build_definitions
    from sora_dagster.generation.library.clip_checks import OwnCheck, build_clip_checks
    from sora_dagster.generation.library.stored_clip import StoredClip
    from sora_dagster.graph import VideoGraph
    from sora_dagster.housekeeping_jobs import build_prune_job, build_verify_job
    from sora_dagster.io_manager import ClipIOManager
    from sora_dagster.jobs import build_collect_job, build_request_job
    from sora_dagster.media.checks import CheckThresholds
    from sora_dagster.reports.cost_assets import build_cost_assets
    from sora_dagster.reports.gallery_asset import build_gallery_asset
    from sora_dagster.resources import ClipStorageResource, RunwareResource
    from sora_dagster.schedules import build_generation_schedule
    from sora_dagster.sensors import build_completion_sensor, build_dataset_sensor

__version__ = version("sora-dagster")

__all__ = [
    "CheckThresholds",
    "ClipIOManager",
    "ClipStorageResource",
    "OwnCheck",
    "RunwareResource",
    "Settings",
    "StoredClip",
    "VideoGraph",
    "build_clip_assets",
    "build_clip_checks",
    "build_collect_job",
    "build_completion_sensor",
    "build_cost_assets",
    "build_dataset_sensor",
    "build_definitions",
    "build_gallery_asset",
    "build_generation_schedule",
    "build_prune_job",
    "build_remix_assets",
    "build_request_job",
    "build_storyboard_assets",
    "build_verify_job",
]

DagsterLibraryRegistry.register("sora-dagster", __version__, is_dagster_package=False)

# Names are imported when they are asked for: the sandbox and the receiver are of this package too,
# and need no Dagster.
_HOMES = {
    "CheckThresholds": "media.checks",
    "ClipIOManager": "io_manager",
    "ClipStorageResource": "resources",
    "OwnCheck": "generation.clip_checks",
    "RunwareResource": "resources",
    "Settings": "environment",
    "StoredClip": "generation.stored",
    "VideoGraph": "graph",
    "build_clip_assets": "assets",
    "build_clip_checks": "generation.clip_checks",
    "build_collect_job": "jobs",
    "build_completion_sensor": "sensors",
    "build_cost_assets": "reports.cost_assets",
    "build_dataset_sensor": "sensors",
    "build_definitions": "environment",
    "build_gallery_asset": "reports.gallery_asset",
    "build_generation_schedule": "schedules",
    "build_prune_job": "housekeeping_jobs",
    "build_remix_assets": "assets",
    "build_request_job": "jobs",
    "build_storyboard_assets": "boards.assets",
    "build_verify_job": "housekeeping_jobs",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
