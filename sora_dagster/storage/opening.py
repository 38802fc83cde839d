"""Opens the store of a storage URL."""

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
    """The canonical form of a storage URL: folders become absolute ``file://`` URLs.

    Raises:
        StorageError: if the scheme is not supported, or a bucket's URL is anything but its name and
            a prefix.
    """
    text = str(url).strip()
    if not text:
        raise StorageError("the storage root is empty; set a folder or a URL such as s3://bucket")
    scheme = urlsplit(text).scheme if "://" in text else ""
    if not scheme:
        return Path(text).expanduser().resolve().as_uri()
    if scheme not in SUPPORTED_SCHEMES:
        raise StorageError(
            f"storage root {text!r}: scheme {scheme!r} is not supported; use a folder path or a "
            f"URL that starts with {', '.join(f'{name}://' for name in SUPPORTED_SCHEMES)}"
        )
    if scheme == "memory":
        return "memory://"
    parts = urlsplit(text)
    if scheme == "file":
        return Path(unquote(parts.path)).resolve().as_uri()
    if "@" in parts.netloc or parts.query or parts.fragment:
        # Without the URL, which may contain a secret.
        raise StorageError(
            f"a storage root must be {scheme}://name/prefix only; set credentials and options in "
            f"the environment or in ClipStorageResource"
        )
    if not parts.netloc:
        raise StorageError(f"storage root {text!r} has no bucket; write {scheme}://name/prefix")
    return text.rstrip("/")


def folder_of(url: str) -> Path | None:
    """The folder of a ``file://`` URL; None for other URLs."""
    parts = urlsplit(url)
    return Path(unquote(parts.path)) if parts.scheme == "file" else None


def open_store(url: str, s3: S3Settings, gcs: GcsSettings, azure: AzureSettings) -> OpenStore:
    """Open the store of a normalized URL, without a request to it.

    Raises:
        StorageError: if it cannot be opened.
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
    # Not as its cause: an error of obstore may show a key.
    except Exception as error:  # noqa: BLE001
        raise StorageError(f"cannot open storage root {url}: {first_line(error)}") from None
