"""Whether a stored clip is still whole, and fetching again what is not."""

from __future__ import annotations

import hashlib

from sora_dagster.generation.fetching.download import Downloader, DownloadError
from sora_dagster.generation.fetching.video_store import attributes_of_video
from sora_dagster.generation.protocol import layout
from sora_dagster.generation.protocol.ledger import Ledger
from sora_dagster.generation.protocol.records import ClipManifest, StoredVideo
from sora_dagster.runware.client import RunwareClient
from sora_dagster.storage import ObjectInfo

_CHUNK_BYTES = 1 << 20


class StoredClipError(Exception):
    """A stored clip is damaged and cannot be restored from Runware."""


class Verification:
    """Checks stored clips, and fetches again from Runware what is missing or damaged.

    A clip that `stored_already` has found needs no
    check: the sizes of its videos were just seen.

    Arguments:
        client: the API client.
        ledger: the ledger.
        downloader: fetches videos.
    """

    def __init__(self, client: RunwareClient, ledger: Ledger, downloader: Downloader) -> None:
        self._client = client
        self._ledger = ledger
        self._root = ledger.root
        self._downloader = downloader

    def damaged(self, manifest: ClipManifest) -> tuple[StoredVideo, ...]:
        """The videos of a clip that are missing, or whose size is not the recorded one.

        Costs a look-up for each video, and reads none.
        """
        return tuple(video for video in manifest.videos if not self._is_whole(video))

    def restore(self, manifest: ClipManifest) -> tuple[StoredVideo, ...]:
        """Fetch the damaged videos of a clip again. Free while Runware still hosts them.

        The bytes are fetched to a temporary key. Only bytes with the recorded hash get to the key
        that the manifest names.

        Returns:
            The videos that were fetched.

        Raises:
            StoredClipError: if Runware no longer hosts one, or hosts other bytes under its id.
            RunwareError: if Runware cannot be asked.
            StorageError: if the storage root fails.
        """
        damaged = self.damaged(manifest)
        if not damaged:
            return ()
        status = self._client.poll([manifest.task_uuid])[manifest.task_uuid]
        hosted = {result.video_uuid: result.video_url for result in status.results}
        for video in damaged:
            url = hosted.get(video.video_uuid)
            if url is None:
                raise StoredClipError(
                    f"{manifest.clip}: {self._root.uri(video.key)} is missing or damaged, and "
                    f"Runware no longer hosts it. Restore it from a backup, or raise the clip's "
                    f"take to generate it again, which costs again."
                )
            self._restore(manifest, video, url)
        return damaged

    def _restore(self, manifest: ClipManifest, video: StoredVideo, url: str) -> None:
        temporary = layout.restore_key(self._ledger.new_nonce())
        attributes = attributes_of_video(manifest, video)
        try:
            try:
                fetched = self._downloader.fetch(url, self._root, temporary, attributes=attributes)
            except DownloadError as error:
                raise StoredClipError(
                    f"{manifest.clip}: {self._root.uri(video.key)} is missing or damaged, and "
                    f"cannot be fetched again: {error}"
                ) from error
            if fetched.sha256 != video.sha256:
                raise StoredClipError(
                    f"{manifest.clip}: {self._root.uri(video.key)} is missing or damaged, and what "
                    f"Runware hosts as video {video.video_uuid} is not what was stored (SHA-256 "
                    f"{fetched.sha256}, not {video.sha256}). Restore it from a backup, or raise "
                    f"the clip's take to generate it again, which costs again."
                )
            source = self._root.info(temporary)
            self._root.copy(temporary, video.key, attributes=attributes)
            if not self._is_copy(source, video):
                raise StoredClipError(
                    f"{manifest.clip}: {self._root.uri(video.key)} was copied back, and is not "
                    f"what was fetched. Request the clip again."
                )
        finally:
            self._root.delete(temporary)

    def _is_copy(self, source: ObjectInfo | None, video: StoredVideo) -> bool:
        copy = self._root.info(video.key)
        if source is None or copy is None or copy.size_bytes != video.size_bytes:
            return False
        # An equal ETag is equal content. With some encryptions a copy has another one all the same.
        return (copy.etag is not None and copy.etag == source.etag) or (
            self._sha256(video.key) == video.sha256
        )

    def _sha256(self, key: str) -> str:
        digest = hashlib.sha256()
        with self._root.open(key) as file:
            while chunk := file.read(_CHUNK_BYTES):
                digest.update(chunk)
        return digest.hexdigest()

    def _is_whole(self, video: StoredVideo) -> bool:
        info = self._root.info(video.key)
        return info is not None and info.size_bytes == video.size_bytes
