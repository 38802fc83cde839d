"""CPU and memory of processes and of everything that they started, from Linux's /proc.

CPU of a process that has ended is in its parent's record once the parent has waited for it. A
process whose parent ended first would be waited for by init, and its CPU would be lost. So services
are started with :data:`AS_SUBREAPER`, which makes such a process a child of the service; as long as
the service does not wait for it, its record remains.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

_SET_SUBREAPER = """
import ctypes, os, sys
PR_SET_CHILD_SUBREAPER = 36
if ctypes.CDLL(None, use_errno=True).prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
    sys.exit("prctl failed")
os.execvp(sys.argv[1], sys.argv[1:])
"""
# Before a command: a program keeps the attribute, and what it starts does not inherit it.
AS_SUBREAPER = [sys.executable, "-S", "-c", _SET_SUBREAPER]
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class ProcessRecord:
    """What /proc has of one process.

    Arguments:
        pid: its id.
        parent: the id of its parent.
        is_running: False if it has ended, and its parent has not waited for it.
        own_seconds: CPU of its threads.
        waited_seconds: CPU of its children that it has waited for, and of theirs.
    """

    pid: int
    parent: int
    is_running: bool
    own_seconds: float
    waited_seconds: float


class ProcessTable:
    """All processes at one moment."""

    def __init__(self) -> None:
        self._records: dict[int, ProcessRecord] = {}
        self._children: dict[int, list[int]] = {}
        for path in Path("/proc").glob("[0-9]*/stat"):
            with contextlib.suppress(OSError):
                fields = path.read_text().rpartition(")")[2].split()
                own, waited = (
                    sum(int(fields[number]) for number in numbers) / _TICKS_PER_SECOND
                    for numbers in ((11, 12), (13, 14))
                )
                pid, parent = int(path.parent.name), int(fields[1])
                record = ProcessRecord(pid, parent, fields[0] != "Z", own, waited)
                self._records[pid] = record
                self._children.setdefault(parent, []).append(pid)

    def own_seconds(self, pid: int) -> float:
        """CPU of one process, without what it started."""
        return self._records[pid].own_seconds

    def seconds_of_descendants(self, pid: int) -> float:
        """CPU of everything that a process started, ended or not."""
        return self._records[pid].waited_seconds + sum(
            record.own_seconds + record.waited_seconds for record in self.descendants(pid)
        )

    def descendants(self, pid: int) -> list[ProcessRecord]:
        """What a process started and what that started, as far as it has a record."""
        found = [self._records[child] for child in self._children.get(pid, [])]
        return found + [below for record in found for below in self.descendants(record.pid)]

    def with_descendants(self, pid: int) -> list[int]:
        """The ids of a process and of everything that it started."""
        return [pid, *(record.pid for record in self.descendants(pid))]


def settled_process_table(*roots: int) -> ProcessTable:
    """All processes, read while nothing started or ended below some of them.

    A process that ends while the table is read may be missing in it, and also in what its parent,
    which was read before, has waited for.

    Arguments:
        roots: ids of those processes.
    """
    before = ProcessTable()
    while True:
        after = ProcessTable()
        if all(before.with_descendants(pid) == after.with_descendants(pid) for pid in roots):
            return after
        before = after


def command_line(pid: int) -> str:
    """The command of a process; empty if it has ended."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    return ""


def memory_megabytes(pids: Iterable[int]) -> float:
    """Memory of some processes; what several share counts once."""
    return sum(map(_proportional_kilobytes, pids)) / 1024


def _proportional_kilobytes(pid: int) -> int:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1])
    return 0
