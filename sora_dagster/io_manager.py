"""The IO manager of clips: stores the stream of finished clips, and reads stored ones."""

from pathlib import Path
from typing import Any

import dagster as dg
from pydantic import Field

from sora_dagster.clip_stream import ClipStream
from sora_dagster.generation.archive import ClipArchive
from sora_dagster.generation.download import Downloader, DownloadError
from sora_dagster.generation.ledger import Ledger
from sora_dagster.generation.stored import StoredClip, load_clip
from sora_dagster.resources import ClipStorageResource, RunwareResource
from sora_dagster.storage import StorageError

_LOADABLE = "StoredClip, pathlib.Path (where the storage root is a folder), or bytes"


class ClipIOManager(dg.ConfigurableIOManager):
    """Stores clips in the storage root as they are finished, with cost, seed and provenance.

    A clip asset gives it a :class:`~sora_dagster.clip_stream.ClipStream`; a downstream asset gets
    a :class:`~sora_dagster.generation.stored.StoredClip` for one partition, and a dict of them by
    partition key for several.

    Example:
        >>> manager = ClipIOManager(
        ...     storage=ClipStorageResource(url="memory://"), runware=RunwareResource()
        ... )
        >>> manager.max_fetch_failures
        3
    """

    storage: dg.ResourceDependency[ClipStorageResource]
    runware: dg.ResourceDependency[RunwareResource]
    max_fetch_failures: int = Field(
        default=3,
        description="How often fetching clips may fail in one run before the run fails.",
    )

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
        downloader = Downloader(api_base_url=self.runware.base_url)
        archive = ClipArchive(Ledger(self.storage.root()), downloader)
        failures = 0
        try:
            for arrival in obj:
                try:
                    arrival.store(archive)
                except DownloadError as error:
                    failures += 1
                    context.log.warning(f"{arrival.clip}: {error}")
                    if failures >= self.max_fetch_failures:
                        raise
        finally:
            downloader.close()

    def load_input(self, context: dg.InputContext) -> Any:
        """The newest stored take: of one partition, or a dict of those of several.

        Raises:
            StorageError: where a clip is not stored.
            TypeError: where the input is annotated with something that clips cannot be read as.
        """
        ledger = Ledger(self.storage.root())
        asset = context.asset_key.to_user_string()
        if not context.has_asset_partitions:
            raise StorageError(f"{asset} is partitioned by clip; name the partitions to load")
        partitions = list(context.asset_partition_keys)
        annotation = context.dagster_type.typing_type
        if len(partitions) == 1 and not _is_mapping(annotation):
            return _as_annotated(load_clip(ledger, asset, partitions[0]), annotation)
        return {partition: load_clip(ledger, asset, partition) for partition in partitions}


def _is_mapping(annotation: Any) -> bool:
    return getattr(annotation, "__origin__", annotation) is dict


def _as_annotated(clip: StoredClip, annotation: Any) -> Any:
    if annotation is StoredClip or annotation is Any:
        return clip
    if annotation is bytes:
        return clip.read()
    if isinstance(annotation, type) and issubclass(annotation, Path) and clip.path is not None:
        return clip.path
    raise TypeError(f"a stored clip cannot be read as {annotation}; annotate with {_LOADABLE}")
