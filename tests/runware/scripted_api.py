"""A small HTTP server on 127.0.0.1 that answers each POST by the next line of a script."""

from __future__ import annotations

import contextlib
import json
import socket
import struct
import threading
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Literal, Self

Body = object | Callable[[list[dict[str, Any]]], object]


@dataclass(frozen=True)
class Answer:
    """An answer to one POST.

    Arguments:
        body: bytes as they are, anything else as JSON, or a function of the tasks that came.
        status: HTTP status.
        headers: further headers.
    """

    body: Body = field(default_factory=dict)
    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)


Breakage = Literal["close", "reset", "truncate", "trickle", "silence"]


@dataclass(frozen=True)
class Broken:
    """What happens in place of an answer, after the request was read in full."""

    how: Breakage


@dataclass(frozen=True)
class Received:
    """One POST as it came."""

    headers: Mapping[str, str]
    tasks: list[dict[str, Any]]


def acknowledged(tasks: list[dict[str, Any]]) -> dict[str, Any]:
    """The documented acknowledgement of all tasks."""
    return {
        "data": [{"taskType": task["taskType"], "taskUUID": task["taskUUID"]} for task in tasks]
    }


class ScriptedApi:
    """The server. What it received is in `received`, in order."""

    def __init__(self) -> None:
        self.received: list[Received] = []
        self._script: deque[Answer | Broken] = deque()
        self._ended = threading.Event()
        api = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                length = int(self.headers["Content-Length"])
                tasks = json.loads(self.rfile.read(length))
                api.received.append(Received(dict(self.headers.items()), tasks))
                step = (
                    api._script.popleft()
                    if api._script
                    else Answer({"error": "the script is over"}, 599)
                )
                if isinstance(step, Broken):
                    self._break(step.how)
                else:
                    self._answer(step, tasks)

            def _answer(self, answer: Answer, tasks: list[dict[str, Any]]) -> None:
                body = answer.body(tasks) if callable(answer.body) else answer.body
                content = body if isinstance(body, bytes) else json.dumps(body).encode()
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)

            def _break(self, how: Breakage) -> None:
                self.close_connection = True
                if how == "silence":
                    api._ended.wait()
                elif how == "truncate":
                    self.send_response(200)
                    self.send_header("Content-Length", "1000")
                    self.end_headers()
                    self.wfile.write(b'{"data": [')
                elif how == "trickle":
                    self.send_response(200)
                    self.send_header("Content-Length", "1000000")
                    self.end_headers()
                    with contextlib.suppress(OSError):
                        while not api._ended.wait(0.02):
                            self.wfile.write(b" ")
                elif how == "reset":
                    linger = struct.pack("ii", 1, 0)
                    self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                    self.wfile.close()
                    self.connection.close()

            def log_message(self, format: str, *args: Any) -> None:
                """Keep the test's output clean."""

        class Server(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, request: Any, client_address: Any) -> None:
                """A connection that a script resets fails in the server's own clean-up too."""

        self._server = Server(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.01,))

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    @property
    def url(self) -> str:
        """Address of the API."""
        return f"http://127.0.0.1:{self._server.server_address[1]}/v1"

    def will(self, *steps: Answer | Broken) -> None:
        """Add lines to the script."""
        self._script.extend(steps)


def refusing_url() -> str:
    """An address on which nobody listens."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{unused.getsockname()[1]}/v1"
