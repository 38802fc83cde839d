"""A bucket of S3 or of an S3-compatible server."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from sora_dagster.storage.attributes import ObjectAttributes
from sora_dagster.storage.s3_session import S3Session, S3Settings
from sora_dagster.storage.store import Method, OpenStore, StaleUpload, split_bucket_url

__all__ = ["S3Bucket", "S3Settings"]

# A single CopyObject keeps attributes unless they are replaced; a multipart copy keeps none.
_LARGEST_SINGLE_COPY_BYTES = 5 << 30


class S3Bucket(OpenStore):
    """A bucket and prefix of S3.

    obstore reads and writes; boto3 provides credentials, signs URLs, copies with new attributes and
    lists unfinished uploads.

    Arguments:
        url: ``s3://bucket/prefix``.
        settings: settings beyond the AWS configuration chain.

    Raises:
        ValueError: if the settings contradict each other, or there are no credentials.
    """

    def __init__(self, url: str, settings: S3Settings) -> None:
        self._bucket, self._prefix = split_bucket_url(url)
        self._session = S3Session(settings)
        super().__init__(
            self._session.open(self._bucket, self._prefix),
            endpoint_url=self._session.endpoint_url,
            can_presign=self._session.is_signed,
        )

    def copy(self, source: str, target: str, attributes: ObjectAttributes | None) -> None:
        from boto3.s3.transfer import TransferConfig

        extra: dict[str, Any] = {}
        if attributes is not None:
            extra = {
                "MetadataDirective": "REPLACE",
                "ContentType": attributes.content_type,
                "Metadata": attributes.encoded_metadata(),
            }
        self._session.client.copy(
            {"Bucket": self._bucket, "Key": self._full(source)},
            self._bucket,
            self._full(target),
            ExtraArgs=extra,
            Config=TransferConfig(multipart_threshold=_LARGEST_SINGLE_COPY_BYTES),
        )

    def presign(self, method: Method, key: str, expires_seconds: float) -> str:
        if not self._session.is_signed:
            return super().presign(method, key, expires_seconds)
        url: str = self._session.client.generate_presigned_url(
            "get_object" if method == "GET" else "put_object",
            Params={"Bucket": self._bucket, "Key": self._full(key)},
            ExpiresIn=max(1, int(expires_seconds)),
        )
        return url

    def signing_seconds_left(self) -> float | None:
        expiry = self._session.credentials_expiry() if self._session.is_signed else None
        return None if expiry is None else (expiry - datetime.now(UTC)).total_seconds()

    def unfinished_uploads(self) -> Iterator[StaleUpload]:
        below = f"{self._prefix}/" if self._prefix else ""
        pages = self._session.client.get_paginator("list_multipart_uploads").paginate(
            Bucket=self._bucket, Prefix=below
        )
        for page in pages:
            for upload in page.get("Uploads", ()):
                yield StaleUpload(
                    key=upload["Key"].removeprefix(below),
                    upload_id=upload["UploadId"],
                    started=upload["Initiated"],
                )

    def abort_upload(self, upload: StaleUpload) -> None:
        try:
            self._session.client.abort_multipart_upload(
                Bucket=self._bucket, Key=self._full(upload.key), UploadId=upload.upload_id
            )
        except self._session.client.exceptions.NoSuchUpload:
            return  # finished or aborted by another process

    def _full(self, key: str) -> str:
        return f"{self._prefix}/{key}" if self._prefix else key
