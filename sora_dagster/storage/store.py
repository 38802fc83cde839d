"""What a kind of store can do beyond the operations that obstore gives all of them alike."""

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
    """An upload that was begun and neither finished nor aborted; its bytes are paid for, unseen.

    Arguments:
        key: where its object would have appeared, below the root.
        upload_id: what the store calls the upload; for a folder, its file below the root.
        started: when it began (or was last written to), by the store's own clock.
    """

    key: str
    upload_id: str
    started: datetime


class OpenStore:
    """An opened store, with what its kind does in its own way.

    Arguments:
        objects: obstore's store, with the root's prefix.
        endpoint_url: where it is spoken to; None for a folder and for memory.
        keeps_attributes: whether content type and metadata are kept beside an object.
        can_presign: whether URLs can be signed here, without asking anyone.
        takes_plain_put: whether a PUT to a signed URL needs the bytes alone. Azure's needs the
            header ``x-ms-blob-type: BlockBlob`` besides.
    """

    def __init__(
        self,
        objects: ObjectStore,
        *,
        endpoint_url: str | None = None,
        keeps_attributes: bool = True,
        can_presign: bool = False,
        takes_plain_put: bool = True,
    ) -> None:
        self.objects = objects
        self.endpoint_url = endpoint_url
        self.keeps_attributes = keeps_attributes
        self.can_presign = can_presign
        self.takes_plain_put = can_presign and takes_plain_put

    @property
    def is_reachable_from_outside(self) -> bool:
        """Whether a service elsewhere can reach the endpoint, as far as its name tells."""
        return self.endpoint_url is not None and _is_public(self.endpoint_url)

    def copy(
        self,
        source: str,
        target: str,
        attributes: ObjectAttributes | None,  # noqa: ARG002
    ) -> None:
        """Copy within the store, replacing the target.

        GCS and Azure are not told attributes by obstore: the source's go with the copy.
        """
        import obstore

        obstore.copy(self.objects, source, target)

    def presign(self, method: Method, key: str, expires_seconds: float) -> str:
        """A signed URL for one key and one method."""
        import obstore

        if not self.can_presign:
            raise StorageError(
                "URLs cannot be signed for this storage root: that takes s3://, gs:// with a "
                "service account's key, or az:// with the account's key"
            )
        return obstore.sign(self.objects, method, key, timedelta(seconds=expires_seconds))  # type: ignore[arg-type]

    def signing_seconds_left(self) -> float | None:
        """How long the signing credentials still live; None for no known end."""
        return None

    def unfinished_uploads(self) -> Iterator[StaleUpload]:
        """Uploads below the root that were begun and neither finished nor aborted."""
        return iter(())

    def abort_upload(self, upload: StaleUpload) -> None:
        """Throw away an unfinished upload's bytes."""


def split_bucket_url(url: str) -> tuple[str, str]:
    """Bucket (or container) and prefix of ``scheme://bucket/prefix``; the prefix may be empty."""
    parts = urlsplit(url)
    return parts.netloc, parts.path.strip("/")


def _is_public(endpoint_url: str) -> bool:
    host = (urlsplit(endpoint_url).hostname or "").rstrip(".").lower()
    try:
        return ipaddress.ip_address(host).is_global
    except ValueError:
        # A name of one label, and these endings, are known on the inside of a network only.
        return "." in host and not host.endswith((".local", ".localhost", ".internal", ".lan"))
