"""Prompt datasets: files with a row for each clip, and recipes for remixes."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path, PurePosixPath

from sora_dagster.prompts.clips import ClipSpec
from sora_dagster.prompts.csv_files import read_csv, read_tsv
from sora_dagster.prompts.dataset_files import DatasetFiles, LocalFiles
from sora_dagster.prompts.files import (
    DatasetError,
    DatasetTable,
    RecipeEntry,
    read_jsonl,
)
from sora_dagster.prompts.images import DatasetImages
from sora_dagster.prompts.parquet_files import read_parquet
from sora_dagster.prompts.recipe_reader import check_recipes, read_recipes
from sora_dagster.prompts.recipes import Recipe
from sora_dagster.prompts.rows import RowReader
from sora_dagster.prompts.yaml_files import read_yaml, read_yaml_recipes
from sora_dagster.runware.catalogue import Catalogue
from sora_dagster.user_files.problems import ProblemList, did_you_mean
from sora_dagster.user_files.text import decode_text, unreadable

__all__ = ["DatasetError", "PromptDataset", "Recipe", "load_dataset"]

_TEXT_READERS = {
    ".jsonl": read_jsonl,
    ".ndjson": read_jsonl,
    ".csv": read_csv,
    ".tsv": read_tsv,
    ".yaml": read_yaml,
    ".yml": read_yaml,
}
_EXTENSIONS = (*_TEXT_READERS, ".parquet")
# What to do about files of other formats.
_OTHER_EXTENSIONS = {
    ".json": "; write one JSON object a line, in a .jsonl file",
    ".pq": "; if it is Parquet, rename it to .parquet",
    ".tab": "; if its cells are separated by tabs, rename it to .tsv",
    **dict.fromkeys((".xlsx", ".xls", ".ods"), "; save the spreadsheet as CSV in UTF-8"),
    **dict.fromkeys((".gz", ".zip", ".zst", ".bz2"), "; decompress it first"),
}


@dataclass(frozen=True)
class PromptDataset:
    """The clips of a dataset file, and its recipes.

    Arguments:
        label: the file, or the name of another source, for messages.
        clips: one for each row, in the order of the source, with all defaults filled in.
        recipes: the recipes for remixes, in the order of their file. Default: none.
        version: version of the files that were read; see `PromptSource`. Default: unknown.
    """

    label: str
    clips: tuple[ClipSpec, ...]
    recipes: tuple[Recipe, ...] = ()
    version: str | None = None

    @cached_property
    def _clip_by_id(self) -> Mapping[str, ClipSpec]:
        return {clip.clip_id: clip for clip in self.clips}

    @cached_property
    def clip_ids(self) -> tuple[str, ...]:
        """The ids of all clips, in the order of the file."""
        return tuple(clip.clip_id for clip in self.clips)

    @cached_property
    def remix_cells(self) -> tuple[tuple[str, str], ...]:
        """Each requested remix as (clip id, recipe name), in the order of the file."""
        return tuple((clip.clip_id, recipe) for clip in self.clips for recipe in clip.recipes)

    def recipes_of(self, clip_id: str) -> tuple[str, ...]:
        """Names of the requested remixes of a clip; empty if there is no such clip."""
        clip = self._clip_by_id.get(clip_id)
        return () if clip is None else clip.recipes

    def clip(self, clip_id: str) -> ClipSpec:
        """The clip with an id.

        Raises:
            LookupError: if the dataset has no such clip.
        """
        try:
            return self._clip_by_id[clip_id]
        except KeyError:
            raise LookupError(
                f"{self.label} has no clip {clip_id!r}" + did_you_mean(clip_id, self.clip_ids)
            ) from None

    def recipe(self, name: str) -> Recipe:
        """The recipe with a name.

        Raises:
            LookupError: if the dataset has no such recipe.
        """
        for recipe in self.recipes:
            if recipe.name == name:
                return recipe
        raise LookupError(
            f"{self.label} has no recipe {name!r}"
            + did_you_mean(name, [recipe.name for recipe in self.recipes])
        )


def load_dataset(path: str | Path, *, catalogue: Catalogue) -> PromptDataset:
    """Read a prompt dataset in JSON Lines, CSV, TSV, YAML or Parquet, by the file's extension.

    Each row is a clip, with the columns `id` and `prompt`, and optionally those of
    `sora_dagster.prompts.files.COLUMNS`. The model is its short name or its AIR id. Recipes, tags
    and reference images are lists, in CSV and TSV separated by ``;``. Settings are a mapping, in
    CSV and TSV JSON or ``name=value; name=value``. An image may be the path of a file relative to
    the dataset's folder. Size and duration are filled in with the model's defaults where its rules
    allow it, so each clip says what is paid for.

    Recipes are inside a YAML dataset (``{clips: […], recipes: {name: prompt}}``), or in a YAML
    file beside the dataset: ``<its name>.recipes.yaml``, else ``recipes.yaml``, each also as
    ``.yml``. A recipe is a prompt, or a mapping with `prompt` and optionally `model`, `mode`,
    `settings` and `duration`.

    Arguments:
        path: the dataset file.
        catalogue: the models that rows may name; its default is the model of rows that name none.

    Raises:
        DatasetError: if anything is wrong; it lists all problems of the file.

    Example:
        >>> dataset = load_dataset("examples/prompts.yaml", catalogue=Catalogue.builtin())
        >>> dataset.clip("mangrove-monsoon").duration_seconds
        8.0
    """
    path = Path(path)
    return read_dataset_file(LocalFiles(path.parent), path.name, str(path), catalogue=catalogue)


def read_dataset_file(
    files: DatasetFiles, name: str, label: str, *, catalogue: Catalogue
) -> PromptDataset:
    """Read a prompt dataset; see :func:`load_dataset`.

    Arguments:
        files: the files of the dataset's folder.
        name: name of the dataset's file.
        label: name of the dataset in messages.
        catalogue: the models that rows may name.

    Raises:
        DatasetError: if anything is wrong.
    """
    extension = PurePosixPath(name).suffix.lower()
    problems = ProblemList(name, "rows" if extension == ".parquet" else "lines")
    table = _read_table(files, name, label, problems)
    recipes_file, recipe_problems = name, problems
    entries = table.recipes
    if entries is None:
        recipes_file = _recipes_beside(files, name)
        recipe_problems = ProblemList(recipes_file)
        entries = read_recipe_file(files, recipes_file, recipe_problems)
    return dataset_of(
        table,
        entries,
        label=label,
        catalogue=catalogue,
        files=files,
        problems=problems,
        recipe_problems=recipe_problems,
        recipes_place=f"'recipes' of {name}" if recipes_file == name else recipes_file,
    )


def dataset_of(
    table: DatasetTable,
    recipes: Sequence[RecipeEntry],
    *,
    label: str,
    catalogue: Catalogue,
    files: DatasetFiles | None,
    problems: ProblemList,
    recipe_problems: ProblemList,
    recipes_place: str,
) -> PromptDataset:
    """The dataset of rows and recipes, checked against the models' rules.

    Arguments:
        table: the rows.
        recipes: the recipes.
        label: name of the dataset in messages.
        catalogue: the models that rows may name.
        files: the files that images may be; None if there are none.
        problems: the problems of the rows.
        recipe_problems: the problems of the recipes; may be the same list.
        recipes_place: where recipes are, or could be, for messages.

    Raises:
        DatasetError: if anything is wrong; it lists all problems.
    """
    known = read_recipes(recipes, catalogue, recipe_problems)
    reader = RowReader(
        catalogue=catalogue,
        images=DatasetImages(files),
        recipes=known,
        recipes_place=recipes_place,
        missing_columns=table.missing_columns,
        problems=problems,
    )
    clips = [clip for row in table.rows if (clip := reader.read(row)) is not None]
    check_recipes(known, reader.parents_of_recipe, catalogue, recipe_problems)
    if not table.rows and not problems:
        problems.add("the dataset has no clips; add a row with an id and a prompt", value=None)
    found = [*problems, *(recipe_problems if recipe_problems is not problems else ())]
    if found:
        raise DatasetError(label, found)
    made = tuple(read.recipe for read in known.values() if read.recipe is not None)
    return PromptDataset(label, tuple(clips), made)


def _read_table(files: DatasetFiles, name: str, label: str, problems: ProblemList) -> DatasetTable:
    suffix = PurePosixPath(name).suffix
    extension = suffix.lower()
    if extension != ".parquet" and extension not in _TEXT_READERS:
        problems.add(
            f"the extension {suffix!r} is unknown; allowed: {', '.join(_EXTENSIONS)}"
            + _OTHER_EXTENSIONS.get(extension, ""),
            value=suffix,
        )
        raise DatasetError(label, list(problems))
    try:
        data = files.read(name)
    except OSError as error:
        problems.add(unreadable(files.label(name), error), value=label)
        raise DatasetError(label, list(problems)) from error
    if extension == ".parquet":
        return read_parquet(io.BytesIO(data), problems)
    return _TEXT_READERS[extension](decode_text(data, problems), problems)


def _recipes_beside(files: DatasetFiles, name: str) -> str:
    """The recipes file of a dataset, or where it would be."""
    stem = PurePosixPath(name).stem
    places = [
        f"{base}.{extension}"
        for base in (f"{stem}.recipes", "recipes")
        for extension in ("yaml", "yml")
    ]
    places = [place for place in places if place != name]
    files.note(places)
    return next((place for place in places if _is_file(files, place)), places[0])


def _is_file(files: DatasetFiles, name: str) -> bool:
    try:
        return files.size_bytes(name) is not None
    except OSError:
        return False


def read_recipe_file(
    files: DatasetFiles, name: str, problems: ProblemList
) -> Sequence[RecipeEntry]:
    """The recipes of a YAML file; none if there is no such file.

    Arguments:
        files: the files of its folder.
        name: name of the file.
        problems: where problems are reported.
    """
    if not _is_file(files, name):
        return ()
    try:
        data = files.read(name)
    except OSError as error:
        problems.add(unreadable(files.label(name), error), value=name)
        return ()
    return read_yaml_recipes(decode_text(data, problems), problems)
