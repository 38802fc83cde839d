"""Finding the requested clips that are stored already.

Many clips are found by three listings: of the requests (`slots/`), of the index of what is stored
(`stored/`), and of the objects themselves (`clips/`). The index only saves reads. A clip that the
listings do not confirm is looked up, and only its manifest counts. So a wrong index entry can keep
a clip from being bought, but never cause it to be bought.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace

from sora_dagster.generation.library.take_folders import MANIFEST_NAME
from sora_dagster.generation.protocol import layout
from sora_dagster.generation.protocol.ledger import Ledger
from sora_dagster.generation.protocol.record_store import UnreadableRecordError
from sora_dagster.generation.protocol.records import ClipManifest
from sora_dagster.generation.protocol.scan import in_parallel
from sora_dagster.generation.requesting.results import RequestResult, RequestState
from sora_dagster.prompts.clips import ClipRequest
from sora_dagster.storage import AccessDeniedError, StorageRoot

# Up to this many clips of an asset are looked up one by one.
FEW_CLIPS = 20
# A listing takes one request for 1,000 objects, a look-up three requests, 16 at a time. So look-ups
# are quicker if an asset has more slots than this for each requested clip.
MOST_SLOTS_LISTED_PER_CLIP = 30

_ENTRY_KEY = re.compile(r"stored/[^/]+/([^/]+)/(\d+)\.([0-9a-f]+)\.(\d+)")
_TAKE_OBJECT = re.compile(r"clips/[^/]+/([^/]+)/take-(\d+)/([^/]+)")
_VIDEO_EXTENSIONS = (".mp4", ".mov", ".webm")


@dataclass(frozen=True, slots=True)
class StoredEntry:
    """A stored take that matches a request. Its videos are there, with the recorded sizes.

    Arguments:
        take: number of the take.
        attempt: number of the attempt that generated it.
        manifest_key: key of its manifest.
    """

    take: int
    attempt: int
    manifest_key: str


def stored_results(ledger: Ledger, requests: Sequence[ClipRequest]) -> dict[int, RequestResult]:
    """The results of the requests whose clips are stored, by their index in `requests`.

    The sizes of their videos were just read, so these clips need no verification.
    See :func:`stored_already`.

    Raises:
        StorageError: if the storage root fails.
    """
    return {
        index: RequestResult(
            request=requests[index],
            state=RequestState.STORED,
            take=entry.take,
            attempt=entry.attempt,
            task_uuid=ledger.task_uuid(
                requests[index].asset, requests[index].clip, entry.take, entry.attempt
            ),
            detail=f"take {entry.take} is already generated, 0.00 USD",
        )
        for index, entry in stored_already(ledger, requests).items()
    }


def stored_already(ledger: Ledger, requests: Sequence[ClipRequest]) -> dict[int, StoredEntry]:
    """Find the requests whose clips are stored as requested.

    More than a few clips of one asset cost one listing each of its slots, its clips and the index
    of its dataset. Remixes also cost a read each, since only the manifest names the parent video.
    What the index lacks is looked up, 16 clips at a time, and added to the index.

    Arguments:
        ledger: the ledger.
        requests: the requested clips.

    Returns:
        The stored takes, by the requests' indexes in `requests`. A request that is missing here is
        not stored as requested, or one of its records cannot be read, or a video is missing or
        damaged: plan it clip by clip.

    Raises:
        StorageError: if the storage root fails.
    """
    groups: dict[tuple[str, str], list[int]] = {}
    for index, request in enumerate(requests):
        groups.setdefault((request.dataset, request.asset), []).append(index)
    found: dict[int, StoredEntry] = {}
    unconfirmed: list[_Candidate] = []
    for indexes in groups.values():
        candidates = [_Candidate(index, requests[index]) for index in indexes]
        for candidate in _after_listings(ledger.root, candidates):
            if candidate.place is not None and candidate.is_confirmed:
                found[candidate.index] = _stored_entry(candidate.request, candidate.place)
            else:
                unconfirmed.append(candidate)
    entries = in_parallel(unconfirmed, lambda candidate: _look_up(ledger, candidate))
    for candidate, entry in zip(unconfirmed, entries, strict=True):
        if entry is not None:
            found[candidate.index] = entry
    return found


@dataclass(frozen=True, slots=True, order=True)
class _Place:
    """Numbers of a clip's newest take, and of the newest attempt of that take."""

    take: int
    attempt: int


@dataclass(frozen=True, slots=True)
class _Entry:
    """An index entry of a take."""

    take: int
    fingerprint: str
    size_bytes: int


@dataclass(slots=True)
class _Files:
    """The files in a take's folder, from a listing.

    Arguments:
        has_manifest: whether there is a manifest.
        videos: sizes of the videos, by name.
    """

    has_manifest: bool = False
    videos: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A request whose clip may be stored.

    Arguments:
        index: index of the request.
        request: the requested clip.
        place: its newest take and attempt; None if they were not listed.
        files: files of that take; None if they were not listed.
        entries: index entries of that take; None if the index was not listed.
    """

    index: int
    request: ClipRequest
    place: _Place | None = None
    files: _Files | None = None
    entries: Sequence[_Entry] | None = None

    @property
    def is_confirmed(self) -> bool:
        """Whether the listings alone prove that the clip is stored as requested."""
        # The index does not contain the video that a remix was made from.
        if self.request.parent is not None or self.files is None or not self.files.videos:
            return False
        if self.place is None:
            return False
        size_bytes = sum(self.files.videos.values())
        expected = _Entry(self.place.take, self.request.spec.fingerprint, size_bytes)
        return expected in (self.entries or ())


def _after_listings(root: StorageRoot, candidates: Sequence[_Candidate]) -> list[_Candidate]:
    """The clips of one asset that may be stored, with what listings show if there are many."""
    first = candidates[0].request
    clips = {layout.segment(candidate.request.clip) for candidate in candidates}
    newest = None
    if len(candidates) > FEW_CLIPS:
        most = MOST_SLOTS_LISTED_PER_CLIP * len(candidates)
        newest = _newest_attempts(root, first.asset, clips, most=most)
    if newest is None:
        return list(candidates)
    entries = _index_entries(root, first.dataset, newest)
    files = _take_files(root, first.asset, newest)
    stored: list[_Candidate] = []
    for candidate in candidates:
        clip = layout.segment(candidate.request.clip)
        place, found = newest.get(clip), files.get(clip)
        if place is None or found is None or not found.has_manifest:
            continue
        if place.take >= candidate.request.spec.take:
            listed = replace(candidate, place=place, files=found, entries=entries.get(clip, ()))
            stored.append(listed)
    return stored


def _stored_entry(request: ClipRequest, place: _Place) -> StoredEntry:
    key = layout.manifest_key(request.asset, request.clip, place.take)
    return StoredEntry(place.take, place.attempt, key)


def _newest_attempts(
    root: StorageRoot, asset: str, clips: Container[str], *, most: int
) -> dict[str, _Place] | None:
    """The newest take and attempt of some clips, by folder; None if there are too many slots."""
    newest: dict[str, _Place] = {}
    for listed, (clip, place) in enumerate(
        _attempts(root, f"{layout.SLOTS_FOLDER}/{layout.segment(asset)}"), start=1
    ):
        if listed > most:
            return None
        if clip in clips:
            newest[clip] = max(place, newest.get(clip, place))
    return newest


def _attempts(root: StorageRoot, folder: str) -> Iterator[tuple[str, _Place]]:
    for info in root.list(folder):
        if match := layout.ATTEMPT_KEY.fullmatch(info.key):
            yield match["clip"], _Place(int(match["take"]), int(match["attempt"]))


def _index_entries(
    root: StorageRoot, dataset: str, newest: Mapping[str, _Place]
) -> dict[str, list[_Entry]]:
    """The index entries of the newest takes, by the clip's folder."""
    entries: dict[str, list[_Entry]] = {}
    for info in root.list(layout.dataset_folder(layout.STORED_FOLDER, dataset)):
        if (
            (match := _ENTRY_KEY.fullmatch(info.key))
            and (place := newest.get(match[1]))
            and int(match[2]) == place.take
        ):
            entry = _Entry(place.take, match[3], int(match[4]))
            entries.setdefault(match[1], []).append(entry)
    return entries


def _take_files(root: StorageRoot, asset: str, newest: Mapping[str, _Place]) -> dict[str, _Files]:
    """The files of the newest takes, by the clip's folder."""
    files: dict[str, _Files] = {}
    for info in root.list(layout.asset_folder(asset)):
        if (
            (match := _TAKE_OBJECT.fullmatch(info.key))
            and (place := newest.get(match[1]))
            and int(match[2]) == place.take
        ):
            found = files.setdefault(match[1], _Files())
            if match[3] == MANIFEST_NAME:
                found.has_manifest = True
            elif match[3].endswith(_VIDEO_EXTENSIONS):
                found.videos[match[3]] = info.size_bytes
    return files


def _look_up(ledger: Ledger, candidate: _Candidate) -> StoredEntry | None:
    """Compare a request with the manifest, and correct the index."""
    request, place = candidate.request, candidate.place
    if place is None:
        attempts = _attempts(ledger.root, layout.slot_folder(request.asset, request.clip))
        place = max((place for _, place in attempts), default=None)
    if place is None or place.take < request.spec.take:
        return None
    try:
        manifest = ledger.manifest(request.asset, request.clip, place.take)
    except (UnreadableRecordError, AccessDeniedError):
        # Planning the clip meets the same error, and reports it for this clip alone.
        return None
    if (
        manifest is None
        or (manifest.asset, manifest.clip) != (request.asset, request.clip)
        or manifest.take != place.take
        or manifest.fingerprint != request.spec.fingerprint
        or _parent_video(manifest.request) != _parent_video(request)
        or not _is_complete(ledger.root, manifest, candidate.files)
    ):
        return None
    if candidate.entries is not None:
        _correct_index(ledger, manifest, candidate.entries)
    return _stored_entry(request, place)


def _parent_video(request: ClipRequest) -> str | None:
    return None if request.parent is None else request.parent.video_uuid


def _is_complete(root: StorageRoot, manifest: ClipManifest, files: _Files | None) -> bool:
    """Whether all videos are there with the recorded sizes; looked up if they were not listed."""
    for video in manifest.videos:
        if files is not None:
            size_bytes = files.videos.get(video.key.rpartition("/")[2])
        else:
            info = root.info(video.key)
            size_bytes = None if info is None else info.size_bytes
        if size_bytes != video.size_bytes:
            return False
    return True


def _correct_index(ledger: Ledger, manifest: ClipManifest, entries: Sequence[_Entry]) -> None:
    size_bytes = sum(video.size_bytes for video in manifest.videos)
    right = _Entry(manifest.take, manifest.fingerprint, size_bytes)
    if right not in entries:
        ledger.mark_stored(manifest)
    for entry in entries:
        if entry != right:
            ledger.root.delete(
                layout.stored_key(
                    manifest.request.dataset,
                    manifest.clip,
                    entry.take,
                    entry.fingerprint,
                    entry.size_bytes,
                )
            )
