"""Checking whether the videos of a stored clip are complete, and fetching the others again."""

from __future__ import annotations

from sora_dagster.generation.fetching.download import Downloader, DownloadError
from sora_dagster.generation.fetching.video_store import is_copy, video_attributes
from sora_dagster.generation.protocol import layout
from sora_dagster.generation.protocol.ledger import Ledger
from sora_dagster.generation.protocol.records import ClipManifest, StoredVideo
from sora_dagster.runware.client import RunwareClient


class StoredClipError(Exception):
    """A stored clip is damaged and cannot be restored from Runware."""


class ClipRestorer:
    """Fetches missing or damaged videos of stored clips from Runware again.

    Arguments:
        client: the API client.
        ledger: the ledger of the storage root.
        downloader: fetches videos.
    """

    def __init__(self, client: RunwareClient, ledger: Ledger, downloader: Downloader) -> None:
        self._client = client
        self._ledger = ledger
        self._root = ledger.root
        self._downloader = downloader

    def restore(self, manifest: ClipManifest) -> tuple[StoredVideo, ...]:
        """Fetch the damaged videos of a clip again. Free while Runware still hosts them.

        A video is damaged if it is missing or has the wrong size; that costs one lookup per video.
        Bytes are fetched to a temporary key first. Only bytes with the recorded hash are copied to
        the key that the manifest names.

        Returns:
            The videos that were fetched.

        Raises:
            StoredClipError: if Runware no longer hosts one, or hosts other bytes under its id.
            RunwareError: if Runware cannot be polled.
            StorageError: if the storage root fails.
        """
        damaged = tuple(video for video in manifest.videos if not self._is_complete(video))
        if not damaged:
            return ()
        status = self._client.poll([manifest.task_uuid])[manifest.task_uuid]
        hosted = {result.video_uuid: result.video_url for result in status.results}
        for video in damaged:
            self._restore(manifest, video, hosted.get(video.video_uuid))
        return damaged

    def _restore(self, manifest: ClipManifest, video: StoredVideo, url: str | None) -> None:
        problem = f"{manifest.clip}: {self._root.uri(video.key)} is missing or damaged, and"
        advice = (
            "Restore it from a backup, or raise the clip's take to generate it again, which costs "
            "again."
        )
        if url is None:
            raise StoredClipError(f"{problem} Runware no longer hosts it. {advice}")
        temporary = layout.restore_key(self._ledger.new_nonce())
        attributes = video_attributes(manifest, video, video.content_type)
        try:
            try:
                fetched = self._downloader.fetch(url, self._root, temporary, attributes=attributes)
            except DownloadError as error:
                raise StoredClipError(f"{problem} cannot be fetched again: {error}") from error
            if fetched.sha256 != video.sha256:
                raise StoredClipError(
                    f"{problem} what Runware hosts as video {video.video_uuid} is not what was "
                    f"stored (SHA-256 {fetched.sha256}, not {video.sha256}). {advice}"
                )
            source = self._root.info(temporary)
            self._root.copy(temporary, video.key, attributes=attributes)
            if source is None or not is_copy(self._root, source, video.key, video.sha256):
                raise StoredClipError(
                    f"{manifest.clip}: {self._root.uri(video.key)} was copied back, but is not "
                    f"what was fetched. Request the clip again."
                )
        finally:
            self._root.delete(temporary)

    def _is_complete(self, video: StoredVideo) -> bool:
        info = self._root.info(video.key)
        return info is not None and info.size_bytes == video.size_bytes
