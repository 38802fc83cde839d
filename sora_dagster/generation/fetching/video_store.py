"""Getting one video whole into its place: from where Runware put it, or by download."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable
from dataclasses import dataclass

from sora_dagster.generation.fetching.download import DEFAULT_MAX_BYTES, Downloader, DownloadError
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
from sora_dagster.storage import ObjectAttributes, ObjectInfo, ObjectMissingError

_log = logging.getLogger(__name__)

_FILE_KINDS = {
    "MP4": ("mp4", "video/mp4"),
    "MOV": ("mov", "video/quicktime"),
    "WEBM": ("webm", "video/webm"),
}
_CHUNK_BYTES = 1 << 20
_HEAD_BYTES = 64


@dataclass(frozen=True)
class KeptVideo:
    """A video in its place, whole.

    Arguments:
        video: what the manifest says of it.
        analysis: what its decoding gave.
        delivery: how it came there.
    """

    video: StoredVideo
    analysis: VideoAnalysis
    delivery: Delivery


@dataclass(frozen=True)
class DamagedCopy:
    """Bytes of a video that could not be decoded, kept aside.

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
    """A video arrived and cannot be decoded; its bytes are kept aside, and it is fetched again.

    Arguments:
        message: what arrived, and what is wrong with it.
        retry_seconds: when the next fetch can decide whether these are the bytes that there are.
    """

    def __init__(self, message: str, *, retry_seconds: float) -> None:
        super().__init__(message, retryable=True)
        self.retry_seconds = retry_seconds


class VideoStore:
    """Puts videos where they belong; every step can be repeated.

    Arguments:
        ledger: the ledger of the root.
        downloader: fetches the videos that were not put there.
        damaged_seconds: time between two fetches of a video that cannot be decoded; if both bring
            the same bytes, and they are a video's, they are kept.
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

    def keep(
        self,
        attempt: AttemptRecord,
        result: VideoResult,
        *,
        was_direct: bool,
        damaged: dict[str, DamagedCopy],
    ) -> KeptVideo:
        """Put a video in its place, under a name that only this writer has.

        Arguments:
            attempt: what was asked.
            result: the video.
            was_direct: whether its request named an upload address; if it is not there, or
                cannot be decoded, it is downloaded.
            damaged: copies that could not be decoded so far, by video UUID; kept up to date here.

        Raises:
            DownloadError: if it cannot be had now.
            StorageError: if the storage root fails.
        """
        place = self._new_place(attempt, result)
        problem = None
        if was_direct:
            upload = self._root.info(layout.incoming_key(attempt.task_uuid))
            if upload is None:
                problem = "was not put into the store"
            elif not 0 < upload.size_bytes <= DEFAULT_MAX_BYTES:
                problem = f"was put into the store with {upload.size_bytes} bytes"
            else:
                try:
                    return self._from_upload(attempt, result, upload, place)
                except MediaError as error:
                    problem = f"was put into the store and cannot be decoded: {error}"
                    if result.video_url is None:
                        sha256 = self._hash(upload.key)
                        copy = DamagedCopy(upload.key, sha256, upload.size_bytes, self._elapsed())
                        return self._damaged(attempt, result, copy, error, damaged, place)
            _log.warning("video %s of %s %s", result.video_uuid, attempt.clip, problem)
        return self._from_download(attempt, result, problem, damaged, place)

    def _from_upload(
        self, attempt: AttemptRecord, result: VideoResult, upload: ObjectInfo, place: _Place
    ) -> KeptVideo:
        try:
            with self._root.open(upload.key) as file:
                analysis = analyze(file)
            sha256 = self._hash(upload.key)
            self._root.copy(
                upload.key,
                place.key,
                attributes=_attributes_of_result(attempt, result, place.content_type),
            )
        except ObjectMissingError as error:
            # Another process has stored the clip and removed the upload.
            raise DownloadError(f"{attempt.clip}: {error}", retryable=True) from error
        self._check_copy(place.key, upload, sha256)
        video = _stored_video(place, result, analysis, size_bytes=upload.size_bytes, sha256=sha256)
        return KeptVideo(video, analysis, "direct")

    def _check_copy(self, key: str, upload: ObjectInfo, sha256: str) -> None:
        """See that a copy is what was examined: an upload may be replaced at any time."""
        copy = self._root.info(key)
        # An equal ETag is the same content; with some encryptions a copy has another all the same.
        is_same = (
            copy is not None
            and copy.size_bytes == upload.size_bytes
            and ((copy.etag is not None and copy.etag == upload.etag) or self._hash(key) == sha256)
        )
        if not is_same:
            self._root.delete(key)
            raise DownloadError(
                f"the copy of {self._root.uri(upload.key)} is not what was put there; it is copied "
                f"again",
                retryable=True,
            )

    def _hash(self, key: str) -> str:
        digest = hashlib.sha256()
        with self._root.open(key) as file:
            while chunk := file.read(_CHUNK_BYTES):
                digest.update(chunk)
        return digest.hexdigest()

    def _from_download(
        self,
        attempt: AttemptRecord,
        result: VideoResult,
        problem: str | None,
        damaged: dict[str, DamagedCopy],
        place: _Place,
    ) -> KeptVideo:
        if result.video_url is None:
            raise DownloadError(
                f"video {result.video_uuid} of {attempt.clip} came without a URL"
                + (f", and {problem}" if problem else ""),
                retryable=problem is not None,
            )
        download = self._downloader.fetch(
            result.video_url,
            self._root,
            place.key,
            attributes=_attributes_of_result(attempt, result, place.content_type),
        )
        try:
            with self._root.open(place.key) as file:
                analysis = analyze(file)
        except MediaError as error:
            copy = DamagedCopy(place.key, download.sha256, download.size_bytes, self._elapsed())
            return self._damaged(attempt, result, copy, error, damaged, place)
        if earlier := damaged.pop(result.video_uuid, None):
            self._root.delete(earlier.key)
        video = _stored_video(
            place, result, analysis, size_bytes=download.size_bytes, sha256=download.sha256
        )
        return KeptVideo(video, analysis, "download")

    def _damaged(
        self,
        attempt: AttemptRecord,
        result: VideoResult,
        copy: DamagedCopy,
        error: MediaError,
        damaged: dict[str, DamagedCopy],
        place: _Place,
    ) -> KeptVideo:
        """Keep a video that our decoder refuses, once two fetches agree on its bytes.

        It was paid for, and players may accept it. What is no video at all, such as an error page,
        is never kept.
        """
        earlier = damaged.get(result.video_uuid)
        message = (
            f"video {result.video_uuid} of {attempt.clip} arrived {copy.size_bytes} bytes long and "
            f"cannot be decoded: {error}"
        )
        is_upload = copy.key != place.key
        with self._root.open(copy.key) as file:
            is_video = looks_like_video(file.read(_HEAD_BYTES))
        if not is_video:
            if not is_upload:
                self._root.delete(copy.key)
            raise DownloadError(message) from error
        waited = 0.0 if earlier is None else copy.at - earlier.at
        if earlier is None or earlier.sha256 != copy.sha256 or waited < self._damaged_seconds:
            self._keep_aside(result, copy, earlier, damaged, is_upload=is_upload)
            first = damaged[result.video_uuid]
            raise DamagedVideoError(
                f"{message}. It is fetched again; if the same bytes come, they are kept",
                retry_seconds=max(0.0, first.at + self._damaged_seconds - copy.at),
            ) from error
        _log.warning("%s; the same bytes came twice, so they are kept", message)
        if is_upload:
            attributes = _attributes_of_result(attempt, result, place.content_type)
            self._root.copy(copy.key, place.key, attributes=attributes)
        elif earlier.key != copy.key:
            self._root.delete(earlier.key)
        size = attempt.request.expected_size
        with self._root.open(place.key) as file:
            analysis = analyze_damaged(
                file, error, expected_size=None if size is None else (size.width, size.height)
            )
        video = _stored_video(
            place, result, analysis, size_bytes=copy.size_bytes, sha256=copy.sha256
        )
        return KeptVideo(video, analysis, "direct" if is_upload else "download")

    def _keep_aside(
        self,
        result: VideoResult,
        copy: DamagedCopy,
        earlier: DamagedCopy | None,
        damaged: dict[str, DamagedCopy],
        *,
        is_upload: bool,
    ) -> None:
        """Remember the first copy of each content, so that the time between two fetches counts."""
        if earlier is not None and earlier.sha256 == copy.sha256:
            if not is_upload:
                self._root.delete(copy.key)
            return
        if earlier is not None and not is_upload:
            self._root.delete(earlier.key)
        damaged[result.video_uuid] = copy

    def _new_place(self, attempt: AttemptRecord, result: VideoResult) -> _Place:
        extension, content_type = _FILE_KINDS[attempt.request.spec.output_format]
        nonce = self._ledger.new_nonce()[:8]
        key = layout.video_key(
            attempt.asset, attempt.clip, attempt.take, result.video_uuid, extension, nonce
        )
        return _Place(key, content_type)


@dataclass(frozen=True)
class _Place:
    key: str
    content_type: str


def attributes_of_video(manifest: ClipManifest, video: StoredVideo) -> ObjectAttributes:
    """What the store keeps beside a video: enough to know it again without its manifest."""
    return _attributes(
        video.content_type,
        asset=manifest.asset,
        clip=manifest.clip,
        take=manifest.take,
        task_uuid=manifest.task_uuid,
        video_uuid=video.video_uuid,
        fingerprint=manifest.fingerprint,
        cost_usd=video.cost_usd,
        seed=video.seed,
    )


def _attributes_of_result(
    attempt: AttemptRecord, result: VideoResult, content_type: str
) -> ObjectAttributes:
    return _attributes(
        content_type,
        asset=attempt.asset,
        clip=attempt.clip,
        take=attempt.take,
        task_uuid=attempt.task_uuid,
        video_uuid=result.video_uuid,
        fingerprint=attempt.fingerprint,
        cost_usd=result.cost_usd,
        seed=result.seed,
    )


def _attributes(content_type: str, **facts: str | float | None) -> ObjectAttributes:
    known = {name: str(value) for name, value in facts.items() if value is not None}
    return ObjectAttributes(content_type, known)


def _stored_video(
    place: _Place,
    result: VideoResult,
    analysis: VideoAnalysis,
    *,
    size_bytes: int,
    sha256: str,
) -> StoredVideo:
    media = analysis.info
    return StoredVideo(
        key=place.key,
        video_uuid=result.video_uuid,
        video_id=result.video_id,
        seed=result.seed,
        cost_usd=result.cost_usd,
        nsfw=result.nsfw,
        size_bytes=size_bytes,
        sha256=sha256,
        content_type=place.content_type,
        container=media.container,
        width=media.width,
        height=media.height,
        duration_seconds=media.duration_seconds,
        frame_count=media.frame_count,
        frames_per_second=media.fps,
        video_codec=media.video_codec,
        audio_codec=media.audio_codec,
        measures=analysis.measures,
        decode_error=analysis.decode_error,
    )
