"""The ledger: who asked for what, what was sent, and how it ended, as create-only objects.

Each claim is an object that only one process can create, so that two runs on two machines that ask
for the same clip at once share one task and one bill.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, TypeVar
from urllib.parse import urlsplit

from sora_dagster.generation import layout
from sora_dagster.generation.record_format import parse_record
from sora_dagster.generation.records import (
    AttemptRecord,
    ClipManifest,
    OutcomeRecord,
    PendingRecord,
    PrunedRecord,
    Record,
    RootRecord,
    SeenRecord,
    SentRecord,
)
from sora_dagster.storage import ObjectInfo, StorageError, StorageRoot

_SENT_KEY = re.compile(r".*/sent-(\d+)\.json")
_ATTEMPT_KEY = re.compile(r".*/take-(\d+)/attempt-(\d+)\.json")

NonceRecord = TypeVar(
    "NonceRecord", RootRecord, AttemptRecord, SentRecord, OutcomeRecord, ClipManifest
)
AnyRecord = TypeVar("AnyRecord", bound=Record)


def utc_now() -> datetime:
    """The local clock, in UTC."""
    return datetime.now(UTC)


class RootMismatchError(StorageError):
    """The storage root belongs to another API or account, or is no root of ours."""


@dataclass(frozen=True)
class Take:
    """One deliberate generation of a clip, with its attempts in order."""

    number: int
    attempts: tuple[AttemptRecord, ...]

    @property
    def latest(self) -> AttemptRecord:
        """The newest attempt."""
        return self.attempts[-1]


class Ledger:
    """Reads and writes the protocol's records in one storage root.

    Arguments:
        root: the storage root.
        clock: gives the time recorded in the objects (never compared across machines).
        new_nonce: gives a fresh random text for each claim.
    """

    def __init__(
        self,
        root: StorageRoot,
        *,
        clock: Callable[[], datetime] = utc_now,
        new_nonce: Callable[[], str] = lambda: secrets.token_hex(16),
    ) -> None:
        self.root = root
        self.clock = clock
        self.new_nonce = new_nonce
        self._bound: RootRecord | None = None

    # The root

    def bind(self, *, api_base_url: str, account: str | None) -> RootRecord:
        """Bind the root to one API and account, or check that it is bound to these.

        Raises:
            RootMismatchError: where it is bound to others, or holds objects but no `root.json`.
        """
        record = self._read(layout.ROOT_KEY, RootRecord)
        if record is None:
            foreign = next(self._foreign_objects(), None)
            # Whoever binds the root at the same moment may have written all that was found.
            record = self._read(layout.ROOT_KEY, RootRecord)
            if foreign is not None and record is None:
                raise RootMismatchError(
                    f"{self.root.url} holds {foreign.key} but no {layout.ROOT_KEY}: it is not an "
                    f"empty folder, nor a storage root of sora-dagster. Choose an empty folder or "
                    f"prefix, or restore its {layout.ROOT_KEY}."
                )
        if record is None:
            _, record = self._claim(
                layout.ROOT_KEY,
                RootRecord(
                    namespace=secrets.token_hex(16),
                    api_base_url=api_base_url,
                    account=account,
                    created_at=self.clock(),
                    nonce=self.new_nonce(),
                ),
            )
        if _same_api(record.api_base_url) != _same_api(api_base_url):
            raise RootMismatchError(
                f"{self.root.url} holds clips paid for at {record.api_base_url}, and the API is "
                f"now {api_base_url}. Use another storage root for another API: tasks of one are "
                f"unknown to the other."
            )
        if record.account and account and record.account != account:
            raise RootMismatchError(
                f"{self.root.url} belongs to Runware account {record.account}, and the key is of "
                f"account {account}. Use that account's key, or another storage root."
            )
        self._bound = record
        return record

    def _foreign_objects(self) -> Iterator[ObjectInfo]:
        return (info for info in self.root.list("") if not info.key.startswith("clock/"))

    @property
    def namespace(self) -> str:
        """The random part of all task UUIDs of this root.

        Raises:
            RootMismatchError: where the root was never bound.
        """
        if self._bound is None:
            self._bound = self._read(layout.ROOT_KEY, RootRecord)
        if self._bound is None:
            raise RootMismatchError(f"{self.root.url} has no {layout.ROOT_KEY}; nothing is in it")
        return self._bound.namespace

    @property
    def is_empty(self) -> bool:
        """Whether nothing was ever asked for in this root."""
        return self._bound is None and not self.root.exists(layout.ROOT_KEY)

    def task_uuid(self, asset: str, clip: str, take: int, attempt: int) -> str:
        """The UUID (v4-shaped) that an attempt has, whoever asks for it and whenever."""
        identity = "\0".join([self.namespace, asset, clip, str(take), str(attempt)])
        return str(uuid.UUID(bytes=hashlib.sha256(identity.encode()).digest()[:16], version=4))

    # Attempts

    def takes(self, asset: str, clip: str) -> tuple[Take, ...]:
        """All takes of a clip that were ever asked for, in order."""
        found: dict[int, dict[int, str]] = {}
        for info in self.root.list(layout.slot_folder(asset, clip)):
            if match := _ATTEMPT_KEY.fullmatch(info.key):
                found.setdefault(int(match[1]), {})[int(match[2])] = info.key
        return tuple(
            Take(
                number=take,
                attempts=tuple(
                    self._require(key, AttemptRecord) for _, key in sorted(attempts.items())
                ),
            )
            for take, attempts in sorted(found.items())
        )

    def claim_attempt(self, attempt: AttemptRecord) -> tuple[bool, AttemptRecord]:
        """Claim an attempt, its index entry first, so that whatever is claimed can be found.

        Returns:
            Whether this call won the claim, and the record that stands.
        """
        self.root.write(layout.pending_key(attempt.task_uuid), _pending_record(attempt).to_json())
        return self._claim(
            layout.attempt_key(attempt.asset, attempt.clip, attempt.take, attempt.attempt), attempt
        )

    # Tasks

    def take_right_to_send(self, task_uuid: str, token: int = 1) -> bool:
        """Take a token: the right to POST a task once; False where another has it."""
        return self._take_token(task_uuid, token, "submit")

    def take_right_to_void(self, task_uuid: str) -> bool:
        """Take the first token, never to use it; False where another has it."""
        return self._take_token(task_uuid, 1, "void")

    def _take_token(self, task_uuid: str, token: int, purpose: Literal["submit", "void"]) -> bool:
        won, _ = self._claim(
            layout.task_key(task_uuid, f"sent-{token}"),
            SentRecord(purpose=purpose, at=self.clock(), nonce=self.new_nonce()),
        )
        return won

    def sent(self, task_uuid: str) -> SentRecord | None:
        """Who took the first right to POST a task, if anyone did."""
        return self._read(layout.task_key(task_uuid, "sent-1"), SentRecord)

    def sent_times(self, task_uuid: str) -> tuple[datetime, ...]:
        """When each token of a task was taken, by the store's clock, in their order."""
        times = {
            int(match[1]): info.last_modified
            for info in self.root.list(layout.task_folder(task_uuid))
            if (match := _SENT_KEY.fullmatch(info.key))
        }
        return tuple(times[token] for token in sorted(times))

    def mark_seen(self, task_uuid: str, seen: SeenRecord) -> None:
        """Record the proof that Runware has a task; the first proof stands."""
        self.root.create(layout.task_key(task_uuid, "seen"), seen.to_json())

    def seen(self, task_uuid: str) -> SeenRecord | None:
        """The proof that Runware has a task, if there is one."""
        return self._read(layout.task_key(task_uuid, "seen"), SeenRecord)

    def settle(self, task_uuid: str, outcome: OutcomeRecord) -> OutcomeRecord:
        """Record how a task ended; the first record stands and is returned."""
        name = "late-outcome" if self._is_reopened(task_uuid) else "outcome"
        _, standing = self._claim(layout.task_key(task_uuid, name), outcome)
        return standing

    def outcome(self, task_uuid: str) -> OutcomeRecord | None:
        """How a task ended, if it did."""
        outcome = self._read(layout.task_key(task_uuid, "outcome"), OutcomeRecord)
        # Only a task that brought nothing, though it was accepted, can have been reopened.
        if outcome is None or outcome.has_videos or not outcome.was_accepted:
            return outcome
        if not self._is_reopened(task_uuid):
            return outcome
        return self._read(layout.task_key(task_uuid, "late-outcome"), OutcomeRecord)

    def reopen(self, attempt: AttemptRecord) -> None:
        """Take a task up again that had ended without a video: Runware has one after all."""
        self.root.create(layout.task_key(attempt.task_uuid, "reopened"), b"{}")
        self.ensure_pending(attempt)

    def ensure_pending(self, attempt: AttemptRecord) -> None:
        """Put a task into the index, unless it is there."""
        self.root.create(layout.pending_key(attempt.task_uuid), _pending_record(attempt).to_json())

    def _is_reopened(self, task_uuid: str) -> bool:
        return self.root.exists(layout.task_key(task_uuid, "reopened"))

    # What is outstanding

    def pending(self) -> dict[str, datetime]:
        """UUIDs of everything outstanding, oldest first, and since when. Costs one listing."""
        found = {
            info.key.removeprefix(f"{layout.PENDING_FOLDER}/"): info.last_modified
            for info in self.root.list(layout.PENDING_FOLDER)
        }
        return dict(sorted(found.items(), key=lambda item: (item[1], item[0])))

    def pending_attempt(self, task_uuid: str) -> AttemptRecord | None:
        """What was asked in the attempt that an index entry names, if it was ever claimed."""
        entry = self._read(layout.pending_key(task_uuid), PendingRecord)
        if entry is None:
            return None
        attempt = self._read(
            layout.attempt_key(entry.asset, entry.clip, entry.take, entry.attempt), AttemptRecord
        )
        return attempt if attempt is not None and attempt.task_uuid == task_uuid else None

    def forget_pending(self, task_uuid: str) -> None:
        """Take a task out of the index: everything about it is done."""
        self.root.delete(layout.pending_key(task_uuid))

    # Manifests

    def write_manifest(self, manifest: ClipManifest) -> ClipManifest:
        """Write a clip's manifest, last of its objects; the first one stands and is returned."""
        _, standing = self._claim(
            layout.manifest_key(manifest.asset, manifest.clip, manifest.take), manifest
        )
        return standing

    def manifest(self, asset: str, clip: str, take: int) -> ClipManifest | None:
        """The manifest of a take, if the take is stored whole."""
        return self._read(layout.manifest_key(asset, clip, take), ClipManifest)

    def latest_manifest(self, asset: str, clip: str) -> ClipManifest | None:
        """The manifest of a clip's newest stored take, if there is one."""
        for take in reversed(self.takes(asset, clip)):
            if manifest := self.manifest(asset, clip, take.number):
                return manifest
        return None

    def mark_pruned(self, manifest: ClipManifest, *, pruned_at: datetime) -> None:
        """Keep a take's record, so that its videos may be removed; the first record stands.

        From here on the take is neither whole nor lost.
        """
        self.root.create(
            layout.pruned_key(manifest.asset, manifest.clip, manifest.take),
            PrunedRecord(manifest=manifest, pruned_at=pruned_at).to_json(),
        )

    def pruned(self, asset: str, clip: str, take: int) -> PrunedRecord | None:
        """The record of a take whose videos were removed, if they were."""
        return self._read(layout.pruned_key(asset, clip, take), PrunedRecord)

    def _claim(self, key: str, record: NonceRecord) -> tuple[bool, NonceRecord]:
        """Create a record, or read the one that stands.

        A store may answer "already exists" to a put of ours whose first answer was lost; the nonce
        tells whether the record that stands is ours.
        """
        if self.root.create(key, record.to_json()):
            return True, record
        standing = self._require(key, type(record))
        return standing.nonce == record.nonce, standing

    def _read(self, key: str, model: type[AnyRecord]) -> AnyRecord | None:
        body = self.root.read_if_present(key)
        return None if body is None else parse_record(body, model, uri=self.root.uri(key))

    def _require(self, key: str, model: type[AnyRecord]) -> AnyRecord:
        return parse_record(self.root.read(key), model, uri=self.root.uri(key))


def _same_api(base_url: str) -> str:
    """An address by which an API is known: one on this machine may change its port."""
    parts = urlsplit(base_url)
    if parts.hostname in ("127.0.0.1", "localhost", "::1"):
        return "this machine"
    return base_url.rstrip("/").lower()


def _pending_record(attempt: AttemptRecord) -> PendingRecord:
    return PendingRecord(
        asset=attempt.asset,
        clip=attempt.clip,
        take=attempt.take,
        attempt=attempt.attempt,
        task_uuid=attempt.task_uuid,
    )
