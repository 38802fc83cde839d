"""Verifying a storage root: records against objects, and records against each other."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from sora_dagster.generation.fetching.video_store import object_sha256
from sora_dagster.generation.library.take_folders import MANIFEST_NAME, PRUNED_NAME, named_objects
from sora_dagster.generation.protocol import layout
from sora_dagster.generation.protocol.ledger import Ledger
from sora_dagster.generation.protocol.record_store import NewerFormatError, UnreadableRecordError
from sora_dagster.generation.protocol.records import AttemptRecord, ClipManifest, StoredVideo
from sora_dagster.generation.protocol.scan import in_parallel, read_manifests
from sora_dagster.prompts.counts import counted

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

# The folder of a take's files, from the key of one of its attempts.
_TAKE_FOLDER = rf"{layout.CLIPS_FOLDER}/\g<asset>/\g<clip>/take-\g<take>"

_FETCH_AGAIN = (
    "Request the clip again: it is fetched again, free of charge, while Runware hosts it. After "
    "that, restore the object from a backup."
)
_RESTORE = "Restore the object from a backup."


@dataclass(frozen=True)
class Finding:
    """Something that is not as it was stored.

    Arguments:
        kind: what is wrong.
        key: the object's key.
        asset: asset key of the clip; None if unknown.
        partition: its partition key; None if unknown, and for shots of storyboards, which have
            none.
        detail: what was found, and what to do.
    """

    kind: FindingKind
    key: str
    asset: str | None
    partition: str | None
    detail: str

    @property
    def sentence(self) -> str:
        """Human-readable summary."""
        return f"{self.key}: {self.kind}: {self.detail}"


@dataclass(frozen=True)
class VerifyReport:
    """The result of verifying a storage root.

    Arguments:
        takes: number of complete takes that were checked.
        objects: number of their objects.
        size_bytes: total length of their videos.
        is_deep: whether every video was read and its hash compared.
        findings: what is not as it was stored.
    """

    takes: int
    objects: int
    size_bytes: int
    is_deep: bool
    findings: tuple[Finding, ...]

    @property
    def is_complete(self) -> bool:
        """Whether everything is as it was stored."""
        return not self.findings

    @property
    def sentence(self) -> str:
        """Human-readable summary."""
        how = "videos read, hashes compared" if self.is_deep else "lengths compared"
        return (
            f"checked {counted(self.takes, 'take', 'takes')} with "
            f"{counted(self.objects, 'object', 'objects')} and {self.size_bytes / 1e6:.1f} MB of "
            f"video ({how}): {counted(len(self.findings), 'finding', 'findings')}"
        )


def verify(
    ledger: Ledger,
    *,
    deep: bool = False,
    on_finding: Callable[[Finding], None] = lambda _: None,
) -> VerifyReport:
    """Check that everything that was stored is there; changes nothing.

    Costs one listing each of clips, tasks and slots, and a read of each manifest.

    Arguments:
        ledger: the ledger of the storage root.
        deep: whether to read every video and compare its hash; default: only compare lengths.
        on_finding: called with each finding immediately.

    Raises:
        StorageError: if it is not a storage root of this program, or fails.
    """
    _ = ledger.namespace
    verifier = _Verifier(ledger, deep=deep)
    findings: list[Finding] = []
    for finding in verifier.findings():
        findings.append(finding)
        on_finding(finding)
    return VerifyReport(
        verifier.takes, verifier.objects, verifier.size_bytes, deep, tuple(findings)
    )


class _Verifier:
    def __init__(self, ledger: Ledger, *, deep: bool) -> None:
        self._ledger = ledger
        self._root = ledger.root
        self._deep = deep
        self.takes = 0
        self.objects = 0
        self.size_bytes = 0

    def findings(self) -> Iterator[Finding]:
        # What is claimed after this is not checked; what is pending may be incomplete.
        pending = self._ledger.pending.task_uuids()
        ended = self._ledger.ended_tasks()
        sizes = self._sizes()
        unreadable: list[Finding] = []
        manifests = read_manifests(
            self._root,
            [f"{at}/{MANIFEST_NAME}" for at, names in sizes.items() if MANIFEST_NAME in names],
            on_unreadable=lambda key, error: unreadable.append(_unreadable(key, error)),
        )

        def check(keyed: tuple[str, ClipManifest]) -> tuple[ClipManifest, list[Finding]]:
            key, manifest = keyed
            place = layout.manifest_key(manifest.asset, manifest.clip, manifest.take)
            if key != place:
                detail = (
                    f"it is the record of {manifest.clip}, take {manifest.take}, which belongs at "
                    f"{place}. Remove the copy, or restore the original object from a backup."
                )
                return manifest, [_finding("misplaced record", key, manifest, detail)]
            found = list(self._check_objects(manifest, sizes))
            if manifest.task_uuid not in ended and manifest.task_uuid not in pending:
                found.extend(self._check_outcome(manifest))
            return manifest, found

        for manifest, found in in_parallel(manifests, check):
            self.takes += 1
            self.objects += len(named_objects(manifest))
            self.size_bytes += sum(video.size_bytes for video in manifest.videos)
            yield from found
        yield from unreadable
        yield from self._missing_manifests(sizes)

    def _check_objects(
        self, manifest: ClipManifest, sizes: dict[str, dict[str, int]]
    ) -> Iterator[Finding]:
        videos = {video.key: video for video in manifest.videos}
        for key in named_objects(manifest):
            video = videos.get(key)
            folder, _, name = key.rpartition("/")
            size = sizes.get(folder, {}).get(name)
            if size is None or (video is not None and size != video.size_bytes):
                # The listing may be older than a store, or a removal, that is running.
                info = self._root.info(key)
                size = None if info is None else info.size_bytes
                if size is None and self._is_removed(manifest):
                    continue
            if size is None:
                advice = _RESTORE if video is None else _FETCH_AGAIN
                yield _finding("missing", key, manifest, f"it does not exist. {advice}")
            elif video is not None:
                yield from self._check_video(manifest, video, size)

    def _check_video(
        self, manifest: ClipManifest, video: StoredVideo, size_bytes: int
    ) -> Iterator[Finding]:
        if size_bytes != video.size_bytes:
            detail = f"it has {size_bytes} bytes instead of {video.size_bytes}. {_FETCH_AGAIN}"
            yield _finding("wrong size", video.key, manifest, detail)
        elif self._deep and (sha256 := object_sha256(self._root, video.key)) != video.sha256:
            detail = (
                f"its SHA-256 is {sha256} instead of {video.sha256}: its bytes were changed. "
                f"Remove it, and request the clip again: it is fetched again, free of charge, "
                f"while Runware hosts it. Or restore it from a backup."
            )
            yield _finding("wrong hash", video.key, manifest, detail)

    def _is_removed(self, manifest: ClipManifest) -> bool:
        """Whether a take was removed on purpose while it was checked."""
        return self._ledger.manifest(manifest.asset, manifest.clip, manifest.take) is None

    def _check_outcome(self, manifest: ClipManifest) -> Iterator[Finding]:
        task_uuid = manifest.task_uuid
        reopening = self._ledger.task_files(task_uuid).reopening
        key = layout.task_key(task_uuid, f"outcome-{reopening}")
        try:
            outcome = self._ledger.outcome(task_uuid)
        except UnreadableRecordError as error:
            yield _unreadable(key, error)
            return
        pending_key = layout.pending_key(manifest.request.dataset, task_uuid, reopening)
        if outcome is None and not self._root.exists(pending_key):
            yield _finding(
                "missing outcome",
                key,
                manifest,
                "the clip is stored, and no record says how its task ended. Restore the folder of "
                "the task from a backup, or request the clip again.",
            )

    def _missing_manifests(self, sizes: dict[str, dict[str, int]]) -> Iterator[Finding]:
        """Tasks that ended with videos, but whose take is neither complete nor pruned."""
        keys = (
            info.key
            for info in self._root.list(layout.SLOTS_FOLDER)
            if (slot := layout.ATTEMPT_KEY.fullmatch(info.key))
            and not {MANIFEST_NAME, PRUNED_NAME} & sizes.get(slot.expand(_TAKE_FOLDER), {}).keys()
        )
        for finding in in_parallel(keys, self._missing_manifest):
            if finding is not None:
                yield finding

    def _missing_manifest(self, key: str) -> Finding | None:
        try:
            attempt = self._ledger.require(key, AttemptRecord)
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
            f"its task {attempt.task_uuid} ended with videos, but the clip's record does not "
            f"exist. Restore the take's folder from a backup, or raise the clip's take to generate "
            f"it again, which costs again.",
        )

    def _sizes(self) -> dict[str, dict[str, int]]:
        """Length of each object below `clips/`, by folder and name. Costs one listing."""
        sizes: dict[str, dict[str, int]] = {}
        for info in self._root.list(layout.CLIPS_FOLDER):
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
