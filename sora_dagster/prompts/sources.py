"""The source that a user names: a file, an object in a store, a function, or a source."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sora_dagster.prompts.dataset import PromptDataset, read_dataset_file
from sora_dagster.prompts.dataset_files import (
    DatasetFiles,
    LocalFiles,
    StoredFiles,
    file_location,
)
from sora_dagster.prompts.files import DatasetError, NoRowsYetError
from sora_dagster.prompts.prompt_source import PromptSource, SourceStorage
from sora_dagster.prompts.table_sources import FunctionPrompts
from sora_dagster.runware.catalogue import Catalogue
from sora_dagster.storage import StorageError, StorageRoot
from sora_dagster.user_files.problems import FileProblem


class FilePrompts(PromptSource):
    """Rows of a file, local or in an object store.

    Arguments:
        path: path of the file, or its URL in an object store: ``s3://``, ``gs://`` or ``az://``.
            The store is opened with the settings of the dataset's storage resource.
            Formats are JSON Lines, CSV, TSV, YAML and Parquet, by the file's extension.

    Raises:
        ValueError: if the URL is not one of an object store.
    """

    def __init__(self, path: str | Path) -> None:
        self._location = file_location(path)
        self._files: DatasetFiles | None = None

    @property
    def label(self) -> str:
        """Path or URL of the file."""
        return self._location

    @property
    def identity(self) -> str:
        """Absolute path or URL of the file."""
        is_url = "://" in self._location
        return self._location if is_url else str(Path(self._location).absolute())

    def read(self, catalogue: Catalogue, storage: SourceStorage | None = None) -> PromptDataset:
        files, name = self._open(storage)
        dataset = read_dataset_file(files, name, self.label, catalogue=catalogue)
        self._files = files
        return replace(dataset, version=files.version_read())

    def version(self, storage: SourceStorage | None = None) -> str | None:
        """A hash of the states of all files that were read: dataset, recipes and images."""
        del storage
        try:
            return None if self._files is None else self._files.version_now()
        except OSError:
            # Reading the rows reports the problem.
            return None

    def _open(self, storage: SourceStorage | None) -> tuple[DatasetFiles, str]:
        if "://" not in self._location:
            path = Path(self._location)
            return LocalFiles(path.parent), path.name
        folder, _, name = self.label.rpartition("/")
        try:
            root = StorageRoot(folder) if storage is None else storage.root_at(folder)
        except StorageError as error:
            raise DatasetError(
                self.label, [FileProblem(None, None, None, str(error), name)]
            ) from error
        return StoredFiles(root), name


@dataclass(frozen=True)
class NoPrompts(PromptSource):
    """No source is set.

    Arguments:
        message: what to do.
    """

    message: str

    @property
    def label(self) -> str:
        """That there is none."""
        return "no prompt dataset"

    def read(self, catalogue: Catalogue, storage: SourceStorage | None = None) -> PromptDataset:
        """Raise the message as an error.

        Raises:
            NoRowsYetError: always.
        """
        del catalogue, storage
        raise NoRowsYetError(None, [FileProblem(None, None, None, self.message)])

    def version(self, storage: SourceStorage | None = None) -> str | None:
        """Nothing that could change."""
        del storage
        return None


def source_of(source: str | Path | PromptSource | Callable[[], Any]) -> PromptSource:
    """The source that a user gave: a path, a URL, a function, or a source.

    Raises:
        ValueError: if it is none of these, or not allowed.
    """
    if isinstance(source, PromptSource):
        return source
    if isinstance(source, (str, Path)):
        return FilePrompts(source)
    if callable(source):
        return FunctionPrompts(source)
    raise ValueError(
        f"the source of a dataset is a {type(source).__name__}; allowed: a path, the URL of a file "
        f"in an object store, a function that returns rows, SqlPrompts or AssetPrompts"
    )
