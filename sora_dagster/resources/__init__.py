"""Dagster resources: the Runware API and the storage root."""

from sora_dagster.resources.clip_storage import NO_STORAGE_ROOT, ClipStorageResource
from sora_dagster.resources.runware import API_KEY_VARIABLE, RunwareResource, check_limit_fields

__all__ = [
    "API_KEY_VARIABLE",
    "NO_STORAGE_ROOT",
    "ClipStorageResource",
    "RunwareResource",
    "check_limit_fields",
]
