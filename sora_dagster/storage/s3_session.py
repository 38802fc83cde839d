"""Who speaks to S3, and where: one set of settings for obstore and boto3 alike."""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from obstore.store import S3Credential, S3Store

DEFAULT_REGION = "us-east-1"
# How long obstore keeps credentials before it asks for them again, and how long before their end it
# asks every time: boto3 renews them in their last quarter of an hour.
_KEPT = timedelta(minutes=1)
_LATE = timedelta(minutes=15)


@dataclass(frozen=True)
class S3Settings:
    """Settings of S3; what is None comes from the ordinary AWS chain: environment variables,
    profile, container and instance roles.

    Arguments:
        region_name: region of the bucket.
        endpoint_url: address of another server than AWS's.
        profile_name: profile of the AWS configuration files.
        aws_access_key_id: access key, for which the secret must be given too.
        aws_secret_access_key: its secret.
        aws_session_token: token of temporary credentials.
        use_ssl: whether AWS is spoken to by https; an endpoint says so in its own address.
        verify: whether certificates are verified, or the file of the authorities to trust;
            None for the chain's, which verifies.
        use_unsigned_session: whether requests are not signed, for public buckets.
        max_attempts: most attempts of one request, the first included.
    """

    region_name: str | None = None
    endpoint_url: str | None = None
    profile_name: str | None = None
    aws_access_key_id: str | None = None
    aws_secret_access_key: str | None = None
    aws_session_token: str | None = None
    use_ssl: bool = True
    verify: bool | str | None = None
    use_unsigned_session: bool = False
    max_attempts: int = 5

    def __repr__(self) -> str:
        return (
            f"S3Settings(region_name={self.region_name!r}, endpoint_url={self.endpoint_url!r}, "
            f"profile_name={self.profile_name!r})"
        )


class S3Credentials:
    """boto3's credentials, for obstore: asked again before they end.

    Arguments:
        session: the boto3 session.

    Raises:
        ValueError: where the session finds none.
    """

    def __init__(self, session: Any) -> None:
        self._credentials = session.get_credentials()
        if self._credentials is None:
            raise ValueError(
                "no AWS credentials were found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, "
                "name a profile, run with a role, or give them to S3Resource"
            )

    def __call__(self) -> S3Credential:
        """The credentials of this moment, and until when obstore may keep them."""
        frozen = self._credentials.get_frozen_credentials()
        now, ends = datetime.now(UTC), self.ends_at()
        # boto3 renews them in the background towards their end, and must be asked to notice.
        kept_until = (
            None if ends is None else now + min(_KEPT, max(timedelta(0), ends - now - _LATE))
        )
        return {
            "access_key_id": frozen.access_key,
            "secret_access_key": frozen.secret_key,
            "token": frozen.token,
            "expires_at": kept_until,
        }

    def ends_at(self) -> datetime | None:
        """When the credentials of this moment end; None where nobody says."""
        self._credentials.get_frozen_credentials()
        # botocore has no other name for it; credentials that it does not renew lack it.
        ends: datetime | None = getattr(self._credentials, "_expiry_time", None)
        return None if ends is None else ends.astimezone(UTC)


class S3Session:
    """The settings, completed by the ordinary AWS chain.

    Arguments:
        settings: what the chain does not say.

    Raises:
        ValueError: where the settings contradict each other, or no credentials are found.
    """

    def __init__(self, settings: S3Settings) -> None:
        import boto3
        import botocore.exceptions
        import botocore.session

        _check(settings)
        self._settings = settings
        try:
            core = botocore.session.get_session()
            self._session = boto3.Session(
                botocore_session=core,
                profile_name=settings.profile_name,
                # boto3 knows AWS_DEFAULT_REGION alone; the other SDKs, and obstore, AWS_REGION.
                region_name=settings.region_name or os.environ.get("AWS_REGION"),
                aws_access_key_id=settings.aws_access_key_id,
                aws_secret_access_key=settings.aws_secret_access_key,
                aws_session_token=settings.aws_session_token,
            )
            self._region = self._session.region_name or DEFAULT_REGION
            self.endpoint_url = _checked_endpoint(
                settings.endpoint_url or _configured_endpoint(core), self._region, settings
            )
            self._ca_bundle = _ca_bundle(core, settings)
            unsigned = settings.use_unsigned_session
            self.credentials = None if unsigned else S3Credentials(self._session)
        except botocore.exceptions.BotoCoreError as error:
            raise ValueError(f"the S3 settings cannot be used: {error}") from error

    @cached_property
    def client(self) -> Any:
        """boto3's client; made when it is first used, as that takes a tenth of a second."""
        from botocore import UNSIGNED
        from botocore.config import Config

        return self._session.client(
            "s3",
            # AWS's too: by itself boto3 signs URLs for an address that redirects to the region's.
            endpoint_url=self.endpoint_url,
            region_name=self._region,
            use_ssl=self._settings.use_ssl,
            verify=self._settings.verify,
            config=Config(
                signature_version=UNSIGNED if self.credentials is None else "s3v4",
                retries={"total_max_attempts": self._settings.max_attempts, "mode": "standard"},
                # Who uploads by a signed URL sends bytes, and no checksum of AWS's own kind.
                request_checksum_calculation="when_required",
                response_checksum_validation="when_required",
            ),
        )

    def open(self, bucket: str, prefix: str) -> S3Store:
        """obstore's store of a bucket and prefix."""
        from obstore.store import S3Store

        client_options: dict[str, Any] = {
            "allow_http": self.endpoint_url.startswith("http://"),
            "allow_invalid_certificates": self._settings.verify is False,
        }
        if self._ca_bundle:
            client_options["root_certificate"] = _read_authorities(self._ca_bundle)
        options: dict[str, Any] = {
            "region": self._region,
            # Both, or obstore would follow the environment where the settings say otherwise.
            "endpoint": self.endpoint_url,
            "aws_endpoint_url_s3": self.endpoint_url,
            "virtual_hosted_style_request": False,
            "skip_signature": self.credentials is None,
            # One key at a time is deleted: by a plain DELETE, which every server knows.
            "disable_bulk_delete": True,
            "client_options": client_options,
            "retry_config": {"max_retries": self._settings.max_attempts - 1},
        }
        if self.credentials is not None:
            options["credential_provider"] = self.credentials
        return S3Store(bucket, prefix=prefix or None, **options)


def _check(settings: S3Settings) -> None:
    if (settings.aws_access_key_id is None) != (settings.aws_secret_access_key is None):
        raise ValueError(
            "aws_access_key_id and aws_secret_access_key belong together; give both, or neither to "
            "use the environment, a profile or a role"
        )
    if settings.aws_session_token is not None and settings.aws_access_key_id is None:
        raise ValueError(
            "aws_session_token belongs to aws_access_key_id and aws_secret_access_key; give all "
            "three, or none to use the environment, a profile or a role"
        )
    if settings.use_unsigned_session and settings.aws_access_key_id is not None:
        raise ValueError("use_unsigned_session signs nothing, but keys are given; choose one")
    if settings.max_attempts < 1:
        raise ValueError(f"max_attempts is {settings.max_attempts}; it must be at least 1")


def _configured_endpoint(core: Any) -> str | None:
    """The endpoint that the environment or the profile names, by botocore's own rules."""
    from botocore.configprovider import ConfiguredEndpointProvider

    if core.get_config_variable("ignore_configured_endpoint_urls"):
        return None
    provider = ConfiguredEndpointProvider(
        full_config=core.full_config, scoped_config=core.get_scoped_config(), client_name="s3"
    )
    found: str | None = provider.provide()
    return found


def _checked_endpoint(named: str | None, region: str, settings: S3Settings) -> str:
    if named is None:
        ending = ".cn" if region.startswith("cn-") else ""
        scheme = "https" if settings.use_ssl else "http"
        named = f"{scheme}://s3.{region}.amazonaws.com{ending}"
    parts = urlsplit(named)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"the endpoint {named!r} is no address; write https://host or http://host")
    if parts.scheme == "https" and not settings.use_ssl:
        raise ValueError(
            f"use_ssl is false, but the endpoint is {named}; write it with http://, or leave "
            f"use_ssl true"
        )
    allow_http = os.environ.get("AWS_ALLOW_HTTP", "").strip().lower()
    if parts.scheme == "http" and allow_http in ("false", "0", "no"):
        raise ValueError(
            f"the endpoint {named} is not encrypted, and AWS_ALLOW_HTTP={allow_http} forbids that; "
            f"use an https:// endpoint, or remove AWS_ALLOW_HTTP"
        )
    return named.rstrip("/")


def _ca_bundle(core: Any, settings: S3Settings) -> str | None:
    if isinstance(settings.verify, bool):
        return None
    found: str | None = settings.verify or core.get_config_variable("ca_bundle")
    return found


def _read_authorities(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ValueError(
            f"the file of certificate authorities {path} cannot be read: {error.strerror}"
        ) from error
