"""What can go wrong with a store, said so that its user knows what to do."""

from __future__ import annotations

import re
from dataclasses import dataclass


class StorageError(Exception):
    """The storage root cannot be used, or an operation on it failed."""


class ObjectMissingError(StorageError):
    """There is no object at the key."""


class AccessDeniedError(StorageError):
    """The store refuses the operation to these credentials, or to this user.

    Arguments:
        message: what was refused, and what to do.
        action: what was tried, such as "read" or "write".
    """

    def __init__(self, message: str, *, action: str = "read") -> None:
        super().__init__(message)
        self.action = action


@dataclass(frozen=True)
class _Cause:
    """One kind of failure.

    Arguments:
        signs: error codes of S3, of GCS's XML API and of Azure, HTTP statuses, numbers of the
            operating system's errors, and phrases of obstore and boto3.
        advice: what it is and what to do.
        is_refusal: whether the store refuses the operation to these credentials.
    """

    signs: frozenset[str]
    advice: str
    is_refusal: bool = False


def _cause(advice: str, *signs: str, is_refusal: bool = False) -> _Cause:
    return _Cause(frozenset(signs), advice, is_refusal)


_NOTHING_LOST = "then run again: nothing that was paid for is lost"

# The first that fits. A status alone says less than a code, so that statuses stand last.
_CAUSES = (
    _cause(
        "the bucket does not exist. Create it, or correct its name, region and endpoint",
        *("NoSuchBucket", "ContainerNotFound"),
    ),
    _cause(
        "the credentials have expired. Renew them (log in again, or use a profile or role that "
        f"refreshes them), {_NOTHING_LOST}",
        *("ExpiredToken", "ExpiredTokenException", "TokenRefreshRequired", "RequestExpired"),
    ),
    _cause(
        "this machine's clock is off by more than the store allows. Set it right",
        "RequestTimeTooSkewed",
    ),
    _cause(
        "the credentials cannot be had, or the store does not accept them. Check the environment, "
        "the profile, the role, or the keys of the resource",
        *(
            "InvalidAccessKeyId",
            "SignatureDoesNotMatch",
            "InvalidToken",
            "UnrecognizedClientException",
        ),
        *("InvalidClientTokenId", "AuthenticationFailed", "InvalidAuthenticationInfo"),
        *("UnauthenticatedError", "NoCredentialsError", "CredentialRetrievalError"),
        *("TokenRetrievalError", "UnauthorizedSSOTokenError", "SSOTokenLoadError", "HTTP 401"),
    ),
    _cause(
        "the bucket is in another region. Name it with AWS_REGION or the resource's region_name",
        *(
            "PermanentRedirect",
            "AuthorizationHeaderMalformed",
            "IllegalLocationConstraintException",
        ),
        *("incorrectly configured region", "HTTP 301"),
    ),
    _cause(
        "the store is overloaded, and was asked as often as max_attempts allows. Wait, "
        f"{_NOTHING_LOST}",
        *(
            "SlowDown",
            "ServerBusy",
            "ServiceUnavailable",
            "TooManyRequests",
            "HTTP 503",
            "HTTP 429",
        ),
    ),
    _cause(
        "the store refuses that to these credentials. Grant them what docs/storage.md lists, for "
        "this bucket and prefix",
        *("AccessDenied", "AuthorizationPermissionMismatch", "AuthorizationFailure", "HTTP 403"),
        *("PermissionDeniedError",),
        is_refusal=True,
    ),
    _cause(
        f"there is no room left. Make room, {_NOTHING_LOST}",
        *("os error 28", "os error 122", "QuotaExceeded"),
    ),
    _cause(
        "the folder is read-only. Choose another with --storage or SORA_STORAGE",
        "os error 30",
    ),
    _cause(
        "this user may not do that there. Change the permissions of the folder, or choose another "
        "with --storage or SORA_STORAGE",
        *("os error 1", "os error 13"),
        is_refusal=True,
    ),
    _cause(
        f"the store cannot be reached. Check its endpoint and the network, {_NOTHING_LOST}",
        *("error sending request", "connection closed", "EndpointConnectionError"),
        *(
            "ConnectTimeoutError",
            "ReadTimeoutError",
            "ConnectionClosedError",
            "operation timed out",
        ),
    ),
    _cause(
        "the store rejects the request (HTTP 400) without saying why: expired credentials are the "
        "usual reason, another region's bucket is the next",
        *("HTTP 400", "BadRequest", "400"),
    ),
)
# A process, profile or service that should give credentials, and says why it cannot.
_PROVIDER = "credential provider"
_PHRASES = frozenset((_PROVIDER,)) | frozenset(
    sign for cause in _CAUSES for sign in cause.signs if " " in sign
)
_MISSING = frozenset(("FileNotFoundError", "NoSuchKey", "BlobNotFound", "HTTP 404", "404"))


def explained(error: Exception, action: str, uri: str, root_url: str) -> StorageError:
    """A store's failure in our words, without what is secret in the store's own.

    Arguments:
        error: what obstore, boto3 or the operating system raised.
        action: what was tried, such as "write".
        uri: full address of the object.
        root_url: the storage root.
    """
    if isinstance(error, StorageError):
        return error
    signs = _signs(error)
    for cause in _CAUSES:
        if not signs.isdisjoint(cause.signs):
            cause_text = first_line(error) if _PROVIDER in signs else ""
            message = f"cannot {action} {uri}: {cause.advice}."
            if cause_text:
                message += f" The cause: {cause_text}"
            if cause.is_refusal:
                return AccessDeniedError(message, action=action)
            return StorageError(message)
    if not signs.isdisjoint(_MISSING):
        return ObjectMissingError(f"there is no object at {uri}")
    return StorageError(
        f"cannot {action} {uri}: {first_line(error)}. Check that the storage root {root_url} "
        f"exists, that this process may read and write it, and that it has room."
    )


def first_line(error: Exception) -> str:
    """What an error says, in one line, without signatures."""
    line = (str(error).strip().splitlines() or [type(error).__name__])[0]
    # Signatures travel in the query of a URL.
    return re.sub(r"\?[^\s\"'<>)]*", "", line)


def _signs(error: Exception) -> set[str]:
    """What of an error tells its kind; never words of a key, which may be any."""
    text = str(error)
    signs = {type(error).__name__, *re.findall(r"<Code>(\w+)</Code>", text)}
    signs.update(f"HTTP {status}" for status in re.findall(r"status code: (\d{3})\b", text))
    signs.update(re.findall(r"os error \d+", text))
    signs.update(phrase for phrase in _PHRASES if phrase in text)
    if isinstance(error, OSError) and error.errno is not None:
        signs.add(f"os error {error.errno}")
    answer = getattr(error, "response", None)  # of boto3's ClientError
    if isinstance(answer, dict):
        signs.add(str(answer.get("Error", {}).get("Code")))
        signs.add(f"HTTP {answer.get('ResponseMetadata', {}).get('HTTPStatusCode')}")
    return signs
