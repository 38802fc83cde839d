"""Whether what was stored is still there and whole, and getting it again where it is not."""

from __future__ import annotations

from sora_dagster.generation.download import Downloader, DownloadError
from sora_dagster.generation.ledger import Ledger
from sora_dagster.generation.records import ClipManifest, StoredVideo
from sora_dagster.generation.video_store import attributes_of_video
from sora_dagster.runware.client import RunwareClient


class StoredClipError(Exception):
    """A stored clip is damaged, and cannot be had again."""


class Verification:
    """Checks stored clips, and fetches what is missing once more from Runware.

    Arguments:
        client: the API client.
        ledger: the ledger.
        downloader: fetches videos.
    """

    def __init__(self, client: RunwareClient, ledger: Ledger, downloader: Downloader) -> None:
        self._client = client
        self._ledger = ledger
        self._downloader = downloader

    def damaged(self, manifest: ClipManifest) -> tuple[StoredVideo, ...]:
        """The videos of a clip that are missing, or of another length than when they were stored.

        It costs a look-up for each video, and reads none.
        """
        return tuple(video for video in manifest.videos if not self._is_whole(video))

    def restore(self, manifest: ClipManifest) -> tuple[StoredVideo, ...]:
        """Fetch the damaged videos of a clip again; free, while Runware still hosts them.

        Returns:
            The videos that were fetched.

        Raises:
            StoredClipError: where Runware has one no more, or has another under its id.
            RunwareError: where Runware cannot be asked.
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
                    f"{manifest.clip}: {self._ledger.root.uri(video.key)} is missing or damaged, "
                    f"and Runware does not host it any more. Restore it from a backup, or raise "
                    f"the clip's take to have it generated anew."
                )
            self._fetch(manifest, video, url)
        return damaged

    def _fetch(self, manifest: ClipManifest, video: StoredVideo, url: str) -> None:
        try:
            fetched = self._downloader.fetch(
                url,
                self._ledger.root,
                video.key,
                attributes=attributes_of_video(manifest, video),
            )
        except DownloadError as error:
            raise StoredClipError(
                f"{manifest.clip}: {self._ledger.root.uri(video.key)} is missing or damaged, and "
                f"cannot be fetched again: {error}"
            ) from error
        if fetched.sha256 != video.sha256:
            raise StoredClipError(
                f"{manifest.clip}: what Runware hosts as video {video.video_uuid} is not what was "
                f"stored (SHA-256 {fetched.sha256}, not {video.sha256})"
            )

    def _is_whole(self, video: StoredVideo) -> bool:
        info = self._ledger.root.info(video.key)
        return info is not None and info.size_bytes == video.size_bytes
