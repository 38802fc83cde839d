"""Markers: objects that the webhook receiver writes to a dataset's inbox for finished results.

A marker only wakes the collection. Facts come from polls, since anyone who knows a webhook address
could send a marker.
"""

from __future__ import annotations

import hashlib
import hmac
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from urllib.parse import urlencode, urlsplit, urlunsplit

from sora_dagster.generation.protocol import layout
from sora_dagster.storage import StorageRoot

DATASET_PARAMETER = "dataset"
TASK_PARAMETER = "task"
EXPIRES_PARAMETER = "expires"
SIGNATURE_PARAMETER = "signature"
MAX_MARKER_BYTES = 64 * 1024
MIN_SECRET_LENGTH = 16
# A task that Runware still runs is given up after a day. The second day is for late webhooks.
ADDRESS_VALID_SECONDS = 2 * 24 * 3600


@dataclass(frozen=True)
class WebhookUrl:
    """The webhook receiver's address, and the secret that signs it.

    Arguments:
        url: public URL of the receiver.
        secret: shared by the runs that submit tasks and the receiver; at least 16 characters.
        clock: seconds since 1970, which the end of an address is counted from.

    Raises:
        ValueError: if the URL or the secret is not allowed.
    """

    url: str
    secret: str
    clock: Callable[[], float] = field(default=time.time, compare=False)

    def __post_init__(self) -> None:
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise ValueError(
                f"webhook URL {self.url!r} is not an http(s) URL; set SORA_WEBHOOK_URL to the "
                f"public address of the receiver, such as https://hooks.example.com/runware"
            )
        check_secret(self.secret)

    def __repr__(self) -> str:
        return f"WebhookUrl(url={self.url!r})"

    def for_task(self, dataset: str, task_uuid: str) -> str:
        """The address for one task of a dataset, valid for two days.

        It is signed, since Runware's webhooks carry no signature of their own. A task lives a day
        at most, so that an address in an old log is of no use.
        """
        parts = urlsplit(self.url)
        expires = str(int(self.clock()) + ADDRESS_VALID_SECONDS)
        query = urlencode(
            {
                DATASET_PARAMETER: dataset,
                TASK_PARAMETER: task_uuid,
                EXPIRES_PARAMETER: expires,
                SIGNATURE_PARAMETER: sign_task(self.secret, dataset, task_uuid, expires),
            }
        )
        return urlunsplit(parts._replace(query="&".join(filter(None, [parts.query, query]))))


def check_secret(secret: str) -> None:
    """Refuse a webhook secret that is missing or can be guessed.

    Raises:
        ValueError: if it has fewer than 16 characters.
    """
    if len(secret) < MIN_SECRET_LENGTH:
        found = f"has {len(secret)} characters" if secret else "is not set"
        raise ValueError(
            f"SORA_WEBHOOK_SECRET {found}; webhook URLs are signed with it, so it needs at least "
            f"{MIN_SECRET_LENGTH} random ones. Make one with `openssl rand -hex 32`, and set the "
            f"same one at the receiver and in all processes that request clips"
        )


def sign_task(secret: str, dataset: str, task_uuid: str, expires: str) -> str:
    """HMAC-SHA256 of a task's UUID, the end of its address and its dataset, in hex.

    Arguments:
        secret: the webhook secret.
        dataset: name of the dataset.
        task_uuid: the task.
        expires: when the address ends, in seconds since 1970.
    """
    # Neither a UUID nor a number has a NUL: no other values give the same text.
    return _hmac(secret, f"{task_uuid}\0{expires}\0{dataset}")


def signature_is_valid(
    secret: str, dataset: str, task_uuid: str, expires: str, signature: str
) -> bool:
    """Whether a signature belongs to a dataset, task and end; compared in constant time."""
    return _is_same(sign_task(secret, dataset, task_uuid, expires), signature)


def sign_identity(secret: str) -> str:
    """The text by which a holder of the secret asks the receiver which storage root it has."""
    return _hmac(secret, "identity")


def identity_signature_is_valid(secret: str, signature: str) -> bool:
    """Whether a signature is that of `sign_identity`; compared in constant time."""
    return _is_same(sign_identity(secret), signature)


def _hmac(secret: str, text: str) -> str:
    return hmac.new(secret.encode(), text.encode(errors="replace"), hashlib.sha256).hexdigest()


def _is_same(expected: str, found: str) -> bool:
    return hmac.compare_digest(expected.encode(), found.encode(errors="replace"))


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


def marker_key(dataset: str, task_uuid: str, body: bytes) -> str:
    """Key of a marker; the same body again is the same marker."""
    return layout.inbox_key(dataset, task_uuid, hashlib.sha256(body).hexdigest()[:16])


def write_marker(root: StorageRoot, dataset: str, task_uuid: str, body: bytes) -> bool:
    """Write a marker.

    Returns:
        Whether it is new: False if it was there already.
    """
    return root.create(marker_key(dataset, task_uuid, body), body)


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
