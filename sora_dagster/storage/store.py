"""Operations of a store beyond those that obstore offers for every kind of store."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Literal
from urllib.parse import urlsplit

from sora_dagster.storage.attributes import ObjectAttributes
from sora_dagster.storage.errors import StorageError

if TYPE_CHECKING:
    from obstore.store import ObjectStore

Method = Literal["GET", "PUT"]


@dataclass(frozen=True)
class StaleUpload:
    """An upload that was neither finished nor aborted; the store bills its bytes, unseen.

    Arguments:
        key: key of the object that it would have become, below the root.
        upload_id: the store's id of the upload; for a folder, its file below the root.
        started: when it started (or was last written to), by the store's clock.
    """

    key: str
    upload_id: str
    started: datetime


class OpenStore:
    """An open store, with the operations that differ by kind.

    Arguments:
        objects: obstore's store, with the root's prefix.
        endpoint_url: URL of its server; None for a folder and for memory.
        keeps_attributes: whether it keeps content type and metadata with an object.
        can_presign: whether URLs can be signed without a request.
        accepts_plain_put: whether a PUT to a signed URL needs no special header. Azure requires
            ``x-ms-blob-type: BlockBlob``.
    """

    def __init__(
        self,
        objects: ObjectStore,
        *,
        endpoint_url: str | None = None,
        keeps_attributes: bool = True,
        can_presign: bool = False,
        accepts_plain_put: bool = True,
    ) -> None:
        self.objects = objects
        self.endpoint_url = endpoint_url
        self.keeps_attributes = keeps_attributes
        self.can_presign = can_presign
        self.accepts_plain_put = can_presign and accepts_plain_put

    @property
    def is_reachable_from_outside(self) -> bool:
        """Whether a service on the internet can reach the endpoint, judging by its address."""
        return self.endpoint_url is not None and _is_public(self.endpoint_url)

    def copy(
        self,
        source: str,
        target: str,
        attributes: ObjectAttributes | None,  # noqa: ARG002
    ) -> None:
        """Copy within the store, replacing the target.

        obstore cannot set attributes of a copy in GCS and Azure, so it keeps the source's.
        """
        import obstore

        obstore.copy(self.objects, source, target)

    def presign(self, method: Method, key: str, expires_seconds: float) -> str:
        """A signed URL for one key and one method."""
        import obstore

        if not self.can_presign:
            raise StorageError(
                "URLs cannot be signed for this storage root: signing requires s3://, gs:// with a "
                "service account's key, or az:// with the account's key"
            )
        return obstore.sign(self.objects, method, key, timedelta(seconds=expires_seconds))  # type: ignore[arg-type]

    def signing_seconds_left(self) -> float | None:
        """Seconds until the signing credentials expire; None if unknown or never."""
        return None

    def unfinished_uploads(self) -> Iterator[StaleUpload]:
        """Uploads below the root that were neither finished nor aborted."""
        return iter(())

    def abort_upload(self, upload: StaleUpload) -> None:
        """Discard an unfinished upload."""


def split_bucket_url(url: str) -> tuple[str, str]:
    """Bucket (or container) and prefix of ``scheme://bucket/prefix``; the prefix may be empty."""
    parts = urlsplit(url)
    return parts.netloc, parts.path.strip("/")


def _is_public(endpoint_url: str) -> bool:
    host = (urlsplit(endpoint_url).hostname or "").rstrip(".").lower()
    try:
        return ipaddress.ip_address(host).is_global
    except ValueError:
        # A name of one label, or with these endings, resolves inside a network only.
        return "." in host and not host.endswith((".local", ".localhost", ".internal", ".lan"))
