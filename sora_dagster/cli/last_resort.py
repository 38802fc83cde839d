"""Ends a command that was asked to end and does not, as if it were killed."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time

# Docker kills a process after 10 s. A collecting run is given 8 s.
_GRACE_SECONDS = 9.0


def end_after_signals() -> None:
    """End this process some seconds after SIGINT or SIGTERM, whatever it is doing then.

    Python's signal handlers run between the steps of Python code in the main thread: not while it
    waits in a library for an object store or a database that does not answer. The interpreter
    writes each signal's number into the socket at once.
    """
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    # It keeps both sockets open.
    threading.Thread(target=_watch, args=(reader, writer), name="signals", daemon=True).start()


def _watch(reader: socket.socket, _writer: socket.socket) -> None:
    number = 0
    while number not in (signal.SIGINT, signal.SIGTERM):
        received = reader.recv(1)
        if not received:
            return
        number = received[0]
    time.sleep(_GRACE_SECONDS)
    os._exit(128 + number)
