"""Generative video as Dagster assets.

Build the assets of a prompt dataset, and the jobs and sensors that go with them::

    dataset = VideoDataset("prompts.yaml")
    assets = [*build_clip_assets(dataset), *build_remix_assets(dataset)]
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from dagster_shared.libraries import DagsterLibraryRegistry

if TYPE_CHECKING:
    from sora_dagster.assets.clips import build_clip_assets, build_remix_assets
    from sora_dagster.assets.costs import build_cost_assets
    from sora_dagster.assets.gallery import build_gallery_asset
    from sora_dagster.assets.storyboards import build_storyboard_assets
    from sora_dagster.dataset import VideoDataset
    from sora_dagster.definitions import build_definitions
    from sora_dagster.generation.library.clip_checks import CustomCheck, build_clip_checks
    from sora_dagster.generation.library.stored_clip import StoredClip
    from sora_dagster.io_manager import ClipIOManager
    from sora_dagster.jobs.collect import build_collect_job
    from sora_dagster.jobs.housekeeping import build_prune_job, build_verify_job
    from sora_dagster.jobs.request import build_request_job
    from sora_dagster.media.checks import CheckThresholds
    from sora_dagster.resources import ClipStorageResource, RunwareResource
    from sora_dagster.schedules import build_generation_schedule
    from sora_dagster.sensors import build_completion_sensor, build_dataset_sensor
    from sora_dagster.settings import Settings

__version__ = version("sora-dagster")

__all__ = [
    "CheckThresholds",
    "ClipIOManager",
    "ClipStorageResource",
    "CustomCheck",
    "RunwareResource",
    "Settings",
    "StoredClip",
    "VideoDataset",
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
    "CustomCheck": "generation.library.clip_checks",
    "RunwareResource": "resources",
    "Settings": "settings",
    "StoredClip": "generation.library.stored_clip",
    "VideoDataset": "dataset",
    "build_clip_assets": "assets.clips",
    "build_clip_checks": "generation.library.clip_checks",
    "build_collect_job": "jobs.collect",
    "build_completion_sensor": "sensors",
    "build_cost_assets": "assets.costs",
    "build_dataset_sensor": "sensors",
    "build_definitions": "definitions",
    "build_gallery_asset": "assets.gallery",
    "build_generation_schedule": "schedules",
    "build_prune_job": "jobs.housekeeping",
    "build_remix_assets": "assets.clips",
    "build_request_job": "jobs.request",
    "build_storyboard_assets": "assets.storyboards",
    "build_verify_job": "jobs.housekeeping",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
