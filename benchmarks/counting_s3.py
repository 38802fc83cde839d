"""An S3 server in memory that counts requests, and starts with any number of objects.

It supports what obstore uses: objects with create-only puts, ranges, and listings in pages.
"""

from __future__ import annotations

import hashlib
import threading
import time
from bisect import bisect_left, bisect_right, insort
from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from email.utils import format_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, quote, unquote, urlsplit
from xml.sax.saxutils import escape

_PAGE = 1000


class CountingBucket:
    """The objects of one bucket, and the counts of requests.

    Arguments:
        objects: keys and bodies of the first objects.
        delay_seconds: delay of each response.
    """

    def __init__(self, objects: Iterable[tuple[str, bytes]], *, delay_seconds: float = 0.0) -> None:
        self.delay_seconds = delay_seconds
        now = datetime.now(UTC)
        self.objects = {key: (body, now) for key, body in objects}
        self.keys = sorted(self.objects)
        self.counts: Counter[str] = Counter()
        self.lock = threading.Lock()

    def put(self, key: str, body: bytes, *, only_new: bool) -> bool:
        """Write an object; False if it exists and `only_new` is set."""
        with self.lock:
            if key not in self.objects:
                insort(self.keys, key)
            elif only_new:
                return False
            self.objects[key] = (body, datetime.now(UTC))
            return True

    def delete(self, key: str) -> None:
        """Remove an object."""
        with self.lock:
            if self.objects.pop(key, None) is not None:
                del self.keys[bisect_left(self.keys, key)]

    def page(self, prefix: str, after: str, most: int) -> tuple[list[str], bool]:
        """Keys of a page of a listing, and whether there are more."""
        with self.lock:
            start = max(bisect_left(self.keys, prefix), bisect_right(self.keys, after))
            found = self.keys[start : start + most + 1]
        found = [key for key in found if key.startswith(prefix)]
        return found[:most], len(found) > most


@contextmanager
def serving(bucket: CountingBucket) -> Iterator[str]:
    """Serve a bucket under any name; gives the endpoint's address."""

    class Handler(_Handler):
        served = bucket

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    served: CountingBucket

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""

    def do_GET(self) -> None:
        key, query = self._target()
        if "list-type" in query:
            self._list(query)
        elif "uploads" in query:
            self.served.counts["LIST"] += 1
            self._answer(200, b"<ListMultipartUploadsResult/>")
        else:
            self._object(key, "GET")

    def do_HEAD(self) -> None:
        self._object(self._target()[0], "HEAD")

    def do_PUT(self) -> None:
        key, _ = self._target()
        self.served.counts["PUT"] += 1
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        is_written = self.served.put(key, body, only_new=self.headers.get("If-None-Match") == "*")
        self._answer(200 if is_written else 412, etag=_etag(body))

    def do_DELETE(self) -> None:
        self.served.counts["DELETE"] += 1
        self.served.delete(self._target()[0])
        self._answer(204)

    def _target(self) -> tuple[str, dict[str, str]]:
        parts = urlsplit(self.path)
        key = unquote(parts.path).lstrip("/").partition("/")[2]
        query = parse_qs(parts.query, keep_blank_values=True)
        return key, {name: values[0] for name, values in query.items()}

    def _object(self, key: str, method: str) -> None:
        self.served.counts[method] += 1
        found = self.served.objects.get(key)
        if found is None:
            self._answer(404, b"<Error><Code>NoSuchKey</Code></Error>")
        else:
            self._answer(200, found[0], modified=found[1], etag=_etag(found[0]))

    def _list(self, query: dict[str, str]) -> None:
        prefix = query.get("prefix", "")
        after = query.get("continuation-token") or query.get("start-after", "")
        keys, has_more = self.served.page(prefix, after, int(query.get("max-keys", _PAGE)))
        self.served.counts["LIST"] += 1
        self.served.counts["listed"] += len(keys)
        contents = "".join(
            f"<Contents><Key>{escape(key)}</Key><Size>{len(self.served.objects[key][0])}</Size>"
            f"<LastModified>{self.served.objects[key][1]:%Y-%m-%dT%H:%M:%S.%fZ}</LastModified>"
            f"<ETag>&quot;x&quot;</ETag></Contents>"
            for key in keys
            if key in self.served.objects
        )
        token = (
            f"<NextContinuationToken>{escape(keys[-1])}</NextContinuationToken>" if has_more else ""
        )
        self._answer(
            200,
            f"<ListBucketResult><Name>b</Name><Prefix>{quote(prefix)}</Prefix>"
            f"<KeyCount>{len(keys)}</KeyCount><IsTruncated>{str(has_more).lower()}</IsTruncated>"
            f"{contents}{token}</ListBucketResult>".encode(),
        )

    def _answer(
        self, status: int, body: bytes = b"", *, modified: datetime | None = None, etag: str = ""
    ) -> None:
        time.sleep(self.served.delay_seconds)
        self.send_response(status)
        if status != 204:
            self.send_header("Content-Length", str(len(body)))
        if modified is not None:
            self.send_header("Last-Modified", format_datetime(modified, usegmt=True))
        if etag:
            self.send_header("ETag", etag)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)


def _etag(body: bytes) -> str:
    return f'"{hashlib.md5(body, usedforsecurity=False).hexdigest()}"'
