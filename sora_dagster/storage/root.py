"""One storage root: a URL and the operations on its objects.

Every store that obstore opens has an atomic create-only put, which claims are built on.
"""

from __future__ import annotations

import builtins
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import BinaryIO
from urllib.parse import quote

from sora_dagster.storage.attributes import ObjectAttributes
from sora_dagster.storage.azure import AzureSettings
from sora_dagster.storage.errors import ObjectMissingError, StorageError, explain
from sora_dagster.storage.gcs import GcsSettings
from sora_dagster.storage.objects import ObjectInfo, object_info, seekable_file
from sora_dagster.storage.opening import folder_of, normalized_url, open_store
from sora_dagster.storage.s3 import S3Settings
from sora_dagster.storage.store import Method, StaleUpload
from sora_dagster.storage.upload import ByteSink, open_upload


class StorageRoot:
    """The objects of one storage root, by keys relative to it.

    Arguments:
        url: ``file:///folder`` or a plain folder path, ``s3://bucket/prefix``,
            ``gs://bucket/prefix``, ``az://container/prefix``, or ``memory://`` (this process only,
            for tests).
        s3: settings of S3; default: the AWS configuration chain.
        gcs: settings of Google Cloud Storage; default: application default credentials.
        azure: settings of Azure Blob Storage; default: the environment.
        viewer_url: URL of the viewer that shows this root in browsers; default: no links.

    Raises:
        StorageError: if the store of the URL cannot be opened.

    Example:
        >>> root = StorageRoot("memory://")
        >>> root.create("greeting.txt", b"hello"), root.create("greeting.txt", b"again")
        (True, False)
        >>> root.read("greeting.txt")
        b'hello'
    """

    def __init__(
        self,
        url: str | Path,
        *,
        s3: S3Settings | None = None,
        gcs: GcsSettings | None = None,
        azure: AzureSettings | None = None,
        viewer_url: str | None = None,
    ) -> None:
        self.url = normalized_url(url)
        self._viewer_url = viewer_url
        self._folder = folder_of(self.url)
        self._opened = open_store(
            self.url, s3 or S3Settings(), gcs or GcsSettings(), azure or AzureSettings()
        )
        self._store = self._opened.objects

    def __repr__(self) -> str:
        return f"StorageRoot({self.url!r})"

    def uri(self, key: str) -> str:
        """The full address of an object."""
        return f"{self.url.rstrip('/')}/{quote(key)}"

    def link(self, key: str) -> str | None:
        """URL of an object in the viewer, if there is a viewer."""
        return None if self._viewer_url is None else f"{self._viewer_url.rstrip('/')}/{quote(key)}"

    def local_path(self, key: str) -> Path | None:
        """The object's file, if the root is a local folder."""
        return None if self._folder is None else self._folder / key

    @property
    def can_presign(self) -> bool:
        """Whether URLs can be signed for objects of this root."""
        return self._opened.can_presign

    @property
    def accepts_plain_put(self) -> bool:
        """Whether a PUT to a signed URL needs no special header, unlike Azure's."""
        return self._opened.accepts_plain_put

    @property
    def is_reachable_from_outside(self) -> bool:
        """Whether a service on the internet can reach the store, judging by its address: False for
        a folder, memory, and an endpoint on this machine or in a private network."""
        return self._opened.is_reachable_from_outside

    def create(self, key: str, body: bytes, *, attributes: ObjectAttributes | None = None) -> bool:
        """Write an object only if there is none; atomic on every store.

        Arguments:
            key: key of the object.
            body: its content.
            attributes: content type and metadata; a local folder keeps none.

        Returns:
            Whether this call wrote it.
        """
        import obstore

        with self._translate_errors("write", key):
            try:
                obstore.put(
                    self._store, key, body, mode="create", attributes=self._encoded(attributes)
                )
            except obstore.exceptions.AlreadyExistsError:
                return False
        return True

    def write(self, key: str, body: bytes, *, attributes: ObjectAttributes | None = None) -> None:
        """Write an object, replacing an existing one; a local folder keeps no attributes."""
        import obstore

        with self._translate_errors("write", key):
            obstore.put(self._store, key, body, attributes=self._encoded(attributes))

    def read(self, key: str) -> bytes:
        """Content of a small object.

        Raises:
            ObjectMissingError: if there is none.
        """
        import obstore

        with self._translate_errors("read", key):
            return bytes(obstore.get(self._store, key).bytes())

    def read_if_present(self, key: str) -> bytes | None:
        """Content of a small object, or None if there is none."""
        try:
            return self.read(key)
        except ObjectMissingError:
            return None

    def info(self, key: str) -> ObjectInfo | None:
        """Size and age of an object, or None if there is none."""
        import obstore

        with self._translate_errors("look up", key):
            try:
                return object_info(obstore.head(self._store, key))
            except FileNotFoundError:
                return None

    def exists(self, key: str) -> bool:
        """Whether there is an object at the key."""
        return self.info(key) is not None

    def list(self, prefix: str, *, after: str | None = None) -> Iterator[ObjectInfo]:
        """All objects below a folder, page by page, in no guaranteed order.

        Arguments:
            prefix: the folder.
            after: only objects whose keys come after this one.
        """
        import obstore

        with self._translate_errors("list", prefix):
            for page in obstore.list(self._store, prefix=prefix, offset=after):
                for meta in page:
                    yield object_info(meta)

    def delete(self, key: str) -> None:
        """Remove an object, if there is one."""
        import obstore

        with suppress(ObjectMissingError), self._translate_errors("delete", key):
            obstore.delete(self._store, key)

    @contextmanager
    def writer(
        self,
        key: str,
        *,
        attributes: ObjectAttributes | None = None,
        max_bytes: int | None = None,
    ) -> Iterator[ByteSink]:
        """Stream an object in bounded memory; it appears complete at the end, or not at all.

        Arguments:
            key: key of the object.
            attributes: content type and metadata; a local folder keeps none.
            max_bytes: largest possible size, if it can exceed 48 GiB.
        """
        with open_upload(
            self._store,
            key,
            attributes=attributes,
            max_bytes=max_bytes,
            translate_errors=lambda: self._translate_errors("write", key),
        ) as sink:
            yield sink

    def copy(self, source: str, target: str, *, attributes: ObjectAttributes | None = None) -> None:
        """Copy an object on the server; replaces the target.

        Arguments:
            source: key of the object.
            target: key of the copy.
            attributes: content type and metadata of the copy; None keeps the source's. GCS and
                Azure always keep the source's, a local folder keeps none.

        Raises:
            ObjectMissingError: if there is no source.
        """
        with self._translate_errors("copy", source):
            self._opened.copy(source, target, attributes)

    def attributes(self, key: str) -> dict[str, str]:
        """User metadata and ``Content-Type`` of an object; empty if the store keeps none.

        Raises:
            ObjectMissingError: if there is no object.
        """
        import obstore

        with self._translate_errors("look up", key):
            found = obstore.get(self._store, key, options={"head": True})
            return {str(name): value for name, value in found.attributes.items()}

    def presign(self, method: Method, key: str, expires_seconds: float) -> str:
        """A URL that allows one method on one key, without credentials.

        Arguments:
            method: ``GET`` or ``PUT``.
            key: key of the object.
            expires_seconds: validity in seconds; shorter if the credentials expire before
                (see `signing_seconds_left`).

        Raises:
            StorageError: if the store or its credentials cannot sign.
        """
        with self._translate_errors("sign a URL for", key):
            return self._opened.presign(method, key, expires_seconds)

    def signing_seconds_left(self) -> float | None:
        """Seconds until the credentials that sign now expire; None if unknown or never.

        The expiry of credentials that are set with a session token is unknown.
        """
        with self._translate_errors("find the credentials of", ""):
            return self._opened.signing_seconds_left()

    def folders(self, prefix: str) -> builtins.list[str]:
        """Names of the folders directly below a folder, without listing their content."""
        import obstore

        with self._translate_errors("list", prefix):
            found = obstore.list_with_delimiter(self._store, prefix or None)
        return sorted(path.rstrip("/").rsplit("/", 1)[-1] for path in found["common_prefixes"])

    def stale_uploads(self, older_than_seconds: float) -> builtins.list[StaleUpload]:
        """Old uploads below this root that were neither finished nor aborted.

        S3 lists them; in a local folder they are the files of interrupted writes. GCS and Azure
        list none: there a lifecycle rule, or the store itself after a week, removes them.

        Arguments:
            older_than_seconds: minimum age, by the store's clock.
        """
        started_before = self.store_time() - timedelta(seconds=older_than_seconds)
        with self._translate_errors("list unfinished uploads of", ""):
            return [
                upload
                for upload in self._opened.unfinished_uploads()
                if upload.started < started_before
            ]

    def abort_upload(self, upload: StaleUpload) -> None:
        """Remove an unfinished upload, if it still exists."""
        with self._translate_errors("abort the upload of", upload.key):
            self._opened.abort_upload(upload)

    def open(self, key: str) -> BinaryIO:
        """A seekable file over an object, which reads only the ranges it needs.

        Raises:
            ObjectMissingError: if there is none.
        """
        import obstore

        with self._translate_errors("read", key):
            readable = obstore.open_reader(self._store, key)
        return seekable_file(readable, lambda error: self._failure("read", key, error))

    def store_time(self) -> datetime:
        """Current time of the store's clock, from a new object."""
        key = f"clock/{secrets.token_hex(8)}"
        self.write(key, b"")
        try:
            info = self.info(key)
            if info is None:
                raise StorageError(f"{self.uri(key)} disappeared right after it was written")
            return info.last_modified
        finally:
            self.delete(key)

    def check_writable(self) -> None:
        """Write and remove one object, and check that it cannot be created twice.

        Raises:
            StorageError: if that fails.
        """
        key = f"clock/{secrets.token_hex(8)}"
        self.create(key, b"")
        try:
            if self.create(key, b""):
                raise StorageError(
                    f"{self.url} allows an object to be created twice, so two processes could pay "
                    f"for the same clip. Use a store with create-only puts: a local folder, S3, or "
                    f"a server that supports If-None-Match."
                )
        finally:
            self.delete(key)

    def _encoded(self, attributes: ObjectAttributes | None) -> dict[str, str] | None:
        if attributes is None or not self._opened.keeps_attributes:
            return None
        return attributes.encoded()

    @contextmanager
    def _translate_errors(self, action: str, key: str) -> Iterator[None]:
        try:
            yield
        # Any exception of the store's libraries; not as the cause, since it may show a signature.
        except Exception as error:  # noqa: BLE001
            raise self._failure(action, key, error) from None

    def _failure(self, action: str, key: str, error: Exception) -> StorageError:
        return explain(error, action, self.uri(key), self.url)
