"""A second machine: a network namespace of Linux, at the other end of a cable."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import pytest


@dataclass(frozen=True)
class SecondMachine:
    """A network namespace; only its network is separate.

    Arguments:
        name: its name.
        cable: its network interface, at its end of the cable.
        address: its IP address.
    """

    name: str
    cable: str
    address: str

    @property
    def prefix(self) -> list[str]:
        """What a command begins with that runs there."""
        return ["ip", "netns", "exec", self.name]

    def cut(self) -> None:
        """Cut the cable."""
        # At the far end: without the near one, packets would take the default route.
        _ip("-n", self.name, "link", "set", self.cable, "down")

    def join(self) -> None:
        """Join the cable again."""
        _ip("-n", self.name, "link", "set", self.cable, "up")


@contextmanager
def second_machine() -> Iterator[SecondMachine]:
    """A second machine. Skips the test if network namespaces cannot be made."""
    if shutil.which("ip") is None or os.getuid() != 0:
        pytest.skip("network namespaces are made by root, with the program ip (Debian: iproute2)")
    number = os.getpid() % 2**14
    name = f"sora-{number}"
    near, far = f"sora{number}a", f"sora{number}b"
    # A network of four addresses, in the range that is set aside for tests of networks.
    network = f"198.18.{number // 64}.{number % 64 * 4}"
    base, _, last = network.rpartition(".")
    here, there = f"{base}.{int(last) + 1}", f"{base}.{int(last) + 2}"
    try:
        _ip("netns", "add", name)
        _ip("link", "add", near, "type", "veth", "peer", "name", far, "netns", name)
    except subprocess.CalledProcessError as error:
        subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)
        pytest.skip(f"network namespaces cannot be made here: {error.stderr.strip()}")
    try:
        _ip("addr", "add", f"{here}/30", "dev", near)
        _ip("link", "set", near, "up")
        _ip("-n", name, "addr", "add", f"{there}/30", "dev", far)
        _ip("-n", name, "link", "set", far, "up")
        _ip("-n", name, "link", "set", "lo", "up")
        yield SecondMachine(name, far, there)
    finally:
        _ip("link", "del", near)
        _ip("netns", "del", name)


def _ip(*arguments: str) -> None:
    subprocess.run(["ip", *arguments], capture_output=True, text=True, check=True)
