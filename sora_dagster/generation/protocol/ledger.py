"""The ledger: which clips were requested, what was sent, and how it ended, as create-only objects.

Each claim is an object that only one process can create. Two runs on two machines that request the
same clip at once share one task and one bill.
"""

from __future__ import annotations

import hashlib
import re
import secrets
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

from sora_dagster.generation.protocol import layout
from sora_dagster.generation.protocol.pending_index import PendingIndex
from sora_dagster.generation.protocol.record_store import RecordStore
from sora_dagster.generation.protocol.records import (
    AttemptRecord,
    ClipManifest,
    OutcomeRecord,
    PrunedRecord,
    ReopenedRecord,
    RootRecord,
    SeenHow,
    SeenRecord,
    SentRecord,
)
from sora_dagster.generation.protocol.remix_records import RemixRecords
from sora_dagster.generation.protocol.root_binding import RootMismatchError, bind_root
from sora_dagster.runware.errors import ErrorRecord
from sora_dagster.storage import ObjectInfo, StorageRoot

_TASK_FILE = re.compile(r"tasks/([^/]+)/(sent|outcome|reopened|seen)(?:-(\d+))?\.json")


@dataclass(frozen=True, slots=True)
class TaskFiles:
    """The recorded facts of a task, and their times, from one listing.

    Arguments:
        sent: when each right to send it was taken, by the store's clock, by the token's number.
        is_seen: whether there is proof that Runware has it.
        reopened: when each reopening was recorded, by its number.
        outcomes: outcome objects by number of the reopening that ended; 0 for the task itself.
    """

    sent: Mapping[int, datetime] = field(default_factory=dict)
    is_seen: bool = False
    reopened: Mapping[int, datetime] = field(default_factory=dict)
    outcomes: Mapping[int, ObjectInfo] = field(default_factory=dict)

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

    @property
    def has_ended(self) -> bool:
        """Whether its newest reopening, or the task itself without any, has an outcome."""
        return self.reopening in self.outcomes


@dataclass(frozen=True)
class Take:
    """One deliberate generation of a clip, with its attempts in order."""

    number: int
    attempts: tuple[AttemptRecord, ...]

    @property
    def latest(self) -> AttemptRecord:
        """The newest attempt."""
        return self.attempts[-1]


class Ledger(RecordStore):
    """Reads and writes the records of clips and tasks in one storage root.

    Arguments:
        root: the storage root.
        clock: gives the time recorded in the objects (never compared across machines).
        new_nonce: gives a fresh random text for each claim.

    Attributes:
        pending: the index of outstanding tasks.
        remixes: which remixes were requested, and which are due.
    """

    def __init__(
        self,
        root: StorageRoot,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        new_nonce: Callable[[], str] = lambda: secrets.token_hex(16),
    ) -> None:
        super().__init__(root, clock=clock, new_nonce=new_nonce)
        self.pending = PendingIndex(self)
        self.remixes = RemixRecords(self)
        self._bound: RootRecord | None = None

    # The root

    def bind(self, *, api_base_url: str, account: str | None) -> RootRecord:
        """Bind the root to one API and account, or check that it is bound to these.

        Raises:
            RootMismatchError: if it is bound to others, or holds objects but no `root.json`.
        """
        self._bound = bind_root(self, api_base_url=api_base_url, account=account)
        return self._bound

    @property
    def namespace(self) -> str:
        """The random part of all task UUIDs of this root.

        Raises:
            RootMismatchError: if the root was never bound.
        """
        if self._bound is None:
            self._bound = self.read(layout.ROOT_KEY, RootRecord)
        if self._bound is None:
            raise RootMismatchError(
                f"{self.root.url} has no {layout.ROOT_KEY}, so nothing was ever stored there. "
                f"Check --storage, SORA_STORAGE, or the url of ClipStorageResource"
            )
        return self._bound.namespace

    @property
    def is_empty(self) -> bool:
        """Whether nothing was ever requested in this root.

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
        """The UUID (v4-shaped) of an attempt; the same in every process."""
        identity = "\0".join([self.namespace, asset, clip, str(take), str(attempt)])
        return str(uuid.UUID(bytes=hashlib.sha256(identity.encode()).digest()[:16], version=4))

    # Attempts

    def takes(self, asset: str, clip: str) -> tuple[Take, ...]:
        """All takes of a clip that were ever requested, in order."""
        found: dict[int, dict[int, str]] = {}
        for info in self.root.list(layout.slot_folder(asset, clip)):
            if match := layout.ATTEMPT_KEY.fullmatch(info.key):
                found.setdefault(int(match["take"]), {})[int(match["attempt"])] = info.key
        return tuple(
            Take(
                number=take,
                attempts=tuple(
                    self.require(key, AttemptRecord) for _, key in sorted(attempts.items())
                ),
            )
            for take, attempts in sorted(found.items())
        )

    def claim_attempt(self, attempt: AttemptRecord) -> tuple[bool, AttemptRecord]:
        """Claim an attempt, its index entry first, so that every claim can be found.

        Returns:
            Whether this call won the claim, and the record on file.
        """
        self.pending.write(attempt)
        return self.claim(attempt.key, attempt)

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
        record = SentRecord(
            purpose="submit",
            root_run=root_run,
            run_limit_usd=run_limit_usd,
            slot=slot,
            at=self.clock(),
            nonce=self.new_nonce(),
        )
        return self.claim(layout.task_key(task_uuid, f"sent-{token}"), record)[0]

    def take_right_to_void(self, task_uuid: str) -> bool:
        """Take the first token, never to use it; False if another process has it."""
        record = SentRecord(purpose="void", at=self.clock(), nonce=self.new_nonce())
        return self.claim(layout.task_key(task_uuid, "sent-1"), record)[0]

    def sent(self, task_uuid: str) -> SentRecord | None:
        """The first token of a task; None if no process has taken it."""
        return self.read(layout.task_key(task_uuid, "sent-1"), SentRecord)

    def sent_attempt(self, task_uuid: str) -> AttemptRecord | None:
        """The attempt of a task, found by its UUID alone; None if it was never sent."""
        sent = self.sent(task_uuid)
        return None if sent is None or sent.slot is None else self.read(sent.slot, AttemptRecord)

    def task_files(self, task_uuid: str) -> TaskFiles:
        """The recorded facts of a task. Costs one listing."""
        return self._task_files(layout.task_folder(task_uuid)).get(task_uuid, TaskFiles())

    def all_task_files(self) -> dict[str, TaskFiles]:
        """The recorded facts of all tasks, by UUID. Costs one listing, and memory for each."""
        return self._task_files(layout.TASKS_FOLDER)

    def ended_tasks(self) -> set[str]:
        """UUIDs of the tasks that have ended. Costs one listing, and little memory for each."""
        newest: dict[str, list[int]] = {}
        for info in self.root.list(layout.TASKS_FOLDER):
            match = _TASK_FILE.fullmatch(info.key)
            if match and match[2] in ("reopened", "outcome"):
                numbers = newest.setdefault(match[1], [0, -1])
                place = 0 if match[2] == "reopened" else 1
                numbers[place] = max(numbers[place], int(match[3] or 0))
        return {task_uuid for task_uuid, (reopened, ended) in newest.items() if ended >= reopened}

    def _task_files(self, folder: str) -> dict[str, TaskFiles]:
        found: dict[str, dict[str, dict[int, ObjectInfo]]] = {}
        for info in self.root.list(folder):
            if match := _TASK_FILE.fullmatch(info.key):
                files = found.setdefault(match[1], {}).setdefault(match[2], {})
                files[int(match[3] or 0)] = info
        return {
            task_uuid: TaskFiles(
                sent=_times(files.get("sent", {})),
                is_seen="seen" in files,
                reopened=_times(files.get("reopened", {})),
                outcomes=files.get("outcome", {}),
            )
            for task_uuid, files in found.items()
        }

    def mark_seen(self, task_uuid: str, how: SeenHow) -> None:
        """Record the proof that Runware has a task; the first proof is kept."""
        record = SeenRecord(how=how, at=self.clock())
        self.root.create(layout.task_key(task_uuid, "seen"), record.to_json())

    def settle(
        self, task_uuid: str, outcome: OutcomeRecord, *, reopening: int = 0
    ) -> OutcomeRecord:
        """Record how a task ended; the first record is kept and returned.

        Arguments:
            task_uuid: the task.
            outcome: how it ended.
            reopening: number of the reopening that has ended, as it was when the task was read:
                a conclusion about an earlier one never ends a later one.
        """
        return self.claim(layout.task_key(task_uuid, f"outcome-{reopening}"), outcome)[1]

    def settle_unaccepted(
        self,
        task_uuid: str,
        state: Literal["void", "failed"] = "void",
        error: ErrorRecord | None = None,
    ) -> OutcomeRecord:
        """Record that a task was never accepted and cost nothing; the first record is kept.

        Arguments:
            task_uuid: the task.
            state: `failed` if Runware refused the clip, `void` for any other cause.
            error: why it was not accepted; None if it was never sent.
        """
        return self.settle(
            task_uuid,
            OutcomeRecord(
                state=state,
                cost_usd=0.0,
                errors=() if error is None else (error,),
                was_accepted=False,
                at=self.clock(),
                nonce=self.new_nonce(),
            ),
        )

    def outcome(self, task_uuid: str) -> OutcomeRecord | None:
        """How a task, or its last reopening, ended; None if it has not."""
        outcome = self.outcome_of(task_uuid, 0)
        # Only a task that was accepted and ended without a video can have been reopened.
        if outcome is None or outcome.has_videos or not outcome.was_accepted:
            return outcome
        reopening = self.task_files(task_uuid).reopening
        return outcome if reopening == 0 else self.outcome_of(task_uuid, reopening)

    def outcome_of(self, task_uuid: str, reopening: int) -> OutcomeRecord | None:
        """How a reopening of a task (0: the task itself) ended; None if it has not."""
        return self.read(layout.task_key(task_uuid, f"outcome-{reopening}"), OutcomeRecord)

    def reopen(self, attempt: AttemptRecord) -> int:
        """Collect a task again that ended without a video, since Runware has one after all.

        Returns:
            The number of the reopening that is outstanding now.
        """
        files = self.task_files(attempt.task_uuid)
        reopening = files.reopening
        if files.has_ended:
            reopening += 1
            record = ReopenedRecord(at=self.clock(), nonce=self.new_nonce())
            self.claim(layout.task_key(attempt.task_uuid, f"reopened-{reopening}"), record)
        self.pending.add(attempt, reopening)
        return reopening

    # Manifests

    def write_manifest(self, manifest: ClipManifest) -> ClipManifest:
        """Write a clip's manifest, last of its objects; the first one is kept and returned."""
        key = layout.manifest_key(manifest.asset, manifest.clip, manifest.take)
        return self.claim(key, manifest)[1]

    def manifest(self, asset: str, clip: str, take: int) -> ClipManifest | None:
        """The manifest of a take; None if it is not stored completely."""
        return self.read(layout.manifest_key(asset, clip, take), ClipManifest)

    def latest_manifest(self, asset: str, clip: str) -> ClipManifest | None:
        """The manifest of a clip's newest stored take; None if there is none."""
        for take in reversed(self.takes(asset, clip)):
            if manifest := self.manifest(asset, clip, take.number):
                return manifest
        return None

    def mark_stored(self, manifest: ClipManifest) -> None:
        """Add a stored take to the index of what is stored; written after its outcome."""
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
        """Keep a take's record, so that its videos may be removed; the first record is kept.

        From then on the take is neither complete nor lost.
        """
        self.root.create(
            layout.pruned_key(manifest.asset, manifest.clip, manifest.take),
            PrunedRecord(manifest=manifest, pruned_at=pruned_at).to_json(),
        )

    def pruned(self, asset: str, clip: str, take: int) -> PrunedRecord | None:
        """The record of a take whose videos were removed; None if they were not."""
        return self.read(layout.pruned_key(asset, clip, take), PrunedRecord)


def _times(files: Mapping[int, ObjectInfo]) -> dict[int, datetime]:
    return {number: info.last_modified for number, info in files.items()}
