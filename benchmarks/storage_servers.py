"""The two servers of benchmarks/storage.py, each in a separate process: a source and a minimal S3.

    python benchmarks/storage_servers.py source|sink

Both do as little as possible, so that they do not dominate the measurement. The sink supports the
part of S3 that an upload uses, and discards the bytes; it keeps their number, for a HEAD.
"""

from __future__ import annotations

import os
import re
import socket
import sys
import threading
import uuid
from collections.abc import Callable
from contextlib import suppress

_BLOCK = os.urandom(1 << 20)
_LONGEST_HEAD = 1 << 16


class Connection:
    """One client's connection, one request after the other.

    Arguments:
        connected: the connection.
    """

    def __init__(self, connected: socket.socket) -> None:
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._socket = connected
        self._read = b""
        self._scratch = bytearray(1 << 18)

    def next_head(self) -> str | None:
        """The next request's first line and headers; None where there is none."""
        while b"\r\n\r\n" not in self._read:
            more = self._socket.recv(_LONGEST_HEAD)
            if not more:
                return None
            self._read += more
        head, _, self._read = self._read.partition(b"\r\n\r\n")
        return head.decode("latin-1")

    def discard(self, size: int) -> None:
        """Read a body and forget it."""
        size -= len(self._read[:size])
        self._read = b""
        while size > 0:
            got = self._socket.recv_into(self._scratch, min(size, len(self._scratch)))
            if not got:
                raise ConnectionError("the client ended amid a body")
            size -= got

    def answer(self, status: str, body: bytes = b"", *headers: str, length: int = -1) -> None:
        """Send an answer; one to a HEAD has a length without a body."""
        lines = [f"HTTP/1.1 {status}", f"Content-Length: {len(body) if length < 0 else length}"]
        self._socket.sendall("\r\n".join([*lines, *headers, "", ""]).encode() + body)

    def send_bytes(self, size: int) -> None:
        """Send a body of so many bytes."""
        while size > 0:
            self._socket.sendall(memoryview(_BLOCK)[: min(size, len(_BLOCK))])
            size -= len(_BLOCK)


def serve_source(connection: Connection) -> None:
    """Answer GET /<bytes> with so many bytes."""
    while (head := connection.next_head()) is not None:
        size = int(head.split()[1].rpartition("/")[2])
        connection.answer("200 OK", b"", 'ETag: "generated"', length=size)
        connection.send_bytes(size)


class Sink:
    """A bare S3, whose objects are numbers of bytes."""

    def __init__(self) -> None:
        self._objects: dict[str, int] = {}
        self._uploads: dict[str, int] = {}
        self._lock = threading.Lock()

    def serve(self, connection: Connection) -> None:
        """Answer the requests of an upload."""
        while (head := connection.next_head()) is not None:
            method, target, _ = head.split(maxsplit=2)
            key, _, query = target.partition("?")
            found = re.search(r"^content-length: *(\d+)", head, re.IGNORECASE | re.MULTILINE)
            size = int(found[1]) if found else 0
            connection.discard(size)
            upload = re.search(r"uploadId=([^&]+)", query)
            with self._lock:
                self._answer(connection, method, key, upload[1] if upload else None, size)

    def _answer(
        self, connection: Connection, method: str, key: str, upload: str | None, size: int
    ) -> None:
        if method == "POST" and upload is None:
            upload = uuid.uuid4().hex
            self._uploads[upload] = 0
            connection.answer("200 OK", _xml("InitiateMultipartUploadResult", UploadId=upload))
        elif method == "POST" and upload is not None:
            self._objects[key] = self._uploads.pop(upload)
            connection.answer("200 OK", _xml("CompleteMultipartUploadResult", ETag='"whole"'))
        elif method == "PUT":
            if upload is None:
                self._objects[key] = size
            else:
                self._uploads[upload] += size
            connection.answer("200 OK", b"", 'ETag: "part"')
        elif method == "HEAD" and key in self._objects:
            date = "Last-Modified: Tue, 24 Nov 2026 12:00:00 GMT"
            connection.answer("200 OK", b"", date, 'ETag: "whole"', length=self._objects[key])
        elif method == "DELETE":
            self._objects.pop(key, None)
            connection.answer("204 No Content")
        else:
            connection.answer("404 Not Found")


def _xml(name: str, **fields: str) -> bytes:
    inner = "".join(f"<{field}>{value}</{field}>" for field, value in fields.items())
    return f"<{name}><Bucket>b</Bucket><Key>k</Key>{inner}</{name}>".encode()


def serve(answer: Callable[[Connection], None]) -> None:
    """Serve on a free port of this machine, for ever."""

    def serve_one(connected: socket.socket) -> None:
        # A client that ends early is no trouble of the server's.
        with connected, suppress(ConnectionError):
            answer(Connection(connected))

    with socket.create_server(("127.0.0.1", 0), backlog=256) as listener:
        print(f"listening on http://127.0.0.1:{listener.getsockname()[1]}", flush=True)
        while True:
            connected, _ = listener.accept()
            threading.Thread(target=serve_one, args=(connected,), daemon=True).start()


if __name__ == "__main__":
    serve({"source": serve_source, "sink": Sink().serve}[sys.argv[1]])
