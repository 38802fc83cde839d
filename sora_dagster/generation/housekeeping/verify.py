"""Whether everything that was stored is there: records against objects, and against each other."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from sora_dagster.generation.library.take_folders import MANIFEST_NAME, PRUNED_NAME, named_objects
from sora_dagster.generation.protocol import layout
from sora_dagster.generation.protocol.ledger import Ledger
from sora_dagster.generation.protocol.record_format import (
    NewerFormatError,
    UnreadableRecordError,
    parse_record,
)
from sora_dagster.generation.protocol.records import AttemptRecord, ClipManifest, StoredVideo
from sora_dagster.generation.protocol.scan import in_parallel, list_tasks, read_manifests

FindingKind = Literal[
    "missing",
    "wrong size",
    "wrong hash",
    "unreadable record",
    "newer record",
    "misplaced record",
    "missing record",
    "missing outcome",
]

_CHUNK_BYTES = 1 << 20
_ATTEMPT_KEY = re.compile(r"slots/([^/]+/[^/]+/take-\d+)/attempt-\d+\.json")

_FETCH_AGAIN = (
    "Ask for the clip again: it is fetched again, free, while Runware hosts it. After that, "
    "restore the object from a backup."
)
_RESTORE = "Restore the object from a backup."


@dataclass(frozen=True)
class Finding:
    """Something that is not as it was stored.

    Arguments:
        kind: what is wrong.
        key: the object's key.
        asset: asset key of the clip; None where it cannot be told.
        partition: its partition key; None also for a storyboard's shot, which has none.
        detail: what was found, and what to do, for people.
    """

    kind: FindingKind
    key: str
    asset: str | None
    partition: str | None
    detail: str

    @property
    def sentence(self) -> str:
        """The finding as a sentence for people."""
        return f"{self.key}: {self.kind}: {self.detail}"


@dataclass(frozen=True)
class VerifyReport:
    """What a check of the whole storage root brought.

    Arguments:
        takes: how many whole takes were checked.
        objects: how many of their objects.
        size_bytes: length of their videos.
        is_deep: whether every video was read and its hash compared.
        findings: what is not as it was stored.
    """

    takes: int
    objects: int
    size_bytes: int
    is_deep: bool
    findings: tuple[Finding, ...]

    @property
    def is_whole(self) -> bool:
        """Whether everything is as it was stored."""
        return not self.findings

    @property
    def sentence(self) -> str:
        """The report as a sentence for people."""
        how = "their videos read, their hashes compared" if self.is_deep else "lengths compared"
        return (
            f"{self.takes} takes with {self.objects} objects checked ({how}, "
            f"{self.size_bytes / 1e6:.1f} MB of video), {len(self.findings)} findings"
        )


def verify(
    ledger: Ledger,
    *,
    deep: bool = False,
    on_finding: Callable[[Finding], None] = lambda _: None,
) -> VerifyReport:
    """Check that everything that was stored is there; changes nothing.

    Arguments:
        ledger: the ledger of the storage root.
        deep: whether every video is read and its hash compared; else lengths are.
        on_finding: called with each finding as it is made.

    Costs one listing each of clips, tasks and slots, and a read of each manifest.

    Raises:
        StorageError: where the storage root is none of ours, or fails.
    """
    _ = ledger.namespace
    check = _Check(ledger, deep=deep)
    findings: list[Finding] = []
    for finding in check.findings():
        findings.append(finding)
        on_finding(finding)
    return VerifyReport(check.takes, check.objects, check.size_bytes, deep, tuple(findings))


class _Check:
    def __init__(self, ledger: Ledger, *, deep: bool) -> None:
        self._ledger = ledger
        self._deep = deep
        self.takes = 0
        self.objects = 0
        self.size_bytes = 0
        self._unreadable: list[tuple[str, UnreadableRecordError]] = []

    def findings(self) -> Iterator[Finding]:
        # What is claimed after this is none of ours to judge; what is pending may be half-done.
        pending = self._ledger.pending.task_uuids()
        tasks = list_tasks(self._ledger.root)
        sizes = _sizes(self._ledger)
        manifests = read_manifests(
            self._ledger.root,
            [f"{at}/{MANIFEST_NAME}" for at, names in sizes.items() if MANIFEST_NAME in names],
            on_unreadable=lambda key, error: self._unreadable.append((key, error)),
        )

        def check(keyed: tuple[str, ClipManifest]) -> tuple[ClipManifest, list[Finding]]:
            key, manifest = keyed
            if key != layout.manifest_key(manifest.asset, manifest.clip, manifest.take):
                return manifest, [_misplaced(key, manifest)]
            found = list(self._objects(manifest, sizes))
            facts = tasks.get(manifest.task_uuid)
            if (facts is None or not facts.has_outcome) and manifest.task_uuid not in pending:
                found.extend(self._outcome(manifest))
            return manifest, found

        for manifest, found in in_parallel(manifests, check):
            self.takes += 1
            self.objects += len(named_objects(manifest))
            self.size_bytes += sum(video.size_bytes for video in manifest.videos)
            yield from found
        for key, error in self._unreadable:
            yield _unreadable(key, error)
        yield from self._missing_manifests(sizes)

    def _objects(
        self, manifest: ClipManifest, sizes: dict[str, dict[str, int]]
    ) -> Iterator[Finding]:
        lengths = {video.key: video for video in manifest.videos}
        for wanted in named_objects(manifest):
            yield from self._object(manifest, wanted, lengths.get(wanted), sizes)

    def _object(
        self,
        manifest: ClipManifest,
        key: str,
        video: StoredVideo | None,
        sizes: dict[str, dict[str, int]],
    ) -> Iterator[Finding]:
        folder, _, name = key.rpartition("/")
        size = sizes.get(folder, {}).get(name)
        if size is None or (video is not None and size != video.size_bytes):
            # A listing may be older than a store, or a removal, under way.
            info = self._ledger.root.info(key)
            size = None if info is None else info.size_bytes
            if size is None and self._is_gone(manifest):
                return
        what_to_do = _FETCH_AGAIN if video is not None else _RESTORE
        if size is None:
            yield _finding("missing", key, manifest, f"it is not there. {what_to_do}")
        elif video is not None and size != video.size_bytes:
            yield _finding(
                "wrong size",
                key,
                manifest,
                f"it is {size} bytes long, and was {video.size_bytes}. {what_to_do}",
            )
        elif video is not None and self._deep:
            sha256 = self._sha256(key)
            if sha256 != video.sha256:
                yield _finding(
                    "wrong hash",
                    key,
                    manifest,
                    f"its SHA-256 is {sha256}, and was {video.sha256}: its bytes were changed. "
                    f"Remove it, and ask for the clip again: it is fetched again, free, while "
                    f"Runware hosts it. Or restore it from a backup.",
                )

    def _is_gone(self, manifest: ClipManifest) -> bool:
        """Whether a take was removed on purpose while it was checked."""
        return self._ledger.manifest(manifest.asset, manifest.clip, manifest.take) is None

    def _sha256(self, key: str) -> str:
        digest = hashlib.sha256()
        with self._ledger.root.open(key) as file:
            while chunk := file.read(_CHUNK_BYTES):
                digest.update(chunk)
        return digest.hexdigest()

    def _outcome(self, manifest: ClipManifest) -> Iterator[Finding]:
        task_uuid = manifest.task_uuid
        reopening = self._ledger.task_files(task_uuid).reopening
        key = layout.task_key(task_uuid, f"outcome-{reopening}")
        try:
            outcome = self._ledger.outcome(task_uuid)
        except UnreadableRecordError as error:
            yield _unreadable(key, error)
            return
        pending_key = layout.pending_key(manifest.request.dataset, task_uuid, reopening)
        if outcome is None and not self._ledger.root.exists(pending_key):
            yield _finding(
                "missing outcome",
                key,
                manifest,
                "the clip is stored, and nothing says how its task ended. Restore the folder of "
                "the task from a backup, or ask for the clip again.",
            )

    def _missing_manifests(self, sizes: dict[str, dict[str, int]]) -> Iterator[Finding]:
        """Tasks that brought videos, and whose clip is neither whole nor removed on purpose."""
        keys = (
            info.key
            for info in self._ledger.root.list(layout.SLOTS_FOLDER)
            if (match := _ATTEMPT_KEY.fullmatch(info.key))
            and not {MANIFEST_NAME, PRUNED_NAME}
            & sizes.get(f"{layout.CLIPS_FOLDER}/{match[1]}", {}).keys()
        )
        for finding in in_parallel(keys, self._missing_manifest):
            if finding is not None:
                yield finding

    def _missing_manifest(self, key: str) -> Finding | None:
        try:
            attempt = parse_record(
                self._ledger.root.read(key), AttemptRecord, uri=self._ledger.root.uri(key)
            )
            outcome = self._ledger.outcome(attempt.task_uuid)
        except UnreadableRecordError as error:
            return _unreadable(key, error)
        if outcome is None or not outcome.has_videos:
            return None
        place = (attempt.asset, attempt.clip, attempt.take)
        if self._ledger.manifest(*place) is not None or self._ledger.pruned(*place) is not None:
            return None
        return _finding(
            "missing record",
            layout.manifest_key(*place),
            attempt,
            f"its task {attempt.task_uuid} ended with videos, and the clip's record is not there. "
            f"Restore the take's folder from a backup, or raise the clip's take to have it "
            f"generated again, which costs again.",
        )


def _sizes(ledger: Ledger) -> dict[str, dict[str, int]]:
    """Length of each object below `clips/`, by folder and name; costs one listing."""
    sizes: dict[str, dict[str, int]] = {}
    for info in ledger.root.list(layout.CLIPS_FOLDER):
        folder, _, name = info.key.rpartition("/")
        sizes.setdefault(folder, {})[name] = info.size_bytes
    return sizes


def _finding(
    kind: FindingKind, key: str, record: ClipManifest | AttemptRecord, detail: str
) -> Finding:
    return Finding(kind, key, record.asset, record.request.partition, detail)


def _unreadable(key: str, error: UnreadableRecordError) -> Finding:
    kind: FindingKind = (
        "newer record" if isinstance(error, NewerFormatError) else "unreadable record"
    )
    return Finding(kind, key, None, None, str(error))


def _misplaced(key: str, manifest: ClipManifest) -> Finding:
    place = layout.manifest_key(manifest.asset, manifest.clip, manifest.take)
    return _finding(
        "misplaced record",
        key,
        manifest,
        f"it is the record of {manifest.clip}, take {manifest.take}, whose place is {place}. "
        f"Remove the copy, or restore what was here from a backup.",
    )
