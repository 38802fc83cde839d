"""What Runware publishes about its models, over HTTP. No API key is needed."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Self
from urllib.parse import quote, urlsplit

import httpx

from sora_dagster.runware.address_guard import (
    DownloadError,
    UrlGuard,
    http_client,
    shown_url,
)
from sora_dagster.runware.catalogue.published.documents import (
    MAX_DOCUMENT_BYTES,
    PublishedDocumentError,
    PublishedModel,
    read_document,
)
from sora_dagster.runware.images import is_http_url
from sora_dagster.runware.redaction import shown
from sora_dagster.runware.transport import is_local_api

# Without a content encoding, so that an answer is never larger than what was sent.
_HEADERS = {"Accept": "application/json", "Accept-Encoding": "identity"}

DEFAULT_TIMEOUT_SECONDS = 15.0
DEFAULT_TOTAL_SECONDS = 180.0


class NotPublishedError(PublishedDocumentError):
    """Runware publishes nothing about a model under this address."""


@dataclass(frozen=True)
class PublishedAddresses:
    """Base addresses of what Runware publishes.

    Arguments:
        schemas: of ``/resolve/<AIR>``. Default: Runware's (official SDK 1.8.0).
        content: of ``/models/<AIR>`` and ``/models/<AIR>/pricing``. Default: Runware's (same
            source).
        docs: of ``/docs/models/<slug>/schema.json``. Default: Runware's (its own pages).
    """

    schemas: str = "https://schemas.runware.ai"
    content: str = "https://content.runware.ai"
    docs: str = "https://runware.ai"

    @classmethod
    def for_api(cls, api_url: str, schemas_url: str | None = None) -> PublishedAddresses:
        """The addresses that belong to an API.

        Arguments:
            api_url: address of the API. A sandbox on this machine has all documents itself.
            schemas_url: a server that has all documents. Default: none.

        Raises:
            ValueError: if it is not a URL.
        """
        if schemas_url is None:
            if not is_local_api(api_url):
                return cls()
            parts = urlsplit(api_url)
            schemas_url = f"{parts.scheme}://{parts.netloc}"
        elif not is_http_url(schemas_url):
            raise ValueError(
                f"{shown(schemas_url)} is not the URL of a server of schemas; allowed: an http(s) "
                f"URL. Correct SORA_SCHEMAS_URL, or the resource's `schemas_url`"
            )
        server = schemas_url.rstrip("/")
        return cls(server, server, server)


class PublishedCatalogue:
    """Reads what is published about models. Close it after use.

    Each answer is limited in size and time, and all of them together in time. Only addresses of
    runware.ai, of the allowed hosts and of the given server are read; a redirect is not followed.

    Arguments:
        addresses: base addresses. Default: Runware's.
        result_hosts: further domains that may be read from.
        result_networks: networks (CIDR) that are accepted although they are not public.
        timeout_seconds: maximum time of one answer in seconds. Default: 15.
        total_seconds: maximum time of all answers in seconds. Default: 180.
        monotonic: a clock, in seconds.

    Raises:
        ValueError: if an address, a host or a network is not valid.
    """

    def __init__(
        self,
        addresses: PublishedAddresses | None = None,
        *,
        result_hosts: tuple[str, ...] = (),
        result_networks: tuple[str, ...] = (),
        timeout_seconds: float = DEFAULT_TIMEOUT_SECONDS,
        total_seconds: float = DEFAULT_TOTAL_SECONDS,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._addresses = addresses or PublishedAddresses()
        self._guard = UrlGuard(
            api_base_url=self._addresses.schemas,
            result_hosts=result_hosts,
            result_networks=result_networks,
        )
        self._http = http_client(self._guard, timeout_seconds=timeout_seconds)
        self._timeout_seconds = timeout_seconds
        self._total_seconds = total_seconds
        self._monotonic = monotonic
        self._deadline = monotonic() + total_seconds

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def model(self, air: str) -> PublishedModel:
        """What is published about a model: its schema, status and prices.

        Arguments:
            air: its AIR id.

        Raises:
            NotPublishedError: if there is no schema of it.
            PublishedDocumentError: if a document cannot be read.
            DownloadError: if a document cannot be fetched.
        """
        model = self.schema(air)
        for address in (f"models/{quote(air, safe='')}/pricing", f"models/{quote(air, safe='')}"):
            try:
                text = self._fetch(f"{self._addresses.content}/{address}")
            except NotPublishedError:
                continue
            if text.strip() != b"null":
                model = model.completed(read_document(text, model.source, air=air))
        return model

    def schema(self, air: str) -> PublishedModel:
        """The schema of a model's requests, without prices.

        Raises:
            NotPublishedError: if there is none.
            PublishedDocumentError: if it cannot be read.
            DownloadError: if it cannot be fetched.
        """
        # Encoded as the official JavaScript client does.
        url = f"{self._addresses.schemas}/resolve/{quote(air, safe='')}"
        return read_document(self._fetch(url), url, air=air)

    def page(self, slug: str) -> PublishedModel:
        """What a model's page publishes.

        Arguments:
            slug: name of the model in the addresses of Runware's pages.

        Raises:
            PublishedDocumentError, DownloadError: like `model`.
        """
        return self.document(
            f"{self._addresses.docs}/docs/models/{quote(slug, safe='')}/schema.json"
        )

    def document(self, url: str) -> PublishedModel:
        """What one address publishes about a model.

        Raises:
            PublishedDocumentError, DownloadError: like `model`.
        """
        return read_document(self._fetch(url), shown_url(url))

    def _fetch(self, url: str) -> bytes:
        self._guard.check(url)
        started = self._monotonic()
        body = bytearray()
        try:
            with self._http.stream("GET", url, headers=_HEADERS) as answer:
                self._check_limits(url, 0, started)
                if answer.status_code == httpx.codes.NOT_FOUND:
                    raise NotPublishedError(f"{shown_url(url)}: nothing is published there (404)")
                if answer.status_code != httpx.codes.OK:
                    raise DownloadError(
                        f"{shown_url(url)} was answered with HTTP status {answer.status_code}",
                        retryable=True,
                    )
                for chunk in answer.iter_bytes():
                    body += chunk
                    self._check_limits(url, len(body), started)
        except httpx.HTTPError as error:
            detail = str(error) or type(error).__name__
            raise DownloadError(
                f"{shown_url(url)} could not be read: {detail}", retryable=True
            ) from error
        self._check_limits(url, len(body), started)
        return bytes(body)

    def _check_limits(self, url: str, size: int, started: float) -> None:
        now = self._monotonic()
        if size > MAX_DOCUMENT_BYTES:
            raise PublishedDocumentError(
                f"{shown_url(url)}: the document has more than {MAX_DOCUMENT_BYTES:,} bytes, so it "
                f"is not read"
            )
        if now - started > self._timeout_seconds:
            raise DownloadError(
                f"{shown_url(url)} did not arrive within {self._timeout_seconds:g} s",
                retryable=True,
            )
        if now > self._deadline:
            raise DownloadError(
                f"reading what is published took longer than {self._total_seconds:g} s in all",
                retryable=True,
            )
