"""A small HTTP server that keeps what is sent to it, for webhooks, uploads and images."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


@dataclass(frozen=True)
class Received:
    """One request."""

    method: str
    path: str
    headers: dict[str, str]
    body: bytes


@dataclass
class Receiver:
    """What was received, and how it is answered.

    Arguments:
        url: address of the server.
        received: the requests, in the order of their arrival.
        answers: statuses of the next answers; 200 once it is empty.
        stuck: how many of the next requests are not answered before `release` is set.
        release: lets the stuck ones go.
        served: what a GET is answered with.
    """

    url: str = ""
    received: list[Received] = field(default_factory=list)
    answers: list[int] = field(default_factory=list)
    stuck: int = 0
    release: threading.Event = field(default_factory=threading.Event)
    served: bytes = b""


@contextmanager
def running_receiver() -> Iterator[Receiver]:
    """A receiver on a free port of this machine."""
    receiver = Receiver()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            receiver.received.append(
                Received(self.command, self.path, dict(self.headers.items()), body)
            )
            if receiver.stuck > 0:
                receiver.stuck -= 1
                receiver.release.wait(30)
            self._answer(receiver.answers.pop(0) if receiver.answers else 200, b"")

        do_PUT = do_POST

        def do_GET(self) -> None:
            self._answer(200, receiver.served)

        def _answer(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Keep the tests' output clean."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    # A sender that gave up waiting has closed its connection; that is no error of the test.
    server.handle_error = lambda *_: None  # type: ignore[method-assign]
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    receiver.url = f"http://127.0.0.1:{server.server_address[1]}"
    try:
        yield receiver
    finally:
        receiver.release.set()
        server.shutdown()
        server.server_close()
        thread.join()
