"""The folders of stored takes, as one listing shows them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime

from sora_dagster.generation import layout
from sora_dagster.storage import ObjectInfo, StorageRoot

MANIFEST_NAME = "clip.json"
PRUNED_NAME = "pruned.json"

_TAKE_OBJECT = re.compile(r"(clips/[^/]+/[^/]+)/take-(\d+)/(.+)")


@dataclass(slots=True)
class TakeFolder:
    """A take's folder below `clips/`.

    Arguments:
        path: the folder's key, such as ``clips/clips/fox/take-1``.
        newest: when its newest object was written, by the store's clock.
        has_manifest: whether the take is whole.
        is_pruned: whether its videos were removed on purpose.
        objects: how many objects it holds, its manifest and its record of removal apart.
    """

    path: str
    newest: datetime
    has_manifest: bool = False
    is_pruned: bool = False
    objects: int = 0

    @property
    def slot_path(self) -> str:
        """The folder of what was asked for this take."""
        return layout.SLOTS_FOLDER + self.path.removeprefix(layout.CLIPS_FOLDER)

    @property
    def manifest_key(self) -> str:
        """Key of the take's manifest."""
        return f"{self.path}/{MANIFEST_NAME}"

    def add(self, info: ObjectInfo, name: str) -> None:
        """Take an object of the folder into account."""
        self.newest = max(self.newest, info.last_modified)
        if name == MANIFEST_NAME:
            self.has_manifest = True
        elif name == PRUNED_NAME:
            self.is_pruned = True
        else:
            self.objects += 1


def list_take_folders(root: StorageRoot) -> dict[str, dict[int, TakeFolder]]:
    """All folders of takes, by their clip's folder and the take's number; costs one listing."""
    clips: dict[str, dict[int, TakeFolder]] = {}
    for info in root.list(layout.CLIPS_FOLDER):
        if not (match := _TAKE_OBJECT.fullmatch(info.key)):
            continue
        takes = clips.setdefault(match[1], {})
        number = int(match[2])
        if number not in takes:
            takes[number] = TakeFolder(f"{match[1]}/take-{match[2]}", info.last_modified)
        takes[number].add(info, match[3])
    return clips
