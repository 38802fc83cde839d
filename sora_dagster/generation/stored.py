"""Reading stored clips: what downstream code is given."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from sora_dagster.generation.ledger import Ledger
from sora_dagster.generation.records import ClipManifest, StoredVideo
from sora_dagster.storage import ObjectMissingError, StorageRoot


@dataclass(frozen=True)
class StoredClip:
    """A clip in the storage root: its videos, and where they came from.

    Arguments:
        manifest: the full record.
        root: the storage root.
    """

    manifest: ClipManifest
    root: StorageRoot

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
        """File of the first video, where the storage root is a local folder."""
        return self.root.local_path(self.video.key)

    @property
    def cost_usd(self) -> float:
        """What the clip cost, in USD."""
        return self.manifest.cost_usd

    @property
    def seed(self) -> int | None:
        """Seed of the first video."""
        return self.video.seed

    def open(self, index: int = 0) -> BinaryIO:
        """A seekable file over one of the videos."""
        return self.root.open(self.videos[index].key)

    def read(self, index: int = 0) -> bytes:
        """The bytes of one of the videos."""
        return self.root.read(self.videos[index].key)

    def poster(self) -> bytes:
        """A representative frame of the first video, as JPEG."""
        return self.root.read(self.manifest.poster_key)


def load_clip(ledger: Ledger, asset: str, clip: str) -> StoredClip:
    """The newest stored take of a clip.

    Raises:
        ObjectMissingError: where no take is stored whole.
    """
    manifest = ledger.latest_manifest(asset, clip)
    if manifest is None:
        raise ObjectMissingError(
            f"{asset}/{clip} is not stored in {ledger.root.url}; materialize it first"
        )
    return StoredClip(manifest, ledger.root)
