"""Errors of a store, with a message that says what to do."""

from __future__ import annotations

import re
from dataclasses import dataclass


class StorageError(Exception):
    """The storage root cannot be used, or an operation on it failed."""


class ObjectMissingError(StorageError):
    """There is no object at the key."""


class AccessDeniedError(StorageError):
    """The store denies the operation to these credentials, or to this user.

    Arguments:
        message: what was denied, and what to do.
        action: the operation, such as "read" or "write".
    """

    def __init__(self, message: str, *, action: str = "read") -> None:
        super().__init__(message)
        self.action = action


@dataclass(frozen=True)
class _Cause:
    """One kind of failure.

    Arguments:
        advice: what is wrong and what to do.
        signs: error codes of S3, of GCS's XML API and of Azure, HTTP statuses, error numbers of
            the operating system, and phrases of obstore and boto3; commas separate them.
        is_denial: whether the store denies the operation to these credentials.
    """

    advice: str
    signs: str
    is_denial: bool = False

    def fits(self, signs: set[str]) -> bool:
        return not signs.isdisjoint(self.signs.split(", "))


_RETRY = "then run again: nothing that was paid for is lost"

# The first that fits. A status alone says less than a code, so statuses come last.
_CAUSES = (
    _Cause(
        "the bucket does not exist. Create it, or correct its name, region and endpoint",
        "NoSuchBucket, ContainerNotFound",
    ),
    _Cause(
        "the credentials have expired. Renew them (log in again, or use a profile or role that "
        f"refreshes them), {_RETRY}",
        "ExpiredToken, ExpiredTokenException, TokenRefreshRequired, RequestExpired",
    ),
    _Cause(
        "this machine's clock differs from the store's by more than the store allows. Correct it",
        "RequestTimeTooSkewed",
    ),
    _Cause(
        "there are no valid credentials, or the store does not accept them. Check the environment, "
        "the profile, the role, or the keys of the resource",
        "InvalidAccessKeyId, SignatureDoesNotMatch, InvalidToken, UnrecognizedClientException, "
        "InvalidClientTokenId, AuthenticationFailed, InvalidAuthenticationInfo, "
        "UnauthenticatedError, NoCredentialsError, CredentialRetrievalError, TokenRetrievalError, "
        "UnauthorizedSSOTokenError, SSOTokenLoadError, HTTP 401",
    ),
    _Cause(
        "the bucket is in another region. Set AWS_REGION or the resource's region_name to it",
        "PermanentRedirect, AuthorizationHeaderMalformed, IllegalLocationConstraintException, "
        "incorrectly configured region, HTTP 301",
    ),
    _Cause(
        f"the store is overloaded, even after max_attempts attempts. Wait, {_RETRY}",
        "SlowDown, ServerBusy, ServiceUnavailable, TooManyRequests, HTTP 503, HTTP 429",
    ),
    _Cause(
        "the store refuses this operation to these credentials. Allow them to list the bucket, and "
        "to get, put and delete objects, for this bucket and prefix",
        "AccessDenied, AuthorizationPermissionMismatch, AuthorizationFailure, HTTP 403, "
        "PermissionDeniedError",
        is_denial=True,
    ),
    _Cause(
        f"there is no space left. Free some, {_RETRY}",
        "os error 28, os error 122, QuotaExceeded",
    ),
    _Cause(
        "the folder is read-only. Choose another with --storage or SORA_STORAGE",
        "os error 30",
    ),
    _Cause(
        "this user has no permission to do that. Change the permissions of the folder, or choose "
        "another with --storage or SORA_STORAGE",
        "os error 1, os error 13",
        is_denial=True,
    ),
    _Cause(
        "the bucket has object lock, which requires a checksum of each object. Set "
        f"AWS_CHECKSUM_ALGORITHM=SHA256 for all processes, {_RETRY}",
        "with Object Lock parameters, using Object Lock",
    ),
    _Cause(
        f"the store cannot be reached. Check its endpoint and the network, {_RETRY}",
        "error sending request, connection closed, EndpointConnectionError, ConnectTimeoutError, "
        "ReadTimeoutError, ConnectionClosedError, operation timed out",
    ),
    _Cause(
        "the store rejects the request (HTTP 400) without a reason: usually because of expired "
        "credentials, or a bucket in another region",
        "HTTP 400, BadRequest, 400",
    ),
)
# Of a process, profile or service that should provide credentials, and says why it cannot.
_PROVIDER = "credential provider"
_PHRASES = (
    _PROVIDER,
    "incorrectly configured region",
    "error sending request",
    "connection closed",
    "operation timed out",
    "with Object Lock parameters",
    "using Object Lock",
)
_MISSING = frozenset(("FileNotFoundError", "NoSuchKey", "BlobNotFound", "HTTP 404", "404"))


def explain(error: Exception, action: str, uri: str, root_url: str) -> StorageError:
    """Turn a store's exception into an error that says what to do and shows no secret.

    Arguments:
        error: the exception of obstore, boto3 or the operating system.
        action: the operation, such as "write".
        uri: full address of the object.
        root_url: the storage root.
    """
    if isinstance(error, StorageError):
        return error
    signs = _signs(error)
    for cause in _CAUSES:
        if cause.fits(signs):
            message = f"cannot {action} {uri}: {cause.advice}."
            if _PROVIDER in signs:
                message += f" The cause: {first_line(error)}"
            if cause.is_denial:
                return AccessDeniedError(message, action=action)
            return StorageError(message)
    if not signs.isdisjoint(_MISSING):
        return ObjectMissingError(f"there is no object at {uri}")
    return StorageError(
        f"cannot {action} {uri}: {first_line(error)}. Check that the storage root {root_url} "
        f"exists, has free space, and can be read and written by this process."
    )


def first_line(error: Exception) -> str:
    """The first line of an error's message, without signatures."""
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    # Signatures are in the query of a URL.
    return re.sub(r"\?[^\s\"'<>)]*", "", line)


def _signs(error: Exception) -> set[str]:
    """Codes, statuses and phrases of an error; never words of a key, which may be anything."""
    text = str(error)
    signs = {type(error).__name__, *re.findall(r"<Code>(\w+)</Code>", text)}
    signs.update(f"HTTP {status}" for status in re.findall(r"status code: (\d{3})\b", text))
    signs.update(re.findall(r"os error \d+", text))
    signs.update(phrase for phrase in _PHRASES if phrase in text)
    if isinstance(error, OSError) and error.errno is not None:
        signs.add(f"os error {error.errno}")
    response = getattr(error, "response", None)  # of boto3's ClientError
    if isinstance(response, dict):
        signs.add(str(response.get("Error", {}).get("Code")))
        signs.add(f"HTTP {response.get('ResponseMetadata', {}).get('HTTPStatusCode')}")
    return signs
