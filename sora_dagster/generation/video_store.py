"""Getting one video whole into its place: from where Runware put it, or by download."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import dataclass

from sora_dagster.generation import layout
from sora_dagster.generation.download import DEFAULT_MAX_BYTES, Downloader, DownloadError
from sora_dagster.generation.ledger import Ledger
from sora_dagster.generation.records import AttemptRecord, ClipManifest, Delivery, StoredVideo
from sora_dagster.media import Examination, MediaError, examine
from sora_dagster.runware.results import VideoResult
from sora_dagster.storage import ObjectAttributes, ObjectInfo, ObjectMissingError

_log = logging.getLogger(__name__)

_FILE_KINDS = {
    "MP4": ("mp4", "video/mp4"),
    "MOV": ("mov", "video/quicktime"),
    "WEBM": ("webm", "video/webm"),
}
_FETCHES_OF_A_BROKEN_VIDEO = 2
_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class KeptVideo:
    """A video in its place, whole.

    Arguments:
        video: what the manifest says of it.
        examination: what its decoding gave.
        delivery: how it came there.
    """

    video: StoredVideo
    examination: Examination
    delivery: Delivery


class VideoStore:
    """Puts videos where they belong; every step may be repeated.

    Arguments:
        ledger: the ledger of the root.
        downloader: fetches the videos that were not put there.
    """

    def __init__(self, ledger: Ledger, downloader: Downloader) -> None:
        self._ledger = ledger
        self._root = ledger.root
        self._downloader = downloader

    def keep(self, attempt: AttemptRecord, result: VideoResult, *, was_direct: bool) -> KeptVideo:
        """Put a video in its place.

        Arguments:
            attempt: what was asked.
            result: the video.
            was_direct: whether Runware was told to put it into the store; where it is not there,
                or not whole, it is downloaded.

        Raises:
            DownloadError: where it cannot be had now.
            StorageError: where the storage root fails.
        """
        problem = None
        if was_direct:
            try:
                return self._from_upload(attempt, result)
            except _UploadError as error:
                problem = str(error)
                _log.warning("video %s of %s %s", result.video_uuid, attempt.clip, problem)
        return self._from_download(attempt, result, problem)

    def _from_upload(self, attempt: AttemptRecord, result: VideoResult) -> KeptVideo:
        incoming = layout.incoming_key(attempt.task_uuid)
        upload = self._root.info(incoming)
        if upload is None:
            raise _UploadError("was not put into the store")
        if not 0 < upload.size_bytes <= DEFAULT_MAX_BYTES:
            raise _UploadError(f"was put into the store with {upload.size_bytes} bytes")
        key, content_type = _place(attempt, result)
        try:
            with self._root.open(incoming) as file:
                examination = examine(file)
            sha256 = self._hash(incoming)
            # A manifest names this key: another process was quicker, and what it stored stays.
            if self._ledger.manifest(attempt.asset, attempt.clip, attempt.take) is not None:
                raise DownloadError(f"{attempt.clip} was stored meanwhile", retryable=True)
            self._root.copy(
                incoming, key, attributes=_attributes_of_result(attempt, result, content_type)
            )
        except MediaError as error:
            raise _UploadError(
                f"was put into the store with {upload.size_bytes} bytes and cannot be decoded: "
                f"{error}"
            ) from error
        except ObjectMissingError as error:
            # Another process has stored the clip, and tidied up.
            raise DownloadError(f"{attempt.clip}: {error}", retryable=True) from error
        self._check_copy(key, upload, sha256)
        video = _stored_video(
            key, result, content_type, examination, size_bytes=upload.size_bytes, sha256=sha256
        )
        return KeptVideo(video, examination, "direct")

    def _check_copy(self, key: str, upload: ObjectInfo, sha256: str) -> None:
        """See that a copy is what was examined: what lies in `incoming/` may be put anew."""
        copy = self._root.info(key)
        # An equal ETag is the same content; with some encryptions a copy has another all the same.
        is_same = (
            copy is not None
            and copy.size_bytes == upload.size_bytes
            and ((copy.etag is not None and copy.etag == upload.etag) or self._hash(key) == sha256)
        )
        if not is_same:
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
        self, attempt: AttemptRecord, result: VideoResult, problem: str | None
    ) -> KeptVideo:
        key, content_type = _place(attempt, result)
        attributes = _attributes_of_result(attempt, result, content_type)
        if result.video_url is None:
            raise DownloadError(
                f"video {result.video_uuid} of {attempt.clip} came without a URL"
                + (f", and {problem}" if problem else "")
            )
        for fetch in range(1, _FETCHES_OF_A_BROKEN_VIDEO + 1):
            download = self._downloader.fetch(
                result.video_url, self._root, key, attributes=attributes
            )
            try:
                with self._root.open(key) as file:
                    examination = examine(file)
                break
            except MediaError as error:
                self._root.delete(key)
                if fetch == _FETCHES_OF_A_BROKEN_VIDEO:
                    raise DownloadError(
                        f"video {result.video_uuid} of {attempt.clip} arrived "
                        f"{download.size_bytes} bytes long and cannot be decoded: {error}"
                    ) from error
                _log.warning("video %s is broken, fetching it again: %s", result.video_uuid, error)
        video = _stored_video(
            key,
            result,
            content_type,
            examination,
            size_bytes=download.size_bytes,
            sha256=download.sha256,
        )
        return KeptVideo(video, examination, "download")


class _UploadError(Exception):
    """A video was not put into the store, or not whole; the message goes on from its name."""


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
    told = {name: str(value) for name, value in facts.items() if value is not None}
    return ObjectAttributes(content_type, told)


def _place(attempt: AttemptRecord, result: VideoResult) -> tuple[str, str]:
    """Key and content type of a video."""
    extension, content_type = _FILE_KINDS[attempt.request.spec.output_format]
    key = layout.video_key(attempt.asset, attempt.clip, attempt.take, result.video_uuid, extension)
    return key, content_type


def _stored_video(
    key: str,
    result: VideoResult,
    content_type: str,
    examination: Examination,
    *,
    size_bytes: int,
    sha256: str,
) -> StoredVideo:
    media = examination.info
    return StoredVideo(
        key=key,
        video_uuid=result.video_uuid,
        video_id=result.video_id,
        seed=result.seed,
        cost_usd=result.cost_usd,
        nsfw=result.nsfw,
        size_bytes=size_bytes,
        sha256=sha256,
        content_type=content_type,
        container=media.container,
        width=media.width,
        height=media.height,
        duration_seconds=media.duration_seconds,
        frame_count=media.frame_count,
        frames_per_second=media.fps,
        video_codec=media.video_codec,
        audio_codec=media.audio_codec,
        measures=examination.measures,
    )
