"""Opening a bucket of S3, or of a server that speaks its protocol."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from obstore.store import S3Store


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
        verify: whether certificates are verified; None for yes.
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
    verify: bool | None = None
    use_unsigned_session: bool = False
    max_attempts: int = 5

    def __repr__(self) -> str:
        return (
            f"S3Settings(region_name={self.region_name!r}, endpoint_url={self.endpoint_url!r}, "
            f"profile_name={self.profile_name!r})"
        )


def open_s3(url: str, settings: S3Settings) -> S3Store:
    """The store of an ``s3://bucket/prefix`` URL, with credentials that are refreshed.

    Raises:
        ValueError: where the settings contradict each other, or no credentials are found.
    """
    import boto3
    import botocore.exceptions
    from obstore.auth.boto3 import Boto3CredentialProvider
    from obstore.store import S3Store

    if (settings.aws_access_key_id is None) != (settings.aws_secret_access_key is None):
        raise ValueError(
            "aws_access_key_id and aws_secret_access_key belong together; give both, or neither to "
            "use the environment, a profile or a role"
        )
    parts = urlsplit(url)
    try:
        session = boto3.Session(
            profile_name=settings.profile_name,
            region_name=settings.region_name,
            aws_access_key_id=settings.aws_access_key_id,
            aws_secret_access_key=settings.aws_secret_access_key,
            aws_session_token=settings.aws_session_token,
        )
        # boto3 knows the ordinary ways of naming another endpoint: environment and profile.
        client = session.client(
            "s3",
            endpoint_url=settings.endpoint_url,
            region_name=(session.region_name or "us-east-1"),
        )
    except (botocore.exceptions.BotoCoreError, ValueError) as error:
        raise ValueError(f"the S3 settings cannot be used: {error}") from error
    endpoint = str(client.meta.endpoint_url)
    is_aws = (urlsplit(endpoint).hostname or "").endswith((".amazonaws.com", ".amazonaws.com.cn"))
    options: dict[str, Any] = {
        "region": session.region_name or "us-east-1",
        "client_options": {
            "allow_http": endpoint.startswith("http://") or not settings.use_ssl,
            "allow_invalid_certificates": settings.verify is False,
        },
        "retry_config": {"max_retries": max(0, settings.max_attempts - 1)},
    }
    if not is_aws:
        options["endpoint"] = endpoint
    elif not settings.use_ssl:
        options["endpoint"] = endpoint.replace("https://", "http://", 1)
    if settings.use_unsigned_session:
        options["skip_signature"] = True
    elif session.get_credentials() is None:
        raise ValueError(
            "no AWS credentials were found: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, name "
            "a profile, run with a role, or give them to S3Resource"
        )
    else:
        options["credential_provider"] = Boto3CredentialProvider(session)
    return S3Store(parts.netloc, prefix=parts.path.strip("/") or None, **options)
