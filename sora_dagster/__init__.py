"""Generative video as Dagster assets.

Build the assets of a prompt dataset, and its jobs and sensors::

    dataset = VideoDataset("prompts.yaml")
    assets = [*build_clip_assets(dataset), *build_remix_assets(dataset)]

or everything that it needs at once::

    defs = build_definitions(dataset)
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING, Any

from dagster_shared.libraries import DagsterLibraryRegistry

if TYPE_CHECKING:
    from sora_dagster.assets.clips import build_clip_assets, build_remix_assets
    from sora_dagster.assets.reports import build_report_assets
    from sora_dagster.assets.status_checks import build_status_checks, build_status_sensor
    from sora_dagster.assets.storyboards import build_storyboard_assets
    from sora_dagster.component.video_dataset import VideoDatasetComponent
    from sora_dagster.dataset import ResourceKeys, VideoDataset
    from sora_dagster.definitions import build_definitions
    from sora_dagster.generation.library.clip_checks import CustomCheck, build_clip_checks
    from sora_dagster.generation.library.stored_clip import StoredClip
    from sora_dagster.io_manager import ClipIOManager
    from sora_dagster.jobs.collect import build_collect_job
    from sora_dagster.jobs.housekeeping import build_prune_job, build_verify_job
    from sora_dagster.jobs.request import build_request_job
    from sora_dagster.jobs.sync import build_sync_job
    from sora_dagster.media.checks import CheckThresholds
    from sora_dagster.prompts.prompt_source import PromptSource
    from sora_dagster.prompts.sql_source import SqlPrompts
    from sora_dagster.prompts.table_sources import AssetPrompts, FunctionPrompts
    from sora_dagster.resources import ClipStorageResource, RunwareResource
    from sora_dagster.runware.catalogue import Catalogue, FrameSize, VideoModel
    from sora_dagster.schedules import build_generation_schedule
    from sora_dagster.sensors import build_completion_sensor, build_dataset_sensor
    from sora_dagster.settings import Settings

__version__ = version("sora-dagster")

__all__ = [
    "AssetPrompts",
    "Catalogue",
    "CheckThresholds",
    "ClipIOManager",
    "ClipStorageResource",
    "CustomCheck",
    "FrameSize",
    "FunctionPrompts",
    "PromptSource",
    "ResourceKeys",
    "RunwareResource",
    "Settings",
    "SqlPrompts",
    "StoredClip",
    "VideoDataset",
    "VideoDatasetComponent",
    "VideoModel",
    "build_clip_assets",
    "build_clip_checks",
    "build_collect_job",
    "build_completion_sensor",
    "build_dataset_sensor",
    "build_definitions",
    "build_generation_schedule",
    "build_prune_job",
    "build_remix_assets",
    "build_report_assets",
    "build_request_job",
    "build_status_checks",
    "build_status_sensor",
    "build_storyboard_assets",
    "build_sync_job",
    "build_verify_job",
]

DagsterLibraryRegistry.register("sora-dagster", __version__, is_dagster_package=False)

# Imported on first use, so that the sandbox and the webhook receiver start without Dagster.
_MODULES = {
    "assets.clips": ["build_clip_assets", "build_remix_assets"],
    "assets.reports": ["build_report_assets"],
    "assets.status_checks": ["build_status_checks", "build_status_sensor"],
    "assets.storyboards": ["build_storyboard_assets"],
    "component.video_dataset": ["VideoDatasetComponent"],
    "dataset": ["ResourceKeys", "VideoDataset"],
    "definitions": ["build_definitions"],
    "generation.library.clip_checks": ["CustomCheck", "build_clip_checks"],
    "generation.library.stored_clip": ["StoredClip"],
    "io_manager": ["ClipIOManager"],
    "jobs.collect": ["build_collect_job"],
    "jobs.housekeeping": ["build_prune_job", "build_verify_job"],
    "jobs.request": ["build_request_job"],
    "jobs.sync": ["build_sync_job"],
    "media.checks": ["CheckThresholds"],
    "prompts.prompt_source": ["PromptSource"],
    "prompts.sql_source": ["SqlPrompts"],
    "prompts.table_sources": ["AssetPrompts", "FunctionPrompts"],
    "resources": ["ClipStorageResource", "RunwareResource"],
    "runware.catalogue": ["Catalogue", "FrameSize", "VideoModel"],
    "schedules": ["build_generation_schedule"],
    "sensors": ["build_completion_sensor", "build_dataset_sensor"],
    "settings": ["Settings"],
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULE_OF[name]}"), name)


def __dir__() -> list[str]:
    return [*__all__, "__version__"]
