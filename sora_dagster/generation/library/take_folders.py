"""The folders of stored takes, from one listing."""

from __future__ import annotations

import re
from dataclasses import dataclass

from sora_dagster.generation.protocol import layout
from sora_dagster.generation.protocol.records import ClipManifest
from sora_dagster.storage import StorageRoot

MANIFEST_NAME = "clip.json"
PRUNED_NAME = "pruned.json"

_TAKE_OBJECT = re.compile(r"(clips/[^/]+/[^/]+)/take-(\d+)/(.+)")


@dataclass(slots=True)
class TakeFolder:
    """A take's folder below `clips/`.

    Arguments:
        path: the folder's key, such as ``clips/clips/fox/take-1``.
        has_manifest: whether the take is complete.
        is_pruned: whether its videos were removed on purpose.
        objects: number of objects, without the manifest and the record of its removal.
        has_several_writers: whether the names of these objects end in different nonces, so that
            the manifest does not name all of them.
    """

    path: str
    has_manifest: bool = False
    is_pruned: bool = False
    objects: int = 0
    has_several_writers: bool = False
    _nonce: str | None = None

    @property
    def slot_path(self) -> str:
        """The folder of the take's attempts."""
        return layout.SLOTS_FOLDER + self.path.removeprefix(layout.CLIPS_FOLDER)

    @property
    def manifest_key(self) -> str:
        """Key of the take's manifest."""
        return f"{self.path}/{MANIFEST_NAME}"

    def add(self, name: str) -> None:
        """Count an object of the folder."""
        if name == MANIFEST_NAME:
            self.has_manifest = True
        elif name == PRUNED_NAME:
            self.is_pruned = True
        else:
            self.objects += 1
            nonce = name.rpartition("-")[2].partition(".")[0]
            self.has_several_writers |= self._nonce not in (None, nonce)
            self._nonce = nonce


def named_objects(manifest: ClipManifest) -> tuple[str, ...]:
    """Keys of the objects that a manifest names."""
    pictures = (manifest.poster_key, manifest.sheet_key, manifest.thumbnail_key)
    return (*(video.key for video in manifest.videos), *filter(None, pictures))


def list_take_folders(root: StorageRoot) -> dict[str, dict[int, TakeFolder]]:
    """All folders of takes, by their clip's folder and the take's number. Costs one listing."""
    clips: dict[str, dict[int, TakeFolder]] = {}
    for info in root.list(layout.CLIPS_FOLDER):
        if match := _TAKE_OBJECT.fullmatch(info.key):
            folder = TakeFolder(f"{match[1]}/take-{match[2]}")
            clips.setdefault(match[1], {}).setdefault(int(match[2]), folder).add(match[3])
    return clips
