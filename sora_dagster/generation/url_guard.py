"""Which addresses results are fetched from."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Iterable
from urllib.parse import urlsplit, urlunsplit

from sora_dagster.generation.download_errors import DownloadError, PassingError

# Results are served from vm.runware.ai and im.runware.ai (reported by an integrator, not
# documented), so every host of that domain is allowed.
DEFAULT_ALLOWED_DOMAINS = ("runware.ai",)


def addresses_of(host: str) -> list[str]:
    """The addresses of a host, by the system's resolver."""
    return [str(info[4][0]) for info in socket.getaddrinfo(host, 443, type=socket.SOCK_STREAM)]


class UrlGuard:
    """Refuses addresses that results are not fetched from.

    Arguments:
        api_base_url: the API's address; its host may serve results too, on whatever scheme the
            API itself uses.
        allowed_domains: domains (and their subdomains) that results are fetched from, by https.
        allow_private: whether these may lie at private, local or reserved addresses.
        resolve: gives the addresses of a host.
    """

    def __init__(
        self,
        *,
        api_base_url: str,
        allowed_domains: Iterable[str] = DEFAULT_ALLOWED_DOMAINS,
        allow_private: bool = False,
        resolve: Callable[[str], Iterable[str]] = addresses_of,
    ) -> None:
        api = urlsplit(api_base_url)
        self._api_origin = (api.scheme, api.hostname)
        self._allowed_domains = tuple(domain.lower() for domain in allowed_domains)
        self._allow_private = allow_private
        self._resolve = resolve

    def check(self, url: str) -> None:
        """Refuse an address that results are not fetched from.

        Raises:
            DownloadError: where the scheme or host is not allowed.
        """
        parts = urlsplit(url)
        host = (parts.hostname or "").lower()
        if (parts.scheme, host) == self._api_origin:
            return
        if parts.scheme == "https" and any(
            host == domain or host.endswith(f".{domain}") for domain in self._allowed_domains
        ):
            self._check_public(host)
            return
        raise DownloadError(
            f"results are not fetched from {shown_url(url)}; allowed are https addresses below "
            f"{', '.join(self._allowed_domains)}, and the API's own host"
        )

    def _check_public(self, host: str) -> None:
        """Refuse a name that leads into somebody's own network."""
        if self._allow_private:
            return
        try:
            addresses = list(self._resolve(host))
        except OSError as error:
            raise PassingError(f"the address of {host} is not known: {error}") from error
        for address in addresses:
            if not ipaddress.ip_address(address).is_global:
                raise DownloadError(
                    f"results are not fetched from {host}: its address {address} is private"
                )


def shown_url(url: str) -> str:
    """A URL as it may be shown: without its query, which may be a signature."""
    return urlunsplit(urlsplit(url)._replace(query="", fragment=""))
