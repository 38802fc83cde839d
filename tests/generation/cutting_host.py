"""A host of videos whose connections break, on a real port."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

_PIECE_BYTES = 1 << 16


@dataclass
class CuttingHost:
    """What is served, and how.

    Arguments:
        content: the file; its repetitions make the body.
        times: how many repetitions.
        etag: its validator; None for none.
        last_modified: the other validator; None for none.
        serves_ranges: whether the rest of the file can be had; else it is sent whole.
        announces_length: whether the length is announced; else the body comes in chunks.
        cuts: after how many bytes each answer's connection is cut, in turn; None for not at all,
            as all answers after the last.
        statuses: what is answered instead of a file, in turn; None for nothing.
        address: where it listens.
        asked: the headers of every request.
    """

    content: bytes
    times: int = 1
    etag: str | None = '"v1"'
    last_modified: str | None = None
    serves_ranges: bool = True
    announces_length: bool = True
    cuts: list[int | None] = field(default_factory=list)
    statuses: list[int | None] = field(default_factory=list)
    more_headers: dict[str, str] = field(default_factory=dict)
    address: str = ""
    asked: list[dict[str, str]] = field(default_factory=list)

    @property
    def size(self) -> int:
        """How long the file is."""
        return len(self.content) * self.times

    @property
    def ranges(self) -> list[str | None]:
        """The ranges that were asked for."""
        return [headers.get("range") for headers in self.asked]

    def bytes_from(self, start: int) -> Iterator[bytes]:
        """The file from a byte on."""
        while start < self.size:
            at = start % len(self.content)
            piece = self.content[at : at + _PIECE_BYTES]
            yield piece
            start += len(piece)

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        """Answer one GET."""
        headers = {name.lower(): value for name, value in request.headers.items()}
        self.asked.append(headers)
        status = self.statuses.pop(0) if self.statuses else None
        cut = self.cuts.pop(0) if self.cuts else None
        if status is not None:
            request.send_response(status)
            request.send_header("Content-Length", "0")
            request.end_headers()
            return
        start = self._start(headers)
        request.send_response(206 if start is not None else 200)
        if start is not None:
            request.send_header("Content-Range", f"bytes {start}-{self.size - 1}/{self.size}")
        if self.announces_length:
            request.send_header("Content-Length", str(self.size - (start or 0)))
        else:
            request.send_header("Transfer-Encoding", "chunked")
        for name, value in (("ETag", self.etag), ("Last-Modified", self.last_modified)):
            if value is not None:
                request.send_header(name, value)
        for name, value in self.more_headers.items():
            request.send_header(name, value)
        request.end_headers()
        self._send_body(request, start or 0, cut)

    def _start(self, headers: dict[str, str]) -> int | None:
        condition = headers.get("if-range")
        if not self.serves_ranges or "range" not in headers:
            return None
        if condition is not None and condition not in (self.etag, self.last_modified):
            return None
        return int(headers["range"].removeprefix("bytes=").removesuffix("-"))

    def _send_body(self, request: BaseHTTPRequestHandler, start: int, cut: int | None) -> None:
        left = self.size if cut is None else cut
        for piece in self.bytes_from(start):
            sent = piece[:left]
            left -= len(sent)
            head, tail = (b"", b"") if self.announces_length else (b"%x\r\n" % len(sent), b"\r\n")
            if sent:
                request.wfile.write(head + sent + tail)
            if len(sent) < len(piece) or (left == 0 and cut is not None):
                request.close_connection = True
                return
        if not self.announces_length:
            request.wfile.write(b"0\r\n\r\n")


@contextmanager
def hosting(host: CuttingHost, tls: ssl.SSLContext | None = None) -> Iterator[CuttingHost]:
    """Serve the file for a while, by https if there is a TLS context."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            # The client may end first.
            with suppress(ConnectionError):
                host.answer(self)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
    thread.start()
    host.address = f"{'http' if tls is None else 'https'}://127.0.0.1:{server.server_address[1]}"
    try:
        yield host
    finally:
        server.shutdown()
        server.server_close()
        thread.join(timeout=20)
