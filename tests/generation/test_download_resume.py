"""A broken connection is taken up where it broke, if the file is still the same."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import httpx
import pytest
import stamina

from sora_dagster.generation.fetching.download import (
    Download,
    Downloader,
    DownloadError,
    RefusedAddressError,
)
from sora_dagster.storage import StorageRoot
from tests.generation.cutting_host import CuttingHost, hosting

VIDEO = random.Random(1).randbytes(3_000_000)
OTHER_VIDEO = random.Random(2).randbytes(3_000_000)


@pytest.fixture(autouse=True)
def without_waits() -> Iterator[None]:
    with stamina.set_testing(True, attempts=2):
        yield


@pytest.fixture
def host() -> Iterator[CuttingHost]:
    with hosting(CuttingHost(VIDEO)) as served:
        yield served


def fetch(host: CuttingHost, root: StorageRoot, key: str = "a.mp4", **settings: object) -> Download:
    settings.setdefault("sleep", lambda _: None)
    downloader = Downloader(api_base_url=f"{host.address}/v1", **settings)  # type: ignore[arg-type]
    with closing(downloader):
        return downloader.fetch(f"{host.address}/a.mp4?signature=secret", root, key)


def assert_stored(root: StorageRoot, fetched: Download, content: bytes = VIDEO) -> None:
    assert root.read("a.mp4") == content
    assert fetched == Download(len(content), hashlib.sha256(content).hexdigest())


def test_nothing_but_the_bytes_themselves_are_asked_for(
    host: CuttingHost, root: StorageRoot
) -> None:
    assert_stored(root, fetch(host, root))
    assert host.asked[0]["accept-encoding"] == "identity"
    assert host.ranges == [None]


@pytest.mark.parametrize("cut", [1, 65_536, 1 << 20, 2_999_999])
def test_a_cut_connection_is_taken_up_at_the_byte_reached(
    host: CuttingHost, root: StorageRoot, cut: int
) -> None:
    host.cuts = [cut]
    assert_stored(root, fetch(host, root))
    assert host.ranges == [None, f"bytes={cut}-"]
    assert host.asked[1]["if-range"] == '"v1"'


def test_many_cuts_are_overcome_as_long_as_bytes_come(host: CuttingHost, root: StorageRoot) -> None:
    host.cuts = [200_000] * 14
    assert_stored(root, fetch(host, root))
    assert host.ranges[-1] == "bytes=2800000-"


def test_a_file_of_unannounced_length_is_taken_up_too(host: CuttingHost, root: StorageRoot) -> None:
    host.announces_length = False
    host.cuts = [1_000_000]
    assert_stored(root, fetch(host, root))
    assert host.ranges == [None, "bytes=1000000-"]


def test_a_date_will_do_where_there_is_no_etag(host: CuttingHost, root: StorageRoot) -> None:
    host.etag, host.last_modified = None, "Tue, 24 Nov 2020 12:00:00 GMT"
    host.cuts = [1_000_000]
    assert_stored(root, fetch(host, root))
    assert host.asked[1]["if-range"] == host.last_modified


@pytest.mark.parametrize("etag", [None, 'W/"v1"'])
def test_a_file_without_a_strong_validator_is_read_anew(
    host: CuttingHost, root: StorageRoot, etag: str | None
) -> None:
    host.etag = etag
    host.cuts = [1_000_000]
    assert_stored(root, fetch(host, root))
    assert host.ranges == [None, None]


def test_a_host_that_serves_no_ranges_is_read_anew(host: CuttingHost, root: StorageRoot) -> None:
    host.serves_ranges = False
    host.cuts = [1_000_000]
    assert_stored(root, fetch(host, root))
    assert host.ranges == [None, "bytes=1000000-", None]


def test_a_host_that_serves_no_ranges_and_cuts_every_time_is_given_up(
    host: CuttingHost, root: StorageRoot
) -> None:
    host.serves_ranges = False
    host.cuts = [1_000_000] * 9
    with pytest.raises(
        DownloadError, match="at byte 1000000: the host sends it from its"
    ) as raised:
        fetch(host, root)
    assert raised.value.retryable
    assert list(root.list("")) == []


class Changing(CuttingHost):
    """Another file is there from the second request on."""

    def answer(self, request: object) -> None:
        if self.asked:
            self.content, self.etag = OTHER_VIDEO, '"v2"'
        super().answer(request)  # type: ignore[arg-type]


def test_a_file_that_changed_is_read_anew(root: StorageRoot) -> None:
    with hosting(Changing(VIDEO, cuts=[1_000_000])) as host:
        assert_stored(root, fetch(host, root), OTHER_VIDEO)
    assert host.ranges == [None, "bytes=1000000-", None]


class Careless(CuttingHost):
    """Serves ranges of whatever file is there, whatever the condition."""

    def _start(self, headers: dict[str, str]) -> int | None:
        return super()._start({**headers, "if-range": self.etag or ""})


class CarelessAndChanging(Changing, Careless):
    """Both."""


def test_a_range_of_another_file_is_not_taken_for_the_rest(root: StorageRoot) -> None:
    with hosting(CarelessAndChanging(VIDEO, cuts=[1_000_000])) as host:
        assert_stored(root, fetch(host, root), OTHER_VIDEO)
    assert host.ranges == [None, "bytes=1000000-", None]


class Growing(Careless):
    """The file has become longer by the second request, under the same name and tag."""

    def answer(self, request: object) -> None:
        if self.asked:
            self.content = VIDEO + b"more"
        super().answer(request)  # type: ignore[arg-type]


def test_a_rest_of_another_length_is_not_taken(root: StorageRoot) -> None:
    with hosting(Growing(VIDEO, cuts=[1_000_000])) as host:
        assert_stored(root, fetch(host, root), VIDEO + b"more")
    assert host.ranges == [None, "bytes=1000000-", None]


class Misplacing(CuttingHost):
    """Sends a range that begins elsewhere."""

    def _start(self, headers: dict[str, str]) -> int | None:
        start = super()._start(headers)
        return None if start is None else start - 1000


def test_a_rest_that_begins_elsewhere_is_not_taken(root: StorageRoot) -> None:
    with hosting(Misplacing(VIDEO, cuts=[1_000_000])) as host:
        assert_stored(root, fetch(host, root))
    assert host.ranges == [None, "bytes=1000000-", None]


def test_a_range_that_cannot_be_had_means_reading_anew(
    host: CuttingHost, root: StorageRoot
) -> None:
    host.cuts = [1_000_000]
    host.statuses = [None, 416]
    assert_stored(root, fetch(host, root))
    assert host.ranges == [None, "bytes=1000000-", None]


def test_a_passing_trouble_amid_a_file_does_not_begin_it_anew(
    host: CuttingHost, root: StorageRoot
) -> None:
    host.cuts = [1_000_000]
    host.statuses = [None, 503, 429]
    waits: list[float] = []
    assert_stored(root, fetch(host, root, sleep=waits.append))
    assert host.ranges == [None, *["bytes=1000000-"] * 3]
    assert waits == [0.5, 1.0]


class Breaking(httpx.SyncByteStream):
    """The file's beginning, and then the connection breaks."""

    def __iter__(self) -> Iterator[bytes]:
        yield VIDEO[:1000]
        raise httpx.ReadError("broken")


def test_a_host_whose_name_is_not_found_for_a_moment_does_not_begin_it_anew(
    root: StorageRoot,
) -> None:
    size = len(VIDEO)
    answers = iter(
        [
            httpx.Response(
                200, headers={"ETag": '"1"', "Content-Length": str(size)}, stream=Breaking()
            ),
            httpx.Response(
                206,
                headers={"Content-Range": f"bytes 1000-{size - 1}/{size}"},
                stream=httpx.ByteStream(VIDEO[1000:]),
            ),
        ]
    )
    found: Iterator[list[str] | OSError] = iter(
        [["8.8.8.8"], OSError("no name server"), ["8.8.8.8"]]
    )

    def resolve(host: str) -> list[str]:
        addresses = next(found)
        if isinstance(addresses, OSError):
            raise addresses
        return addresses

    downloader = Downloader(
        api_base_url="https://api.runware.ai/v1",
        resolve=resolve,
        sleep=lambda _: None,
        transport=httpx.MockTransport(lambda _: next(answers)),
    )
    assert_stored(root, downloader.fetch("https://vm.runware.ai/a.mp4", root, "a.mp4"))


def test_the_rest_is_asked_for_at_allowed_addresses_only(root: StorageRoot) -> None:
    answers = iter(
        [
            httpx.Response(
                200, headers={"ETag": '"1"', "Content-Length": "5000"}, stream=Breaking()
            ),
            httpx.Response(302, headers={"Location": "https://example.com/a.mp4"}),
        ]
    )
    downloader = Downloader(
        api_base_url="https://api.runware.ai/v1",
        resolve=lambda _: ["8.8.8.8"],
        transport=httpx.MockTransport(lambda _: next(answers)),
    )
    with pytest.raises(RefusedAddressError, match="nothing is downloaded"):
        downloader.fetch("https://vm.runware.ai/a.mp4", root, "a.mp4")
    assert list(root.list("")) == []


def test_a_file_that_is_gone_amid_the_download_is_said_to_be_gone(
    host: CuttingHost, root: StorageRoot
) -> None:
    host.cuts = [1_000_000]
    host.statuses = [None, 410]
    with pytest.raises(DownloadError, match="HTTP 410") as raised:
        fetch(host, root)
    assert raised.value.gone
    assert list(root.list("")) == []


def test_a_host_that_sends_no_more_is_given_up_for_now(
    host: CuttingHost, root: StorageRoot
) -> None:
    host.cuts = [1_000_000, *[0] * 50]
    with pytest.raises(DownloadError, match="The rest was requested 4 times") as raised:
        fetch(host, root)
    assert raised.value.retryable
    assert "sent 1000000 bytes of 3000000." in str(raised.value)
    assert "secret" not in str(raised.value)
    assert len(host.asked) == 5
    assert list(root.list("")) == []


def test_resuming_ends_with_the_time_for_the_video(host: CuttingHost, root: StorageRoot) -> None:
    host.cuts = [10_000] * 300
    ticks = iter(range(10_000))
    with pytest.raises(DownloadError, match="did not arrive within 100 s"):
        fetch(host, root, max_seconds=100, monotonic=lambda: float(next(ticks)))
    assert len(host.asked) < 100
    assert list(root.list("")) == []


def test_a_length_beyond_the_limit_is_refused_before_a_byte_is_read(
    host: CuttingHost, root: StorageRoot
) -> None:
    with pytest.raises(DownloadError, match="longer than 2999999 bytes"):
        fetch(host, root, max_bytes=2_999_999)
    assert len(host.asked) == 1


def test_several_broken_downloads_at_once_do_not_mix(tmp_path: Path) -> None:
    root = StorageRoot(tmp_path)
    contents = [random.Random(seed).randbytes(1_500_000 + seed) for seed in range(8)]

    def fetch_one(number: int) -> Download:
        with hosting(CuttingHost(contents[number], cuts=[400_000, 100_000 * number])) as host:
            return fetch(host, root, f"{number}.mp4")

    with ThreadPoolExecutor(8) as pool:
        fetched = list(pool.map(fetch_one, range(8)))
    for number, content in enumerate(contents):
        assert root.read(f"{number}.mp4") == content
        assert fetched[number].sha256 == hashlib.sha256(content).hexdigest()
