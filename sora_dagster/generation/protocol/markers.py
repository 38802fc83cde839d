"""Markers: objects that the webhook receiver writes to a dataset's inbox for finished results.

A marker only wakes the collection. Facts come from polls, since anyone who knows a webhook address
could send a marker.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from urllib.parse import urlencode, urlsplit, urlunsplit

from sora_dagster.generation.protocol import layout
from sora_dagster.storage import StorageRoot

DATASET_PARAMETER = "dataset"
TASK_PARAMETER = "task"
SIGNATURE_PARAMETER = "signature"
MAX_MARKER_BYTES = 64 * 1024


@dataclass(frozen=True)
class WebhookAddress:
    """The webhook receiver's address, and the secret that signs it.

    Arguments:
        url: public URL of the receiver.
        secret: shared by the runs that submit tasks and the receiver.
    """

    url: str
    secret: str

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(
                f"webhook URL {self.url!r} is not an http(s) URL; set SORA_WEBHOOK_URL to the "
                f"public address of the receiver, such as https://hooks.example.com/runware"
            )
        if not self.secret:
            raise ValueError(
                "a webhook URL needs a secret: set SORA_WEBHOOK_SECRET to the same random text "
                "(32 characters or more) here and at the receiver"
            )

    def __repr__(self) -> str:
        return f"WebhookAddress(url={self.url!r})"

    def for_task(self, dataset: str, task_uuid: str) -> str:
        """The address for one task of a dataset.

        It is signed, since Runware's webhooks carry no signature of their own.
        """
        parts = urlsplit(self.url)
        query = urlencode(
            {
                DATASET_PARAMETER: dataset,
                TASK_PARAMETER: task_uuid,
                SIGNATURE_PARAMETER: sign_task(self.secret, dataset, task_uuid),
            }
        )
        return urlunsplit(parts._replace(query="&".join(filter(None, [parts.query, query]))))


def sign_task(secret: str, dataset: str, task_uuid: str) -> str:
    """HMAC-SHA256 of a task's UUID and the dataset that it belongs to, in hex."""
    # A UUID has no NUL: no other pair of dataset and task gives the same text.
    signed = f"{task_uuid}\0{dataset}".encode(errors="replace")
    return hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()


def signature_is_valid(secret: str, dataset: str, task_uuid: str, signature: str) -> bool:
    """Whether a signature belongs to a dataset and task; compared in constant time."""
    return hmac.compare_digest(
        sign_task(secret, dataset, task_uuid).encode(), signature.encode(errors="replace")
    )


@dataclass(frozen=True)
class Marker:
    """One marker in the inbox of a dataset.

    Arguments:
        key: key of the object.
        dataset: name of the dataset.
        task_uuid: its task.
        received_at: when it was written, by the store's clock.
        size_bytes: size of the object.
    """

    key: str
    dataset: str
    task_uuid: str
    received_at: datetime
    size_bytes: int


def drop_marker(root: StorageRoot, dataset: str, task_uuid: str, body: bytes) -> str:
    """Write a marker; the same body again is the same object.

    Returns:
        The object's key.
    """
    key = layout.inbox_key(dataset, task_uuid, hashlib.sha256(body).hexdigest()[:16])
    root.create(key, body)
    return key


def markers_of(root: StorageRoot, dataset: str, task_uuid: str) -> list[Marker]:
    """The markers of one task. Lists that task's folder only."""
    return [
        Marker(info.key, dataset, task_uuid, info.last_modified, info.size_bytes)
        for info in root.list(layout.inbox_folder(dataset, task_uuid))
    ]


def tasks_with_markers(root: StorageRoot, dataset: str) -> Iterator[Marker]:
    """All markers of a dataset, in no particular order. Costs one listing of its inbox.

    An object that does not lie in a task's folder is not a marker, and is skipped.
    """
    folder = layout.inbox_folder(dataset)
    for info in root.list(folder):
        task_uuid, _, name = info.key.removeprefix(f"{folder}/").partition("/")
        if name:
            yield Marker(info.key, dataset, task_uuid, info.last_modified, info.size_bytes)
