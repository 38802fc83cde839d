"""What an asset downstream of clips is given, by the annotation of its input."""

import atexit
import tempfile
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, get_args, get_origin

import dagster as dg

from sora_dagster.generation.library.stored_clip import StoredClip, load_clip
from sora_dagster.generation.protocol.ledger import Ledger
from sora_dagster.storage import ObjectMissingError, StorageError, StorageRoot

ALLOW_MISSING_PARTITIONS = "allow_missing_partitions"

_PARALLEL_LOOKUPS = 16
_MOST_NAMED = 10
_POSSIBLE = (
    "sora_dagster.StoredClip, pathlib.Path or bytes for one partition, and dict[str, …] of any of "
    "these for several"
)


class DownloadFolders:
    """Temporary folders of the files that were fetched for steps."""

    def __init__(self) -> None:
        self._made: list[tempfile.TemporaryDirectory[str]] = []

    def make(self, *, for_this_process: bool) -> Path:
        """A new folder.

        Arguments:
            for_this_process: whether it stays until the process ends, and not only until
                :meth:`remove`.
        """
        folder = tempfile.TemporaryDirectory(prefix="sora-clip-", ignore_cleanup_errors=True)
        if for_this_process:
            atexit.register(folder.cleanup)
        else:
            self._made.append(folder)
        return Path(folder.name)

    def remove(self) -> None:
        """Remove the folders and what is in them."""
        while self._made:
            self._made.pop().cleanup()


class ClipInput:
    """One input of one step: which clips it names, and what they are read as.

    Arguments:
        context: Dagster's context of the input.
        root: the storage root.
        folders: the folders that files are fetched to.
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
        element = _element_of_dict(self._wanted)
        convert = self._converter(self._wanted if element is None else element)
        if not context.has_asset_partitions:
            if self._if_known(lambda: context.asset_partitions_def) is not None:
                raise StorageError(
                    f"{self._asset} has partitions; name those that are to be loaded"
                )
            if element is not None:
                raise self._type_error("the asset has no partitions")
            # Such as a shot of a storyboard: the last part of the asset's key names the clip.
            return convert(load_clip(self._ledger, self._asset, context.asset_key.path[-1]))
        partitions = list(context.asset_partition_keys)
        if element is None and len(partitions) == 1:
            return convert(load_clip(self._ledger, self._asset, partitions[0]))
        if element is None and self._wanted is not Any:
            raise self._type_error(f"the input maps to {len(partitions)} partitions")
        clips = self._stored(partitions)
        with ThreadPoolExecutor(self._parallel_clips, thread_name_prefix="read-clip") as pool:
            return dict(zip(clips, pool.map(convert, clips.values()), strict=True))

    def _stored(self, partitions: Sequence[str]) -> dict[str, StoredClip]:
        """The newest takes by partition key, in the partitions' order."""

        def load(partition: str) -> StoredClip | None:
            try:
                return load_clip(self._ledger, self._asset, partition)
            except ObjectMissingError:
                return None

        with ThreadPoolExecutor(_PARALLEL_LOOKUPS, thread_name_prefix="look-up-clip") as pool:
            found = list(zip(partitions, pool.map(load, partitions), strict=True))
        missing = [partition for partition, clip in found if clip is None]
        if missing:
            named = ", ".join(missing[:_MOST_NAMED])
            more = len(missing) - _MOST_NAMED
            said = (
                f"{len(missing)} of {len(partitions)} partitions of {self._asset} are not stored "
                f"in {self._ledger.root.url}: {named}{f' and {more} more' if more > 0 else ''}"
            )
            if not (self._context.definition_metadata or {}).get(ALLOW_MISSING_PARTITIONS):
                raise ObjectMissingError(
                    f"{said}. Materialize them first; or, to do with those that are stored, give "
                    f"the input the metadata {{{ALLOW_MISSING_PARTITIONS!r}: True}}, as in "
                    f"AssetIn(metadata=…)."
                )
            self._context.log.warning(f"{said}; they are left out")
        return {partition: clip for partition, clip in found if clip is not None}

    def _converter(self, annotation: Any) -> Callable[[StoredClip], Any]:
        if annotation is StoredClip or annotation is Any:
            return lambda clip: clip
        if annotation is bytes:
            return lambda clip: clip.read()
        if annotation is Path:
            return self._file
        raise self._type_error("a stored clip cannot be given as that")

    def _file(self, clip: StoredClip) -> Path:
        """The stored file itself, or on a bucket a copy of it."""
        if clip.path is not None:
            return clip.path
        # Each in a folder of its own: names that differ by case alone are one on some disks.
        return clip.download(self._folders.make(for_this_process=not self._is_of_a_step))

    @property
    def _is_of_a_step(self) -> bool:
        """Whether a step asks, and not a caller of `load_asset_value`, who uses the file later."""
        return self._if_known(lambda: self._context.step_context) is not None

    @staticmethod
    def _if_known(ask: Callable[[], Any]) -> Any:
        """What Dagster's context says; None if it raises because it does not know."""
        try:
            return ask()
        except dg.DagsterInvariantViolationError:
            return None

    def _type_error(self, reason: str) -> TypeError:
        return TypeError(
            f"input {self._context.name!r}, asset {self._asset}: its annotation is "
            f"{self._wanted}, and {reason}. Possible are {_POSSIBLE}."
        )


def _element_of_dict(annotation: Any) -> Any:
    """What a dict's or mapping's values are annotated with; None for another annotation."""
    if annotation in (dict, Mapping):
        return Any
    if get_origin(annotation) in (dict, Mapping):
        key, value = get_args(annotation)
        return value if key in (str, Any) else None
    return None
