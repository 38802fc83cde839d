"""Marks of clips whose rows were removed from their dataset.

A mark says nothing about the clip: what was generated stays. It is removed when the row returns.
"""

from __future__ import annotations

import json

from sora_dagster.generation.protocol import layout
from sora_dagster.storage import StorageRoot


class RemovedRows:
    """The marks in a storage root.

    Arguments:
        root: the storage root.
    """

    def __init__(self, root: StorageRoot) -> None:
        self._root = root

    def mark(self, asset: str, clip: str) -> None:
        """Mark a clip, unless it is marked.

        Arguments:
            asset: asset key of the clip.
            clip: its partition key.
        """
        body = json.dumps({"asset": asset, "clip": clip}, ensure_ascii=False).encode()
        self._root.create(layout.removed_key(asset, clip), body)

    def clear(self, asset: str, clip: str) -> None:
        """Remove the mark of a clip, if there is one.

        Arguments:
            asset: asset key of the clip.
            clip: its partition key.
        """
        self._root.delete(layout.removed_key(asset, clip))

    def of_asset(self, asset: str) -> RemovedClips:
        """The marked clips of an asset. Costs one listing.

        Arguments:
            asset: asset key of the clips.
        """
        folder = layout.removed_folder(asset)
        return RemovedClips({info.key.rpartition("/")[2] for info in self._root.list(folder)})


class RemovedClips:
    """The marked clips of one asset; ``clip in removed`` says whether a clip is marked.

    Arguments:
        segments: their names in the storage root.
    """

    def __init__(self, segments: set[str]) -> None:
        self._segments = segments

    def __contains__(self, clip: str) -> bool:
        return layout.segment(clip) in self._segments

    def __len__(self) -> int:
        return len(self._segments)
