"""An S3 server (moto) that keeps its objects in a file, so that they outlive a SIGKILL.

`python tests/deploy/durable_s3.py --port=9000 --file=objects.sqlite [--clock-ahead=SECONDS]`
"""

from __future__ import annotations

import argparse
import json
import sqlite3
import threading
from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import Any

import moto.s3.models
from moto.core import DEFAULT_ACCOUNT_ID
from moto.moto_server.werkzeug_app import (
    DomainDispatcherApplication,
    MotoRequestHandler,
    create_backend_app,
)
from moto.s3.models import s3_backends
from werkzeug.serving import run_simple

_TABLES = """
CREATE TABLE IF NOT EXISTS buckets (name TEXT PRIMARY KEY);
CREATE TABLE IF NOT EXISTS objects (
  bucket TEXT, key TEXT, value BLOB, etag TEXT, modified TEXT, metadata TEXT,
  PRIMARY KEY (bucket, key)
);
"""


class DurableS3:
    """A WSGI app: moto's, which writes each change to a file before it answers.

    Parts of uploads that are not complete are lost with the process.

    Arguments:
        app: moto's app.
        path: the file.
    """

    def __init__(self, app: Any, path: str) -> None:
        self._app = app
        self._lock = threading.Lock()
        self._backend = s3_backends[DEFAULT_ACCOUNT_ID]["aws"]
        self._database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._database.execute("PRAGMA journal_mode = WAL")
        # Written data outlives the process without it; only a crash of the machine would lose it.
        self._database.execute("PRAGMA synchronous = OFF")
        self._database.executescript(_TABLES)
        # The objects as they are in the file, by bucket and key.
        self._written: dict[tuple[str, str], Any] = {}
        self._load()

    def __call__(self, environ: dict[str, Any], start_response: Any) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] in ("GET", "HEAD"):
            answer: Iterable[bytes] = self._app(environ, start_response)
            return answer
        with self._lock:
            body = list(self._app(environ, start_response))
            # WSGI gives the bytes of a path as Latin-1.
            path = environ["PATH_INFO"].encode("latin-1").decode()
            bucket, _, key = path.strip("/").partition("/")
            self._write(bucket, key)
        return body

    def _write(self, bucket: str, key: str) -> None:
        """Write the changes of a request: to one object, or any of a bucket's without a key."""
        if bucket not in self._backend.buckets:
            return
        self._database.execute("INSERT OR IGNORE INTO buckets VALUES (?)", (bucket,))
        present = self._backend.buckets[bucket].keys
        keys = [key] if key else [name for where, name in self._written if where == bucket]
        for name in keys:
            stored = present.get(name)
            if stored is self._written.get((bucket, name)):
                continue
            if stored is None:
                del self._written[bucket, name]
                self._database.execute(
                    "DELETE FROM objects WHERE bucket = ? AND key = ?", (bucket, name)
                )
                continue
            self._written[bucket, name] = stored
            row = (
                *(bucket, name, stored.value, stored.etag.strip('"')),
                *(stored.last_modified.isoformat(), json.dumps(dict(stored.metadata))),
            )
            self._database.execute("INSERT OR REPLACE INTO objects VALUES (?, ?, ?, ?, ?, ?)", row)

    def _load(self) -> None:
        for (name,) in self._database.execute("SELECT name FROM buckets"):
            self._backend.create_bucket(name, "us-east-1")
        for bucket, key, value, etag, modified, metadata in self._database.execute(
            "SELECT bucket, key, value, etag, modified, metadata FROM objects"
        ):
            stored = self._backend.put_object(bucket, key, value, etag=etag)
            stored.last_modified = datetime.fromisoformat(modified)
            stored.set_metadata(json.loads(metadata))
            self._written[bucket, key] = stored


def main() -> None:
    """Serve until the process ends."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--file", required=True)
    parser.add_argument("--clock-ahead", type=float, default=0.0)
    options = parser.parse_args()
    ahead = timedelta(seconds=options.clock_ahead)
    moto_time = moto.s3.models.utcnow
    moto.s3.models.utcnow = lambda: moto_time() + ahead  # type: ignore[attr-defined]
    app = DurableS3(DomainDispatcherApplication(create_backend_app), options.file)
    run_simple(options.host, options.port, app, threaded=True, request_handler=MotoRequestHandler)


if __name__ == "__main__":
    main()
