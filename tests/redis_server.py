"""A Redis server of this machine, in a folder."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis

from sora_dagster.local.processes import running, wait_until
from tests.sandbox_server import free_port


@contextmanager
def running_redis(folder: Path) -> Iterator[str]:
    """A Redis server; gives its URL. Skips the test if none is installed.

    Arguments:
        folder: folder for its log.
    """
    program = shutil.which("redis-server")
    if program is None:
        pytest.skip("Redis is not installed; on Debian: apt-get install redis-server")
    port = free_port()
    options = {"port": str(port), "bind": "127.0.0.1", "save": "", "dir": str(folder)}
    command = [program, *(part for name in options for part in (f"--{name}", options[name]))]
    with running("redis", command, environment={}, log_path=folder / "redis.log") as process:
        url = f"redis://127.0.0.1:{port}"
        client = redis.Redis.from_url(url)

        def answers() -> bool:
            process.check()
            try:
                return bool(client.ping())
            except redis.ConnectionError:
                return False

        assert wait_until(answers, timeout_seconds=30), process.last_output()
        yield url
