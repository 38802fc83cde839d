"""A proxy in front of an S3 server that breaks requests by rule, and notes them all."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

_HOP_HEADERS = {"connection", "transfer-encoding", "keep-alive", "content-length"}
_ANSWER = '<?xml version="1.0"?><Error><Code>{code}</Code><Message>by rule</Message></Error>'
_KEY_ID = re.compile(r"Credential=([^/]+)/")


@dataclass(frozen=True)
class Seen:
    """A request that reached the proxy.

    Arguments:
        method: its HTTP method.
        key: path below the server, without the query.
        key_id: access key that it was signed with; empty where it was not.
    """

    method: str
    key: str
    key_id: str


@dataclass
class StoreFault:
    """What goes wrong with some requests.

    Arguments:
        code: error code of the answer, such as ``SlowDown``; None for no answer at all: the
            request is performed, and the connection is cut.
        status: HTTP status of the answer.
        methods: which methods it strikes.
        key: regular expression that is searched for in the path.
        since: regular expression for the path of a PUT; strikes only what comes after such a one.
        count: how many it strikes; None for all that come.
    """

    code: str | None
    status: int = 403
    methods: str = "GET PUT HEAD POST DELETE"
    key: str = ""
    since: str | None = None
    count: int | None = None
    struck: int = 0
    _begun: bool = False

    def strikes(self, request: Seen) -> bool:
        """Whether it strikes this request; counts."""
        if self.since is not None and not self._begun:
            self._begun = request.method == "PUT" and bool(re.search(self.since, request.key))
            return False
        if request.method not in self.methods.split() or not re.search(self.key, request.key):
            return False
        if self.count is not None and self.struck >= self.count:
            return False
        self.struck += 1
        return True


@dataclass
class FaultyStore:
    """The proxy.

    Arguments:
        behind: address of the S3 server.
        endpoint: the proxy's own address.
        faults: what goes wrong now; the first that strikes.
        seen: all requests.
    """

    behind: str
    endpoint: str = ""
    faults: list[StoreFault] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def fault_of(self, request: Seen) -> StoreFault | None:
        """The fault that strikes a request."""
        with self._lock:
            self.seen.append(request)
            return next((fault for fault in self.faults if fault.strikes(request)), None)


@contextmanager
def faulty_store(behind: str) -> Iterator[FaultyStore]:
    """A proxy in front of an S3 server, without faults at first."""
    store = FaultyStore(behind)

    class Handler(_Handler):
        faulty = store

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    store.endpoint = f"http://127.0.0.1:{server.server_port}"
    try:
        yield store
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Head and body of an answer are written apart; without it each would wait for the other's ACK.
    disable_nagle_algorithm = True
    faulty: FaultyStore

    def do(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        signed_by = _KEY_ID.search(self.headers.get("Authorization", ""))
        request = Seen(
            self.command,
            unquote(urlsplit(self.path).path),
            signed_by[1] if signed_by else "",
        )
        fault = self.faulty.fault_of(request)
        if fault is None:
            self._answer(*self._forward(body))
        elif fault.code is None:
            self._forward(body)
            self.close_connection = True
        else:
            self._answer(fault.status, [], _ANSWER.format(code=fault.code).encode())

    do_GET = do_PUT = do_HEAD = do_POST = do_DELETE = do

    def log_message(self, format: str, *args: object) -> None:
        pass

    def _forward(self, body: bytes) -> tuple[int, list[tuple[str, str]], bytes]:
        behind = urlsplit(self.faulty.behind)
        connection = HTTPConnection(str(behind.hostname), behind.port, timeout=20)
        try:
            headers = {
                name: value
                for name, value in self.headers.items()
                if name.lower() not in _HOP_HEADERS
            }
            connection.request(self.command, self.path, body=body, headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.getheaders(), answer.read()
        finally:
            connection.close()

    def _answer(self, status: int, headers: list[tuple[str, str]], body: bytes) -> None:
        self.send_response_only(status)
        stated_length = None
        for name, value in headers:
            if name.lower() == "content-length":
                stated_length = value
            elif name.lower() not in _HOP_HEADERS:
                self.send_header(name, value)
        is_head = self.command == "HEAD"
        self.send_header("Content-Length", (is_head and stated_length) or str(len(body)))
        self.end_headers()
        if not is_head:
            self.wfile.write(body)
