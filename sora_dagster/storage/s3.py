"""A bucket of S3 or of an S3-compatible server."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from sora_dagster.storage.attributes import ObjectAttributes
from sora_dagster.storage.store import OpenStore, StaleUpload, split_bucket_url

if TYPE_CHECKING:
    from obstore.store import S3Store

DEFAULT_REGION = "us-east-1"
# A single CopyObject keeps attributes unless they are replaced; a multipart copy keeps none.
_LARGEST_SINGLE_COPY_BYTES = 5 << 30
# No further attempt of a request begins after this time. An attempt takes at most 30 s.
_RETRY_TIMEOUT = timedelta(seconds=60)


@dataclass(frozen=True)
class S3Settings:
    """Settings of S3; None takes the value of the AWS configuration chain: environment variables,
    profile, container and instance roles.

    Arguments:
        region_name: region of the bucket.
        endpoint_url: URL of an S3-compatible server; default: AWS.
        profile_name: profile of the AWS configuration files.
        aws_access_key_id: access key; requires the secret key.
        aws_secret_access_key: secret key.
        aws_session_token: token of temporary credentials.
        use_ssl: use https for AWS; an endpoint's URL states its own scheme.
        verify: whether to verify certificates, or the path of a CA bundle; default: the value of
            the chain, which verifies.
        use_unsigned_session: do not sign requests, for public buckets.
        max_attempts: maximum attempts of one request, the first included.
    """

    region_name: str | None = None
    endpoint_url: str | None = None
    profile_name: str | None = None
    aws_access_key_id: str | None = field(default=None, repr=False)
    aws_secret_access_key: str | None = field(default=None, repr=False)
    aws_session_token: str | None = field(default=None, repr=False)
    use_ssl: bool = True
    verify: bool | str | None = None
    use_unsigned_session: bool = False
    max_attempts: int = 5


class S3Bucket(OpenStore):
    """A bucket and prefix of S3.

    obstore reads, writes and signs URLs; boto3 provides credentials, copies with new attributes and
    lists unfinished uploads.

    Arguments:
        url: ``s3://bucket/prefix``.
        settings: settings beyond the AWS configuration chain.

    Raises:
        ValueError: if the settings contradict each other, or there are no credentials.
    """

    def __init__(self, url: str, settings: S3Settings) -> None:
        import boto3
        import botocore.exceptions
        import botocore.session

        _check(settings)
        self._bucket, self._prefix = split_bucket_url(url)
        self._settings = settings
        try:
            core = botocore.session.get_session()
            self._session = boto3.Session(
                botocore_session=core,
                profile_name=settings.profile_name,
                # boto3 reads AWS_DEFAULT_REGION only; obstore and other SDKs read AWS_REGION.
                region_name=settings.region_name or os.environ.get("AWS_REGION"),
                aws_access_key_id=settings.aws_access_key_id,
                aws_secret_access_key=settings.aws_secret_access_key,
                aws_session_token=settings.aws_session_token,
            )
            self._region = self._session.region_name or DEFAULT_REGION
            endpoint_url = _checked_endpoint(
                settings.endpoint_url or _configured_endpoint(core), self._region, settings
            )
            certificates = _certificates(core, settings)
            is_signed = not settings.use_unsigned_session
            if is_signed and self._session.get_credentials() is None:
                raise ValueError(
                    "no AWS credentials were found: set AWS_ACCESS_KEY_ID and "
                    "AWS_SECRET_ACCESS_KEY, select a profile, use a role, or configure S3Resource"
                )
        except botocore.exceptions.BotoCoreError as error:
            raise ValueError(f"invalid S3 settings: {error}") from error
        super().__init__(
            self._objects(endpoint_url, certificates, is_signed=is_signed),
            endpoint_url=endpoint_url,
            can_presign=is_signed,
        )

    def _objects(
        self, endpoint_url: str, certificates: bytes | None, *, is_signed: bool
    ) -> S3Store:
        from obstore.auth.boto3 import Boto3CredentialProvider
        from obstore.store import S3Store

        client_options: dict[str, Any] = {
            "allow_http": endpoint_url.startswith("http://"),
            "allow_invalid_certificates": self._settings.verify is False,
        }
        if certificates:
            client_options["root_certificate"] = certificates
        options: dict[str, Any] = {
            "region": self._region,
            # Both names, so that the environment never overrides the settings.
            "endpoint": endpoint_url,
            "aws_endpoint_url_s3": endpoint_url,
            "virtual_hosted_style_request": False,
            "skip_signature": not is_signed,
            # Keys are deleted one at a time, by a plain DELETE, which every server supports.
            "disable_bulk_delete": True,
            "client_options": client_options,
            "retry_config": {
                "max_retries": self._settings.max_attempts - 1,
                "retry_timeout": _RETRY_TIMEOUT,
            },
        }
        if is_signed:
            # Without a lifetime: boto3 decides at each request whether to refresh them.
            options["credential_provider"] = Boto3CredentialProvider(
                self._session, ttl=timedelta(0)
            )
        return S3Store(self._bucket, prefix=self._prefix or None, **options)

    @cached_property
    def _client(self) -> Any:
        """boto3's client; created on first use, since that takes a tenth of a second."""
        from botocore import UNSIGNED
        from botocore.config import Config

        return self._session.client(
            "s3",
            endpoint_url=self.endpoint_url,
            region_name=self._region,
            verify=self._settings.verify,
            config=Config(
                signature_version="s3v4" if self.can_presign else UNSIGNED,
                retries={"total_max_attempts": self._settings.max_attempts, "mode": "standard"},
                # Other servers than AWS may not know AWS's checksum headers.
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
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
        self._client.copy(
            {"Bucket": self._bucket, "Key": self._full(source)},
            self._bucket,
            self._full(target),
            ExtraArgs=extra,
            # boto3's own threads would keep an interrupted process alive.
            Config=TransferConfig(
                multipart_threshold=_LARGEST_SINGLE_COPY_BYTES, use_threads=False
            ),
        )

    def signing_seconds_left(self) -> float | None:
        if not self.can_presign:
            return None
        credentials = self._session.get_credentials()
        credentials.get_frozen_credentials()  # refreshes them if they are about to expire
        # botocore has no public name for it; only refreshable credentials have it.
        expiry: datetime | None = getattr(credentials, "_expiry_time", None)
        return None if expiry is None else (expiry - datetime.now(UTC)).total_seconds()

    def unfinished_uploads(self) -> Iterator[StaleUpload]:
        below = f"{self._prefix}/" if self._prefix else ""
        pages = self._client.get_paginator("list_multipart_uploads").paginate(
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
            self._client.abort_multipart_upload(
                Bucket=self._bucket, Key=self._full(upload.key), UploadId=upload.upload_id
            )
        except self._client.exceptions.NoSuchUpload:
            return  # finished or aborted by another process

    def _full(self, key: str) -> str:
        return f"{self._prefix}/{key}" if self._prefix else key


def _check(settings: S3Settings) -> None:
    if (settings.aws_access_key_id is None) != (settings.aws_secret_access_key is None):
        raise ValueError(
            "aws_access_key_id and aws_secret_access_key must be set together; set both, or "
            "neither to use the environment, a profile or a role"
        )
    if settings.aws_session_token is not None and settings.aws_access_key_id is None:
        raise ValueError(
            "aws_session_token requires aws_access_key_id and aws_secret_access_key; set all "
            "three, or none to use the environment, a profile or a role"
        )
    if settings.use_unsigned_session and settings.aws_access_key_id is not None:
        raise ValueError("use_unsigned_session does not use keys, but keys are set; choose one")
    if settings.max_attempts < 1:
        raise ValueError(f"max_attempts is {settings.max_attempts}; it must be at least 1")


def _configured_endpoint(core: Any) -> str | None:
    """The endpoint set by the environment or the profile, by botocore's rules."""
    from botocore.configprovider import ConfiguredEndpointProvider

    if core.get_config_variable("ignore_configured_endpoint_urls"):
        return None
    provider = ConfiguredEndpointProvider(
        full_config=core.full_config, scoped_config=core.get_scoped_config(), client_name="s3"
    )
    found: str | None = provider.provide()
    return found


def _checked_endpoint(url: str | None, region: str, settings: S3Settings) -> str:
    if url is None:
        ending = ".cn" if region.startswith("cn-") else ""
        scheme = "https" if settings.use_ssl else "http"
        url = f"{scheme}://s3.{region}.amazonaws.com{ending}"
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"endpoint {url!r} is not a URL; write https://host or http://host")
    if parts.scheme == "https" and not settings.use_ssl:
        raise ValueError(
            f"use_ssl is false, but the endpoint is {url}; use http://, or set use_ssl to true"
        )
    allow_http = os.environ.get("AWS_ALLOW_HTTP", "").strip().lower()
    if parts.scheme == "http" and allow_http in ("false", "0", "no"):
        raise ValueError(
            f"endpoint {url} is not encrypted, which AWS_ALLOW_HTTP={allow_http} forbids; use an "
            f"https:// endpoint, or remove AWS_ALLOW_HTTP"
        )
    return url.rstrip("/")


def _certificates(core: Any, settings: S3Settings) -> bytes | None:
    """The CA bundle to trust besides the system's, if one is set."""
    if isinstance(settings.verify, bool):
        return None
    path: str | None = settings.verify or core.get_config_variable("ca_bundle")
    if not path:
        return None
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ValueError(f"the CA bundle {path} cannot be read: {error.strerror}") from error
