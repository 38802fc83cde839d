"""Reading stored clips: the value of a clip asset in downstream code."""

from __future__ import annotations

import hashlib
import os
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from sora_dagster.generation.protocol.ledger import Ledger
from sora_dagster.generation.protocol.records import ClipManifest, StoredVideo
from sora_dagster.prompts.clips import ClipRequest, ParentVideo
from sora_dagster.runware.pricing import usd_text
from sora_dagster.storage import ObjectMissingError, StorageError, StorageRoot

_CHUNK_BYTES = 1 << 20


@dataclass(frozen=True)
class StoredClip:
    """A clip in the storage root: its videos, and where they came from.

    A clip has one video, unless several results were requested. Then `index` selects one, in the
    order of :attr:`videos`; default: the first.

    Arguments:
        manifest: the full record.
        root: the storage root.
    """

    manifest: ClipManifest
    root: StorageRoot

    def __repr__(self) -> str:
        manifest, video = self.manifest, self.video
        return (
            f"<StoredClip {manifest.asset}/{manifest.clip}, take {manifest.take}: "
            f"{video.width}x{video.height}, {video.duration_seconds:g} s, "
            f"{usd_text(manifest.cost_usd)}, {self.uri}>"
        )

    @property
    def video(self) -> StoredVideo:
        """The clip's first video."""
        return self.manifest.videos[0]

    @property
    def videos(self) -> tuple[StoredVideo, ...]:
        """All its videos, ordered by Runware's id."""
        return self.manifest.videos

    @property
    def uri(self) -> str:
        """Address of the first video in the storage root."""
        return self.root.uri(self.video.key)

    @property
    def path(self) -> Path | None:
        """File of the first video in a local storage root, read-only; None in a bucket."""
        return self.root.local_path(self.video.key)

    @property
    def cost_usd(self) -> float | None:
        """Cost of the clip in USD. None: unknown."""
        return self.manifest.cost_usd

    @property
    def seed(self) -> int | None:
        """Seed of the first video."""
        return self.video.seed

    @property
    def request(self) -> ClipRequest:
        """The request that the clip was generated from."""
        return self.manifest.request

    @property
    def prompt(self) -> str:
        """The prompt; for a remix, the requested change."""
        return self.request.spec.prompt

    @property
    def tags(self) -> tuple[str, ...]:
        """The tags of the clip's row at the time of the request."""
        return self.request.spec.tags

    @property
    def parent(self) -> ParentVideo | None:
        """The video that a remix was made from; None for a clip."""
        return self.request.parent

    def load_parent(self) -> StoredClip | None:
        """The take that a remix was made from, even if there are newer ones; None for a clip.

        Raises:
            ObjectMissingError: if that take is no longer in the storage root.
        """
        parent = self.parent
        if parent is None:
            return None
        manifest = Ledger(self.root).manifest(parent.asset, parent.clip, parent.take)
        if manifest is None:
            raise ObjectMissingError(
                f"take {parent.take} of {parent.asset}/{parent.clip}, which {self.manifest.clip} "
                f"was made from, is no longer in {self.root.url}"
            )
        return StoredClip(manifest, self.root)

    def open(self, index: int = 0) -> BinaryIO:
        """A seekable file of one of the videos; in a bucket, it fetches only what is read."""
        return self.root.open(self._video(index).key)

    def read(self, index: int = 0) -> bytes:
        """The bytes of one of the videos."""
        return self.root.read(self._video(index).key)

    def download(self, path: str | os.PathLike[str], index: int = 0) -> Path:
        """Copy one of the videos into a file, in bounded memory.

        The file appears, or is replaced, only when it is complete and has the recorded SHA-256.

        Arguments:
            path: the file, or an existing folder for a file named after the clip.
            index: which of the videos; default: the first.

        Returns:
            The file.

        Raises:
            StorageError: if the video cannot be read, or is not what was stored.
            OSError: if the file cannot be written.
        """
        video = self._video(index)
        target = Path(path)
        if target.is_dir():
            target = target / self._file_name(index)
        target.parent.mkdir(parents=True, exist_ok=True)
        unfinished = target.with_name(f".{secrets.token_hex(8)}.part")
        digest = hashlib.sha256()
        try:
            with self.root.open(video.key) as source, unfinished.open("xb") as file:
                while chunk := source.read(_CHUNK_BYTES):
                    digest.update(chunk)
                    file.write(chunk)
            if digest.hexdigest() != video.sha256:
                raise StorageError(
                    f"{self.root.uri(video.key)} is damaged: its SHA-256 is {digest.hexdigest()}, "
                    f"and {video.sha256} was stored. Restore it from a backup or an older version, "
                    f"or raise the clip's take to generate it again."
                )
            unfinished.replace(target)
        finally:
            unfinished.unlink(missing_ok=True)
        return target

    def url(self, expires_seconds: float = 3600, index: int = 0) -> str:
        """A URL that lets anyone who has it read one of the videos.

        In a bucket it is presigned. In a local folder it is a ``file://`` URL that does not expire.

        Arguments:
            expires_seconds: how long it is valid; default: 1 hour. Temporary credentials may
                expire earlier, and the URL with them.
            index: which of the videos; default: the first.

        Raises:
            StorageError: if the store or its credentials cannot sign URLs.
        """
        key = self._video(index).key
        if (path := self.root.local_path(key)) is not None:
            return path.as_uri()
        return self.root.presign("GET", key, expires_seconds)

    def poster(self) -> bytes:
        """A representative frame of the first video, as JPEG."""
        return self.root.read(self.manifest.poster_key)

    def sheet(self) -> bytes | None:
        """Its first, middle and last frame side by side, as JPEG; None if there is no sheet."""
        key = self.manifest.sheet_key
        return None if key is None else self.root.read(key)

    def _video(self, index: int) -> StoredVideo:
        try:
            return self.videos[index]
        except IndexError:
            raise IndexError(
                f"{self.manifest.clip} has {len(self.videos)} video(s), so index {index} is out of "
                f"range; the first is 0"
            ) from None

    def _file_name(self, index: int) -> str:
        """A name that no other clip's video has: clip ids contain none of the characters added."""
        name = self.manifest.clip.replace("|", "+")
        number = range(len(self.videos))[index]
        suffix = Path(self._video(index).key).suffix
        return f"{name} ({number + 1}){suffix}" if number else f"{name}{suffix}"


def load_clip(ledger: Ledger, asset: str, clip: str) -> StoredClip:
    """The newest stored take of a clip.

    Raises:
        ObjectMissingError: if no take is stored.
    """
    manifest = ledger.latest_manifest(asset, clip)
    if manifest is None:
        raise ObjectMissingError(
            f"{asset}/{clip} is not stored in {ledger.root.url}; generate it first"
        )
    return StoredClip(manifest, ledger.root)
