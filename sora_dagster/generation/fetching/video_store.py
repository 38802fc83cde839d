"""Storing one video: from where Runware uploaded it, or by download."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from io import BufferedReader
from typing import cast

from sora_dagster.generation.fetching.download import (
    DEFAULT_MAX_BYTES,
    Download,
    Downloader,
    DownloadError,
)
from sora_dagster.generation.protocol import layout
from sora_dagster.generation.protocol.clocks import running_seconds
from sora_dagster.generation.protocol.ledger import Ledger
from sora_dagster.generation.protocol.records import (
    AttemptRecord,
    ClipManifest,
    Delivery,
    StoredVideo,
)
from sora_dagster.media import (
    MediaError,
    VideoAnalysis,
    analyze,
    analyze_damaged,
    looks_like_video,
)
from sora_dagster.runware.results import VideoResult
from sora_dagster.storage import ObjectAttributes, ObjectInfo, ObjectMissingError, StorageRoot

_log = logging.getLogger(__name__)

# Extension and content type of each output format.
_FILE_TYPES = {
    "MP4": ("mp4", "video/mp4"),
    "MOV": ("mov", "video/quicktime"),
    "WEBM": ("webm", "video/webm"),
}
_HEAD_BYTES = 64


@dataclass(frozen=True)
class AnalyzedVideo:
    """A stored video with its analysis.

    Arguments:
        video: its entry in the manifest.
        analysis: what decoding it gave.
        delivery: how it got into the store.
    """

    video: StoredVideo
    analysis: VideoAnalysis
    delivery: Delivery


@dataclass(frozen=True)
class DamagedCopy:
    """A copy of a video that could not be decoded, kept until the next fetch.

    Arguments:
        key: the object.
        sha256: hash of its bytes, in hex.
        size_bytes: its length.
        at: when it was fetched, on the clock of :func:`running_seconds`.
    """

    key: str
    sha256: str
    size_bytes: int
    at: float


class DamagedVideoError(DownloadError):
    """A video arrived but cannot be decoded; its bytes are kept, and it is fetched again.

    Arguments:
        message: what arrived, and what is wrong with it.
        retry_seconds: when the next fetch can decide whether to accept these bytes.
    """

    def __init__(self, message: str, *, retry_seconds: float) -> None:
        super().__init__(message, retryable=True)
        self.retry_seconds = retry_seconds


class VideoStore:
    """Stores videos; every step can be repeated.

    Arguments:
        ledger: the ledger of the storage root.
        downloader: fetches the videos that Runware did not upload.
        damaged_seconds: time between two fetches of a video that cannot be decoded. If both return
            the same bytes, and they look like a video, they are accepted; default: 5 minutes.
        elapsed: a clock that runs through a suspended machine, in seconds.
    """

    def __init__(
        self,
        ledger: Ledger,
        downloader: Downloader,
        *,
        damaged_seconds: float = 300.0,
        elapsed: Callable[[], float] = running_seconds,
    ) -> None:
        self._ledger = ledger
        self._root = ledger.root
        self._downloader = downloader
        self._damaged_seconds = damaged_seconds
        self._elapsed = elapsed

    def store(
        self,
        attempt: AttemptRecord,
        result: VideoResult,
        *,
        was_direct: bool,
        damaged: dict[str, DamagedCopy],
        check_interrupted: Callable[[], None] = lambda: None,
    ) -> AnalyzedVideo:
        """Store a video under a name that only this writer uses.

        Arguments:
            attempt: the attempt that generated it.
            result: the video.
            was_direct: whether its request named an upload URL. If the upload is missing or
                cannot be decoded, the video is downloaded.
            damaged: copies that could not be decoded so far, by video UUID; updated here.
            check_interrupted: raises an error to break off a download.

        Raises:
            DownloadError: if it cannot be fetched now.
            StorageError: if the storage root fails.
        """
        target = self._target(attempt, result)
        problem = None
        if was_direct:
            upload = self._root.info(layout.incoming_key(attempt.task_uuid))
            if upload is None:
                problem = "was not uploaded into the store"
            elif not 0 < upload.size_bytes <= DEFAULT_MAX_BYTES:
                problem = f"was uploaded into the store with {upload.size_bytes} bytes"
            else:
                try:
                    return self._store_upload(target, upload)
                except MediaError as error:
                    problem = f"was uploaded into the store and cannot be decoded: {error}"
                    if result.video_url is None:
                        sha256 = object_sha256(self._root, upload.key)
                        copy = DamagedCopy(upload.key, sha256, upload.size_bytes, self._elapsed())
                        return self._store_damaged(target, copy, error, damaged)
            _log.warning("%s %s", target.name, problem)
        if result.video_url is None:
            raise DownloadError(
                f"{target.name} came without a URL" + (f", and {problem}" if problem else ""),
                retryable=problem is not None,
            )
        download = self._downloader.fetch(
            result.video_url,
            self._root,
            target.key,
            attributes=target.attributes,
            check_interrupted=check_interrupted,
        )
        return self._store_download(target, download, damaged)

    def _target(self, attempt: AttemptRecord, result: VideoResult) -> _Target:
        extension, content_type = _FILE_TYPES[attempt.request.spec.output_format]
        nonce = self._ledger.new_nonce()[:8]
        key = layout.video_key(
            attempt.asset, attempt.clip, attempt.take, result.video_uuid, extension, nonce
        )
        return _Target(attempt, result, key, video_attributes(attempt, result, content_type))

    def _store_upload(self, target: _Target, upload: ObjectInfo) -> AnalyzedVideo:
        try:
            with self._root.open(upload.key) as file:
                analysis = analyze(file)
            sha256 = object_sha256(self._root, upload.key)
            self._root.copy(upload.key, target.key, attributes=target.attributes)
        except ObjectMissingError as error:
            # Another process has stored the clip and removed the upload.
            raise DownloadError(f"{target.attempt.clip}: {error}", retryable=True) from error
        # An upload may be replaced at any time, even between the analysis and the copy.
        if not is_copy(self._root, upload, target.key, sha256):
            self._root.delete(target.key)
            raise DownloadError(
                f"the copy of {self._root.uri(upload.key)} is not what was analyzed; it is copied "
                f"again",
                retryable=True,
            )
        return target.stored(analysis, "direct", size_bytes=upload.size_bytes, sha256=sha256)

    def _store_download(
        self, target: _Target, download: Download, damaged: dict[str, DamagedCopy]
    ) -> AnalyzedVideo:
        try:
            with self._root.open(target.key) as file:
                analysis = analyze(file)
        except MediaError as error:
            copy = DamagedCopy(target.key, download.sha256, download.size_bytes, self._elapsed())
            return self._store_damaged(target, copy, error, damaged)
        if earlier := damaged.pop(target.result.video_uuid, None):
            self._root.delete(earlier.key)
        return target.stored(
            analysis, "download", size_bytes=download.size_bytes, sha256=download.sha256
        )

    def _store_damaged(
        self,
        target: _Target,
        copy: DamagedCopy,
        error: MediaError,
        damaged: dict[str, DamagedCopy],
    ) -> AnalyzedVideo:
        """Accept a video that our decoder rejects, once two fetches return the same bytes.

        It was paid for, and players may accept it. Anything else than a video, such as an error
        page, is never accepted.
        """
        earlier = damaged.get(target.result.video_uuid)
        message = (
            f"{target.name} arrived with {copy.size_bytes} bytes and cannot be decoded: {error}"
        )
        is_upload = copy.key != target.key
        with self._root.open(copy.key) as file:
            is_video = looks_like_video(file.read(_HEAD_BYTES))
        if not is_video:
            if not is_upload:
                self._root.delete(copy.key)
            raise DownloadError(message) from error
        # The first copy of each content is kept: the time since then decides.
        first = copy if earlier is None or earlier.sha256 != copy.sha256 else earlier
        if first is copy or copy.at - first.at < self._damaged_seconds:
            damaged[target.result.video_uuid] = first
            if not is_upload:
                obsolete = earlier if first is copy else copy
                if obsolete is not None:
                    self._root.delete(obsolete.key)
            raise DamagedVideoError(
                f"{message}. It is fetched again; if the same bytes arrive, they are kept",
                retry_seconds=max(0.0, first.at + self._damaged_seconds - copy.at),
            ) from error
        _log.warning("%s; the same bytes arrived twice, so they are kept", message)
        if is_upload:
            self._root.copy(copy.key, target.key, attributes=target.attributes)
        elif first.key != copy.key:
            self._root.delete(first.key)
        size = target.attempt.request.expected_size
        with self._root.open(target.key) as file:
            analysis = analyze_damaged(
                file, error, expected_size=None if size is None else (size.width, size.height)
            )
        return target.stored(
            analysis,
            "direct" if is_upload else "download",
            size_bytes=copy.size_bytes,
            sha256=copy.sha256,
        )


@dataclass(frozen=True)
class _Target:
    """Where a video is stored, and what is known about it before it is decoded."""

    attempt: AttemptRecord
    result: VideoResult
    key: str
    attributes: ObjectAttributes

    @property
    def name(self) -> str:
        return f"video {self.result.video_uuid} of {self.attempt.clip}"

    def stored(
        self, analysis: VideoAnalysis, delivery: Delivery, *, size_bytes: int, sha256: str
    ) -> AnalyzedVideo:
        result = self.result
        video = StoredVideo(
            key=self.key,
            video_uuid=result.video_uuid,
            video_id=result.video_id,
            seed=result.seed,
            cost_usd=result.cost_usd,
            nsfw=result.nsfw,
            size_bytes=size_bytes,
            sha256=sha256,
            content_type=self.attributes.content_type,
            **vars(analysis.info),
            measures=analysis.measures,
            decode_error=analysis.decode_error,
        )
        return AnalyzedVideo(video, analysis, delivery)


def video_attributes(
    record: AttemptRecord | ClipManifest, video: VideoResult | StoredVideo, content_type: str
) -> ObjectAttributes:
    """Metadata of a video's object: enough to identify it without its manifest."""
    facts = {
        "asset": record.asset,
        "clip": record.clip,
        "take": record.take,
        "task_uuid": record.task_uuid,
        "video_uuid": video.video_uuid,
        "fingerprint": record.fingerprint,
        "cost_usd": video.cost_usd,
        "seed": video.seed,
    }
    return ObjectAttributes(
        content_type, {name: str(value) for name, value in facts.items() if value is not None}
    )


def object_sha256(root: StorageRoot, key: str) -> str:
    """The SHA-256 of an object, in hex; reads it in bounded memory."""
    with root.open(key) as file:
        return hashlib.file_digest(cast(BufferedReader, file), "sha256").hexdigest()


def is_copy(root: StorageRoot, source: ObjectInfo, key: str, sha256: str) -> bool:
    """Whether an object is a copy of another one with a known hash."""
    copy = root.info(key)
    # Equal ETags mean equal content. With some encryptions, a copy has a different ETag anyway.
    return (
        copy is not None
        and copy.size_bytes == source.size_bytes
        and (
            (copy.etag is not None and copy.etag == source.etag)
            or object_sha256(root, key) == sha256
        )
    )
