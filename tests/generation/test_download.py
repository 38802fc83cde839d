"""Fetching results: only from where they may come, only whole, in bounded size and time."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator

import httpx
import pytest
import stamina

from sora_dagster.generation.fetching.download import Downloader, DownloadError, RefusedAddressError
from sora_dagster.storage import StorageRoot

PUBLIC, PRIVATE = "8.8.8.8", "10.0.0.7"
VIDEO = b"video" * 1000
Handler = Callable[[httpx.Request], httpx.Response]


def whole() -> httpx.Response:
    return httpx.Response(200, stream=httpx.ByteStream(VIDEO))


@pytest.fixture(autouse=True)
def without_waits() -> Iterator[None]:
    with stamina.set_testing(True, attempts=2):
        yield


def downloader(
    handler: Handler = lambda _: whole(),
    *,
    address: str = PUBLIC,
    base_url: str = "https://api.runware.ai/v1",
    **settings: object,
) -> Downloader:
    arguments: dict[str, object] = {"resolve": lambda _: [address], **settings}
    return Downloader(
        api_base_url=base_url,
        transport=httpx.MockTransport(handler),
        **arguments,  # type: ignore[arg-type]
    )


def test_a_result_is_stored_with_its_length_and_hash(root: StorageRoot) -> None:
    fetched = downloader().fetch("https://vm.runware.ai/a.mp4", root, "a.mp4")
    assert root.read("a.mp4") == VIDEO
    assert fetched.size_bytes == len(VIDEO)
    assert fetched.sha256 == hashlib.sha256(VIDEO).hexdigest()


@pytest.mark.parametrize(
    "url",
    [
        "http://vm.runware.ai/a.mp4",
        "https://runware.ai.example.com/a.mp4",
        "https://evilrunware.ai/a.mp4",
        "https://example.com/a.mp4",
        "file:///etc/passwd",
        "https://vm.runware.ai@example.com/a.mp4",
        "https://127.0.0.1/a.mp4",
        "https://vm.runware.ai\\@example.com/a.mp4",
        "https://vm.runware.ai:99999/a.mp4",
        "https://vm.runware.ai/\n",
        "//vm.runware.ai/a.mp4",
        "",
    ],
)
def test_nothing_is_fetched_from_elsewhere(root: StorageRoot, url: str) -> None:
    def must_not_be_asked(request: httpx.Request) -> httpx.Response:
        raise AssertionError(f"{request.url} was asked")

    with pytest.raises(RefusedAddressError, match="nothing is downloaded"):
        downloader(must_not_be_asked).fetch(url, root, "a.mp4")
    assert list(root.list("")) == []


@pytest.mark.parametrize("address", [PRIVATE, "127.0.0.1", "169.254.169.254", "::1", "fd00::1"])
def test_nothing_is_fetched_from_private_addresses(root: StorageRoot, address: str) -> None:
    with pytest.raises(RefusedAddressError, match="not a public address"):
        downloader(address=address).fetch("https://vm.runware.ai/a.mp4", root, "a.mp4")


@pytest.mark.parametrize(
    "address", ["64:ff9b::a9fe:a9fe", "2002:7f00:1::", "::10.0.0.1", "::ffff:10.0.0.1", "224.0.0.1"]
)
def test_nothing_is_fetched_from_private_addresses_in_another_form(
    root: StorageRoot, address: str
) -> None:
    with pytest.raises(RefusedAddressError, match="not a public address"):
        downloader(address=address).fetch("https://vm.runware.ai/a.mp4", root, "a.mp4")


def test_a_public_address_behind_nat64_is_accepted(root: StorageRoot) -> None:
    fetcher = downloader(address="64:ff9b::808:808")
    assert fetcher.fetch("https://vm.runware.ai/a.mp4", root, "a.mp4").size_bytes == len(VIDEO)


def test_a_host_with_one_private_address_is_refused(root: StorageRoot) -> None:
    fetcher = downloader(resolve=lambda _: [PUBLIC, PRIVATE])
    with pytest.raises(RefusedAddressError, match=PRIVATE):
        fetcher.fetch("https://vm.runware.ai/a.mp4", root, "a.mp4")


@pytest.mark.parametrize("address", ["198.18.0.9", "198.19.255.1", "fd00::1"])
def test_addresses_in_the_networks_of_the_settings_are_accepted(
    root: StorageRoot, address: str
) -> None:
    fetcher = downloader(address=address, result_networks=["198.18.0.0/15", "fd00::/8"])
    assert fetcher.fetch("https://vm.runware.ai/a.mp4", root, "a.mp4").size_bytes == len(VIDEO)


def test_addresses_outside_the_networks_of_the_settings_are_refused(root: StorageRoot) -> None:
    fetcher = downloader(address=PRIVATE, result_networks=["198.18.0.0/15"])
    with pytest.raises(RefusedAddressError, match=r"public addresses, 198\.18\.0\.0/15"):
        fetcher.fetch("https://vm.runware.ai/a.mp4", root, "a.mp4")


@pytest.mark.parametrize("host", ["cdn.example.com", "eu.cdn.example.com", "vm.runware.ai"])
def test_hosts_of_the_settings_are_allowed_besides_runwares(root: StorageRoot, host: str) -> None:
    fetcher = downloader(result_hosts=["CDN.example.com"])
    assert fetcher.fetch(f"https://{host}/a.mp4", root, "a.mp4").size_bytes == len(VIDEO)


def test_a_host_of_the_settings_still_needs_https_and_a_public_address(root: StorageRoot) -> None:
    fetcher = downloader(result_hosts=["cdn.example.com"], address=PRIVATE)
    for scheme in ("http", "https"):
        with pytest.raises(RefusedAddressError):
            fetcher.fetch(f"{scheme}://cdn.example.com/a.mp4", root, "a.mp4")


@pytest.mark.parametrize(
    ("url", "setting"),
    [
        ("https://user:secret@cdn.example.com/a.mp4?token=secret", "SORA_RESULT_HOSTS"),
        ("https://vm.runware.ai/a.mp4?token=secret", "SORA_RESULT_NETWORKS"),
    ],
)
def test_a_refusal_names_the_setting_and_may_succeed_later(
    root: StorageRoot, url: str, setting: str
) -> None:
    with pytest.raises(RefusedAddressError, match=setting) as refused:
        downloader(address=PRIVATE).fetch(url, root, "a.mp4")
    assert refused.value.retryable
    assert not refused.value.gone
    assert "secret" not in str(refused.value)


def test_a_refused_address_is_not_tried_again_at_once(root: StorageRoot) -> None:
    lookups: list[str] = []

    def resolve(host: str) -> list[str]:
        lookups.append(host)
        return [PRIVATE]

    with pytest.raises(RefusedAddressError):
        downloader(resolve=resolve).fetch("https://vm.runware.ai/a.mp4", root, "a.mp4")
    assert lookups == ["vm.runware.ai"]


def test_the_connection_goes_to_the_address_that_was_checked(root: StorageRoot) -> None:
    answers = iter([[PUBLIC], [PRIVATE]])
    connected: list[tuple[str, str]] = []

    def handler(request: httpx.Request) -> httpx.Response:
        connected.append((request.url.host, request.headers["Host"]))
        return whole()

    fetcher = downloader(handler, resolve=lambda _: next(answers))
    fetcher.fetch("https://vm.runware.ai/a.mp4", root, "a.mp4")
    assert connected == [(PUBLIC, "vm.runware.ai")]


def test_the_next_address_is_used_if_the_first_accepts_no_connection(root: StorageRoot) -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        if request.url.host != PUBLIC:
            raise httpx.ConnectError("Network is unreachable")
        return whole()

    fetcher = downloader(handler, resolve=lambda _: ["2001:4860:4860::8888", PUBLIC])
    fetcher.fetch("https://vm.runware.ai/a.mp4", root, "a.mp4")
    assert root.read("a.mp4") == VIDEO


def test_the_apis_own_host_may_serve_results(root: StorageRoot) -> None:
    fetcher = downloader(base_url="http://127.0.0.1:9000/v1", address=PRIVATE)
    assert fetcher.fetch("http://127.0.0.1:9001/a.mp4", root, "a.mp4").size_bytes == len(VIDEO)


def redirecting_to(target: str) -> Handler:
    def handler(request: httpx.Request) -> httpx.Response:
        if request.url.path == "/start":
            return httpx.Response(302, headers={"Location": target})
        return whole()

    return handler


def test_a_redirect_to_an_allowed_host_is_followed(root: StorageRoot) -> None:
    fetcher = downloader(redirecting_to("https://im.runware.ai/a.mp4"))
    assert fetcher.fetch("https://vm.runware.ai/start", root, "a.mp4").size_bytes == len(VIDEO)


@pytest.mark.parametrize("target", ["http://169.254.169.254/latest", "https://example.com/a.mp4"])
def test_a_redirect_to_elsewhere_is_not_followed(root: StorageRoot, target: str) -> None:
    with pytest.raises(RefusedAddressError, match="nothing is downloaded"):
        downloader(redirecting_to(target)).fetch("https://vm.runware.ai/start", root, "a.mp4")


def test_a_ring_of_redirects_ends(root: StorageRoot) -> None:
    with pytest.raises(DownloadError, match="redirects"):
        downloader(redirecting_to("https://vm.runware.ai/start")).fetch(
            "https://vm.runware.ai/start", root, "a.mp4"
        )


def test_a_video_that_is_too_long_is_not_stored(root: StorageRoot) -> None:
    with pytest.raises(DownloadError, match="longer than"):
        downloader(max_bytes=100).fetch("https://vm.runware.ai/a.mp4", root, "a.mp4")
    assert list(root.list("")) == []


def test_a_video_that_drips_is_given_up(root: StorageRoot) -> None:
    seconds = iter(range(0, 100_000, 1000))
    fetcher = downloader(max_seconds=500, monotonic=lambda: float(next(seconds)))
    with pytest.raises(DownloadError, match="did not arrive within 500 s"):
        fetcher.fetch("https://vm.runware.ai/a.mp4", root, "a.mp4")
    assert list(root.list("")) == []


def test_fewer_bytes_than_announced_are_not_stored(root: StorageRoot) -> None:
    def short(_: httpx.Request) -> httpx.Response:
        return httpx.Response(
            200, headers={"Content-Length": "9999"}, stream=httpx.ByteStream(VIDEO)
        )

    with pytest.raises(DownloadError, match="of 9999"):
        downloader(short).fetch("https://vm.runware.ai/a.mp4", root, "a.mp4")
    assert list(root.list("")) == []


def test_a_passing_trouble_is_tried_again(root: StorageRoot) -> None:
    answers = iter([httpx.Response(503), whole()])
    fetcher = downloader(lambda _: next(answers))
    assert fetcher.fetch("https://vm.runware.ai/a.mp4", root, "a.mp4").size_bytes == len(VIDEO)


@pytest.mark.parametrize("status", [404, 410])
def test_what_is_gone_is_said_to_be_gone(root: StorageRoot, status: int) -> None:
    with pytest.raises(DownloadError) as raised:
        downloader(lambda _: httpx.Response(status)).fetch(
            "https://vm.runware.ai/a.mp4?token=secret", root, "a.mp4"
        )
    assert raised.value.gone
    assert not raised.value.retryable
    assert "secret" not in str(raised.value)
