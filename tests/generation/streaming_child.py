"""Fetches the same file several times at once, and prints how much memory this process had.

python -m tests.generation.streaming_child URL STORAGE AT_ONCE
"""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from sora_dagster.generation.fetching.download import Downloader
from sora_dagster.storage import StorageRoot


def main(url: str, storage: str, at_once: int) -> None:
    root = StorageRoot(storage)
    downloader = Downloader(api_base_url=url)
    with ThreadPoolExecutor(at_once) as pool:
        fetched = list(
            pool.map(lambda number: downloader.fetch(url, root, f"{number}"), range(at_once))
        )
    assert len({download.sha256 for download in fetched}) == 1
    # The peak that getrusage tells would begin with that of the process that started this one.
    status = Path("/proc/self/status").read_text()
    print(int(status.partition("VmHWM:")[2].split()[0]) << 10)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
