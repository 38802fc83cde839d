"""Downloading videos through the proxy of the environment, and without one."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from socketserver import StreamRequestHandler, ThreadingTCPServer
from urllib.parse import urlsplit

import httpx
import pytest
import stamina
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from sora_dagster.generation.fetching.download import Downloader, DownloadError, RefusedAddressError
from sora_dagster.storage import StorageRoot
from tests.generation.cutting_host import CuttingHost, hosting

API = "https://api.runware.ai/v1"
PROXY_VARIABLES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY")


@pytest.fixture(autouse=True)
def without_waits() -> Iterator[None]:
    with stamina.set_testing(True, attempts=2):
        yield


@pytest.fixture(autouse=True)
def without_proxies(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in PROXY_VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[CuttingHost]:
    """A host whose certificate names vm.runware.ai, and is trusted."""
    certificate = tmp_path / "vm.runware.ai.pem"
    _write_certificate(certificate, "vm.runware.ai")
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with hosting(CuttingHost(b"video" * 1000), tls) as host:
        yield host


def _write_certificate(path: Path, host: str) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, host)])
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(host)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    path.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        + certificate.public_bytes(serialization.Encoding.PEM)
    )


@dataclass
class Proxy:
    """A CONNECT proxy that alone knows where the hosts are.

    Arguments:
        target: host and port that every connection leads to.
        address: where it listens.
        connected: the hosts and ports that clients asked for.
    """

    target: tuple[str, int]
    address: str = ""
    connected: list[str] = field(default_factory=list)

    def answer(self, client: StreamRequestHandler) -> None:
        method, wanted, _ = client.rfile.readline().decode("ascii").split(" ")
        while client.rfile.readline().strip():
            pass
        assert method == "CONNECT"
        self.connected.append(wanted)
        with socket.create_connection(self.target) as upstream:
            client.wfile.write(b"HTTP/1.1 200 Connection established\r\n\r\n")
            back = threading.Thread(target=_relay, args=(upstream, client.connection), daemon=True)
            back.start()
            _relay(client.connection, upstream)
            back.join(timeout=20)


def _relay(source: socket.socket, sink: socket.socket) -> None:
    # Either side may close first; the other one then gets the end of its stream.
    with suppress(OSError):
        while data := source.recv(1 << 16):
            sink.sendall(data)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_WR)


@contextmanager
def proxying(target_url: str) -> Iterator[Proxy]:
    target = urlsplit(target_url)
    assert target.hostname is not None
    assert target.port is not None
    proxy = Proxy((target.hostname, target.port))

    class Handler(StreamRequestHandler):
        rbufsize = 0  # what follows the request belongs to the tunnel

        def handle(self) -> None:
            proxy.answer(self)

    server = ThreadingTCPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    proxy.address = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield proxy
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=20)


def must_not_resolve(host: str) -> list[str]:
    raise AssertionError(f"{host} was resolved here")


@pytest.fixture
def proxy(host: CuttingHost, monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    with proxying(host.address) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.address)
        yield proxy


def test_behind_a_proxy_the_proxy_alone_resolves_the_host(
    host: CuttingHost, proxy: Proxy, root: StorageRoot
) -> None:
    downloader = Downloader(api_base_url=API, resolve=must_not_resolve)
    downloader.fetch("https://vm.runware.ai/a.mp4", root, "a.mp4")
    downloader.close()
    assert root.read("a.mp4") == host.content
    assert proxy.connected == ["vm.runware.ai:443"]


@pytest.mark.parametrize("url", ["https://example.com/a.mp4", "http://vm.runware.ai/a.mp4"])
def test_behind_a_proxy_scheme_and_host_are_checked(
    proxy: Proxy, root: StorageRoot, url: str
) -> None:
    downloader = Downloader(api_base_url=API, resolve=must_not_resolve)
    with pytest.raises(RefusedAddressError, match="SORA_RESULT_HOSTS"):
        downloader.fetch(url, root, "a.mp4")
    downloader.close()
    assert proxy.connected == []


def test_addresses_are_checked_for_hosts_that_bypass_the_proxy(
    proxy: Proxy, root: StorageRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_PROXY", "runware.ai")
    downloader = Downloader(api_base_url=API, resolve=lambda _: ["10.0.0.7"])
    with pytest.raises(RefusedAddressError, match="SORA_RESULT_NETWORKS"):
        downloader.fetch("https://vm.runware.ai/a.mp4", root, "a.mp4")
    downloader.close()
    assert proxy.connected == []


def test_without_a_proxy_the_checked_address_must_prove_the_hosts_name(
    host: CuttingHost, root: StorageRoot
) -> None:
    # Only this resolver knows the address, so the connection goes to what it returned.
    downloader = Downloader(
        api_base_url=API, resolve=lambda _: ["127.0.0.1"], result_networks=["127.0.0.0/8"]
    )
    port = urlsplit(host.address).port
    downloader.fetch(f"https://vm.runware.ai:{port}/a.mp4", root, "a.mp4")
    assert root.read("a.mp4") == host.content
    assert host.asked[0]["host"] == f"vm.runware.ai:{port}"
    with pytest.raises(DownloadError, match="CERTIFICATE_VERIFY_FAILED"):
        downloader.fetch(f"https://im.runware.ai:{port}/a.mp4", root, "b.mp4")
    downloader.close()


PROXY = "http://proxy.example.com:3128"


@pytest.mark.parametrize("url", ["https://vm.runware.ai/a", "http://api.runware.ai:8080/a"])
@pytest.mark.parametrize(
    "environment",
    [
        {},
        {"HTTPS_PROXY": PROXY},
        {"https_proxy": "proxy.example.com:3128"},
        {"HTTPS_PROXY": ""},
        {"HTTP_PROXY": PROXY},
        {"ALL_PROXY": PROXY},
        {"HTTPS_PROXY": PROXY, "NO_PROXY": "*"},
        {"HTTPS_PROXY": PROXY, "NO_PROXY": "example.com, *"},
        {"HTTPS_PROXY": PROXY, "NO_PROXY": "example.com"},
        {"HTTPS_PROXY": PROXY, "NO_PROXY": "vm.runware.ai"},
        {"ALL_PROXY": PROXY, "NO_PROXY": "localhost, RUNWARE.ai ,"},
        {"ALL_PROXY": PROXY, "NO_PROXY": ".runware.ai"},
        {"ALL_PROXY": PROXY, "NO_PROXY": "ware.ai"},
        {"ALL_PROXY": PROXY, "NO_PROXY": "api.runware.ai:8080"},
        {"ALL_PROXY": PROXY, "NO_PROXY": "https://vm.runware.ai"},
        {"ALL_PROXY": PROXY, "NO_PROXY": "http://vm.runware.ai"},
        {"HTTPS_PROXY": PROXY, "NO_PROXY": "https://"},
        {"ALL_PROXY": PROXY, "NO_PROXY": "::1,192.168.0.0/16,127.0.0.1"},
    ],
    ids=lambda environment: ",".join(f"{k}={v}" for k, v in environment.items()) or "none",
)
def test_downloads_use_a_proxy_where_httpx_does(
    environment: dict[str, str], url: str, root: StorageRoot, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    used: list[str | None] = []
    make = httpx.HTTPTransport.__init__
    proxies: dict[int, str | None] = {}

    def init(self: httpx.HTTPTransport, **settings: object) -> None:
        proxy = settings.get("proxy")
        proxies[id(self)] = None if proxy is None else str(getattr(proxy, "url", proxy))
        make(self, **settings)  # type: ignore[arg-type]

    def handle_request(self: httpx.HTTPTransport, request: httpx.Request) -> httpx.Response:
        used.append(proxies[id(self)])
        return httpx.Response(200, stream=httpx.ByteStream(b"video"))

    monkeypatch.setattr(httpx.HTTPTransport, "__init__", init)
    monkeypatch.setattr(httpx.HTTPTransport, "handle_request", handle_request)
    with httpx.Client() as client:
        client.get(url)
    downloader = Downloader(api_base_url="http://api.runware.ai/v1", resolve=lambda _: ["8.8.8.8"])
    downloader.fetch(url, root, "a.mp4")
    downloader.close()
    ours, theirs = used.pop(), used.pop()
    assert ours == theirs
    assert used == []
