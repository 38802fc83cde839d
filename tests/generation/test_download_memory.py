"""Memory does not grow with the length of videos."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import pytest

from tests.generation.cutting_host import CuttingHost, hosting

MIB = 1 << 20
BLOCK = random.Random(3).randbytes(MIB)


def peak_bytes(storage: str, size_mib: int, at_once: int) -> int:
    """The peak of memory of a process that fetches so long a file, several times at once."""
    command = [sys.executable, "-m", "tests.generation.streaming_child"]
    with hosting(CuttingHost(BLOCK, times=size_mib, etag=None)) as host:
        ended = subprocess.run(
            [*command, f"{host.address}/a.mp4", storage, str(at_once)],
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
    assert ended.returncode == 0, ended.stderr
    return int(ended.stdout)


@pytest.mark.skipif(
    not Path("/proc/self/status").exists(), reason="the peak of memory is read from Linux's /proc"
)
@pytest.mark.parametrize(
    ("store", "at_once", "short_mib", "long_mib"), [("file", 4, 16, 64), ("s3", 2, 12, 60)]
)
def test_longer_videos_take_no_more_memory(
    request: pytest.FixtureRequest,
    tmp_path: Path,
    store: str,
    at_once: int,
    short_mib: int,
    long_mib: int,
) -> None:
    storage = request.getfixturevalue("s3_url") if store == "s3" else str(tmp_path)
    short = peak_bytes(storage, short_mib, at_once)
    long = peak_bytes(storage, long_mib, at_once)
    # Held whole, it would be 96 MiB more at least.
    assert long - short < 40 * MIB
