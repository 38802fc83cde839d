"""One POST to the API: key, connection and answer."""

from __future__ import annotations

import ipaddress
import json
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal
from urllib.parse import urlsplit

import httpx
from pydantic import SecretStr

from sora_dagster.runware.errors import ConnectionFailedError, MissingKeyError
from sora_dagster.runware.images import is_http_url
from sora_dagster.runware.redaction import without_secrets
from sora_dagster.runware.responses import ApiResponse, parse_response

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

Purpose = Literal["submissions", "polls", "other"]


def is_local_api(base_url: str) -> bool:
    """Whether an API is on this machine, like a sandbox. Any other API may cost money."""
    try:
        host = urlsplit(base_url).hostname or ""
    except ValueError:
        return False
    if host == "localhost" or host.endswith(".localhost"):
        return True
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        # A name can resolve to any machine.
        return False
    # Unspecified: the address that a sandbox prints if it listens on all addresses.
    return address.is_loopback or address.is_unspecified


@dataclass(frozen=True)
class PostCounts:
    """Number of POSTs, including retries, without connections that were never made."""

    submissions: int = 0
    polls: int = 0
    other: int = 0

    @property
    def total(self) -> int:
        """The sum."""
        return self.submissions + self.polls + self.other


class Transport:
    """Posts tasks to the API and reads its answers.

    Arguments:
        api_key: sent in the `Authorization` header and shown nowhere.
        base_url: address of the API. Default: Runware's.
        timeout_seconds: maximum wait for the next part of a response in seconds; for a connection
            10 s at most. The whole response may take twice as long. Default: 60.
        transport: replaces the network connection, for tests. Default: none.

    Raises:
        MissingKeyError: if the key is empty.
        ValueError: if the key or the address is invalid.
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
                "the Runware API key (not shown here) has characters that are not allowed; copy "
                "it again from https://my.runware.ai/keys into RUNWARE_API_KEY"
            )
        self.base_url = _checked_base_url(base_url)
        self._timeout_seconds = timeout_seconds
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

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    @property
    def posts(self) -> PostCounts:
        """Number of POSTs so far."""
        return self._counts

    def post(
        self, tasks: Sequence[Mapping[str, Any]], *, purpose: Purpose, dry_run: bool = False
    ) -> ApiResponse:
        """Post tasks once and read the answer, whatever its HTTP status.

        Raises:
            ConnectionFailedError: if no complete response came. Its `sent` is false only if the
                connection was never made.
        """
        body = json.dumps(list(tasks), ensure_ascii=False, allow_nan=False).encode()
        headers = {DRY_RUN_HEADER: "1"} if dry_run else {}
        try:
            with self._http.stream(
                "POST", self.base_url, content=body, headers=headers
            ) as response:
                content = self._read(response)
        except _NEVER_CONNECTED as error:
            raise self._failed(error, "could not be reached", sent=False) from error
        except httpx.RequestError as error:
            self._count(purpose)
            raise self._failed(error, "sent no complete response", sent=True) from error
        self._count(purpose)
        return parse_response(
            response.status_code,
            content,
            headers=response.headers,
            secrets=self._secrets,
        )

    def _read(self, response: httpx.Response) -> bytes:
        end = time.monotonic() + 2 * self._timeout_seconds
        content = bytearray()
        for chunk in response.iter_bytes():
            content += chunk
            if time.monotonic() > end:
                raise httpx.ReadTimeout("the response did not arrive completely in time")
        return bytes(content)

    def _failed(self, error: Exception, what: str, *, sent: bool) -> ConnectionFailedError:
        detail = without_secrets(str(error), self._secrets)
        reason = f"{type(error).__name__}: {detail}" if detail else type(error).__name__
        return ConnectionFailedError(f"{self.base_url} {what} ({reason})", sent=sent)

    def _count(self, purpose: Purpose) -> None:
        with self._lock:
            counts = self._counts
            self._counts = replace(counts, **{purpose: getattr(counts, purpose) + 1})


def _checked_base_url(base_url: str) -> str:
    # httpx logs the address, so it must hold no password and no query.
    url = base_url.strip().rstrip("/")
    try:
        httpx.URL(url)
    except httpx.InvalidURL:
        url = ""
    if not is_http_url(url) or "@" in url or "?" in url or "#" in url:
        raise ValueError(
            f"{base_url!r} cannot be the address of the API; allowed: an http(s) URL without user "
            f"name, query and fragment, such as {DEFAULT_BASE_URL}. Set RUNWARE_BASE_URL"
        )
    return url
