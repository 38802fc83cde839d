"""Which addresses may be fetched from, and connections to those only."""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Callable, Iterable
from urllib.parse import urlsplit, urlunsplit
from urllib.request import getproxies

import httpx

# Results are served from vm.runware.ai and im.runware.ai (reported by an integrator, not
# documented), so every host of the domain is allowed.
RESULT_DOMAIN = "runware.ai"

_MAX_PORT = 65_535  # httpx does not check it
# NAT64 (RFC 6052), and the IPv4-compatible addresses of RFC 4291.
_IPV4_IN_LAST_BITS = (ipaddress.ip_network("64:ff9b::/96"), ipaddress.ip_network("::/96"))
_HOST = re.compile(r"(?!-)[a-z0-9_-]{1,63}(\.[a-z0-9_-]{1,63})*")


class DownloadError(Exception):
    """A file could not be downloaded.

    Arguments:
        message: what happened; a URL's query is left out, since it may be a signature.
        gone: whether the host says that the file no longer exists.
        retryable: whether it may succeed later.
    """

    def __init__(self, message: str, *, gone: bool = False, retryable: bool = False) -> None:
        super().__init__(message)
        self.gone = gone
        self.retryable = retryable


class _RetryableDownloadError(DownloadError):
    def __init__(self, message: str) -> None:
        super().__init__(message, retryable=True)


class TransientDownloadError(_RetryableDownloadError):
    """A failure that another request may overcome soon, even in the middle of a file."""


class DownloadStalledError(_RetryableDownloadError):
    """The connection broke repeatedly at the same byte; worth another try later, not now."""


class RefusedAddressError(_RetryableDownloadError):
    """The settings do not allow the address of a video.

    It is retryable so that a refusal never ends a task that was paid for: the download succeeds
    once the settings allow the address. Retrying before that is pointless.
    """


def parse_result_hosts(hosts: Iterable[str]) -> tuple[str, ...]:
    """Domains that videos may be downloaded from, in lower case.

    Raises:
        ValueError: if one is not a plain host name.

    Example:
        >>> parse_result_hosts(["CDN.example.com"])
        ('cdn.example.com',)
    """
    parsed = []
    for host in hosts:
        parsed.append(host.strip().lower())
        if _HOST.fullmatch(parsed[-1]) is None:
            raise ValueError(
                f"the result host {host!r} is not a host name. Write a domain in ASCII, such as "
                f"'cdn.example.com', without scheme, port, path or wildcard; its subdomains are "
                f"included. Correct SORA_RESULT_HOSTS, or the resource's `result_hosts`."
            )
    return tuple(parsed)


def parse_result_networks(networks: Iterable[str]) -> tuple[str, ...]:
    """Networks that are allowed although they are not public, in CIDR notation.

    Raises:
        ValueError: if one is not a network.

    Example:
        >>> parse_result_networks(["198.18.0.0/15", "10.0.0.7"])
        ('198.18.0.0/15', '10.0.0.7/32')
    """
    parsed = []
    for network in networks:
        try:
            parsed.append(str(ipaddress.ip_network(network.strip())))
        except ValueError as error:
            raise ValueError(
                f"the result network {network!r} is not a network: {error}. Write it in CIDR "
                f"notation, such as '198.18.0.0/15' or 'fd00::/8'. Correct SORA_RESULT_NETWORKS, "
                f"or the resource's `result_networks`."
            ) from error
    return tuple(parsed)


def addresses_of(host: str) -> list[str]:
    """The IP addresses of a host, from the system's resolver."""
    return [str(info[4][0]) for info in socket.getaddrinfo(host, 443, type=socket.SOCK_STREAM)]


class UrlGuard:
    """Refuses addresses that videos must not be downloaded from.

    Arguments:
        api_base_url: the API's address; its host may serve videos too, over the same scheme.
        result_hosts: domains allowed besides runware.ai, with their subdomains; https only.
        result_networks: networks (CIDR) that are allowed although they are not public.
        resolve: returns the IP addresses of a host.

    Raises:
        ValueError: if a host or network is not valid.
    """

    def __init__(
        self,
        *,
        api_base_url: str,
        result_hosts: Iterable[str] = (),
        result_networks: Iterable[str] = (),
        resolve: Callable[[str], Iterable[str]] = addresses_of,
    ) -> None:
        api = httpx.URL(api_base_url)
        self._api_origin = (api.scheme, _host_of(api))
        self._domains = (RESULT_DOMAIN, *parse_result_hosts(result_hosts))
        self._networks = list(map(ipaddress.ip_network, parse_result_networks(result_networks)))
        self._resolve = resolve

    def check(self, url: str) -> None:
        """Refuse a URL whose scheme or host is not allowed.

        Raises:
            RefusedAddressError: if it is not allowed.
        """
        try:
            # The parser of the client that connects. With a different parser, a crafted URL could
            # name an allowed host here and another one there.
            parsed = httpx.URL(url)
            if (parsed.port or 0) > _MAX_PORT:
                raise httpx.InvalidURL(f"the port {parsed.port} is above {_MAX_PORT}")
        except httpx.InvalidURL as error:
            raise RefusedAddressError(
                f"nothing is downloaded: the address is not a valid URL: {error}"
            ) from error
        host = _host_of(parsed)
        if self._is_api(parsed) or (
            parsed.scheme == "https"
            and any(host == domain or host.endswith(f".{domain}") for domain in self._domains)
        ):
            return
        raise RefusedAddressError(
            f"nothing is downloaded from {shown_url(url)}: allowed are https addresses of "
            f"{', '.join(self._domains)} and their subdomains, and the API's own host "
            f"{self._api_origin[1]}. To allow another domain, add it to SORA_RESULT_HOSTS, or the "
            f"resource's `result_hosts`."
        )

    def resolve(self, url: httpx.URL) -> list[str]:
        """The IP addresses to connect to for a URL that passed `check`; empty for the API's host.

        The API's host is trusted wherever it is, for example a sandbox on this machine.

        Raises:
            RefusedAddressError: if the host has an address that is not allowed.
            TransientDownloadError: if the host cannot be resolved now.
        """
        if self._is_api(url):
            return []
        host = _host_of(url)
        try:
            addresses = list(self._resolve(host))
        except (OSError, UnicodeError) as error:  # UnicodeError: not a valid DNS name
            raise TransientDownloadError(f"{host} cannot be resolved: {error}") from error
        if not addresses:
            raise TransientDownloadError(f"{host} cannot be resolved: it has no address")
        for address in addresses:
            if not self._is_allowed(address):
                allowed = ", ".join(["public addresses", *map(str, self._networks)])
                raise RefusedAddressError(
                    f"nothing is downloaded from {host}: it resolves to {address}, which is "
                    f"not a public address. Allowed are {allowed}. If this address is correct, add "
                    f"its network (in CIDR notation) to SORA_RESULT_NETWORKS, or the resource's "
                    f"`result_networks`. If downloads go through a proxy, set HTTPS_PROXY; the "
                    f"proxy then resolves the host."
                )
        return addresses

    def _is_api(self, url: httpx.URL) -> bool:
        return (url.scheme, _host_of(url)) == self._api_origin

    def _is_allowed(self, text: str) -> bool:
        address = ipaddress.ip_address(text)
        if any(address in network for network in self._networks):
            return True
        return all(
            one.is_global and not one.is_multicast for one in (address, *_embedded_ipv4(address))
        )


def _embedded_ipv4(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> list[ipaddress.IPv4Address]:
    """The IPv4 address that an IPv6 address is translated to by a gateway, if any."""
    if address.version == 4:
        return []
    if address.sixtofour is not None:
        return [address.sixtofour]
    if any(address in network for network in _IPV4_IN_LAST_BITS):
        return [ipaddress.IPv4Address(address.packed[-4:])]
    return []


class GuardedTransport(httpx.BaseTransport):
    """Connects only to addresses that the guard checked.

    If the connection resolved the host again, the second answer could differ from the checked one.
    TLS still verifies the host's name.

    Arguments:
        guard: resolves hosts and checks their addresses.
        connect: creates a transport for one host.
    """

    def __init__(self, guard: UrlGuard, connect: Callable[[], httpx.BaseTransport]) -> None:
        self._guard = guard
        self._connect = connect
        # One per host: a pool keys its idle connections by IP address, so it could send a request
        # for one host over a connection whose certificate was verified for another.
        self._by_host: dict[str, httpx.BaseTransport] = {}

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request to the first address of its host that accepts a connection."""
        addresses = self._guard.resolve(request.url)
        host = _host_of(request.url)
        transport = self._by_host.get(host)
        if transport is None:
            transport = self._by_host.setdefault(host, self._connect())
        for address in addresses[:-1]:
            try:
                return transport.handle_request(_with_address(address, request))
            except (httpx.ConnectError, httpx.ConnectTimeout):
                # As in any client, the next address is tried; the last one's error is raised.
                continue
        return transport.handle_request(
            _with_address(addresses[-1], request) if addresses else request
        )

    def close(self) -> None:
        """Close the connections."""
        for transport in self._by_host.values():
            transport.close()


def _host_of(url: httpx.URL) -> str:
    """The host in ASCII, as it is resolved and as certificates name it."""
    return url.raw_host.decode("ascii")


def _with_address(address: str, request: httpx.Request) -> httpx.Request:
    """The same request, with its `Host` header, sent to an IP address."""
    return httpx.Request(
        request.method,
        request.url.copy_with(host=address),
        headers=request.headers,
        stream=request.stream,
        extensions={**request.extensions, "sni_hostname": _host_of(request.url)},
    )


def http_client(guard: UrlGuard, *, timeout_seconds: float) -> httpx.Client:
    """A client that uses the environment's proxies, and checks addresses if there is no proxy.

    A proxy resolves hosts itself, so this machine's addresses say nothing about the connection,
    and often it cannot resolve the host at all. Redirects are not followed, so that each new URL
    can be checked like the first.
    """
    tls = httpx.create_ssl_context()
    return httpx.Client(
        timeout=timeout_seconds,
        follow_redirects=False,
        transport=GuardedTransport(guard, lambda: httpx.HTTPTransport(verify=tls)),
        mounts={
            pattern: None if proxy is None else httpx.HTTPTransport(verify=tls, proxy=proxy)
            for pattern, proxy in _environment_proxies().items()
        },
    )


def _environment_proxies() -> dict[str, str | None]:
    """The proxy of each URL pattern, as httpx would read it from the environment; None: no proxy.

    httpx ignores the environment if a client has a custom transport, and has no public function
    for it. httpx still matches the patterns, so a request goes either to a proxy or to
    `GuardedTransport`, never unchecked.
    """
    found = getproxies()
    bypassed = [host.strip() for host in found.get("no", "").split(",") if host.strip()]
    if "*" in bypassed:
        return {}
    proxies: dict[str, str | None] = {
        f"{scheme}://": proxy if "://" in proxy else f"http://{proxy}"
        for scheme in ("http", "https", "all")
        if (proxy := found.get(scheme))
    }
    return proxies | {_pattern_of(host): None for host in bypassed}


def _pattern_of(bypassed: str) -> str:
    """The URL pattern for an entry of NO_PROXY."""
    if "://" in bypassed:
        return bypassed
    if bypassed.lower() == "localhost":
        return f"all://{bypassed}"
    try:
        version = ipaddress.ip_address(bypassed.split("/")[0]).version
    except ValueError:
        return f"all://*{bypassed}"  # the domain and its subdomains
    return f"all://[{bypassed}]" if version == 6 else f"all://{bypassed}"


def shown_url(url: str) -> str:
    """A URL that is safe to show: without user, password and query, which may be a signature."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "an invalid URL"
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=host, query="", fragment=""))
