"""The IO manager of clips: records stored clips as outputs, and reads them for other assets."""

from functools import cached_property
from typing import Any

import dagster as dg
from pydantic import Field, PrivateAttr

from sora_dagster.clip_inputs import ClipInput, DownloadFolders
from sora_dagster.generation.library.stored_clip import StoredClip
from sora_dagster.metadata import clip_metadata
from sora_dagster.resources import ClipStorageResource
from sora_dagster.storage import StorageRoot


class ClipIOManager(dg.ConfigurableIOManager):
    """Records the clips of an asset run as they are stored, and gives them to other assets.

    An asset of videos gives it a :class:`~sora_dagster.StoredClip`. Its bytes are in the storage
    root already: a video is fetched, checked and stored by the collection that the run waits with,
    `parallel_clips` at once, and never passes through Dagster. An asset downstream gets what its
    input is annotated with:

    - `StoredClip`: the video, cost, seed and provenance; nothing is fetched before it is read;
    - `pathlib.Path`: a file; on a bucket it is fetched, checked, and removed when the run's process
      ends, and in a local storage root it is the stored file itself, not to be changed;
    - `bytes`: the video in memory;
    - `dict[str, …]` of any of these: all partitions that the input maps to, by partition key.

    Partitions that are not stored are an error, unless the input's metadata has
    `allow_missing_partitions: True`, as with Dagster's own IO managers.

    Example:
        >>> manager = ClipIOManager(storage=ClipStorageResource(url="memory://"))
        >>> manager.parallel_clips
        4
    """

    storage: dg.ResourceDependency[ClipStorageResource]
    parallel_clips: int = Field(
        default=4, ge=1, description="How many clips are fetched and stored at once."
    )

    _folders: DownloadFolders = PrivateAttr(default_factory=DownloadFolders)

    @cached_property
    def _root(self) -> StorageRoot:
        return self.storage.root()

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
        """Record a stored clip as the output of its asset: its metadata is the clip's.

        Raises:
            TypeError: if the asset gave something else than a stored clip.
            ValueError: if the clip is not the one that the output stands for, or lies in another
                storage root.
        """
        asset = context.asset_key.to_user_string()
        if not isinstance(obj, StoredClip):
            raise TypeError(
                f"{asset} gave a {type(obj).__name__}; this IO manager records a StoredClip. Use "
                f"another IO manager for other assets."
            )
        manifest = obj.manifest
        wanted = context.partition_key if context.has_partition_key else None
        if (manifest.asset, manifest.request.partition) != (asset, wanted):
            raise ValueError(
                f"{asset}, partition {wanted}: the clip is {manifest.asset}, partition "
                f"{manifest.request.partition}. An asset records its own clips only."
            )
        if obj.root.url != self._root.url:
            raise ValueError(
                f"{manifest.request.name} is stored in {obj.root.url}, and this IO manager reads "
                f"{self._root.url}. Give both the same clip_storage."
            )
        context.add_output_metadata(clip_metadata(manifest, obj.root))

    def load_input(self, context: dg.InputContext) -> Any:
        """The newest stored take: of one partition, or a dict of those of several.

        Raises:
            StorageError: if clips are not stored, or cannot be read.
            TypeError: if the input is annotated with something that clips cannot be read as.
        """
        return ClipInput(
            context,
            self._root,
            folders=self._folders,
            parallel_clips=self.parallel_clips,
        ).load()

    def teardown_after_execution(self, context: dg.InitResourceContext) -> None:  # noqa: ARG002
        """Remove the files that were fetched for steps."""
        self._folders.remove()
