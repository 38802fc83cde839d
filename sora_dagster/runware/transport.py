"""One POST to the API: the key, the connection, and the answer."""

from __future__ import annotations

import ipaddress
import json
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from types import TracebackType
from typing import Any, Literal, Self
from urllib.parse import urlsplit

import httpx
from pydantic import SecretStr

from sora_dagster.runware.answers import ApiAnswer, parse_answer
from sora_dagster.runware.errors import ConnectionFailedError, MissingKeyError
from sora_dagster.runware.images import is_http_url
from sora_dagster.runware.redaction import without_secrets

DEFAULT_BASE_URL = "https://api.runware.ai/v1"
DRY_RUN_HEADER = "X-Runware-Dry-Run"

_CONNECT_TIMEOUT_SECONDS = 10.0

# The failures that httpx raises before the first byte of a request is written.
_NEVER_CONNECTED = (
    httpx.ConnectError,
    httpx.ConnectTimeout,
    httpx.PoolTimeout,
    httpx.ProxyError,
)

Purpose = Literal["submission", "poll", "other"]


def is_local_api(base_url: str) -> bool:
    """Whether a URL is on this machine, as a sandbox is. Any other API may cost money."""
    try:
        host = urlsplit(base_url).hostname or ""
    except ValueError:
        return False
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        # A name, which may lead anywhere.
        return False
    # The unspecified address is what a sandbox prints that listens at all of them.
    return address.is_loopback or address.is_unspecified


@dataclass(frozen=True)
class PostCounts:
    """How many POSTs were made, retries counted; a connection that was never made is none."""

    submissions: int = 0
    polls: int = 0
    other: int = 0

    @property
    def total(self) -> int:
        """All of them."""
        return self.submissions + self.polls + self.other


class Transport:
    """Posts tasks to the API and reads what it answers.

    Arguments:
        api_key: goes into the `Authorization` header and nowhere else.
        base_url: address of the API.
        timeout_seconds: longest wait for an answer; for a connection it is 10 s at most.
        transport: what carries the requests, in place of a network connection.

    Raises:
        MissingKeyError: where the key is empty.
        ValueError: where the key or the address cannot be sent as they are.
    """

    def __init__(
        self,
        api_key: SecretStr | str,
        *,
        base_url: str = DEFAULT_BASE_URL,
        timeout_seconds: float = 60.0,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        key = api_key.get_secret_value() if isinstance(api_key, SecretStr) else api_key
        key = key.strip()
        if not key:
            raise MissingKeyError
        if not key.isascii() or not key.isprintable() or " " in key:
            raise ValueError(
                "the Runware API key has characters that no key has (it is not shown here); copy "
                "it again from https://my.runware.ai/keys into RUNWARE_API_KEY"
            )
        self.base_url = _checked_base_url(base_url)
        self._secrets = (key,)
        self._counts = PostCounts()
        self._lock = threading.Lock()
        self._http = httpx.Client(
            headers={
                "Authorization": f"Bearer {key}",
                "Content-Type": "application/json",
                "Accept": "application/json",
                "User-Agent": "sora-dagster",
            },
            timeout=httpx.Timeout(
                timeout_seconds, connect=min(timeout_seconds, _CONNECT_TIMEOUT_SECONDS)
            ),
            transport=transport,
        )

    def __repr__(self) -> str:
        return f"Transport(base_url={self.base_url!r})"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    @property
    def posts(self) -> PostCounts:
        """The POSTs made so far."""
        return self._counts

    def post(
        self, tasks: Sequence[Mapping[str, Any]], *, purpose: Purpose, dry_run: bool = False
    ) -> ApiAnswer:
        """Post tasks once and read the answer, whatever its HTTP status.

        Raises:
            ConnectionFailedError: where no whole answer came; its `sent` is false only where the
                connection was never made.
        """
        body = json.dumps(list(tasks), ensure_ascii=False, allow_nan=False).encode()
        try:
            response = self._http.post(
                self.base_url,
                content=body,
                headers={DRY_RUN_HEADER: "1"} if dry_run else {},
            )
        except _NEVER_CONNECTED as error:
            raise self._failed(error, "could not be reached", sent=False) from error
        except httpx.RequestError as error:
            self._count(purpose)
            raise self._failed(error, "gave no whole answer", sent=True) from error
        self._count(purpose)
        return parse_answer(
            response.status_code,
            response.content,
            headers=response.headers,
            secrets=self._secrets,
        )

    def _failed(self, error: Exception, what: str, *, sent: bool) -> ConnectionFailedError:
        told = without_secrets(str(error), self._secrets)
        reason = f"{type(error).__name__}: {told}" if told else type(error).__name__
        return ConnectionFailedError(f"{self.base_url} {what} ({reason})", sent=sent)

    def _count(self, purpose: Purpose) -> None:
        with self._lock:
            counts = self._counts
            match purpose:
                case "submission":
                    self._counts = replace(counts, submissions=counts.submissions + 1)
                case "poll":
                    self._counts = replace(counts, polls=counts.polls + 1)
                case "other":
                    self._counts = replace(counts, other=counts.other + 1)


def _checked_base_url(base_url: str) -> str:
    # A password or a query in the address would go into every log line of httpx.
    url = base_url.strip().rstrip("/")
    try:
        httpx.URL(url)
    except httpx.InvalidURL:
        url = ""
    if not is_http_url(url) or "@" in url or "?" in url or "#" in url:
        raise ValueError(
            f"{base_url!r} cannot be the address of the API: an http(s) URL without user name, "
            f"query and fragment is expected, such as {DEFAULT_BASE_URL}; set RUNWARE_BASE_URL"
        )
    return url
