"""The storage root: one URL, one object store."""

from sora_dagster.storage.attributes import ObjectAttributes
from sora_dagster.storage.azure import AzureSettings
from sora_dagster.storage.errors import AccessDeniedError, ObjectMissingError, StorageError
from sora_dagster.storage.gcs import GcsSettings
from sora_dagster.storage.objects import ObjectInfo
from sora_dagster.storage.opening import folder_of, normalized_url
from sora_dagster.storage.root import StorageRoot
from sora_dagster.storage.s3 import S3Settings
from sora_dagster.storage.store import StaleUpload
from sora_dagster.storage.upload import ByteSink

__all__ = [
    "AccessDeniedError",
    "AzureSettings",
    "ByteSink",
    "GcsSettings",
    "ObjectAttributes",
    "ObjectInfo",
    "ObjectMissingError",
    "S3Settings",
    "StaleUpload",
    "StorageError",
    "StorageRoot",
    "folder_of",
    "normalized_url",
]
