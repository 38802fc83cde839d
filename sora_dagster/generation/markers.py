"""Markers: what the webhook receiver drops in the inbox when a result is finished.

A marker only wakes the collector. Its facts come from polls, since anyone who saw a webhook
address could write one.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import urlencode, urlsplit, urlunsplit

from sora_dagster.generation import layout
from sora_dagster.storage import StorageRoot

TASK_PARAMETER = "task"
SIGNATURE_PARAMETER = "signature"
_UUID_LENGTH = 36
MAX_MARKER_BYTES = 64 * 1024


@dataclass(frozen=True)
class WebhookAddress:
    """Where Runware shall call back, and the secret that proves that we gave it the address.

    Arguments:
        url: public URL of the receiver.
        secret: shared by whoever submits and the receiver.
    """

    url: str
    secret: str

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(
                f"webhook URL {self.url!r} is no http(s) URL; set SORA_WEBHOOK_URL to the public "
                f"address of the receiver, such as https://hooks.example.com/runware"
            )
        if not self.secret:
            raise ValueError(
                "a webhook URL needs a secret: set SORA_WEBHOOK_SECRET to the same random text "
                "(32 characters or more) here and at the receiver"
            )

    def __repr__(self) -> str:
        return f"WebhookAddress(url={self.url!r})"

    def for_task(self, task_uuid: str) -> str:
        """The address for one task, signed: Runware's webhooks carry no signature of their own."""
        parts = urlsplit(self.url)
        query = urlencode(
            {TASK_PARAMETER: task_uuid, SIGNATURE_PARAMETER: sign_task(self.secret, task_uuid)}
        )
        return urlunsplit(parts._replace(query="&".join(filter(None, [parts.query, query]))))


def sign_task(secret: str, task_uuid: str) -> str:
    """HMAC-SHA256 of a task's UUID, in hex."""
    return hmac.new(secret.encode(), task_uuid.encode(), hashlib.sha256).hexdigest()


def signature_is_valid(secret: str, task_uuid: str, signature: str) -> bool:
    """Whether a signature is the task's; takes the same time whatever it is."""
    return hmac.compare_digest(
        sign_task(secret, task_uuid).encode(), signature.encode(errors="replace")
    )


@dataclass(frozen=True)
class Marker:
    """One marker in the inbox.

    Arguments:
        key: its object.
        task_uuid: the task it is about.
        received_at: when it was written, by the store's clock.
        size_bytes: its length.
    """

    key: str
    task_uuid: str
    received_at: datetime
    size_bytes: int


def drop_marker(root: StorageRoot, task_uuid: str, body: bytes) -> str:
    """Write a marker; the same body again is the same object.

    Returns:
        The object's key.
    """
    key = layout.inbox_key(task_uuid, hashlib.sha256(body).hexdigest()[:16])
    root.create(key, body)
    return key


def list_markers(root: StorageRoot) -> Iterator[Marker]:
    """All markers in the inbox."""
    for info in root.list(layout.INBOX_FOLDER):
        name = info.key.removeprefix(f"{layout.INBOX_FOLDER}/")
        yield Marker(
            key=info.key,
            task_uuid=name[:_UUID_LENGTH].lower(),
            received_at=info.last_modified,
            size_bytes=info.size_bytes,
        )


def quarantine(root: StorageRoot, marker: Marker, reason: str) -> None:
    """Move a marker that is none out of the inbox, and say why."""
    name = marker.key.removeprefix(f"{layout.INBOX_FOLDER}/")
    body = b"" if marker.size_bytes > MAX_MARKER_BYTES else root.read_if_present(marker.key) or b""
    report = {
        "reason": reason,
        "size_bytes": marker.size_bytes,
        "body": body.decode(errors="replace"),
    }
    root.write(
        f"{layout.QUARANTINE_FOLDER}/{layout.segment(name)}.json", json.dumps(report).encode()
    )
    root.delete(marker.key)
