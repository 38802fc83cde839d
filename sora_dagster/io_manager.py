"""The IO manager of clips: records stored clips as outputs, and reads them for other assets."""

import atexit
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin

import dagster as dg
from pydantic import Field, PrivateAttr

from sora_dagster.generation.library.removed_rows import RemovedRows
from sora_dagster.generation.library.stored_clip import StoredClip, load_clip
from sora_dagster.generation.protocol.ledger import Ledger
from sora_dagster.reporting.metadata import clip_metadata
from sora_dagster.resources import ClipStorageResource
from sora_dagster.storage import ObjectMissingError, StorageError, StorageRoot

ALLOW_MISSING_PARTITIONS = "allow_missing_partitions"
INCLUDE_REMOVED = "include_removed"

_PARALLEL_LOOKUPS = 16
_MAX_NAMED = 10
_ALLOWED = (
    "sora_dagster.StoredClip, pathlib.Path or bytes for one partition, and dict[str, …] of any of "
    "these for several"
)


class DownloadFolders:
    """Temporary folders for files that are fetched for steps."""

    def __init__(self) -> None:
        self._made: list[tempfile.TemporaryDirectory[str]] = []

    def make(self, *, for_this_process: bool) -> Path:
        """A new folder.

        Arguments:
            for_this_process: whether it is kept until the process ends, instead of until
                :meth:`remove`.
        """
        folder = tempfile.TemporaryDirectory(prefix="sora-clip-", ignore_cleanup_errors=True)
        if for_this_process:
            atexit.register(folder.cleanup)
        else:
            self._made.append(folder)
        return Path(folder.name)

    def remove(self) -> None:
        """Remove the folders and their files."""
        while self._made:
            self._made.pop().cleanup()


class ClipInput:
    """One input of one step: its clips, and the type that they are read as.

    Arguments:
        context: Dagster's context of the input.
        root: the storage root.
        folders: folders for fetched files.
        parallel_clips: how many videos are read at once.
    """

    def __init__(
        self,
        context: dg.InputContext,
        root: StorageRoot,
        *,
        folders: DownloadFolders,
        parallel_clips: int,
    ) -> None:
        self._context = context
        self._ledger = Ledger(root)
        self._folders = folders
        self._parallel_clips = parallel_clips
        self._asset = context.asset_key.to_user_string()
        self._wanted = context.dagster_type.typing_type

    def load(self) -> Any:
        """The clips as the input is annotated.

        Raises:
            StorageError: if clips are not stored, or cannot be read.
            TypeError: if clips cannot be read as the input is annotated.
        """
        context = self._context
        wanted = _without_none(self._wanted)
        element = _element_of_dict(wanted)
        convert = self._converter(wanted if element is None else _without_none(element))
        if not context.has_asset_partitions:
            if self._if_known(lambda: context.asset_partitions_def) is not None:
                raise StorageError(f"{self._asset} has partitions; pass the partition keys to load")
            if element is not None:
                raise self._type_error("the asset has no partitions")
            # Such as a shot of a storyboard: the last part of its key is the clip's id.
            return convert(load_clip(self._ledger, self._asset, context.asset_key.path[-1]))
        partitions = list(context.asset_partition_keys)
        if element is None and len(partitions) == 1:
            clip = self._one(partitions[0])
            return None if clip is None else convert(clip)
        if element is None and wanted is not Any:
            raise self._type_error(f"the input maps to {len(partitions)} partitions")
        clips = self._stored(partitions)
        with ThreadPoolExecutor(self._parallel_clips, thread_name_prefix="read-clip") as pool:
            return dict(zip(clips, pool.map(convert, clips.values()), strict=True))

    def _one(self, partition: str) -> StoredClip | None:
        """The newest take of a partition; None if it is not stored, and the input allows that."""
        try:
            return load_clip(self._ledger, self._asset, partition)
        except ObjectMissingError as error:
            if not self._allows_missing:
                raise
            if self._wanted is not Any and _without_none(self._wanted) == self._wanted:
                # Dagster would fail with a type error that does not name the clip.
                raise ObjectMissingError(
                    f"{error} The input allows missing partitions, but its annotation does not "
                    f"allow None; annotate it as {getattr(self._wanted, '__name__', '…')} | None."
                ) from error
            self._context.log.warning(f"{error} The input is None")
            return None

    @property
    def _allows_missing(self) -> bool:
        return bool((self._context.definition_metadata or {}).get(ALLOW_MISSING_PARTITIONS))

    def _stored(self, partitions: Sequence[str]) -> dict[str, StoredClip]:
        """The newest takes by partition key, in the partitions' order."""

        def load(partition: str) -> StoredClip | None:
            try:
                return load_clip(self._ledger, self._asset, partition)
            except ObjectMissingError:
                return None

        if not (self._context.definition_metadata or {}).get(INCLUDE_REMOVED):
            partitions = self._without_removed(partitions)
        with ThreadPoolExecutor(_PARALLEL_LOOKUPS, thread_name_prefix="look-up-clip") as pool:
            found = list(zip(partitions, pool.map(load, partitions), strict=True))
        missing = [partition for partition, clip in found if clip is None]
        if missing:
            named = ", ".join(missing[:_MAX_NAMED])
            more = len(missing) - _MAX_NAMED
            problem = (
                f"{len(missing)} of {len(partitions)} partitions of {self._asset} are not stored "
                f"in {self._ledger.root.url}: {named}{f' and {more} more' if more > 0 else ''}"
            )
            if not self._allows_missing:
                raise ObjectMissingError(
                    f"{problem}. Materialize them first; or, to load only the stored ones, set the "
                    f"input's metadata {{{ALLOW_MISSING_PARTITIONS!r}: True}}, as in "
                    f"AssetIn(metadata=…)."
                )
            self._context.log.warning(f"{problem}; they are left out")
        return {partition: clip for partition, clip in found if clip is not None}

    def _without_removed(self, partitions: Sequence[str]) -> Sequence[str]:
        """The partitions without those whose rows were removed from the dataset."""
        removed = RemovedRows(self._ledger.root).of_asset(self._asset)
        if not removed:
            return partitions
        kept = [partition for partition in partitions if partition not in removed]
        if left_out := len(partitions) - len(kept):
            self._context.log.info(
                f"{left_out} of {len(partitions)} partitions of {self._asset} are left out, since "
                f"their rows were removed from the dataset; to load them too, set the input's "
                f"metadata {{{INCLUDE_REMOVED!r}: True}}"
            )
        return kept

    def _converter(self, annotation: Any) -> Callable[[StoredClip], Any]:
        if annotation is StoredClip or annotation is Any:
            return lambda clip: clip
        if annotation is bytes:
            return lambda clip: clip.read()
        if annotation is Path:
            return self._file
        raise self._type_error("a stored clip cannot be loaded as that type")

    def _file(self, clip: StoredClip) -> Path:
        """The stored file itself, or on a bucket a copy of it."""
        if clip.path is not None:
            return clip.path
        # A folder for each: on some disks names that differ only by case are the same.
        return clip.download(self._folders.make(for_this_process=not self._is_of_a_step))

    @property
    def _is_of_a_step(self) -> bool:
        """Whether a step loads the input; a caller of `load_asset_value` uses the file later."""
        return self._if_known(lambda: self._context.step_context) is not None

    @staticmethod
    def _if_known(read: Callable[[], Any]) -> Any:
        """A value of Dagster's context; None if it does not have it and raises."""
        try:
            return read()
        except dg.DagsterInvariantViolationError:
            return None

    def _type_error(self, reason: str) -> TypeError:
        return TypeError(
            f"input {self._context.name!r}, asset {self._asset}: its annotation is "
            f"{self._wanted}, and {reason}. Allowed are {_ALLOWED}."
        )


def _without_none(annotation: Any) -> Any:
    """The type of an optional annotation; any other annotation as it is."""
    if get_origin(annotation) in (Union, UnionType):
        others = [part for part in get_args(annotation) if part is not type(None)]
        if len(others) == 1:
            return others[0]
    return annotation


def _element_of_dict(annotation: Any) -> Any:
    """The annotation of the values of a dict or mapping; None for another annotation."""
    if annotation in (dict, Mapping):
        return Any
    if get_origin(annotation) in (dict, Mapping):
        key, value = get_args(annotation)
        return value if key in (str, Any) else None
    return None


class ClipIOManager(dg.ConfigurableIOManager):
    """Records stored clips as outputs of their assets, and loads them for downstream assets.

    The output of an asset of videos is a `StoredClip`. Its video is already in
    the storage root and never passes through Dagster. A downstream asset gets what its input is
    annotated with:

    - `StoredClip`: the video, cost, seed and provenance; nothing is fetched until it is read;
    - `pathlib.Path`: a file; from a bucket it is fetched, checked, and removed when the run's
      process ends; in a local storage root it is the stored file, which must not be changed;
    - `bytes`: the video in memory;
    - `dict[str, …]` of any of these: all partitions that the input maps to, by partition key.

    Each may be optional, as in ``StoredClip | None``.

    Of several partitions, those whose rows were removed from the dataset are left out, unless the
    input's metadata has `include_removed: True`. Partitions that are not stored are an error,
    unless it has `allow_missing_partitions: True`, as with Dagster's IO managers: a single
    partition is then None, and a dict is without them.

    Arguments:
        storage: the storage root that the clips are in; the same resource as `clip_storage`.
        parallel_clips: how many clips are fetched and stored at once.

    Example:
        >>> manager = ClipIOManager(storage=ClipStorageResource(url="memory://"))
        >>> manager.parallel_clips
        4
    """

    storage: dg.ResourceDependency[ClipStorageResource]
    parallel_clips: int = Field(
        default=4, ge=1, description="Number of clips fetched and stored at once."
    )

    _folders: DownloadFolders = PrivateAttr(default_factory=DownloadFolders)

    @cached_property
    def _root(self) -> StorageRoot:
        return self.storage.root()

    def handle_output(self, context: dg.OutputContext, obj: Any) -> None:
        """Record a stored clip as the output of its asset, with the clip's metadata.

        Arguments:
            context: Dagster's context of the output.
            obj: the :class:`~sora_dagster.StoredClip`.

        Raises:
            TypeError: if the output is not a stored clip.
            ValueError: if it is another asset's or partition's clip, or in another storage root.
        """
        asset = context.asset_key.to_user_string()
        if not isinstance(obj, StoredClip):
            raise TypeError(
                f"the output of {asset} is a {type(obj).__name__}; this IO manager records only "
                f"StoredClip. Use another IO manager for other assets."
            )
        manifest = obj.manifest
        wanted = context.partition_key if context.has_partition_key else None
        if (manifest.asset, manifest.request.partition) != (asset, wanted):
            raise ValueError(
                f"{asset}, partition {wanted}: the clip is {manifest.asset}, partition "
                f"{manifest.request.partition}. An asset can only record its own clips."
            )
        if obj.root.url != self._root.url:
            raise ValueError(
                f"{manifest.request.name} is stored in {obj.root.url}, and this IO manager reads "
                f"{self._root.url}. Pass the same clip_storage to both."
            )
        context.add_output_metadata(clip_metadata(manifest, obj.root))

    def load_input(self, context: dg.InputContext) -> Any:
        """Load the newest stored take of one partition, or a dict of those of several.

        Raises:
            StorageError: if clips are not stored, or cannot be read.
            TypeError: if the annotation of the input is not supported.
        """
        return ClipInput(
            context,
            self._root,
            folders=self._folders,
            parallel_clips=self.parallel_clips,
        ).load()

    def teardown_after_execution(self, context: dg.InitResourceContext) -> None:  # noqa: ARG002
        """Remove files that were fetched for steps."""
        self._folders.remove()
