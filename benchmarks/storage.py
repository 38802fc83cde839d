"""Streaming finished videos into the store, against a bare copy of the same bytes.

    python benchmarks/storage.py [--quick] [--stores file s3] [--sizes 5MB 50MB 1GiB]
                                 [--at-once 1 16] [--rounds N] [--folder FOLDER]

Ours is `Downloader.fetch`: addresses checked, hashed, resumable, complete or not at all. The bare
copy is the minimum that moves the bytes: into a folder, httpx's stream written to a file; into S3,
httpx's stream passed to obstore's `put`. Both read from one loopback server in a separate process.
Into S3 both write to a minimal server in another process, which discards the bytes: moto's server
would dominate the measurement.

A third copy, bare plus a SHA-256 of the bytes, shows how much of the difference is the hash. Ours
needs the hash: it is a clip's data version, and `verify` compares the video with it.

Every measurement is a separate process. The three run one after the other, in another order each
time; a ratio is the median over these rounds of our speed divided by the other's. Small files are
downloaded repeatedly until 256 MB have passed. If other programs use the cores, the CPU time is
more reliable than the speed. Peak memory is that of the whole process (VmHWM). All figures are
medians. Files are deleted as soon as they are measured.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import platform
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, fields
from importlib.metadata import version
from pathlib import Path
from typing import Literal, get_args

Who = Literal["bare", "hashing", "ours"]
STORE_NAMES = {"file": "folder", "s3": "S3"}
SIZES = {"5MB": 5_000_000, "50MB": 50_000_000, "256MiB": 256 << 20, "1GiB": 1 << 30}
_LEAST_BYTES = 256_000_000
_ROOM = 1.2
_MOST_CACHED_BYTES = 8 << 30
_S3_ENVIRONMENT = {
    "AWS_ACCESS_KEY_ID": "benchmark",
    "AWS_SECRET_ACCESS_KEY": "benchmark",
    "AWS_REGION": "us-east-1",
    "AWS_ALLOW_HTTP": "true",
}


@dataclass(frozen=True)
class Case:
    """One row of the table.

    Arguments:
        store: `file` or `s3`.
        size: the files' size, by its name.
        at_once: how many are fetched at once.
    """

    store: str
    size: str
    at_once: int

    @property
    def total_bytes(self) -> int:
        """How much is in the store at the end of one round."""
        return SIZES[self.size] * self.at_once

    @property
    def rounds(self) -> int:
        """How often it is done in one measurement."""
        return math.ceil(_LEAST_BYTES / self.total_bytes)


@dataclass(frozen=True)
class Measured:
    """What one process came to.

    Arguments:
        megabytes_per_second: speed, in 10^6 bytes.
        cpu_seconds_per_gb: time of this process on all cores, for 10^9 bytes.
        peak_mib: most memory that the process had, in 2^20 bytes.
    """

    megabytes_per_second: float
    cpu_seconds_per_gb: float
    peak_mib: float


@dataclass(frozen=True)
class Row:
    """All measurements of one case, round by round."""

    case: Case
    measured: dict[Who, list[Measured]]

    def ratio_to(self, other: Who) -> float:
        """Our speed by that of another copy."""
        return statistics.median(
            ours.megabytes_per_second / others.megabytes_per_second
            for ours, others in zip(self.measured["ours"], self.measured[other], strict=True)
        )


def median_of(measured: Sequence[Measured], figure: str) -> float:
    """The median of one figure."""
    return statistics.median(getattr(one, figure) for one in measured)


def copies_of(who: Who, store: str, source: str, target: str) -> Callable[[str, int], int]:
    """What fetches one file, by name and size; gives the length of what was stored."""
    import httpx
    import obstore
    from obstore.store import S3Store

    from sora_dagster.generation.fetching.download import Downloader
    from sora_dagster.storage import StorageRoot

    if who == "ours":
        downloader, root = Downloader(api_base_url=source), StorageRoot(target)

        def ours(key: str, size: int) -> int:
            downloader.fetch(f"{source}/{size}", root, key)
            info = root.info(key)
            return info.size_bytes if info else 0

        return ours
    http = httpx.Client()

    def passing(chunks: Iterator[bytes]) -> Iterator[bytes]:
        digest = hashlib.sha256()
        for chunk in chunks:
            digest.update(chunk)
            yield chunk

    def body_of(response: httpx.Response) -> Iterator[bytes]:
        return passing(response.iter_raw()) if who == "hashing" else response.iter_raw()

    if store == "file":

        def into_file(key: str, size: int) -> int:
            path = Path(target, key)
            with http.stream("GET", f"{source}/{size}") as response, path.open("wb") as file:
                for chunk in body_of(response):
                    file.write(chunk)
            return path.stat().st_size

        return into_file
    bucket = S3Store(
        "bucket", endpoint=os.environ["AWS_ENDPOINT_URL"], client_options={"allow_http": True}
    )

    def into_s3(key: str, size: int) -> int:
        with http.stream("GET", f"{source}/{size}") as response:
            obstore.put(bucket, key, body_of(response))
        return obstore.head(bucket, key)["size"]

    return into_s3


def copy_and_tell(who: Who, case: Case, source: str, target: str) -> None:
    """One measurement, in this process; prints it."""
    copy = copies_of(who, case.store, source, target)
    size = SIZES[case.size]
    seconds = cpu_seconds = 0.0
    with ThreadPoolExecutor(case.at_once) as pool:
        # Whatever is loaded or connected at the first use is no part of it.
        copy("warm", 1000)
        for _ in range(case.rounds):
            begun, cpu_begun = time.perf_counter(), time.process_time()
            lengths = list(pool.map(lambda number: copy(str(number), size), range(case.at_once)))
            seconds += time.perf_counter() - begun
            cpu_seconds += time.process_time() - cpu_begun
            if lengths != [size] * case.at_once:
                raise SystemExit(f"not whole: {lengths}")
            if case.store == "file":
                for number in range(case.at_once):
                    Path(target, str(number)).unlink()
    copied = case.total_bytes * case.rounds
    measured = Measured(copied / seconds / 1e6, cpu_seconds / copied * 1e9, peak_mib())
    print(json.dumps(asdict(measured)))


def peak_mib() -> float:
    """The most memory that this process had; Linux only."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) / 1024


def measure(who: Who, case: Case, source: str, sink: str, folder: Path) -> Measured:
    """One measurement, in a process of its own."""
    with tempfile.TemporaryDirectory(dir=folder) as target:
        command = [sys.executable, __file__, "--run", who, "--source", source]
        command += ["--stores", case.store, "--sizes", case.size, "--at-once", str(case.at_once)]
        command += ["--target", target if case.store == "file" else "s3://bucket"]
        ended = subprocess.run(
            command,
            env={**os.environ, **_S3_ENVIRONMENT, "AWS_ENDPOINT_URL": sink},
            capture_output=True,
            text=True,
            check=False,
        )
        if ended.returncode != 0:
            raise SystemExit(f"{case} failed:\n{ended.stderr}")
        return Measured(**json.loads(ended.stdout))


def rounds_of(case: Case, is_quick: bool) -> int:
    """How many rounds of measurements a case is worth."""
    if case.store == "file" and case.total_bytes > _MOST_CACHED_BYTES:
        # The disk decides how long this takes, which is long: the row is there for its memory.
        return 1
    return 3 if is_quick or case.total_bytes > 1 << 30 else 5


def measured_row(case: Case, rounds: int, source: str, sink: str, folder: Path) -> Row:
    """All measurements of one case."""
    copies: tuple[Who, ...] = get_args(Who)
    row = Row(case, {who: [] for who in copies})
    for number in range(rounds):
        first = number % len(copies)
        for who in (*copies[first:], *copies[:first]):
            row.measured[who].append(measure(who, case, source, sink, folder))
    return row


@contextmanager
def servers(folder: Path) -> Iterator[tuple[str, str]]:
    """The source and the sink; gives their addresses."""
    from sora_dagster.local.processes import running

    with ExitStack() as stack:
        addresses = [
            stack.enter_context(
                running(
                    f"the {name}",
                    [sys.executable, str(Path(__file__).with_name("storage_servers.py")), name],
                    environment={},
                    log_path=folder / f"{name}.log",
                )
            ).wait_for_line("listening on ")
            for name in ("source", "sink")
        ]
        yield addresses[0], addresses[1]


def table_of(rows: Sequence[Row]) -> str:
    """The table of what was measured, in Markdown."""
    headings = ["into", "file size", "at once", "ours / bare", "ours / hashing"]
    figures = {"MB/s": ".0f", "CPU s/GB": ".2f", "peak MiB": ".0f"}
    headings += [f"{who}: {figure}" for who in ("bare", "ours") for figure in figures]
    table = [headings, ["---", "---"] + ["---:"] * (len(headings) - 2)]
    for row in rows:
        cells = [
            STORE_NAMES[row.case.store],
            re.sub("([MG])", r" \1", row.case.size),
            str(row.case.at_once),
            f"{row.ratio_to('bare'):.2f}",
            f"{row.ratio_to('hashing'):.2f}",
        ]
        for measured in (row.measured["bare"], row.measured["ours"]):
            for field, form in zip(fields(Measured), figures.values(), strict=True):
                cells.append(format(median_of(measured, field.name), form))
        table.append(cells)
    return "\n".join(f"| {' | '.join(cells)} |" for cells in table)


def growth_of(rows: Sequence[Row]) -> list[str]:
    """Growth of our peak memory with the size of the files."""
    lines = []
    for store, at_once in dict.fromkeys((row.case.store, row.case.at_once) for row in rows):
        peaks = {
            row.case.size: median_of(row.measured["ours"], "peak_mib")
            for row in rows
            if (row.case.store, row.case.at_once) == (store, at_once)
        }
        small, large = (choose(peaks, key=SIZES.__getitem__) for choose in (min, max))
        lines.append(
            f"- {STORE_NAMES[store]}, {at_once} at once, {small} to {large}: "
            f"{peaks[large] - peaks[small]:+.0f} MiB"
        )
    return lines


def main() -> None:
    """Measure every case, and print the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--stores", nargs="+", choices=("file", "s3"), default=["file", "s3"])
    parser.add_argument("--sizes", nargs="+", choices=tuple(SIZES), default=["5MB", "50MB", "1GiB"])
    parser.add_argument("--at-once", nargs="+", type=int, default=[1, 16])
    parser.add_argument("--rounds", type=int, help="rounds of measurements, instead of 1 to 5")
    parser.add_argument("--quick", action="store_true", help="256MiB in place of 1GiB, 3 rounds")
    parser.add_argument("--folder", type=Path, help="where files go; default: the system's choice")
    for hidden in ("--run", "--source", "--target"):
        parser.add_argument(hidden, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.run:
        case = Case(options.stores[0], options.sizes[0], options.at_once[0])
        copy_and_tell(options.run, case, options.source, options.target)
        return
    sizes = ["256MiB" if options.quick and size == "1GiB" else size for size in options.sizes]
    cases = [
        Case(store, size, at_once)
        for store in options.stores
        for at_once in options.at_once
        for size in sizes
    ]
    rows: list[Row] = []
    with tempfile.TemporaryDirectory(prefix="storage-", dir=options.folder) as name:
        folder = Path(name)
        with servers(folder) as (source, sink):
            for case in cases:
                free = shutil.disk_usage(folder).free
                if case.store == "file" and free < case.total_bytes * _ROOM:
                    print(f"left out, {free >> 20} MiB of disk are free: {case}", flush=True)
                    continue
                rounds = options.rounds or rounds_of(case, options.quick)
                rows.append(measured_row(case, rounds, source, sink, folder))
                print(f"{case}: {rows[-1].ratio_to('bare'):.2f}", flush=True)
    print(f"\n{table_of(rows)}\n\nOur peak of memory, by the size of the files:\n")
    print("\n".join(growth_of(rows)))
    print(
        f"\nsora-dagster {version('sora-dagster')}, obstore {version('obstore')}, "
        f"httpx {version('httpx')}, Python {platform.python_version()}, {platform.system()}, "
        f"{os.cpu_count()} cores."
    )


if __name__ == "__main__":
    main()
