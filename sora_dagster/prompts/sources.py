"""Where the rows of a prompt dataset come from: a file, a query, a function, or an asset."""

from __future__ import annotations

import json
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol
from urllib.parse import urlsplit

from sora_dagster.input_files.problems import FileProblem, ProblemList
from sora_dagster.prompts.dataset import (
    PromptDataset,
    dataset_of,
    read_dataset_file,
    read_recipe_file,
)
from sora_dagster.prompts.dataset_files import DatasetFiles, LocalFiles, StoredFiles
from sora_dagster.prompts.files import DatasetError
from sora_dagster.prompts.records import plain_value, read_records, recipe_entries, records_of
from sora_dagster.runware.catalogue import Catalogue
from sora_dagster.storage import ObjectMissingError, StorageError, StorageRoot

Recipes = Mapping[str, str | Mapping[str, Any]]

_READ_AGAIN_SECONDS = 300.0
_STORES = ("s3", "gs", "az", "file")


class SourceStorage(Protocol):
    """Opens the storage root of a dataset, and other folders with the same credentials."""

    def root(self) -> StorageRoot:
        """The storage root."""

    def root_at(self, url: str) -> StorageRoot:
        """The folder of a URL.

        Arguments:
            url: the URL of the folder.
        """


class PromptSource(ABC):
    """A source of rows for :class:`VideoDataset`.

    All sources have the same columns, rules and errors, and the same row has the same fingerprint
    in each, so that a dataset that moves from one to another buys nothing.
    """

    @property
    @abstractmethod
    def label(self) -> str:
        """Name of the source in messages, without secrets."""

    @abstractmethod
    def read(self, catalogue: Catalogue, storage: SourceStorage | None = None) -> PromptDataset:
        """Read the rows.

        Arguments:
            catalogue: the models that rows may name.
            storage: opens object stores. Default: stores are opened with the credentials of the
                environment.

        Raises:
            DatasetError: if anything is wrong; it lists all problems.
        """

    @abstractmethod
    def version(self, storage: SourceStorage | None = None) -> str | None:
        """A text that changes when the rows may have changed; cheap to get.

        Arguments:
            storage: as for :meth:`read`.

        Returns:
            None if it is not known, so that the rows must be read.
        """


class FilePrompts(PromptSource):
    """Rows of a file, local or in an object store.

    Arguments:
        path: path of the file, or its URL in an object store: ``s3://``, ``gs://``, ``az://`` or
            ``file://``. The store is opened with the settings of the dataset's storage resource.
            Formats are JSON Lines, CSV, TSV, YAML and Parquet, by the file's extension.

    Raises:
        ValueError: if the URL is not one of an object store.
    """

    def __init__(self, path: str | Path) -> None:
        self._path = path
        text = str(path)
        self._is_url = "://" in text
        if self._is_url:
            parts = urlsplit(text)
            if parts.scheme not in _STORES:
                allowed = ", ".join(f"{scheme}://" for scheme in _STORES)
                raise ValueError(
                    f"the URL of a prompt dataset starts with {parts.scheme}://; allowed: a path, "
                    f"or a URL that starts with {allowed}. For a database, use SqlPrompts"
                )
            if "@" in parts.netloc or parts.query or parts.fragment:
                # Without the URL, which may contain a secret.
                raise ValueError(
                    f"the URL of a prompt dataset must be {parts.scheme}://bucket/key only; set "
                    f"credentials in the environment or in ClipStorageResource"
                )
        self._files: DatasetFiles | None = None

    @property
    def label(self) -> str:
        """Path or URL of the file."""
        return str(self._path)

    def read(self, catalogue: Catalogue, storage: SourceStorage | None = None) -> PromptDataset:
        files, name = self._open(storage)
        dataset = read_dataset_file(files, name, self.label, catalogue=catalogue)
        self._files = files
        return replace(dataset, version=files.version_read())

    def version(self, storage: SourceStorage | None = None) -> str | None:
        """A hash of the states of all files that were read: dataset, recipes and images."""
        del storage
        return None if self._files is None else self._files.version_now()

    def _open(self, storage: SourceStorage | None) -> tuple[DatasetFiles, str]:
        if not self._is_url:
            path = Path(self._path)
            return LocalFiles(path.parent), path.name
        folder, _, name = self.label.rpartition("/")
        try:
            root = StorageRoot(folder) if storage is None else storage.root_at(folder)
        except StorageError as error:
            raise DatasetError(
                self.label, [FileProblem(None, None, None, str(error), name)]
            ) from error
        return StoredFiles(root), name


class _Table(PromptSource):
    """Rows that are Python values, in no file."""

    _recipes: Recipes | str | Path | None

    def _dataset(self, records: Iterable[Any], catalogue: Catalogue) -> PromptDataset:
        problems = ProblemList(self.label, "rows")
        table = read_records(records, problems)
        recipes = self._recipes
        if isinstance(recipes, (str, Path)):
            path = Path(recipes)
            recipe_problems = ProblemList(path.name)
            entries = read_recipe_file(LocalFiles(path.parent), path.name, recipe_problems)
            if not path.is_file():
                recipe_problems.add(f"there is no such file ({path.absolute()})", value=str(path))
        else:
            recipe_problems = ProblemList("recipes", "rows")
            entries = recipe_entries(recipes or {}, recipe_problems)
        return dataset_of(
            table,
            entries,
            label=self.label,
            catalogue=catalogue,
            files=None,
            problems=problems,
            recipe_problems=recipe_problems,
            recipes_place="the recipes of the source",
        )

    def _failed(self, message: str) -> DatasetError:
        return DatasetError(self.label, [FileProblem(None, None, None, message, "rows")])


class SqlPrompts(_Table):
    """The rows of a query.

    The columns of the query are those of a prompt dataset. JSON columns may hold `recipes`,
    `tags`, `reference_images` and `settings`; in text columns these are written as in CSV. NULL is
    an empty cell. Images are URLs or data URIs.

    Arguments:
        url: URL of the database, in the form of SQLAlchemy. One with a password must be a
            ``dg.EnvVar``, which is read when the query runs.
        query: the query. It is only read from; nothing is committed.
        recipes: the recipes for remixes, by name, as in a YAML dataset; or the path of a YAML file
            with them. Default: none.
        version_query: a query of one value that changes when the rows change, such as
            ``SELECT max(updated_at) FROM prompts``. Default: the rows are read again every
            `read_again_seconds`.
        read_again_seconds: without `version_query`, the interval in seconds in which the dataset
            sensor reads the rows again. Default: 300.

    Raises:
        ValueError: if the URL has a password.
    """

    def __init__(
        self,
        url: str,
        query: str,
        *,
        recipes: Recipes | str | Path | None = None,
        version_query: str | None = None,
        read_again_seconds: float = _READ_AGAIN_SECONDS,
    ) -> None:
        self._url = url
        self._query = query
        self._recipes = recipes
        self._version_query = version_query
        self._read_again_seconds = read_again_seconds
        if not hasattr(url, "get_value") and urlsplit(url).password:
            raise ValueError(
                "the URL of the database has a password, which Dagster would show; put the URL "
                'into an environment variable and pass dg.EnvVar("NAME"), in YAML {env: NAME}'
            )

    @property
    def label(self) -> str:
        """The query's database, without user and password."""
        variable = getattr(self._url, "env_var_name", None)
        if variable is not None:
            return f"the query of {variable}"
        parts = urlsplit(self._url)
        host = parts.netloc.rpartition("@")[2]
        return f"the query of {parts.scheme}://{host}{parts.path}"

    def read(self, catalogue: Catalogue, storage: SourceStorage | None = None) -> PromptDataset:
        del storage
        return self._dataset(self._rows(self._query), catalogue)

    def version(self, storage: SourceStorage | None = None) -> str | None:
        """The result of the version query, or the present interval."""
        del storage
        if self._version_query is None:
            return _interval(self._read_again_seconds)
        return json.dumps([dict(row) for row in self._rows(self._version_query)], default=str)

    def _rows(self, query: str) -> list[Mapping[str, Any]]:
        from sqlalchemy import create_engine, text
        from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError
        from sqlalchemy.pool import NullPool

        url = self._url
        if hasattr(url, "get_value"):
            url = url.get_value() or ""
            if not url:
                raise self._failed(f"the environment variable {self._url.env_var_name} is not set")  # type: ignore[attr-defined]
        try:
            engine = create_engine(url, poolclass=NullPool)
        except (ArgumentError, NoSuchModuleError) as error:
            raise self._failed(
                f"{type(error).__name__}: this is not the URL of a database that SQLAlchemy "
                f"knows, such as postgresql+psycopg2://host/database or sqlite:////path/to/file"
            ) from None
        except ModuleNotFoundError as error:
            raise self._failed(
                f"the database driver {error.name!r} is not installed; install it where the code "
                f"location runs"
            ) from None
        try:
            with engine.connect() as connection:
                rows = connection.execute(text(query)).mappings()
                return [{name: _boolean(name, row[name]) for name in row} for row in rows]
        except SQLAlchemyError as error:
            # Its text has parameters and links; that of the driver may have neither.
            reason = str(getattr(error, "orig", None) or error).strip().splitlines()
            raise self._failed(f"the query failed: {reason[0] if reason else error}") from None
        finally:
            engine.dispose()


class FunctionPrompts(_Table):
    """The rows that a Python function returns or yields.

    Arguments:
        rows: the function. Its rows are mappings of the columns of a prompt dataset; it may also
            return a pandas or Polars data frame, or a PyArrow table. It is called in every process
            that needs the rows.
        recipes: as for :class:`SqlPrompts`.
        version: a function that returns a text that changes when the rows change. Default: the
            rows are read again every `read_again_seconds`.
        read_again_seconds: without `version`, the interval in seconds in which the dataset sensor
            reads the rows again. Default: 300.
    """

    def __init__(
        self,
        rows: Callable[[], Any],
        *,
        recipes: Recipes | str | Path | None = None,
        version: Callable[[], str] | None = None,
        read_again_seconds: float = _READ_AGAIN_SECONDS,
    ) -> None:
        self._function = rows
        self._recipes = recipes
        self._version = version
        self._read_again_seconds = read_again_seconds

    @property
    def label(self) -> str:
        """Name of the function."""
        return f"the function {getattr(self._function, '__qualname__', repr(self._function))}"

    def read(self, catalogue: Catalogue, storage: SourceStorage | None = None) -> PromptDataset:
        del storage
        try:
            records = list(records_of(self._function()))
        except Exception as error:
            raise self._failed(f"it raised {type(error).__name__}: {error}") from error
        return self._dataset(records, catalogue)

    def version(self, storage: SourceStorage | None = None) -> str | None:
        """The result of the version function, or the present interval."""
        del storage
        return _interval(self._read_again_seconds) if self._version is None else self._version()


class AssetPrompts(_Table):
    """The rows of an upstream asset of Dagster: a table or a list of mappings.

    A further asset, `prompt_rows`, is downstream of it. It loads the rows by the asset's own IO
    manager, checks them, and keeps them in the storage root, where all runs read them. It runs
    when the upstream asset is materialized, and updates the partitions at once.

    Arguments:
        asset: key of the asset, such as ``marketing/briefs``.
        recipes: as for :class:`SqlPrompts`.
    """

    def __init__(
        self, asset: str | Iterable[str], *, recipes: Recipes | str | Path | None = None
    ) -> None:
        path = asset.split("/") if isinstance(asset, str) else list(getattr(asset, "path", asset))
        self.asset: tuple[str, ...] = tuple(path)
        self._recipes = recipes
        self._key: str | None = None

    @property
    def label(self) -> str:
        """The asset."""
        return f"the asset {'/'.join(self.asset)}"

    def of_dataset(self, name: str) -> AssetPrompts:
        """The same source, with its rows kept under a dataset's name.

        Arguments:
            name: name of the dataset.
        """
        source = AssetPrompts(self.asset, recipes=self._recipes)
        source._key = f"prompts/{name}.json"
        return source

    def records(self, table: Any) -> list[Any]:
        """The rows of a value of the asset.

        Arguments:
            table: the value.

        Raises:
            DatasetError: if it is no table.
        """
        try:
            return list(records_of(table))
        except TypeError as error:
            raise self._failed(str(error)) from None

    def check(self, records: Sequence[Any], catalogue: Catalogue) -> PromptDataset:
        """The dataset of rows.

        Arguments:
            records: the rows.
            catalogue: the models that rows may name.

        Raises:
            DatasetError: if anything is wrong; it lists all problems.
        """
        return self._dataset(records, catalogue)

    def keep(self, records: Sequence[Any], root: StorageRoot) -> None:
        """Keep rows, which must be checked, in a storage root.

        Arguments:
            records: the rows.
            root: the storage root.
        """
        rows = [_json_row(record) for record in records]
        root.write(self._kept_key, json.dumps({"rows": rows}, ensure_ascii=False).encode())

    def read(self, catalogue: Catalogue, storage: SourceStorage | None = None) -> PromptDataset:
        if storage is None:
            raise self._failed("its rows are kept in the storage root, which is not known here")
        try:
            kept = json.loads(storage.root().read(self._kept_key))
        except ObjectMissingError:
            raise self._failed(
                "its rows were not loaded yet; materialize the asset prompt_rows, which loads them"
            ) from None
        except StorageError as error:
            raise self._failed(str(error)) from error
        return self._dataset(kept["rows"], catalogue)

    def version(self, storage: SourceStorage | None = None) -> str | None:
        """A text that changes when rows are kept."""
        if storage is None:
            return None
        info = storage.root().info(self._kept_key)
        return None if info is None else f"{info.etag}.{info.last_modified.isoformat()}"

    @property
    def _kept_key(self) -> str:
        if self._key is None:
            raise ValueError("an upstream asset is the source of a VideoDataset; see its source")
        return self._key


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
            DatasetError: always.
        """
        del catalogue, storage
        raise DatasetError(None, [FileProblem(None, None, None, self.message)])

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


def _boolean(column: str, value: Any) -> Any:
    """A value of a query. Some databases have no booleans, and return 0 and 1."""
    return bool(value) if column == "audio" and value in (0, 1) else value


def _interval(seconds: float) -> str:
    return f"interval {int(time.time() // seconds)}"


def _json_row(record: Mapping[str, Any]) -> dict[str, Any]:
    """A checked row as JSON."""
    return {str(name): plain_value(value) for name, value in record.items()}
