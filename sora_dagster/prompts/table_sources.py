"""Sources whose rows are Python values: a function, or an upstream asset."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from types import NoneType
from typing import Any

from sora_dagster.prompts.dataset import PromptDataset, dataset_of, read_recipe_file
from sora_dagster.prompts.dataset_files import LocalFiles
from sora_dagster.prompts.files import DatasetError, NoRowsYetError
from sora_dagster.prompts.prompt_source import PromptSource, SourceStorage
from sora_dagster.prompts.records import plain_value, read_records, recipe_entries, records_of
from sora_dagster.runware.catalogue import Catalogue
from sora_dagster.storage import ObjectMissingError, StorageError, StorageRoot
from sora_dagster.user_files.problems import FileProblem, ProblemList

Recipes = Mapping[str, str | Mapping[str, Any]]

READ_AGAIN_SECONDS = 300.0


class TableSource(PromptSource):
    """Rows that are Python values, in no file.

    Arguments:
        recipes: the recipes for remixes, by name, as in a YAML dataset; or the path of a YAML file
            with them. None: there are none.

    Raises:
        TypeError: if the recipes are neither.
    """

    def __init__(self, recipes: Recipes | str | Path | None) -> None:
        if not isinstance(recipes, (Mapping, str, Path, NoneType)):
            raise TypeError(
                f"the recipes of a source are a {type(recipes).__name__}; allowed: a mapping such "
                f'as {{"night": "The same place at night"}}, or the path of a YAML file'
            )
        self.recipes = recipes

    def with_recipes(self, version: str) -> str:
        """A version of the rows, combined with that of the file of recipes.

        Arguments:
            version: version of the rows.
        """
        if not isinstance(self.recipes, (str, Path)):
            return version
        path = Path(self.recipes)
        files = LocalFiles(path.parent)
        files.note([path.name])
        return f"{version} {files.version_read()}"

    def dataset_of_records(self, records: Iterable[Any], catalogue: Catalogue) -> PromptDataset:
        """The dataset of rows and recipes.

        Arguments:
            records: the rows.
            catalogue: the models that rows may name.

        Raises:
            DatasetError: if anything is wrong; it lists all problems.
        """
        problems = ProblemList(self.label, "rows")
        table = read_records(records, problems)
        recipes = self.recipes
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

    def records(self, table: Any) -> list[Any]:
        """The rows of a table.

        Arguments:
            table: the table, or an iterable of rows.

        Raises:
            DatasetError: if it is no table, or a column is given twice.
        """
        try:
            return list(records_of(table))
        # Of a table that is none, and of values that Python cannot hold.
        except (ArithmeticError, TypeError, ValueError) as error:
            raise self.failed(str(error)) from None

    def failed(self, message: str) -> DatasetError:
        """The error that the rows cannot be read.

        Arguments:
            message: why.
        """
        return DatasetError(self.label, [FileProblem(None, None, None, message, "rows")])


class FunctionPrompts(TableSource):
    """The rows that a Python function returns or yields.

    Arguments:
        rows: the function. Its rows are mappings of the columns of a prompt dataset; it may also
            return a pandas or Polars data frame, or a PyArrow table. It is called in every process
            that needs the rows.
        recipes: as for `SqlPrompts`.
        version: a function that returns a string that changes when the rows change. Default: the
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
        read_again_seconds: float = READ_AGAIN_SECONDS,
    ) -> None:
        super().__init__(recipes)
        self._function = rows
        self._version = version
        self._read_again_seconds = read_again_seconds

    @property
    def label(self) -> str:
        """Name of the function."""
        # Not the text of an object, which may contain a secret.
        function = getattr(self._function, "func", self._function)
        return f"the function {getattr(function, '__qualname__', type(function).__name__)}"

    def read(self, catalogue: Catalogue, storage: SourceStorage | None = None) -> PromptDataset:
        del storage
        try:
            table = self._function()
            # A generator raises while it is read. PyArrow's reader of batches is a table.
            is_generator = isinstance(table, Iterator) and not hasattr(table, "__arrow_c_stream__")
            records = list(table) if is_generator else table
        except Exception as error:
            raise self.failed(f"it raised {type(error).__name__}: {error}") from error
        records = self.records(records)
        return self.dataset_of_records(records, catalogue)

    def version(self, storage: SourceStorage | None = None) -> str | None:
        """The result of the version function, or the present interval."""
        del storage
        if self._version is None:
            return self.with_recipes(interval_version(self._read_again_seconds))
        try:
            return self.with_recipes(str(self._version()))
        except Exception as error:
            raise self.failed(f"its version raised {type(error).__name__}: {error}") from error


class AssetPrompts(TableSource):
    """The rows of an upstream asset of Dagster: a table or a list of mappings.

    A further asset, `prompt_rows`, is downstream of it. It loads the rows by the asset's own IO
    manager, checks them, and keeps them in the storage root, where all runs read them. It runs
    when the upstream asset is materialized, and updates the partitions at once.

    Arguments:
        asset: key of the asset, such as ``marketing/briefs``.
        recipes: as for `SqlPrompts`.
    """

    def __init__(
        self, asset: str | Iterable[str], *, recipes: Recipes | str | Path | None = None
    ) -> None:
        super().__init__(recipes)
        parts = asset.split("/") if isinstance(asset, str) else getattr(asset, "path", asset)
        path = list(parts) if isinstance(parts, Iterable) else []
        if not path or not all(isinstance(part, str) and part for part in path):
            raise ValueError(
                f"the asset of AssetPrompts is {asset!r}; pass its key, such as 'marketing/briefs'"
            )
        self.asset: tuple[str, ...] = tuple(path)
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
        source = AssetPrompts(self.asset, recipes=self.recipes)
        source._key = f"prompts/{name}.json"
        return source

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
            raise self.failed("its rows are kept in the storage root, which is not known here")
        try:
            rows = list(json.loads(storage.root().read(self._kept_key))["rows"])
        except ObjectMissingError:
            message = (
                "its rows were not loaded yet; materialize prompt_rows of the dataset, which loads "
                "them"
            )
            problem = FileProblem(None, None, None, message, "rows")
            raise NoRowsYetError(self.label, [problem]) from None
        except StorageError as error:
            raise self.failed(str(error)) from error
        except (ValueError, LookupError, TypeError):
            raise self.failed(
                f"{self._kept_key} in the storage root is damaged; materialize "
                f"prompt_rows of the dataset, which writes it again"
            ) from None
        return self.dataset_of_records(rows, catalogue)

    def version(self, storage: SourceStorage | None = None) -> str | None:
        """A string that changes when rows are kept."""
        if storage is None:
            return None
        info = storage.root().info(self._kept_key)
        if info is None:
            return None
        return self.with_recipes(f"{info.etag}.{info.last_modified.isoformat()}")

    @property
    def _kept_key(self) -> str:
        if self._key is None:
            raise ValueError("an upstream asset is the source of a VideoDataset; see its source")
        return self._key


def interval_version(seconds: float) -> str:
    return f"interval {int(time.time() // seconds)}"


def _json_row(record: Mapping[str, Any]) -> dict[str, Any]:
    """A checked row as JSON."""
    return {str(name): plain_value(value) for name, value in record.items()}
