"""The ledger: who asked for what, what was sent, and how it ended, as create-only objects.

Each claim is an object that only one process can create, so that two runs on two machines that ask
for the same clip at once share one task and one bill.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, TypeVar
from urllib.parse import urlsplit

from sora_dagster.generation.protocol import layout
from sora_dagster.generation.protocol.record_format import parse_record
from sora_dagster.generation.protocol.records import (
    FORMAT_VERSION,
    AttemptRecord,
    ClipManifest,
    DatasetRecord,
    NoteRecord,
    OutcomeRecord,
    PendingRecord,
    PrunedRecord,
    Record,
    RemixRecord,
    ReopenedRecord,
    RootRecord,
    SeenRecord,
    SentRecord,
    StuckRecord,
)
from sora_dagster.prompts.clips import ClipRequest
from sora_dagster.storage import ObjectInfo, StorageError, StorageRoot

_TASK_FILE = re.compile(r".*/(sent|outcome|reopened|seen)(?:-(\d+))?\.json")
_ATTEMPT_KEY = re.compile(r".*/take-(\d+)/attempt-(\d+)\.json")
_PENDING_NAME = re.compile(r"([^/.]+)\.(\d+)")
_REMIXES_DUE_NAME = re.compile(r"([^/.]+)\.remixes")

NonceRecord = TypeVar(
    "NonceRecord",
    RootRecord,
    DatasetRecord,
    AttemptRecord,
    SentRecord,
    ReopenedRecord,
    OutcomeRecord,
    ClipManifest,
)
AnyRecord = TypeVar("AnyRecord", bound=Record)


def utc_now() -> datetime:
    """The local clock, in UTC."""
    return datetime.now(UTC)


class RootMismatchError(StorageError):
    """The storage root belongs to another API or account, or is no root of ours."""


class DatasetNameError(StorageError):
    """Two datasets of one storage root have the same name."""


@dataclass(frozen=True)
class PendingEntry:
    """What the index says of an outstanding task, from its listing alone.

    Arguments:
        dataset: name of the dataset.
        task_uuid: the task.
        reopening: 0, or the number of the reopening that is outstanding.
        since: when the entry was last written, by the store's clock.
    """

    dataset: str
    task_uuid: str
    reopening: int
    since: datetime

    @property
    def key(self) -> str:
        """Key of the entry."""
        return layout.pending_key(self.dataset, self.task_uuid, self.reopening)


@dataclass(frozen=True)
class Outstanding:
    """What the index says of one dataset, from one listing.

    Arguments:
        tasks: what is outstanding at Runware or not stored yet, by task, oldest first.
        remixes_due: tasks whose clips are stored and whose remixes no run has asked for yet.
    """

    tasks: Mapping[str, PendingEntry]
    remixes_due: tuple[str, ...]


@dataclass(frozen=True)
class TaskFiles:
    """Which facts of a task are on record, and since when; from one listing.

    Arguments:
        sent: when each right to send it was taken, by the store's clock, by the token's number.
        is_seen: whether there is proof that Runware has it.
        reopened: when each reopening was recorded, by its number.
        outcomes: numbers of the reopenings that have ended; 0 for the task itself.
    """

    sent: Mapping[int, datetime]
    is_seen: bool
    reopened: Mapping[int, datetime]
    outcomes: frozenset[int]

    @property
    def sent_times(self) -> tuple[datetime, ...]:
        """When each right to send it was taken, in the order of the tokens."""
        return tuple(self.sent[token] for token in sorted(self.sent))

    @property
    def was_sent(self) -> bool:
        """Whether it was sent, by other records than its first token, which may be missing."""
        return self.is_seen or any(token > 1 for token in self.sent)

    @property
    def reopening(self) -> int:
        """Number of the newest reopening; 0 for none."""
        return max(self.reopened, default=0)


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
        if record is not None and record.format_version < FORMAT_VERSION:
            raise RootMismatchError(
                f"{self.root.url} was written by an earlier version of sora-dagster, whose layout "
                f"this version does not read. Use a new folder or prefix, and keep this one for "
                f"its videos."
            )
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

    def bind_dataset(self, name: str, assets: Sequence[str]) -> None:
        """Record which assets a dataset's name stands for, or check that it stands for these.

        Raises:
            DatasetNameError: if the name belongs to a dataset with other assets.
        """
        wanted = DatasetRecord(name=name, assets=tuple(sorted(assets)), nonce=self.new_nonce())
        _, standing = self._claim(layout.dataset_key(name), wanted)
        if standing.assets != wanted.assets:
            raise DatasetNameError(
                f"the dataset name {name!r} is taken in {self.root.url}: there it stands for the "
                f"assets {', '.join(standing.assets)}, here for {', '.join(wanted.assets)}. Give "
                f"one of the two datasets another name, or another storage root."
            )

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
        """Whether nothing was ever asked for in this root.

        Raises:
            RootMismatchError: if its `root.json` is missing, and clips are outstanding.
        """
        if self._bound is not None or self.root.exists(layout.ROOT_KEY):
            return False
        outstanding = next(self.root.list(layout.PENDING_FOLDER), None)
        # A process that bound the root in between may have written what was found.
        if outstanding is not None and not self.root.exists(layout.ROOT_KEY):
            raise RootMismatchError(
                f"{self.root.url} has outstanding clips and no {layout.ROOT_KEY}, so they cannot "
                f"be collected. Restore its {layout.ROOT_KEY} from a backup."
            )
        return True

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
        self.root.write(
            layout.pending_key(attempt.dataset, attempt.task_uuid),
            _pending_record(attempt).to_json(),
        )
        return self._claim(
            layout.attempt_key(attempt.asset, attempt.clip, attempt.take, attempt.attempt), attempt
        )

    # Tasks

    def take_right_to_send(
        self,
        task_uuid: str,
        token: int = 1,
        *,
        root_run: str | None = None,
        run_limit_usd: float | None = None,
        slot: str | None = None,
    ) -> bool:
        """Take a token: the right to POST a task once; False if another process has it.

        Arguments:
            task_uuid: the task.
            token: number of the token, from 1 on.
            root_run: the run that pays; retries and remixes go by it.
            run_limit_usd: that run's spending limit in USD; None for no limit.
            slot: key of the attempt, so that a task can be found by its UUID alone.
        """
        return self._take_token(
            task_uuid,
            token,
            "submit",
            root_run=root_run,
            run_limit_usd=run_limit_usd,
            slot=slot,
        )

    def take_right_to_void(self, task_uuid: str) -> bool:
        """Take the first token, never to use it; False if another process has it."""
        return self._take_token(task_uuid, 1, "void")

    def _take_token(
        self,
        task_uuid: str,
        token: int,
        purpose: Literal["submit", "void"],
        *,
        root_run: str | None = None,
        run_limit_usd: float | None = None,
        slot: str | None = None,
    ) -> bool:
        won, _ = self._claim(
            layout.task_key(task_uuid, f"sent-{token}"),
            SentRecord(
                purpose=purpose,
                root_run=root_run,
                run_limit_usd=run_limit_usd,
                slot=slot,
                at=self.clock(),
                nonce=self.new_nonce(),
            ),
        )
        return won

    def sent(self, task_uuid: str) -> SentRecord | None:
        """Who took the first right to POST a task, if any process did."""
        return self._read(layout.task_key(task_uuid, "sent-1"), SentRecord)

    def sent_attempt(self, task_uuid: str) -> AttemptRecord | None:
        """What was asked in a task, found by its UUID alone; None if it was never sent."""
        sent = self.sent(task_uuid)
        return None if sent is None or sent.slot is None else self._read(sent.slot, AttemptRecord)

    def task_files(self, task_uuid: str) -> TaskFiles:
        """Which facts of a task are on record. Costs one listing."""
        found: dict[str, dict[int, datetime]] = {}
        for info in self.root.list(layout.task_folder(task_uuid)):
            if match := _TASK_FILE.fullmatch(info.key):
                found.setdefault(match[1], {})[int(match[2] or 0)] = info.last_modified
        return TaskFiles(
            sent=found.get("sent", {}),
            is_seen="seen" in found,
            reopened=found.get("reopened", {}),
            outcomes=frozenset(found.get("outcome", {})),
        )

    def sent_times(self, task_uuid: str) -> tuple[datetime, ...]:
        """When each token of a task was taken, by the store's clock, in their order."""
        return self.task_files(task_uuid).sent_times

    def mark_seen(self, task_uuid: str, seen: SeenRecord) -> None:
        """Record the proof that Runware has a task; the first proof stands."""
        self.root.create(layout.task_key(task_uuid, "seen"), seen.to_json())

    def seen(self, task_uuid: str) -> SeenRecord | None:
        """The proof that Runware has a task, if there is one."""
        return self._read(layout.task_key(task_uuid, "seen"), SeenRecord)

    def settle(
        self, task_uuid: str, outcome: OutcomeRecord, *, reopening: int = 0
    ) -> OutcomeRecord:
        """Record how a task ended; the first record stands and is returned.

        Arguments:
            task_uuid: the task.
            outcome: how it ended.
            reopening: number of the reopening that has ended, as it was when the task was read:
                what was concluded about an earlier one never ends a later one.
        """
        _, standing = self._claim(layout.task_key(task_uuid, f"outcome-{reopening}"), outcome)
        return standing

    def settle_void(self, task_uuid: str) -> OutcomeRecord:
        """Record that a task was never sent and cost nothing; the first record stands."""
        return self.settle(
            task_uuid,
            OutcomeRecord(
                state="void",
                cost_usd=0.0,
                was_accepted=False,
                at=self.clock(),
                nonce=self.new_nonce(),
            ),
        )

    def outcome(self, task_uuid: str) -> OutcomeRecord | None:
        """How a task ended, if it did; of one that was reopened, how its last reopening ended."""
        outcome = self.outcome_of(task_uuid, 0)
        # Only a task that brought nothing, though it was accepted, can have been reopened.
        if outcome is None or outcome.has_videos or not outcome.was_accepted:
            return outcome
        reopening = self.task_files(task_uuid).reopening
        return outcome if reopening == 0 else self.outcome_of(task_uuid, reopening)

    def outcome_of(self, task_uuid: str, reopening: int) -> OutcomeRecord | None:
        """How one reopening of a task ended, if it did; 0 for the task itself."""
        return self._read(layout.task_key(task_uuid, f"outcome-{reopening}"), OutcomeRecord)

    def reopen(self, attempt: AttemptRecord) -> int:
        """Collect a task again that ended without a video: Runware has one after all.

        Returns:
            The number of the reopening that is outstanding now.
        """
        files = self.task_files(attempt.task_uuid)
        reopening = files.reopening
        if reopening in files.outcomes:
            reopening += 1
            record = ReopenedRecord(at=self.clock(), nonce=self.new_nonce())
            self._claim(layout.task_key(attempt.task_uuid, f"reopened-{reopening}"), record)
        self.ensure_pending(attempt, reopening)
        return reopening

    def ensure_pending(self, attempt: AttemptRecord, reopening: int = 0) -> None:
        """Put a task into the index, unless it is there."""
        self.root.create(
            layout.pending_key(attempt.dataset, attempt.task_uuid, reopening),
            _pending_record(attempt, reopening).to_json(),
        )

    # What is outstanding

    def pending(self, dataset: str) -> dict[str, PendingEntry]:
        """Everything outstanding of a dataset by task, oldest first. Costs one listing.

        Of a task with several entries the newest reopening counts.
        """
        return dict(self.outstanding(dataset).tasks)

    def outstanding(self, dataset: str) -> Outstanding:
        """What is outstanding of a dataset, remixes to be asked for included.

        Costs one listing.
        """
        found: dict[str, PendingEntry] = {}
        remixes_due = []
        folder = layout.pending_folder(dataset)
        for info in self.root.list(folder):
            name = info.key.removeprefix(f"{folder}/")
            if match := _REMIXES_DUE_NAME.fullmatch(name):
                remixes_due.append(match[1])
            match = _PENDING_NAME.fullmatch(name)
            if match is None:
                continue
            entry = PendingEntry(dataset, match[1], int(match[2]), info.last_modified)
            if match[1] not in found or found[match[1]].reopening < entry.reopening:
                found[match[1]] = entry
        ordered = sorted(found.items(), key=lambda item: (item[1].since, item[0]))
        return Outstanding(dict(ordered), tuple(sorted(remixes_due)))

    def pending_tasks(self) -> frozenset[str]:
        """UUIDs of everything outstanding in all datasets. Costs one listing."""
        return frozenset(
            match[1]
            for info in self.root.list(layout.PENDING_FOLDER)
            if (match := _PENDING_NAME.fullmatch(info.key.rpartition("/")[2]))
        )

    def pending_record(self, entry: PendingEntry) -> PendingRecord | None:
        """What an entry of the index says; None if it was removed."""
        return self._read(entry.key, PendingRecord)

    def pending_attempt(self, entry: PendingEntry) -> AttemptRecord | None:
        """What was asked in the attempt that an index entry names, if it was ever claimed."""
        return self._attempt_of(self.pending_record(entry), entry.task_uuid)

    def _attempt_of(self, record: PendingRecord | None, task_uuid: str) -> AttemptRecord | None:
        if record is None:
            return None
        attempt = self._read(
            layout.attempt_key(record.asset, record.clip, record.take, record.attempt),
            AttemptRecord,
        )
        return attempt if attempt is not None and attempt.task_uuid == task_uuid else None

    def leave_pending(self, entry: PendingEntry) -> None:
        """Rewrite an entry of a task that a run leaves: its age counts from now."""
        record = self.pending_record(entry)
        if record is not None:
            left = record.model_copy(update={"times_left": record.times_left + 1})
            self.root.write(entry.key, left.to_json())

    def forget_pending(self, dataset: str, task_uuid: str, reopening: int = 0) -> None:
        """Take a task out of the index: everything about it is done."""
        for number in range(reopening + 1):
            self.root.delete(layout.pending_key(dataset, task_uuid, number))

    def mark_stuck(self, entry: PendingEntry, reason: str) -> None:
        """Take a task out of the index that one of whose records cannot be read."""
        try:
            record = self.pending_record(entry)
        except StorageError:
            # The entry itself may be what cannot be read; its reason is on record all the same.
            record = None
        stuck = StuckRecord(
            task_uuid=entry.task_uuid,
            reopening=entry.reopening,
            pending=record,
            reason=reason,
            at=self.clock(),
        )
        self.root.write(layout.stuck_key(entry.dataset, entry.task_uuid), stuck.to_json())
        self.root.delete(entry.key)

    def stuck(self, dataset: str) -> dict[str, StuckRecord]:
        """Tasks of a dataset that cannot be collected, by UUID."""
        folder = f"{layout.STUCK_FOLDER}/{layout.segment(dataset)}"
        found = {}
        for info in self.root.list(folder):
            if record := self._read(info.key, StuckRecord):
                found[record.task_uuid] = record
        return found

    def stuck_task(self, dataset: str, task_uuid: str) -> StuckRecord | None:
        """Why a task was set aside; None if it was not."""
        return self._read(layout.stuck_key(dataset, task_uuid), StuckRecord)

    def put_back(self, dataset: str, stuck: StuckRecord) -> None:
        """Put a stuck task back into the index, so that it is collected again."""
        key = layout.pending_key(dataset, stuck.task_uuid, stuck.reopening)
        if stuck.pending is not None:
            self.root.create(key, stuck.pending.to_json())
        self.root.delete(layout.stuck_key(dataset, stuck.task_uuid))

    # Remixes of what is stored

    def remember_remixes_due(self, attempt: AttemptRecord) -> None:
        """Leave it to the next collecting run to ask for the remixes of a stored clip."""
        self.root.create(
            layout.remixes_due_key(attempt.dataset, attempt.task_uuid),
            _pending_record(attempt).to_json(),
        )

    def remixes_due_attempt(self, dataset: str, task_uuid: str) -> AttemptRecord | None:
        """What was asked in a task whose clip's remixes are due; None if they no longer are."""
        key = layout.remixes_due_key(dataset, task_uuid)
        return self._attempt_of(self._read(key, PendingRecord), task_uuid)

    def forget_remixes_due(self, dataset: str, task_uuid: str) -> None:
        """The remixes of a stored clip were asked for."""
        self.root.delete(layout.remixes_due_key(dataset, task_uuid))

    def never_requested_remixes(
        self, task_uuid: str, remixes: Sequence[ClipRequest]
    ) -> list[ClipRequest]:
        """Those of some remixes of a task's video that no run has asked for. Costs one listing."""
        known = {info.key for info in self.root.list(layout.task_folder(task_uuid))}
        return [remix for remix in remixes if _remix_key(task_uuid, remix) not in known]

    def remember_remix(self, task_uuid: str, remix: ClipRequest, *, answer: str) -> None:
        """Record that a remix of a task's video was asked for: no run asks for it by itself again.

        Arguments:
            task_uuid: the task that the parent video came from.
            remix: the remix.
            answer: what became of asking for it.
        """
        record = RemixRecord(
            asset=remix.asset,
            clip=remix.clip,
            fingerprint=remix.spec.fingerprint,
            answer=answer,
            at=self.clock(),
        )
        self.root.create(_remix_key(task_uuid, remix), record.to_json())

    # Notes for people

    def note(self, attempt: AttemptRecord, reason: str) -> None:
        """Say why an outstanding task is slow or cannot be stored yet."""
        record = NoteRecord(asset=attempt.asset, clip=attempt.clip, reason=reason, at=self.clock())
        self.root.write(layout.note_key(attempt.dataset, attempt.task_uuid), record.to_json())

    def forget_note(self, attempt: AttemptRecord) -> None:
        """Remove the note about a task that has ended."""
        self.root.delete(layout.note_key(attempt.dataset, attempt.task_uuid))

    def noted_tasks(self, dataset: str) -> set[str]:
        """UUIDs of the tasks of a dataset that there are notes about. Costs one listing."""
        folder = f"{layout.NOTES_FOLDER}/{layout.segment(dataset)}"
        return {
            info.key.removeprefix(f"{folder}/").removesuffix(".json")
            for info in self.root.list(folder)
        }

    def notes(self, dataset: str) -> dict[tuple[str, str], NoteRecord]:
        """Notes about outstanding tasks, by asset and partition key."""
        folder = f"{layout.NOTES_FOLDER}/{layout.segment(dataset)}"
        records = [self._read(info.key, NoteRecord) for info in self.root.list(folder)]
        return {(record.asset, record.clip): record for record in records if record is not None}

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

    def mark_stored(self, manifest: ClipManifest) -> None:
        """Put a stored take into the index of what is stored; written after its outcome."""
        size_bytes = sum(video.size_bytes for video in manifest.videos)
        self.root.create(
            layout.stored_key(
                manifest.request.dataset,
                manifest.clip,
                manifest.take,
                manifest.fingerprint,
                size_bytes,
            ),
            b"",
        )

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


def _remix_key(task_uuid: str, remix: ClipRequest) -> str:
    return layout.remix_key(task_uuid, remix.recipe or "", remix.spec.fingerprint)


def _pending_record(attempt: AttemptRecord, reopening: int = 0) -> PendingRecord:
    return PendingRecord(
        dataset=attempt.dataset,
        asset=attempt.asset,
        clip=attempt.clip,
        take=attempt.take,
        attempt=attempt.attempt,
        task_uuid=attempt.task_uuid,
        reopening=reopening,
    )
