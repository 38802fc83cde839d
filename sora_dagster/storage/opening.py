"""From a URL and settings to an opened store."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from sora_dagster.storage.azure import AzureSettings, open_azure
from sora_dagster.storage.errors import StorageError, first_line
from sora_dagster.storage.folder import FolderStore, MemoryStore
from sora_dagster.storage.gcs import GcsSettings, open_gcs
from sora_dagster.storage.s3 import S3Bucket, S3Settings
from sora_dagster.storage.store import OpenStore

SUPPORTED_SCHEMES = ("file", "memory", "s3", "gs", "az")


def normalized_url(url: str | Path) -> str:
    """A storage URL in its one spelling: folders become absolute ``file://`` URLs.

    Raises:
        StorageError: where the scheme is not supported, or there is more or less in the URL than
            the bucket's name and a prefix.
    """
    text = str(url).strip()
    if not text:
        raise StorageError("the storage root is empty; give a folder or a URL such as s3://bucket")
    scheme = urlsplit(text).scheme if "://" in text else ""
    if not scheme:
        return Path(text).expanduser().resolve().as_uri()
    if scheme not in SUPPORTED_SCHEMES:
        raise StorageError(
            f"storage root {text!r}: scheme {scheme!r} is not supported; allowed are a folder path "
            f"and URLs that start with {', '.join(f'{name}://' for name in SUPPORTED_SCHEMES)}"
        )
    if scheme == "memory":
        return "memory://"
    parts = urlsplit(text)
    if scheme == "file":
        return Path(unquote(parts.path)).resolve().as_uri()
    if "@" in parts.netloc or parts.query or parts.fragment:
        # Without the URL: what is in the way may be a secret.
        raise StorageError(
            f"a storage root is {scheme}://name/prefix alone: credentials and options belong into "
            f"the environment or the resource's settings, see docs/storage.md"
        )
    if not parts.netloc:
        raise StorageError(f"storage root {text!r} names no bucket; write {scheme}://name/prefix")
    return text.rstrip("/")


def folder_of(url: str) -> Path | None:
    """The folder of a ``file://`` URL; None for any other."""
    parts = urlsplit(url)
    return Path(unquote(parts.path)) if parts.scheme == "file" else None


def open_store(url: str, s3: S3Settings, gcs: GcsSettings, azure: AzureSettings) -> OpenStore:
    """The store of a URL in its one spelling.

    Raises:
        StorageError: where it cannot be opened; no request has been made yet.
    """
    folder = folder_of(url)
    if folder is not None:
        return FolderStore(folder)
    if url.startswith("memory:"):
        return MemoryStore()
    try:
        if url.startswith("gs:"):
            return open_gcs(url, gcs)
        if url.startswith("az:"):
            return open_azure(url, azure)
        return S3Bucket(url, s3)
    except StorageError:
        raise
    # A bare error of obstore's may show a key.
    except Exception as error:  # noqa: BLE001
        raise StorageError(f"cannot open storage root {url}: {first_line(error)}") from None
