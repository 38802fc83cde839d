"""Dagster resources: the Runware API and the storage root."""

from sora_dagster.resources.clip_storage import ClipStorageResource
from sora_dagster.resources.keys import resource_of
from sora_dagster.resources.runware import (
    API_KEY_VARIABLE,
    WEBHOOK_SECRET_VARIABLE,
    RunwareResource,
    check_limit_fields,
)

__all__ = [
    "API_KEY_VARIABLE",
    "WEBHOOK_SECRET_VARIABLE",
    "ClipStorageResource",
    "RunwareResource",
    "check_limit_fields",
    "resource_of",
]
