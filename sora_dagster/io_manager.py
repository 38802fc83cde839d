"""The IO manager of clips: stores the stream of finished clips, and reads stored ones."""

from contextlib import closing
from typing import Any

import dagster as dg
from pydantic import Field, PrivateAttr

from sora_dagster.clip_inputs import ClipInput, DownloadFolders
from sora_dagster.clip_stream import ClipStream
from sora_dagster.resources import ClipStorageResource


class ClipIOManager(dg.ConfigurableIOManager):
    """Stores clips in the storage root as they are finished, and gives them to other assets.

    A clip asset gives it a :class:`~sora_dagster.clip_stream.ClipStream`. An asset downstream gets
    what its input is annotated with:

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
    max_fetch_failures: int = Field(
        default=3,
        description="How often fetching clips may fail in one run before the run fails.",
    )

    _folders: DownloadFolders = PrivateAttr(default_factory=DownloadFolders)

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
        """Store each clip of the stream as it comes.

        Raises:
            TypeError: where the asset gave something else than a stream of clips.
            DownloadError: where videos cannot be fetched; they stay outstanding, and the next
                collection fetches them.
        """
        if not isinstance(obj, ClipStream):
            raise TypeError(
                f"{context.asset_key.to_user_string()} gave a {type(obj).__name__}; this IO "
                f"manager stores a ClipStream. Use another IO manager for other assets."
            )
        failures = 0
        with closing(obj.store(parallel_clips=self.parallel_clips)) as arrivals:
            for arrival in arrivals:
                if arrival.error is None:
                    continue
                failures += 1
                if failures >= self.max_fetch_failures:
                    raise arrival.error

    def load_input(self, context: dg.InputContext) -> Any:
        """The newest stored take: of one partition, or a dict of those of several.

        Raises:
            StorageError: where clips are not stored, or cannot be read.
            TypeError: where the input is annotated with something that clips cannot be read as.
        """
        return ClipInput(
            context,
            self.storage.root(),
            folders=self._folders,
            parallel_clips=self.parallel_clips,
        ).load()

    def teardown_after_execution(self, context: dg.InitResourceContext) -> None:  # noqa: ARG002
        """Remove the files that were fetched for steps."""
        self._folders.remove()
